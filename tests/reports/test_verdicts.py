"""Verdicts held against labels: counts, shares with intervals, and the names of videos in predict.py's table."""

import csv
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.reports import evaluation, verdicts


@pytest.mark.parametrize(
    "hits, groups, low, high",
    [
        pytest.param([0] * 20, range(20), 0, 0.168, id="none of 20: Clopper-Pearson"),
        pytest.param([1] * 20, range(20), 0.832, 1, id="all of 20"),
        pytest.param([0] * 20, [i // 4 for i in range(20)], 0, 0.522, id="none of 20 videos of 5 people"),
        pytest.param([1] + [0] * 99, range(100), 0, 0.03, id="one of 100"),
        pytest.param([0, 0, 0], range(3), None, None, id="three people"),
    ],
)
def test_a_share_and_its_interval(hits, groups, low, high):
    found = verdicts.share(np.array(hits, bool), list(groups))
    assert found["value"] == pytest.approx(np.mean(hits))
    if low is None:
        assert "low" not in found and "5 groups" in found["no_interval"]
    else:
        assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.015)


MANIFEST = pd.DataFrame(
    [("a", "a.mp4", "REAL", ""), ("x-a", "x/a.mp4", "FAKE", ""), ("b", "x/b.mp4", "FAKE", "missing file")],
    columns=["title", "video", "label", "error"],
)


@pytest.mark.parametrize(
    "names, wanted",
    [
        pytest.param(
            ["clips/a.mp4", "clips/x/a.mp4"], ["clips/a.mp4", "clips/x/a.mp4", "x/b.mp4"], id="below a folder"
        ),
        pytest.param(["/d/x/a.mp4"], ["a.mp4", "/d/x/a.mp4", "x/b.mp4"], id="absolute, the longest path"),
        pytest.param(["./a.mp4"], ["./a.mp4", "x/a.mp4", "x/b.mp4"], id="as it is"),
        pytest.param(["x-a", "b"], ["a.mp4", "x/a.mp4", "x/b.mp4"], id="titles stay"),
    ],
)
def test_videos_are_found_by_their_path(names, wanted):
    found = verdicts.named_as(MANIFEST, names, "d")
    assert found["video"].tolist() == wanted and found["status"].tolist() == ["", "", "error"]


def test_another_folder_is_refused():
    with pytest.raises(UserError, match="none of the scored videos"):
        verdicts.named_as(MANIFEST, ["other/c.mp4"], "d")


@pytest.fixture
def judged(tmp_path):
    """As predict.py writes it: six untouched videos, one called FAKE; ten altered ones, one NO FACE, one error."""
    from deepfake_detection.prediction.csv_table import CSV_COLUMNS

    data, rows, labels = tmp_path / "clips", [], ["path,label,person,manipulation"]
    data.mkdir()
    said = (
        [("REAL", 0.9)] * 4 + [("UNSURE", 0.5), ("FAKE", 0.1)] + [("FAKE", 0.05)] * 6 + [("REAL", 0.8), ("UNSURE", 0.6)]
    )
    for i, (word, p) in enumerate([*said, ("NO FACE", ""), ("", "")]):
        (data / f"v{i}.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
        labels.append(f"v{i}.mp4,{'real' if i < 6 else 'fake'},P{i % 7},{'' if i < 6 else 'swap'}")
        row = dict.fromkeys(CSV_COLUMNS, "") | {
            "video": f"clips/v{i}.mp4",
            "verdict": word,
            "p_real": p,
            "model": "m 1.0",
        }
        rows.append(row | {"error": "" if word else "broken"})
    with open(tmp_path / "verdicts.csv", "w", newline="") as f:
        writer = csv.DictWriter(f, CSV_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "mine.csv").write_text("\n".join(labels) + "\n")
    return tmp_path


def evaluate(project, folder, *options):
    return subprocess.run(
        [sys.executable, project / "evaluate.py", "verdicts.csv", "--resamples", "50", *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_one_command_says_how_good_a_detector_is(project, judged):
    done = evaluate(project, judged, "--data", "clips", "--labels", "mine.csv", "--out", "r")
    assert done.returncode == 0, done.stderr
    report = json.loads((judged / "r" / evaluation.JSON).read_text())
    assert report["model"] == "m 1.0" and report["coverage"]["FAKE"] == {
        "videos": 10, "scored": 8, "error": 1, "no face": 1
    }  # fmt: skip
    whole = report["verdicts"][0]
    assert {k: whole["real"][k] for k in ("videos", "groups", *verdicts.WORDS)} == {
        "videos": 6, "groups": 6, "REAL": 4, "UNSURE": 1, "FAKE": 1
    }  # fmt: skip
    assert whole["real"]["wrong"]["value"] == pytest.approx(1 / 6) and whole["real"]["wrong"]["high"] > 0.3
    assert whole["fake"]["wrong"]["value"] == pytest.approx(1 / 8)
    assert [r["rule"] for r in report["rows"]] == ["mean"] * len(report["rows"])
    assert report["rows"][0]["metrics"]["auc"]["value"] == pytest.approx(43.5 / 48, abs=0.02)
    assert "Verdicts of m 1.0, by its own thresholds" in done.stdout and "16.7%" in done.stdout
    assert "rules side by side" not in done.stdout


@pytest.mark.parametrize(
    "options, said",
    [
        pytest.param(["--labels", "mine.csv"], "name it with --data", id="labels of no folder"),
        pytest.param(["--data", "clips", "--manifest", "mine.csv"], "do not go together", id="both"),
        pytest.param(["--data", "nowhere"], "no such folder", id="no folder"),
    ],
)
def test_wrong_use_is_one_line(project, judged, options, said):
    done = evaluate(project, judged, *options)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
