"""Calibration finds what was done to the scores, and thresholds keep the error rate that they state."""

import json

import numpy as np
import pytest
from scipy.special import expit, logit

from deepfake_detection.aggregation import Calibration, CalibrationError, Thresholds, fit_temperature, fit_thresholds
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
    for fit in (fit_temperature, fit_thresholds):
        with pytest.raises(CalibrationError, match=reason):
            fit(np.array(y), np.array(p))


@pytest.mark.parametrize("values", [(0, 0), (-1, 0), (float("nan"), 0), (1, float("inf"))])
def test_no_calibration_that_turns_scores_around(values):
    with pytest.raises(ValueError):
        Calibration(*values)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_thresholds_keep_the_stated_error_rate(rate, seed):
    y, p = calibrated(2000, seed)
    p = np.round(p, 2)  # many ties
    t = fit_thresholds(y, p, rate)
    verdicts = np.array([t.verdict(v) for v in p])
    assert np.mean(verdicts[y == 1] == "FAKE") <= rate and np.mean(verdicts[y == 0] == "REAL") <= rate
    # and no more UNSURE than that needs: one step of 0.01 further would break it
    assert np.mean(p[y == 1] < t.fake_below + 0.01) > rate and np.mean(p[y == 0] >= t.real_above - 0.01) > rate
    assert set(verdicts) == {"REAL", "FAKE", "UNSURE"}


def test_separated_scores_need_no_unsure():
    y, p = np.array([0] * 40 + [1] * 40), np.r_[np.linspace(0.0, 0.3, 40), np.linspace(0.6, 1.0, 40)]
    t = fit_thresholds(y, p, 0.05)
    assert t.fake_below == t.real_above == 0.5 and t.verdict(0.3) == "FAKE" and t.verdict(0.6) == "REAL"


def test_a_rate_that_so_few_videos_cannot_show_is_refused():
    with pytest.raises(CalibrationError, match="10 real videos cannot show an error rate of 0.05"):
        fit_thresholds(np.array([1] * 10 + [0] * 40), np.r_[np.full(10, 0.9), np.full(40, 0.1)], 0.05)


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
