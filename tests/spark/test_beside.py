"""Stage 04 beside stage 03's video_scores.csv: every video has its row, and every rule its line. Without Spark."""

import numpy as np
import pandas as pd
import pytest

from deepfake_detection.reports import video_rules
from deepfake_detection.spark import beside
from deepfake_detection.spark import video_predictions as stage

TITLES = [f"v{i}" for i in range(22)] + ["=1+1", "-f"]


@pytest.fixture
def folder(tmp_path):
    """24 videos of 12 people out of fold, two without a face; the names of two would be formulas."""
    rng = np.random.default_rng(1)
    scores = pd.DataFrame(
        {
            "video": TITLES,
            "label": ["REAL", "FAKE"] * 12,
            "group": [f"g{i // 2}" for i in range(24)],
            **dict.fromkeys(("dataset", "manipulation", "compression"), ""),
            "set": [f"fold {i // 2 % 4 + 1}" for i in range(24)],
            "faces": 3,
            "p_real": np.round([0.4 + 0.2 * rng.random() - 0.1 * (i % 2) for i in range(24)], 6),
            "threshold": [0.43, 0.44, 0.45] * 8,
            "shipped_p_real": np.round(rng.random(24), 6),
            "shipped_verdict": ["REAL", "FAKE", "UNSURE"] * 8,
        }
    )[list(video_rules.COLUMNS)]
    blank = dict.fromkeys(video_rules.COLUMNS, "") | {"faces": 0}
    faceless = pd.DataFrame([blank | {"video": "m", "label": "REAL"}, blank | {"video": "n", "label": "FAKE"}])
    both = pd.concat([scores, faceless], ignore_index=True)
    both.assign(video=both["video"].replace({"=1+1": "./=1+1", "-f": "./-f"})).to_csv(
        tmp_path / video_rules.FILE, index=False
    )
    table = scores.assign(frames=scores["faces"], status="ok")[["video", "label", "p_real", "frames", "status"]]
    return tmp_path, table.sort_values("video", ignore_index=True)


def test_a_video_without_a_face_has_its_row_and_every_rule_its_line(folder):
    out, table = folder
    result = stage.write(table, "cnn_preds_values.json", out, resamples=50)
    rows = pd.read_csv(out / stage.PREDICTIONS, keep_default_na=False).set_index("video")
    assert len(rows) == 26 and list(rows.loc[["m", "n"], "verdict"]) == ["NO FACE"] * 2
    assert list(rows.loc[["m", "n"], "label"]) == ["REAL", "FAKE"] and list(rows.loc[["m", "n"], "correct"]) == ["", ""]
    assert list(result.videos["video"]) == sorted([*TITLES, "m", "n"])
    text = (out / stage.RESULT).read_text()
    assert "Videos   26: 13 real, 13 fake; 2 without a face" in text and "All videos: 26" in text
    for line in (
        "this model, p_real >= 0.5",
        "this model, threshold chosen on the other folds (0.43 to 0.45)",
        "shipped detector, not trained on these, p_real >= 0.5",
        "shipped detector, its own thresholds",
    ):
        assert sum(part.startswith(line) for part in text.splitlines()) == 1, line
    own = next(part for part in text.splitlines() if part.startswith("this model, p_real"))
    right = [int(((table["label"] == w) & ((table["p_real"] >= 0.5) == (w == "REAL"))).sum()) for w in ("REAL", "FAKE")]
    assert f"{right[0]} of 12" in own and f"{right[1]} of 12" in own
    assert beside.folds(beside.of_these_scores(out, table))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda t: t.assign(p_real=t["p_real"] + 1e-3), id="other scores"),
        pytest.param(lambda t: t.iloc[1:], id="fewer videos"),
        pytest.param(lambda t: t.assign(video=t["video"] + "x"), id="other videos"),
        pytest.param(lambda t: t.assign(p_real=np.nan, frames=0, status="no face"), id="no score at all"),
    ],
)
def test_scores_of_another_run_are_not_mixed_in(folder, change):
    out, table = folder
    result = stage.write(change(table).reset_index(drop=True), "other.csv", out, resamples=50)
    assert "other rules" not in result.text and not set(result.videos["video"]) & {"m", "n"}


@pytest.mark.parametrize(
    "text", [None, "", "video,label\na,REAL\n", "\0"], ids=["none", "empty", "other columns", "noise"]
)
def test_without_a_table_that_can_be_read_nothing_is_said(folder, text):
    out, table = folder
    (out / video_rules.FILE).unlink()
    if text is not None:
        (out / video_rules.FILE).write_text(text)
    assert "other rules" not in stage.write(table, "x.json", out, resamples=50).text
