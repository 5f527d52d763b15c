"""Whole-picture degradation: alike for both pictures of a pair, and a function of its draw alone."""

import numpy as np
import pytest
import synthetic

from deepfake_detection.blending.degrade import CHANCES, CODECS, Degradation, coded


@pytest.fixture(scope="module")
def picture():
    import cv2

    return cv2.GaussianBlur(synthetic.face(np.random.default_rng(3)), (0, 0), 1.5)[:192, :192]


@pytest.mark.parametrize("strength", CHANCES)
def test_every_draw_gives_a_picture_of_the_same_kind_and_repeats_itself(picture, strength):
    rng, before, changed = np.random.default_rng(1), picture.copy(), 0
    for _ in range(25):
        change = Degradation.drawn(rng, strength)
        made = change(picture)
        assert made.shape == picture.shape and made.dtype == np.uint8
        np.testing.assert_array_equal(made, change(picture))
        changed += (made != picture).any()
    np.testing.assert_array_equal(picture, before)
    assert changed > 20


def test_a_pair_stays_a_pair(picture):
    """Two pictures that are alike outside a patch are nearly alike outside it afterwards: nothing is drawn anew for the
    second."""
    rng, other = np.random.default_rng(2), picture.copy()
    other[80:110, 80:110] = 255 - other[80:110, 80:110]
    for _ in range(15):
        change = Degradation.drawn(rng)
        a, b = change(picture).astype(int), change(other).astype(int)
        assert np.abs(a - b)[:40, :40].mean() < 6


@pytest.mark.parametrize(
    "name, good, bad",
    [
        pytest.param(n, *q, id=n)
        for n, q in {"jpeg": (90, 15), "webp": (80, 1), "x264": (20, 40), "mpeg4": (3, 16)}.items()
    ],
)
def test_a_codec_loses_more_at_a_worse_quality(picture, name, good, bad):
    assert name in CODECS
    losses = [np.abs(coded(picture, name, q).astype(int) - picture).mean() for q in (good, bad)]
    assert 0 < losses[0] < losses[1] < 25
    assert coded(picture, name, bad).shape == picture.shape


def test_hard_leaves_less_detail(picture):
    def detail(strength):
        rng = np.random.default_rng(4)
        made = [Degradation.drawn(rng, strength)(picture).astype(float).mean(-1) for _ in range(40)]
        return np.median([np.abs(np.diff(x, axis=1)).mean() / max(x.std(), 1) for x in made])

    assert detail("hard") < detail("usual")
