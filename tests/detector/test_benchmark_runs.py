"""What the long benchmarks rest on: the split of the published recipe, thresholds moved over clips."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


def test_published_recipe_keeps_a_source_on_one_side_and_balances():
    import published_recipe

    reals = [f"r{i}.mp4" for i in range(90)]
    train = pd.DataFrame(
        {
            "split": "train",
            "video": reals + [f"f{i}.mp4" for i in range(60)],
            "label": ["real"] * 90 + ["fake"] * 60,
            "original": reals + [reals[i % 40] for i in range(60)],
        }
    )
    val = train.assign(split="val", video="v" + train.video, original="v" + train.original)
    chosen, test = published_recipe.places(pd.concat([train, val], ignore_index=True), seed=1, most=None)
    assert set(chosen.split) == {"train"} and set(test.split) == {"val"} and len(test) == len(val)
    assert dict(chosen.label.value_counts()) == {"fake": 60, "real": 60}
    sides = chosen.groupby("original").place.nunique()
    assert (sides == 1).all() and set(chosen.place) == {"train", "val"}
    assert 0.05 < (chosen.place == "val").mean() < 0.2
    again, _ = published_recipe.places(pd.concat([train, val], ignore_index=True), seed=1, most=None)
    pd.testing.assert_frame_equal(chosen, again)


@pytest.fixture
def clips():
    """Untouched clips score .50 to .89, altered ones .20 to .59; one more was UNSURE for its picture."""
    scores = [(0.5 + 0.01 * i, 1) for i in range(40)] + [(0.2 + 0.01 * i, 0) for i in range(40)]
    rows = [{"p_real": p, "real": real, "split": "unseen", "group": f"g{i}"} for i, (p, real) in enumerate(scores)]
    said = ["REAL" if r["p_real"] >= 0.7 else "UNSURE" if r["p_real"] >= 0.3 else "FAKE" for r in rows]
    rows.append({"p_real": 0.1, "real": 1, "split": "unseen", "group": "x"})
    return pd.DataFrame(rows).assign(verdict=[*said, "UNSURE"])


def test_the_threshold_holds_for_copies_too(clips):
    import strangers

    force = {"fake_below": 0.3, "real_above": 0.7}
    copies = clips.assign(p_real=clips.p_real * 0.8, verdict="UNSURE", copy="CRF 35")
    both = pd.concat([clips.assign(copy=strangers.AS_IT_IS), copies], ignore_index=True)
    own, all_of_them = (strangers.fitted(both, force, 0.05, of_copies) for of_copies in (1.0 - 1e-6, 0.05))
    assert all_of_them < own
    said, untouched = strangers.words(both, force, all_of_them, 0.7), (both.real == 1).to_numpy()
    assert (said[untouched] == "FAKE").mean() <= 0.05
    rows = strangers.of_copies(both.assign(source="own"), said)
    assert [row[:2] for row in rows] == [[c, s] for c in (strangers.AS_IT_IS, "CRF 35") for s in ("unseen", "all")]


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2])
def test_thresholds_are_moved_to_the_errors_that_are_allowed(clips, rate):
    import strangers

    force = {"fake_below": 0.3, "real_above": 0.7}
    low, high = strangers.moved(clips, force, rate)
    said = strangers.words(clips, force, low, high)
    assert said[-1] == "UNSURE"  # for its picture, wherever the thresholds are
    for code, word in ((1, "FAKE"), (0, "REAL")):
        assert (said[clips.real == code] == word).mean() <= rate
    assert (said[clips.real == 1] == "FAKE").mean() > rate - 0.06
    rows = strangers.risk(clips, force, force)
    assert [r[:2] for r in rows[:2]] == [["unseen", "in force"], ["unseen", "0%"]] and len(rows) == 14
    assert rows[1][5].startswith("0%")


def test_scores_that_are_right_have_an_ece_by_chance_that_shrinks_with_clips():
    import strangers

    rng = np.random.default_rng(0)
    few, many = (strangers.ece_of_calibrated(rng.uniform(0.2, 0.9, count)) for count in (80, 8000))
    assert 0.05 < few[0] < few[1] and many[1] < 0.03
