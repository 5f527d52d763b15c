"""Quality of a face's picture: pose from points, share inside the frame, exposure, and why it does not vote."""

import math

import numpy as np
import pytest

from deepfake_detection.faces import quality
from deepfake_detection.faces.boxes import Face

POINTS = ((85, 90), (115, 90), (100, 107), (87, 122), (113, 122))


def turned(yaw, pitch, roll):
    y, p, r = map(math.radians, (yaw, pitch, roll))
    c, s = math.cos, math.sin
    across = np.array([[c(y), 0, s(y)], [0, 1, 0], [-s(y), 0, c(y)]])
    down = np.array([[1, 0, 0], [0, c(p), -s(p)], [0, s(p), c(p)]])
    flat = np.array([[c(r), -s(r), 0], [s(r), c(r), 0], [0, 0, 1]])
    return (quality._MODEL @ (flat @ across @ down).T)[:, :2] * 1.5 + 100


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (30, 0, 0), (-60, 0, 0), (0, 20, 0), (0, -30, 0), (20, 10, 30), (0, 0, 170)], ids=str
)
def test_pose_is_that_of_a_turned_head(angles):
    assert quality.pose(turned(*angles)) == pytest.approx(angles, abs=0.5)


@pytest.mark.parametrize("shift, share", [(0, 1.0), (-100, 0.5), (-400, 0.0)])
def test_share_inside(shift, share):
    assert quality.share_inside([(x + shift, y) for x, y in POINTS], (400, 400)) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize(
    "change, scale, fault",
    [
        pytest.param(lambda a: a, 1.0, "", id="good"),
        pytest.param(lambda a: a, 4.0, "small", id="small-in-the-source"),
        pytest.param(lambda a: (a * 0.15).astype(np.uint8), 1.0, "dark", id="dark"),
        pytest.param(lambda a: np.clip(a * 5.0, 0, 255).astype(np.uint8), 1.0, "blown out", id="overexposed"),
    ],
)
def test_fault(change, scale, fault):
    picture = np.random.default_rng(1).integers(60, 200, (200, 200, 3)).astype(np.uint8)
    face = Face(65, 60, 70, 85, 0.93, POINTS)
    measured = quality.measure(face, change(picture), (0, 0), (200, 200), scale)
    assert quality.Bounds().fault(measured) == fault


def test_a_profile_and_a_doubtful_face_do_not_vote():
    picture = np.random.default_rng(1).integers(60, 200, (200, 200, 3)).astype(np.uint8)
    side = quality.measure(
        Face(65, 60, 70, 85, 0.93, tuple(map(tuple, (turned(-70, 0, 0) - 100) * 0.4 + 100))),
        picture,
        (0, 0),
        (200, 200),
    )
    assert quality.Bounds().fault(side) == "side"
    assert (
        quality.Bounds().fault(quality.measure(Face(65, 60, 70, 85, 0.7, POINTS), picture, (0, 0), (200, 200)))
        == "unclear"
    )


def test_reason_names_the_commonest_faults():
    assert quality.reason(["small", "small", "dark"], [28, 30, 90]) == "the faces are too small (29 px), too dark"
    assert quality.reason([], []) == ""
