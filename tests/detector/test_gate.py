"""The benchmark of the face-quality gate: what it counts and fits on faces with a known fault, and its one command."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
gate = pytest.importorskip("gate")

from deepfake_detection.aggregation import Thresholds  # noqa: E402
from deepfake_detection.detector.people import Decision  # noqa: E402
from deepfake_detection.detector.verdict import FaceScore  # noqa: E402
from deepfake_detection.errors import UserError  # noqa: E402

JUDGE = gate.Judge(Thresholds(0.3, 0.7), Decision(), "mean")  # keeps verdicts by a video's name and votes
GOOD = {"size_px": 120.0, "inside": 1.0, "yaw": 3.0, "pitch": -4.0, "roll": 0.0, "sharpness": 0.4, "brightness": 120.0}
GOOD |= {"contrast": 50.0, "blown_out": 0.0, "confidence": 0.99}


def video(name, label, scores, **quality):
    faces = [
        FaceScore("p1", k, k, k / 2, p, (0.0, 0.0, 50.0, 60.0), 0.99, quality=GOOD | quality)
        for k, p in enumerate(scores)
    ]
    return gate.Video(name, label, len(faces), tuple(faces))


@pytest.fixture
def videos():
    """Untouched videos with small faces are called FAKE; everything else is told apart, with fakes of all yaws."""
    rng = np.random.default_rng(1)  # the same videos in every test
    made = [video(f"r{i}", "REAL", 0.8 + 0.1 * rng.random(6)) for i in range(20)]
    made += [video(f"s{i}", "REAL", 0.1 + 0.1 * rng.random(6), size_px=30.0) for i in range(5)]
    return made + [video(f"f{i}", "FAKE", 0.1 + 0.15 * rng.random(6), yaw=float(4 * i)) for i in range(25)]


def test_a_row_counts_faces_videos_and_verdicts(videos):
    off = gate.row_of(videos, gate.OFF, JUDGE)
    assert (off.vote, off.say, off.real, off.fake, off.real_called_fake, off.unsure) == (1, 1, 25, 25, 5, 0)
    strict = gate.row_of(videos, gate.replace(gate.OFF, min_size_px=40), JUDGE)
    assert (strict.vote, strict.say, strict.real_called_fake, strict.unsure) == (0.9, 0.9, 0, 5)
    assert strict.auc == 1 and off.auc < 1
    assert gate.row_of(videos, gate.replace(gate.OFF, min_size_px=1000), JUDGE).auc is None


def test_the_fault_is_found_and_nothing_else_is_bound(videos):
    fitted = gate.fit(videos, JUDGE, 0.8)
    assert fitted.min_size_px > 30 and gate.row_of(videos, fitted, JUDGE).real_called_fake == 0
    assert gate.replace(fitted, min_size_px=0) == gate.OFF
    assert fitted == gate.fit(videos, JUDGE, 0.8)


def test_coverage_goes_before_errors(videos):
    assert gate.fit(videos, JUDGE, 0.95) == gate.OFF


def test_the_bounds_that_are_off_keep_nobody_out():
    worst = dict.fromkeys(GOOD, 0.0) | {"yaw": -180.0, "pitch": 90.0, "roll": 180.0, "blown_out": 1.0}
    assert all(f.votes for f in gate.gated(video("x", "REAL", [0.5], **worst).faces, gate.OFF))
    assert set(gate.MEASURES.values()) <= set(GOOD)


def test_the_command_keeps_scores_and_says_the_same_again(sample, tmp_path, capsys, monkeypatch):
    """Four clips of the sample, two frames each; a cut line of the kept scores is scored anew."""
    scores, result = tmp_path / "faces.jsonl", tmp_path / "gate.md"
    arguments = ["--data", str(sample), "--videos", "4", "--frames", "3", "--workers", "1"]
    arguments += ["--scores", str(scores), "--result", str(result)]
    gate.main(arguments)
    first = result.read_text()
    assert "| as it is |" in first and '"min_size_px"' in first and "Too few videos" in first
    assert all(f"`{name}`" in first for name in gate.MEASURES)
    assert "2 untouched and 2 altered" in first
    scores.write_text(scores.read_text()[:-40] + "\n")
    judged = []
    inner = gate._judged
    monkeypatch.setattr(gate, "_judged", lambda *a: judged.append(a) or inner(*a))
    gate.main(arguments)
    assert len(judged) == 1 and result.read_text() == first


def test_a_folder_without_labels_is_one_line(sample, tmp_path):
    (tmp_path / "a.mp4").write_bytes((sample / "curly_vertical.mp4").read_bytes())
    with pytest.raises(UserError, match="untouched and altered") as refused:
        gate.main(["--data", str(tmp_path), "--result", str(tmp_path / "gate.md")])
    assert "--labels" in refused.value.hint and not (tmp_path / "gate.md").exists()
