"""The 468 points of a face in tight crops: where they lie, and that none are given where no face is."""

import numpy as np
import pytest

from deepfake_detection.faces import detectors, mesh
from tests.clips import scene


@pytest.fixture(scope="module")
def find():
    return mesh.FaceMesh()


@pytest.fixture(scope="module")
def crop():
    """A photographed face from its brows to its chin, RGB, and YuNet's five points as parts of it."""
    frame = scene([(320, 180)], 340)
    (face,) = detectors.create("yunet").detect([frame])[0]
    x0, y0, x1, y1 = (
        round(v)
        for v in (
            face.x - 0.09 * face.width,
            face.y + 0.13 * face.height,
            face.x + 1.09 * face.width,
            face.y + face.height,
        )
    )
    return frame[y0:y1, x0:x1, ::-1].copy(), (np.array(face.points) - (x0, y0)) / (x1 - x0, y1 - y0)


def test_points_lie_where_another_network_sees_eyes_nose_and_mouth(find, crop):
    points, score = find(crop[0])
    assert points.shape == (mesh.POINTS, 2) and points.dtype == np.float32 and score > mesh.LEAST_SCORE
    np.testing.assert_allclose(mesh.five(points), crop[1], atol=0.1)
    oval = points[list(mesh.OVAL)]
    assert (oval.min(0) < mesh.five(points).min(0)).all() and (oval.max(0) > mesh.five(points).max(0)).all()
    # Names say what they mean: brows over eyes over nose over lips, jaw from the viewer's right to left.
    heights = [points[list(part)][:, 1].mean() for part in (mesh.BROWS, mesh.LEFT_EYE, mesh.NOSE[3:6], mesh.LIPS)]
    assert heights == sorted(heights)
    assert points[mesh.JAW[0], 0] > 0.5 > points[mesh.JAW[-1], 0]


def test_points_follow_size_and_place(find, crop):
    import cv2

    points, _ = find(crop[0])
    larger, _ = find(cv2.resize(crop[0], None, fx=1.5, fy=1.2))
    np.testing.assert_allclose(larger, points, atol=0.03)
    mirrored, _ = find(crop[0][:, ::-1].copy())
    np.testing.assert_allclose(mesh.five(mirrored)[[1, 0, 2, 4, 3]] * (-1, 1) + (1, 0), mesh.five(points), atol=0.04)


@pytest.mark.parametrize("picture", ["noise", "grey"])
def test_no_points_where_no_face_is(find, picture):
    image = (
        np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)
        if picture == "noise"
        else np.full((224, 224, 3), 128, np.uint8)
    )
    points, score = find(image)
    assert score < mesh.LEAST_SCORE and points.shape == (mesh.POINTS, 2) and np.isnan(points).all()


def test_every_point_has_one_number_of_the_model():
    for part in (
        mesh.OVAL,
        mesh.BROWS,
        mesh.LEFT_EYE,
        mesh.RIGHT_EYE,
        mesh.NOSE,
        mesh.LIPS,
        mesh.INNER_LIPS,
        mesh.CONTROL,
    ):
        assert len(set(part)) == len(part) and 0 <= min(part) and max(part) < mesh.POINTS
    assert set(mesh.JAW) < set(mesh.OVAL) and not set(mesh.JAW) & set(mesh.BROWS)
