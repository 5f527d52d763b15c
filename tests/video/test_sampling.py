"""Which frames: the published rule, even spreading, limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfake_detection.video.resize import published_scale, resize, scale_for, scaled_size
from deepfake_detection.video.sampling import Runs, parse, thin


@pytest.mark.parametrize(
    "fps, count, expected",
    [
        (29.97, 300, [0, 29, 58, 87, 116, 145, 174, 203, 232, 261, 290]),  # a DFDC clip: 11 frames
        (30, 300, list(range(0, 300, 30))),
        (23.976, 24, [0, 23]),
        (25, 1, [0]),
        (0.5, 3, [0, 1, 2]),  # slower than one a second: all
        (60, 0, []),
    ],
)
def test_published_rule(fps, count, expected):
    assert parse("per-second").indices(fps, count) == expected


@pytest.mark.parametrize(
    "seconds, expected", [(2, [0, 29, 58]), (0.01, [0]), (1.0, [0, 29]), (100, list(range(0, 300, 29)))]
)
def test_max_seconds(seconds, expected):
    assert parse("per-second", max_seconds=seconds).indices(29.97, 300) == expected


def test_even_takes_the_middle_of_equal_parts():
    assert parse("even", frames=4).indices(30, 100) == [12, 37, 62, 87]
    assert parse("even", frames=32).indices(30, 5) == [0, 1, 2, 3, 4]
    assert parse("even", frames=3, max_seconds=1).indices(30, 3000) == [5, 15, 25]


@pytest.mark.parametrize(
    "seconds, number", [(4, 32), (12, 32), (25.6, 32), (30, 38), (60, 75), (3600, 75), (0.1, 3)], ids=str
)
def test_frames_lie_no_further_apart_than_asked_in_a_minute(seconds, number):
    indices = parse("even", frames=32, gap_s=0.8).indices(30, round(seconds * 30))
    assert len(indices) == number
    assert seconds > 60 or np.diff(indices).max() <= 0.8 * 30


@given(st.integers(0, 5000), st.integers(1, 100))
def test_thinning_keeps_order_and_number(count, most):
    chosen = thin(range(count), most)
    assert len(chosen) == min(count, most) and chosen == sorted(set(chosen))
    if count > most:  # no part of the video is left out
        gaps = np.diff([-chosen[0] - 1, *chosen])
        assert gaps.max() <= -(-count // most) + 1


@pytest.mark.parametrize(
    "arguments", [("second",), ("even", 0), ("even", 1, 0), ("even", 1, -1), ("per-second", 1, float("nan"))]
)
def test_refuses_nonsense(arguments):
    with pytest.raises(ValueError):
        parse(*arguments)


@pytest.mark.parametrize(
    "width, factor", [(132, 2), (299, 2), (300, 1), (1000, 1), (1001, 0.5), (1900, 0.5), (1901, 0.33), (7680, 0.33)]
)
def test_published_resize_rule(width, factor):
    assert published_scale(width) == factor
    assert scale_for("published", width) == factor and scale_for(0.25, width) == 0.25


def test_resize_truncates_and_keeps_small_pictures_alive():
    assert scaled_size(1920, 1080, 0.33) == (633, 356)
    assert resize(np.zeros((3, 2000, 3), np.uint8), 0.33).shape == (1, 660, 3)
    image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert resize(image, 1) is image
    for bad in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError):
            scale_for(bad, 100)


@pytest.mark.parametrize(
    "fps, step",
    [
        (5, 0),
        (15, 0),
        (20, 1),
        (23.976, 1),
        (25, 1),
        (30, 1),
        (44, 1),
        (48, 2),
        (50, 2),
        (59.94, 2),
        (120, 4),
        (240, 8),
    ],
)
def test_runs_are_of_video_speed(fps, step):
    assert Runs(1, 4).step(fps) == step
