import numpy as np
import pytest
import synthetic

from deepfake_detection.detector.self_blending import CANONICAL_POINTS, TYPICAL_POINTS, SelfBlender, affine_fit, match_colour


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(5)
    return [synthetic.face(rng) for _ in range(4)]


@pytest.mark.parametrize("points", [TYPICAL_POINTS, TYPICAL_POINTS + 0.05, np.full((5, 2), np.nan)], ids=["typical", "moved", "not found"])
@pytest.mark.parametrize("swap", [False, True])
def test_a_blend_is_a_changed_picture_of_the_same_kind(faces, points, swap):
    before = faces[0].copy()
    other = (faces[1], TYPICAL_POINTS) if swap else ()
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
