"""Calibration finds what was done to the scores, and thresholds keep the error rate that they state."""

import json

import numpy as np
import pytest
from scipy.special import expit, logit

from deepfake_detection.aggregation import Calibration, CalibrationError, Thresholds, fit_temperature
from deepfake_detection.metrics import auc, ece, log_loss


def calibrated(n=8000, seed=0):
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(0, 2, n))
    return (rng.random(n) < p).astype(int), p


@pytest.mark.parametrize("temperature, bias", [(1, 0), (3, 0), (0.4, 0), (2, 1.0), (0.5, -1.5)])
def test_it_undoes_a_known_distortion(temperature, bias):
    y, p = calibrated()
    distorted = expit((logit(p) - bias) * temperature)
    fitted = fit_temperature(y, distorted)
    assert fitted.temperature == pytest.approx(temperature, rel=0.06) and fitted.bias == pytest.approx(bias, abs=0.08)
    mended = fitted.apply(distorted)
    assert log_loss(y, mended) <= log_loss(y, p) + 1e-6 and ece(y, mended) < 0.03
    assert auc(y, mended) == pytest.approx(auc(y, distorted), abs=1e-9)


def test_balanced_ignores_the_share_of_fakes():
    y, p = calibrated()
    few = np.flatnonzero((y == 1) | (np.arange(len(y)) % 8 == 0))  # throw seven of eight fakes away
    assert (
        abs(fit_temperature(y[few], p[few]).bias) > 1.5
        and abs(fit_temperature(y[few], p[few], balanced=True).bias) < 0.25
    )


def test_separable_scores_do_not_run_off_to_certainty():
    y, p = np.array([0] * 30 + [1] * 30), np.r_[np.linspace(0.05, 0.4, 30), np.linspace(0.6, 0.95, 30)]
    c = fit_temperature(y, p)
    assert c.temperature >= 0.05 and np.isfinite(c.apply(p)).all()


def test_exact_zeros_and_ones_and_shapes():
    c = Calibration(2.0, 0.5)
    assert 0 < c.apply(0.0) < c.apply(1.0) < 1 and isinstance(c.apply(0.5), float)
    assert c.apply(np.full((2, 3), 0.5)).shape == (2, 3) and c.apply(0.5) == pytest.approx(expit(0.5))
    assert np.all(np.diff(c.apply(np.linspace(0, 1, 101))) > 0)
    assert Calibration().apply(0.3) == pytest.approx(0.3)


def test_round_trip_through_json():
    c, t = Calibration(1.7, -0.2), Thresholds(0.3, 0.6)
    assert (
        Calibration.from_dict(json.loads(json.dumps(c.to_dict()))) == c
        and Thresholds.from_dict(json.loads(json.dumps(t.to_dict()))) == t
    )


@pytest.mark.parametrize(
    "y, p, reason",
    [
        ([1, 1, 1], [0.1, 0.2, 0.3], "both"),
        ([1, 0], [0.1, 0.9], "wrong way"),
        ([1, 0], [0.9, float("nan")], "0..1"),
        ([1, 0], [0.9, -0.1], "0..1"),
        ([1, 0, 2], [0.9, 0.1, 0.5], "labels"),
        ([], [], "both"),
    ],
)
def test_refusals(y, p, reason):
    with pytest.raises(CalibrationError, match=reason):
        fit_temperature(np.array(y), np.array(p))


@pytest.mark.parametrize("values", [(0, 0), (-1, 0), (float("nan"), 0), (1, float("inf"))])
def test_no_calibration_that_turns_scores_around(values):
    with pytest.raises(ValueError):
        Calibration(*values)


@pytest.mark.parametrize(
    "p, word", [(0.0, "FAKE"), (0.2999, "FAKE"), (0.3, "UNSURE"), (0.5999, "UNSURE"), (0.6, "REAL"), (1.0, "REAL")]
)
def test_words(p, word):
    assert Thresholds(0.3, 0.6).verdict(p) == word


def test_the_published_rule_is_the_default_and_nonsense_is_refused():
    assert Thresholds().verdict(0.5) == "REAL" and Thresholds().verdict(0.4999) == "FAKE"
    for bad in (float("nan"), 1.1):
        with pytest.raises(ValueError):
            Thresholds().verdict(bad)
    with pytest.raises(ValueError):
        Thresholds(0.7, 0.3)
