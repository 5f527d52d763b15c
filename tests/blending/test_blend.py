import cv2
import numpy as np
import pytest
import synthetic

from deepfake_detection.blending.blend import (
    CANONICAL_POINTS,
    REGIONS,
    TYPICAL_POINTS,
    SelfBlender,
    affine_fit,
    bend,
    match_colour,
)
from deepfake_detection.blending.faces import SIDE
from deepfake_detection.faces import mesh


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(5)
    return [synthetic.face(rng) for _ in range(4)]


@pytest.mark.parametrize(
    "points",
    [TYPICAL_POINTS, TYPICAL_POINTS + 0.05, np.full((5, 2), np.nan), synthetic.mesh()],
    ids=["typical", "moved", "not found", "mesh"],
)
@pytest.mark.parametrize(
    "other_points", [None, TYPICAL_POINTS, synthetic.mesh() + 0.03], ids=["itself", "swap", "swap by mesh"]
)
def test_a_blend_is_a_changed_picture_of_the_same_kind(faces, points, other_points):
    before = faces[0].copy()
    other = () if other_points is None else (faces[1], other_points)
    made = SelfBlender(seed=2)(faces[0], points, *other)
    assert made.shape == before.shape and made.dtype == np.uint8
    assert (made != before).any()
    np.testing.assert_array_equal(faces[0], before)  # the cached face is not touched


def test_seed_decides(faces):
    def run(seed):
        blend = SelfBlender(seed)
        return np.stack([blend(f, TYPICAL_POINTS) for f in faces])

    np.testing.assert_array_equal(run(7), run(7))
    assert (run(7) != run(8)).any()


def test_mask_lies_over_the_face_and_has_a_soft_edge():
    blend, size = SelfBlender(seed=3), 160
    masks = np.stack([blend._mask(TYPICAL_POINTS * size, (size, size)) for _ in range(60)])
    assert masks.min() >= 0 and masks.max() <= 1 + 1e-6
    average = masks.mean(0)
    nose, corners = average[82, 78], average[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert nose > 0.5 and corners.max() < 0.1
    assert ((masks > 0.05) & (masks < 0.95)).any((1, 2)).all()


def test_two_sides_of_the_seam_differ(faces):
    """Pixels that the mask leaves out are the target's alone: blending changes a part, not the whole, of the
    picture."""
    blend = SelfBlender(seed=1)
    blend._restyle = lambda image: np.full_like(image, 255)
    made = np.stack([blend(faces[0], TYPICAL_POINTS) for _ in range(20)]).astype(int)
    inside, outside = made[:, 75:90, 70:85].std(0).mean(), made[:, :3, :3].std(0).mean()
    assert inside > 5
    assert np.isin(made[:, 0, 0], [255, faces[0][0, 0, 0], faces[0][0, 0, 1], faces[0][0, 0, 2]]).mean() > 0.9, outside


def test_affine_fit_is_exact_for_affine_maps():
    matrix = np.array([[1.2, -0.3, 5], [0.4, 0.9, -7]], np.float32)
    end = CANONICAL_POINTS @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(affine_fit(CANONICAL_POINTS, end), matrix, atol=1e-3)


def test_match_colour_takes_over_mean_and_spread():
    rng = np.random.default_rng(0)
    source, target = (
        rng.normal(100, 10, (64, 64, 3)).astype(np.uint8),
        rng.normal(150, 18, (64, 64, 3)).astype(np.uint8),
    )
    made = match_colour(source, target, np.ones((64, 64), np.float32))
    np.testing.assert_allclose(made.mean((0, 1)), target.mean((0, 1)), atol=1.5)
    np.testing.assert_allclose(made.std((0, 1)), target.std((0, 1)), atol=1.5)


def spots(points, side=SIDE, radius=3):
    """White spots at points (N, 2), in pixels, on black."""
    image = np.zeros((side, side, 3), np.uint8)
    for x, y in points:
        cv2.circle(image, (round(float(x)), round(float(y))), radius, (255, 255, 255), -1)
    return image


def test_bending_takes_every_point_to_its_place():
    rng = np.random.default_rng(3)
    start, end = synthetic.mesh() * SIDE, (synthetic.mesh(rng) * (0.9, 0.95) + (0.06, 0.02)) * SIDE
    for number in (61, 291, 0, mesh.LEFT_EYE[0], mesh.RIGHT_EYE[0]):
        made = bend(spots(start[[number]]), start, end, (SIDE, SIDE))[..., 0].astype(float)
        y, x = np.mgrid[:SIDE, :SIDE]
        middle = np.array([(made * x).sum(), (made * y).sum()]) / made.sum()
        np.testing.assert_allclose(middle, end[number], atol=1.5)


def test_bending_onto_itself_and_shifting_are_exact(faces):
    soft = cv2.GaussianBlur(faces[0], (0, 0), 2)
    points = synthetic.mesh() * SIDE
    assert np.abs(bend(soft, points, points, (SIDE, SIDE)).astype(int) - soft).max() <= 1
    shifted = bend(soft, points, points + (5, -3), (SIDE, SIDE))
    assert np.abs(shifted[10:200, 10:200].astype(int) - soft[13:203, 5:195]).max() <= 2


def test_a_swap_by_mesh_keeps_the_targets_geometry():
    """The other's mouth comes to lie at this face's mouth, however the other holds its head."""
    own, other = synthetic.mesh(), synthetic.mesh() * 0.8 + 0.15
    lips = other[list(mesh.LIPS)] * SIDE
    placed = SelfBlender(seed=1)._align(spots(lips), other * SIDE, own * SIDE, (SIDE, SIDE))[..., 0]
    rows, columns = np.nonzero(placed > 128)
    wanted = own[list(mesh.LIPS)] * SIDE
    np.testing.assert_allclose(
        [columns.min(), columns.max(), rows.min(), rows.max()],
        [wanted[:, 0].min(), wanted[:, 0].max(), wanted[:, 1].min(), wanted[:, 1].max()],
        atol=6,
    )


def test_a_reenacted_face_changes_about_the_mouth_alone(faces):
    blend, own = SelfBlender(seed=2), synthetic.mesh()
    like = own.copy()
    mouth = list(mesh.LIPS + mesh.INNER_LIPS)
    like[mouth] = (like[mouth] - (0.5, 0.7)) * (1, 2.5) + (0.5, 0.7)  # wide open
    blend._restyle = lambda image: image
    face = cv2.GaussianBlur(faces[1], (0, 0), 4)  # of noise every pixel would change with a hundredth of a pixel
    cv2.ellipse(face, (128, 178), (34, 9), 0, 0, 360, (150, 20, 20), -1)
    for _ in range(12):
        before = face.copy()
        made = blend.reenacted(face, own, like)
        np.testing.assert_array_equal(face, before)
        changed = np.abs(made.astype(int) - before).max(-1) > 4
        assert made.dtype == np.uint8 and changed.any()
        # What moves is the mouth and what is near it.
        assert np.median(np.nonzero(changed)[0]) > 0.5 * SIDE


@pytest.mark.parametrize("other", [False, True], ids=["own copy", "another face"])
def test_a_live_swap_is_softer_inside_and_untouched_outside(other):
    """What the whole method rests on: the inside of the face loses detail, what surrounds it keeps every pixel."""
    rng, points = np.random.default_rng(1), (synthetic.mesh() - 0.5) * 0.6 + 0.5
    face, second = (rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8) for _ in range(2))
    blend, inside = SelfBlender(seed=5), np.zeros(2)
    for _ in range(12):
        made = blend.live(face, points, *((second, points + 0.01) if other else ()))
        assert made.shape == face.shape and made.dtype == np.uint8
        inside += [
            cv2.Laplacian(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.CV_64F)[100:156, 100:156].std() for f in (face, made)
        ]
        np.testing.assert_array_equal(made[:4], face[:4])
    assert inside[1] < 0.8 * inside[0]


@pytest.mark.parametrize("region", REGIONS)
def test_masks_of_a_mesh_follow_the_face(region):
    blend, points = SelfBlender(seed=4), synthetic.mesh() * SIDE
    masks = np.stack([blend._mask(points, (SIDE, SIDE), (region,)) for _ in range(20)])
    assert (
        masks.dtype == np.float32 and masks.min() >= 0 and masks.max() <= 1 + 1e-6 and (masks.max((1, 2)) > 0.5).all()
    )
    middle = points[list(REGIONS[region][0])].mean(0).round().astype(int)
    assert masks.mean(0)[middle[1], middle[0]] > 0.5
    moved = SelfBlender(seed=4)._mask(points + (0, 30), (SIDE, SIDE), (region,))
    assert (moved * np.arange(SIDE)[:, None]).sum() / moved.sum() > (masks[0] * np.arange(SIDE)[:, None]).sum() / masks[
        0
    ].sum() + 5
