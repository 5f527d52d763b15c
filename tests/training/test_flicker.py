"""What a detector learns from how faces flicker."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from deepfake_detection.blending.faces import COLUMNS
from deepfake_detection.errors import UserError
from deepfake_detection.faces import detectors
from deepfake_detection.training import flicker
from tests.clips import write_video
from tests.predict.prediction_clips import HEIGHT, WIDTH, portrait


def clip(path: Path, made_anew: bool, seed: int) -> Path:
    """A face that moves; `made_anew`: under noise of its own in every frame. The whole picture has a camera's noise."""
    random, face = np.random.default_rng(seed), cv2.resize(portrait(), (120, 140), interpolation=cv2.INTER_AREA)
    ground = cv2.GaussianBlur(random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 4)

    def frames():
        for i in range(32):
            frame, at = ground.astype(np.float32), 60 + 2 * i
            frame[30:170, at : at + 120] = face
            if made_anew:
                frame[60:150, at + 20 : at + 100] += cv2.GaussianBlur(random.normal(0, 30, (90, 80, 3)), (0, 0), 2)
            yield np.clip(frame + random.normal(0, 8, frame.shape), 0, 255).astype(np.uint8)

    return write_video(path, frames(), fps=25, crf=10)


def indexed(path: Path, rows) -> Path:
    """An index of (file, label, source, split)."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, COLUMNS, restval="")
        out.writeheader()
        for i, (name, label, source, split) in enumerate(rows):
            out.writerow({"file": name, "label": label, "source": source, "group": i, "split": split, "window": "wide"})
    return path


def test_clips_whose_faces_are_made_anew_are_told_from_others(tmp_path, monkeypatch):
    monkeypatch.setattr(flicker, "LEAST_CLIPS", 3)
    rows = []
    for i in range(8):
        label = "fake" if i % 2 else "real"
        made = clip(tmp_path / f"{i}.mp4", label == "fake", i)
        rows.append((made.name, label, "own", "train" if i < 6 else "val"))
    fitted = flicker.fit(flicker.clips_of(indexed(tmp_path / "index.csv", rows)))
    finder = detectors.create("yunet", min_face_px=20.0)
    untouched, altered = (
        np.median(flicker.measured(str(tmp_path / f"{i}.mp4"), finder) @ fitted["weights"]) for i in (6, 7)
    )
    assert untouched + fitted["bias"] > 0.3 and altered + fitted["bias"] < -0.3


@pytest.mark.parametrize(
    "rows, without, said",
    [
        pytest.param([("a.mp4", "real", "s", "train")], (), "0 fake videos", id="one class"),
        pytest.param([("a.png", "real", "s", "train"), ("b.png", "fake", "s", "train")], (), "0 real", id="no video"),
        pytest.param([("a.mp4", "real", "s", "val"), ("b.mp4", "fake", "s", "val")], (), "0 real", id="to judge by"),
        pytest.param(
            [("a.mp4", "real", "s", "train"), ("b.mp4", "fake", "t", "train")], ["t"], "0 fake", id="left out"
        ),
    ],
)
def test_too_few_videos_are_refused_before_the_training(tmp_path, rows, without, said):
    with pytest.raises(UserError, match=said) as refused:
        flicker.clips_of(indexed(tmp_path / "index.csv", rows * 12), without)
    assert "--flicker" in refused.value.hint
