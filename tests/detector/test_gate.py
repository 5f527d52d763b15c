"""The benchmark of the face-quality gate: what it counts and fits on faces with a known fault, and its one command."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
gate = pytest.importorskip("gate")
import gate_clips  # noqa: E402
from gate_risk import OFF, TRIED, Judge, auc_cell, gated, lost_cells, outcome, share_cell  # noqa: E402

from deepfake_detection.aggregation import Thresholds  # noqa: E402
from deepfake_detection.detector.people import Decision  # noqa: E402
from deepfake_detection.detector.verdict import FaceScore  # noqa: E402
from deepfake_detection.errors import UserError  # noqa: E402

JUDGE = Judge(Thresholds(0.3, 0.7), Decision(), "mean")  # keeps verdicts by a video's name and votes
GOOD = {"size_px": 120.0, "inside": 1.0, "yaw": 3.0, "pitch": -4.0, "roll": 0.0, "sharpness": 0.4, "brightness": 120.0}
GOOD |= {"contrast": 50.0, "blown_out": 0.0, "confidence": 0.99}


def video(name, label, scores, **quality):
    faces = [
        FaceScore("p1", k, k, k / 2, p, (0.0, 0.0, 50.0, 60.0), 0.99, quality=GOOD | quality)
        for k, p in enumerate(scores)
    ]
    return gate.Video(name, label, len(faces), tuple(faces), group=name)


@pytest.fixture
def videos():
    """Untouched videos with small faces are called FAKE; everything else is told apart, with fakes of all yaws."""
    rng = np.random.default_rng(1)  # the same videos in every test
    made = [video(f"r{i}", "REAL", 0.8 + 0.1 * rng.random(6)) for i in range(20)]
    made += [video(f"s{i}", "REAL", 0.1 + 0.1 * rng.random(6), size_px=30.0) for i in range(5)]
    return made + [video(f"f{i}", "FAKE", 0.1 + 0.15 * rng.random(6), yaw=float(4 * i)) for i in range(25)]


def test_an_outcome_counts_faces_videos_and_verdicts(videos):
    off = outcome(videos, OFF, JUDGE)
    assert (off.vote, off.say.mean(), off.rate(1), off.rate(0)) == (1, 1, 0.2, 0) and off.auc < 1
    strict = outcome(videos, replace(OFF, min_size_px=40), JUDGE)
    assert (strict.vote, strict.say.mean(), strict.rate(1), strict.auc) == (0.9, 0.9, 0, 1)
    assert (strict.said == "UNSURE").sum() == 5
    assert lost_cells(off, strict) == ["0 / 0 / 5", ""]
    nobody = outcome(videos, replace(OFF, min_size_px=1000), JUDGE)
    assert nobody.auc is nobody.rate(1) is None and auc_cell(nobody) == ""


def test_intervals_are_over_groups():
    hit = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    alone = share_cell(hit, np.ones(8, bool), np.arange(8))
    assert alone.startswith("50% [") and alone != "50% [0, 100]"
    assert share_cell(hit.repeat(2), np.ones(16, bool), np.arange(16) // 2) == alone  # a group's rows count once
    assert share_cell(hit, np.ones(8, bool), np.arange(8) // 2) == "50%"  # four groups are too few for an interval
    assert share_cell(hit, np.zeros(8, bool), np.arange(8)) == ""


@pytest.mark.parametrize(
    "now, coverage, size, few",
    [
        pytest.param(0.0, 0.7, 32.0, 0.0, id="tightened where small faces are called FAKE"),
        pytest.param(0.0, 0.98, 0.0, 0.0, id="not where too many lose their say"),
        pytest.param(120.0, 0.7, 56.0, 56.0, id="loosened while verdicts are right"),
    ],
)
def test_a_bound_is_moved_to_where_verdicts_are_right(now, coverage, size, few):
    made = [video(f"{i}", ("REAL", "FAKE")[i % 2], [(0.9, 0.1)[i % 2]] * 6, size_px=60.0 + i % 20) for i in range(160)]
    made += [video(f"s{i}", "REAL", [0.1] * 6, size_px=30.0) for i in range(50)]
    start = replace(OFF, min_size_px=now)
    fitted = gate.fit(made, JUDGE, start, coverage)
    assert fitted == replace(OFF, min_size_px=size)
    assert gate.fit(made[:-1], JUDGE, start, coverage) == replace(OFF, min_size_px=few)  # 49 small ones say nothing


def test_the_bounds_that_are_off_keep_nobody_out():
    worst = dict.fromkeys(GOOD, 0.0) | {"yaw": -180.0, "pitch": 90.0, "roll": 180.0, "blown_out": 1.0}
    assert all(f.votes for f in gated(video("x", "REAL", [0.5], **worst).faces, OFF))
    assert set(TRIED) == set(asdict(OFF)) and all(values[0] == getattr(OFF, name) for name, values in TRIED.items())


@pytest.mark.parametrize(
    "variant, shape, mean",
    [
        pytest.param("small 60", (50, 100), 100, id="half the size"),
        pytest.param("dark 30", (100, 200), 25, id="a quarter of the light"),
        pytest.param("soft 0.02", (100, 200), 100, id="blurred"),
        pytest.param("small 130", None, None, id="never made larger"),
        pytest.param("dark 121", None, None, id="never made brighter"),
    ],
)
def test_a_copy_is_degraded_as_its_largest_faces_ask(variant, shape, mean):
    faces = [{"frame": 0, "quality": GOOD}, {"frame": 0, "quality": GOOD | {"size_px": 20.0, "brightness": 5.0}}]
    change = gate_clips.change_of(variant, faces)
    assert (change is None) == (shape is None) and gate_clips.change_of(variant, []) is None
    if change is not None:
        stripes = np.tile(np.uint8([[0, 200]] * 100).repeat(3).reshape(1, 200, 3), (100, 1, 1))
        changed = change(stripes)
        assert changed.shape[:2] == shape and abs(changed.mean() - mean) <= 1


def test_the_command_keeps_scores_and_says_the_same_again(sample, tmp_path, capsys, monkeypatch):
    """Four clips of the sample, two frames each; a cut line of the kept scores is scored anew."""
    scores, result = tmp_path / "faces.jsonl", tmp_path / "gate.md"
    arguments = ["--data", str(sample), "--videos", "4", "--frame-count", "3", "--workers", "1", "--degraded", "soft"]
    arguments += ["--scores", str(scores), "--result", str(result)]
    gate.main(arguments)
    first = result.read_text()
    assert "| as it is |" in first and '"min_size_px"' in first and "Too few clips" in first
    assert all(f"`{name}`" in first for name in TRIED)
    assert "2 untouched and 2 altered" in first and "| soft 0.04 | 4 |" in first
    scores.write_text(scores.read_text()[:-40] + "\n")
    judged = []
    inner = gate_clips._faces_of
    monkeypatch.setattr(gate_clips, "_faces_of", lambda *a: judged.append(a) or inner(*a))
    gate.main(arguments)
    assert len(judged) == 1 and result.read_text() == first


def test_a_folder_without_labels_is_one_line(sample, tmp_path):
    (tmp_path / "a.mp4").write_bytes((sample / "curly_vertical.mp4").read_bytes())
    with pytest.raises(UserError, match="untouched and altered") as refused:
        gate.main(["--data", str(tmp_path), "--result", str(tmp_path / "gate.md")])
    assert "--labels" in refused.value.hint and not (tmp_path / "gate.md").exists()
