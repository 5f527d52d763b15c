import cv2
import numpy as np
import pytest
import synthetic

from deepfake_detection.detector.self_blending import CANONICAL_POINTS, REGIONS, TYPICAL_POINTS, SelfBlender, affine_fit, bend, match_colour
from deepfake_detection.faces import mesh


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(5)
    return [synthetic.face(rng) for _ in range(4)]


@pytest.mark.parametrize("points", [TYPICAL_POINTS, TYPICAL_POINTS + 0.05, np.full((5, 2), np.nan), synthetic.mesh()], ids=["typical", "moved", "not found", "mesh"])
@pytest.mark.parametrize("other_points", [None, TYPICAL_POINTS, synthetic.mesh() + 0.03], ids=["itself", "swap", "swap by mesh"])
def test_a_blend_is_a_changed_picture_of_the_same_kind(faces, points, other_points):
    before = faces[0].copy()
    other = () if other_points is None else (faces[1], other_points)
    made = SelfBlender(seed=2)(faces[0], points, *other)
    assert made.shape == before.shape and made.dtype == np.uint8
    assert (made != before).any()
    np.testing.assert_array_equal(faces[0], before)      # the cached face is not touched


def test_seed_decides(faces):
    def run(seed):
        blend = SelfBlender(seed)
        return np.stack([blend(f, TYPICAL_POINTS) for f in faces])

    np.testing.assert_array_equal(run(7), run(7))
    assert (run(7) != run(8)).any()


def test_a_located_blend_says_where_it_was_blended(faces):
    called, located = SelfBlender(seed=9), SelfBlender(seed=9)
    untouched = 0
    for n in range(40):
        face, other = faces[n % 4], faces[(n + 1) % 4]
        made, mask = located.located(face, TYPICAL_POINTS, other, TYPICAL_POINTS)
        np.testing.assert_array_equal(made, called(face, TYPICAL_POINTS, other, TYPICAL_POINTS))
        assert mask.shape == face.shape[:2] and mask.dtype == np.float32 and 0 <= mask.min() and 0.5 < mask.max() <= 1 + 1e-6
        changed = (made != face).any(-1)
        assert changed[mask > 0.9].mean() > 0.5
        untouched += not changed[mask == 0].any()
    assert untouched > 10           # of half of the blends the target, all that is outside the mask, stays as it was


def test_mask_lies_over_the_face_and_has_a_soft_edge():
    blend, size = SelfBlender(seed=3), 160
    masks = np.stack([blend._mask(TYPICAL_POINTS * size, (size, size)) for _ in range(60)])
    assert masks.min() >= 0 and masks.max() <= 1 + 1e-6
    average = masks.mean(0)
    nose, corners = average[82, 78], average[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert nose > 0.5 and corners.max() < 0.1
    assert ((masks > 0.05) & (masks < 0.95)).any((1, 2)).all()


def test_two_sides_of_the_seam_differ(faces):
    """Pixels that the mask leaves out are the target's alone: blending changes a part, not the whole, of the picture."""
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
    source, target = rng.normal(100, 10, (64, 64, 3)).astype(np.uint8), rng.normal(150, 18, (64, 64, 3)).astype(np.uint8)
    made = match_colour(source, target, np.ones((64, 64), np.float32))
    np.testing.assert_allclose(made.mean((0, 1)), target.mean((0, 1)), atol=1.5)
    np.testing.assert_allclose(made.std((0, 1)), target.std((0, 1)), atol=1.5)


def spots(points, side=224, radius=3):
    """White spots at points (N, 2), in pixels, on black."""
    image = np.zeros((side, side, 3), np.uint8)
    for x, y in points:
        cv2.circle(image, (round(float(x)), round(float(y))), radius, (255, 255, 255), -1)
    return image


def test_bending_takes_every_point_to_its_place():
    rng = np.random.default_rng(3)
    start, end = synthetic.mesh() * 224, (synthetic.mesh(rng) * (0.9, 0.95) + (0.06, 0.02)) * 224
    for number in (61, 291, 0, mesh.LEFT_EYE[0], mesh.RIGHT_EYE[0]):
        made = bend(spots(start[[number]]), start, end, (224, 224))[..., 0].astype(float)
        y, x = np.mgrid[:224, :224]
        middle = np.array([(made * x).sum(), (made * y).sum()]) / made.sum()
        np.testing.assert_allclose(middle, end[number], atol=1.5)


def test_bending_onto_itself_and_shifting_are_exact(faces):
    soft = cv2.GaussianBlur(faces[0], (0, 0), 2)
    points = synthetic.mesh() * 224
    assert np.abs(bend(soft, points, points, (224, 224)).astype(int) - soft).max() <= 1
    shifted = bend(soft, points, points + (5, -3), (224, 224))
    assert np.abs(shifted[10:200, 10:200].astype(int) - soft[13:203, 5:195]).max() <= 2


def test_a_swap_by_mesh_keeps_the_targets_geometry():
    """The other's mouth comes to lie at this face's mouth, however the other holds its head."""
    own, other = synthetic.mesh(), synthetic.mesh() * 0.8 + 0.15
    lips = other[list(mesh.LIPS)] * 224
    placed = SelfBlender(seed=1)._align(spots(lips), other * 224, own * 224, (224, 224))[..., 0]
    rows, columns = np.nonzero(placed > 128)
    wanted = own[list(mesh.LIPS)] * 224
    np.testing.assert_allclose([columns.min(), columns.max(), rows.min(), rows.max()],
                               [wanted[:, 0].min(), wanted[:, 0].max(), wanted[:, 1].min(), wanted[:, 1].max()], atol=6)


def test_a_reenacted_face_changes_about_the_mouth_alone(faces):
    blend, own = SelfBlender(seed=2), synthetic.mesh()
    like = own.copy()
    like[list(mesh.LIPS + mesh.INNER_LIPS)] = (like[list(mesh.LIPS + mesh.INNER_LIPS)] - (0.5, 0.7)) * (1, 2.5) + (0.5, 0.7)   # wide open
    blend._restyle = lambda image: image
    face, masks = cv2.GaussianBlur(faces[1], (0, 0), 4), []         # of noise every pixel would change with a hundredth of a pixel
    cv2.ellipse(face, (112, 156), (30, 8), 0, 0, 360, (150, 20, 20), -1)
    for _ in range(12):
        before = face.copy()
        made, mask = blend.reenacted(face, own, like)
        np.testing.assert_array_equal(face, before)
        changed = np.abs(made.astype(int) - before).max(-1) > 4
        assert made.dtype == np.uint8 and mask.dtype == np.float32 and mask.shape == made.shape[:2]
        assert changed[mask > 0.5].any() and not changed[mask == 0].any()
        # What moves is the mouth and what is near it; the eyes stay where they were, also where the mask covers them.
        y, x = np.nonzero(changed)
        assert np.median(y) > 0.5 * 224
        masks.append(mask[60, 67] > 0.5)
    assert any(masks) and not all(masks)                # some are blended along the whole face, some along the mouth


@pytest.mark.parametrize("region", REGIONS)
def test_masks_of_a_mesh_follow_the_face(region):
    blend, points = SelfBlender(seed=4), synthetic.mesh() * 224
    masks = np.stack([blend._mask(points, (224, 224), (region,)) for _ in range(20)])
    assert masks.dtype == np.float32 and masks.min() >= 0 and masks.max() <= 1 + 1e-6 and (masks.max((1, 2)) > 0.5).all()
    middle = points[list(REGIONS[region][0])].mean(0).round().astype(int)
    assert masks.mean(0)[middle[1], middle[0]] > 0.5
    moved = SelfBlender(seed=4)._mask(points + (0, 30), (224, 224), (region,))
    assert (moved * np.arange(224)[:, None]).sum() / moved.sum() > (masks[0] * np.arange(224)[:, None]).sum() / masks[0].sum() + 5
