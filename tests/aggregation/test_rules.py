"""Rules on scores whose answer can be worked out by hand, at and around every boundary."""

import numpy as np
import pytest

from deepfake_detection.aggregation import RULES, aggregate, person_scores, video_score
from deepfake_detection.errors import UserError


def frames(*pairs):
    """frames((3, 0.1), (2, 0.9)): three scores of 0.1, two of 0.9."""
    return np.concatenate([np.full(n, p) for n, p in pairs])


@pytest.mark.parametrize(
    "rule, p, expected",
    [
        ("mean", [0.9, 0.6, 0.3], 0.6),
        ("median", [0.9, 0.6, 0.0], 0.6),
        ("median", [0.2, 0.4, 0.6, 1.0], 0.5),
        ("vote", [0.5, 0.51, 0.49, 0.0], 0.5),  # the tie at 0.5 votes REAL
        ("weighted", [0.9, 0.5, 0.5, 0.5], 0.9),  # what says nothing weighs nothing
        ("weighted", [1.0, 0.25], (0.5 * 1 + 0.25 * 0.25) / 0.75),
        ("weighted", [0.5, 0.5], 0.5),
        # confident mean: more than 11 AND more than n / 2.5 surely fake faces
        ("confident_mean", frames((12, 0.1), (17, 0.9)), 0.1),  # 12 > 29 / 2.5 = 11.6
        (
            "confident_mean",
            frames((12, 0.1), (18, 0.7)),
            (12 * 0.1 + 18 * 0.7) / 30,
        ),  # 12 is not more than 30 / 2.5 = 12
        ("confident_mean", frames((11, 0.1), (2, 0.7)), (11 * 0.1 + 2 * 0.7) / 13),  # 11 is not more than 11
        ("confident_mean", frames((12, 0.2), (2, 0.7)), (12 * 0.2 + 2 * 0.7) / 14),  # p_fake 0.8 is not more than 0.8
        # else more than 0.9 n surely real faces
        ("confident_mean", frames((19, 0.95), (1, 0.1)), 0.95),  # 19 > 18
        ("confident_mean", frames((9, 0.95), (1, 0.1)), 0.865),  # 9 is not more than 9
        ("confident_mean", frames((10, 0.8)), 0.8),  # p_fake 0.2 is not less than 0.2: the mean, the same here
        ("confident_mean", frames((19, 0.8), (1, 0.1)), (19 * 0.8 + 0.1) / 20),
    ],
)
def test_by_hand(rule, p, expected):
    assert aggregate(np.asarray(p), rule) == pytest.approx(expected)


@pytest.mark.parametrize("rule", RULES)
def test_polarity(rule):
    real, fake = np.linspace(0.7, 0.99, 32), np.linspace(0.01, 0.3, 32)
    assert aggregate(real, rule) > 0.75 and aggregate(fake, rule) < 0.25


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_a_rule_stays_in_range_and_ignores_order(rule, seed):
    p = np.random.default_rng(seed).random(33)
    assert p.min() - 1e-12 <= aggregate(p, rule) <= 1 and aggregate(p[::-1], rule) == pytest.approx(aggregate(p, rule))
    if rule != "vote":
        assert aggregate(np.full(7, 0.3), rule) == pytest.approx(0.3)


@pytest.mark.parametrize("bad", [[], [0.5, float("nan")], [1.1], [[0.5]]])
def test_nothing_is_invented(bad):
    with pytest.raises(ValueError):
        aggregate(bad)


def test_unknown_rule():
    with pytest.raises(UserError, match="choose one of mean, median"):
        aggregate([0.5], "mode")


@pytest.mark.parametrize(
    "persons, expected",
    [
        ({"p0": [0.9] * 10, "p1": [0.1] * 10}, 0.1),  # as fake as the most fake person, not the 0.5 of all faces
        ({"p0": [0.9] * 10, "p1": [0.1] * 2}, 0.9),  # two faces are not well seen
        ({"p0": [0.9] * 30, "p1": [0.1] * 5}, 0.9),  # 5 of 30 are under 20 %
        ({"p0": [0.9] * 30, "p1": [0.1] * 6}, 0.1),  # 6 of 30 are 20 %
        ({"p0": [0.9] * 2, "p1": [0.1] * 1}, 0.9),  # nobody has three: who is seen most decides
        ({"": [0.2, 0.4]}, 0.3),
        ({"p0": [0.7] * 3, "p1": []}, 0.7),
    ],
)
def test_people(persons, expected):
    assert video_score(persons) == pytest.approx(expected)


def test_person_scores_tell_who():
    found = {s.person: s for s in person_scores({"p0": [0.9] * 10, "p1": [0.1] * 2}, "median")}
    assert found["p1"].p_real == 0.1 and found["p1"].frames == 2 and not found["p1"].well_seen and found["p0"].well_seen
    with pytest.raises(ValueError, match="no face"):
        video_score({"p0": []})
