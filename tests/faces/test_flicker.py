"""How a face flickers from one frame to the next."""

import cv2
import numpy as np
import pytest

from deepfake_detection.faces import extract, flicker
from deepfake_detection.faces.boxes import Face
from deepfake_detection.video.decode import Frame

COARSE = {name: [f"coarse {name}" in each for each in flicker.NAMES] for name in ("middle", "mouth", "rim")}


def run(made_anew: bool, seed: int = 0, frames: int = 5, side: int = 200) -> list[np.ndarray]:
    """Windows of a textured face that moves, under noise of its own in every frame inside (`made_anew`) or under a
    shadow that grows."""
    random = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(random.random((side + 40, side + 40, 3)) * 255, (0, 0), 3)
    texture = (texture - texture.min()) / np.ptp(texture) * 160 + 40
    across = ((np.arange(side) + 0.5) / side * 2 - 1) * (1 + 2 * flicker.MARGIN)
    shadow = cv2.GaussianBlur(random.normal(0, 60, (side, side, 3)), (0, 0), 6)
    inside = (np.hypot(across[:, None], across[None]) < 0.65)[..., None]
    out = []
    for i in range(frames):
        shown = texture[20 + i : 20 + i + side, 20 : 20 + side]
        change = cv2.GaussianBlur(random.normal(0, 30, (side, side, 3)), (0, 0), 2) if made_anew else shadow * i
        out.append(np.clip(shown + inside * change, 0, 255).astype(np.uint8))
    return out


def test_a_face_made_anew_is_the_odd_one_out_in_every_frame():
    swapped, untouched = (np.mean([flicker.measure(run(anew, s)) for s in range(4)], axis=0) for anew in (True, False))
    for place in ("middle", "mouth"):
        assert swapped[COARSE[place]].min() > 0.3 and untouched[COARSE[place]].max() < 0.2
    assert (swapped[COARSE["middle"]] > swapped[COARSE["rim"]]).all()


@pytest.mark.parametrize(
    "windows",
    [
        pytest.param([np.full((90, 80, 3), 128, np.uint8)] * 5, id="one colour"),
        pytest.param([run(True)[0]] * 5, id="a frozen picture"),
        pytest.param([w for w in run(True, frames=3) for _ in range(2)][:5], id="each frame twice"),
        pytest.param(run(True, frames=4)[:3] + run(True, frames=4)[2:], id="one frame twice, in the middle"),
        pytest.param([np.zeros((1, 1, 3), np.uint8)] * 3, id="a pixel"),
    ],
)
def test_where_too_little_changes_nothing_is_said(windows):
    assert np.isnan(flicker.measure(windows)).all()


def test_a_frame_shown_twice_is_left_out():
    frames = run(True)
    twice = flicker.measure([frames[0], frames[0], *frames[1:4]])
    assert np.isfinite(twice).all() and np.allclose(twice, flicker.measure(frames[:4]), atol=1e-9)


@pytest.mark.parametrize("windows", [pytest.param(run(True, frames=n), id=f"{n} frames") for n in (4, 5)])
def test_numbers_are_finite_and_the_same_again(windows):
    found = flicker.measure(windows)
    assert found.shape == (flicker.COUNT,) == (len(flicker.NAMES),) and np.isfinite(found).all()
    assert np.array_equal(found, flicker.measure(windows))


class OneFace:
    name, confidence = "mtcnn_fast", 0.5

    def detect(self, frames, min_face_px=None):
        return [[Face(60.0, 50.0, 60.0, 70.0, 0.9, ((80.0, 80.0),) * 5)] for _ in frames]


@pytest.mark.parametrize(
    "frames, measured",
    [pytest.param(0, 0, id="alone"), pytest.param(3, 0, id="too few"), pytest.param(4, 1, id="a run")],
)
def test_runs_are_measured(frames, measured):
    images = [np.ascontiguousarray(np.pad(w, ((0, 0), (0, 50), (0, 0)))) for w in run(True, frames=4)]
    (found,) = extract.faces_of_frames([Frame(0, 0, 0.0, images[0], tuple(images[:frames]))], OneFace())
    assert len(found.faces) == 1 and len(found.flickers) == measured


def test_frames_are_found_together_as_without_runs():
    """Which way up people are is decided for so many frames at once, so a run must not cut these elsewhere."""

    class Counting(OneFace):
        def __init__(self):
            self.together = []

        def detect(self, frames, min_face_px=None):
            self.together.append(len(frames))
            return super().detect(frames)

    cuts = []
    for run in ((), (np.zeros((1000, 1000, 3), np.uint8),) * 4):
        detector = Counting()
        frames = [Frame(i, i, i / 25, np.zeros((1000, 1000, 3), np.uint8), run) for i in range(9)]
        assert len(list(extract.faces_of_frames(frames, detector))) == 9
        cuts.append(detector.together)
    assert cuts[0] == cuts[1]
