"""Whole-picture degradation: alike for both pictures of a pair, and a function of its draw alone."""

import numpy as np
import pytest
import synthetic

from deepfake_detection.blending.degrade import CHANCES, CODECS, Degradation, clip_coded, coded


@pytest.fixture(scope="module")
def picture():
    import cv2

    return cv2.GaussianBlur(synthetic.face(np.random.default_rng(3)), (0, 0), 1.5)[:192, :192]


@pytest.mark.parametrize("clips", [0.0, 1.0])
@pytest.mark.parametrize("strength", CHANCES)
def test_every_draw_gives_a_picture_of_the_same_kind_and_repeats_itself(picture, strength, clips):
    rng, before, changed = np.random.default_rng(1), picture.copy(), 0
    for _ in range(25):
        change = Degradation.drawn(rng, strength, clips)
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


def test_a_clip_at_a_lower_rate_loses_more_and_stays_in_place(picture):
    made = [clip_coded(picture, "veryfast", rate, np.random.default_rng(5)) for rate in (24, 38)]
    losses = [np.abs(m.astype(int) - picture).mean() for m in made]
    assert 0 < losses[0] < losses[1] < 25
    moved = np.roll(picture, 3, 1).astype(int)
    assert losses[1] < np.abs(made[1].astype(int) - moved).mean()


def test_clips_change_no_other_draw(picture):
    """Batches made without them are those that detector 2.0 learnt from."""
    with_clips, without = (Degradation.drawn(np.random.default_rng(9), clips=c) for c in (1.0, 0.0))
    assert with_clips.clip and not without.clip
    assert all(
        getattr(with_clips, f) == getattr(without, f) for f in ("part", "enlarge", "soften", "codecs", "hide", "seed")
    )


def test_hard_leaves_less_detail(picture):
    def detail(strength):
        rng = np.random.default_rng(4)
        made = [Degradation.drawn(rng, strength)(picture).astype(float).mean(-1) for _ in range(40)]
        return np.median([np.abs(np.diff(x, axis=1)).mean() / max(x.std(), 1) for x in made])

    assert detail("hard") < detail("usual")
