"""What the long benchmarks rest on: the split of the published recipe."""

import sys
from pathlib import Path

import pandas as pd

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
