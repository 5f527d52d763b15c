"""The metrics themselves: one number from labels `y` (N,) (1 real, 0 fake) and scores `p` (N,) = P(real).

Each public name is a `Metric`: call it for the value, or give its `batch` form row weights (R, N) to get R values at
once, which is what makes a bootstrap of 1000 resamples take a fraction of a second. Values come from scikit-learn where
it has the metric; the batch forms are our own and the tests hold them to the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..labels import FAKE, REAL, TIE_THRESHOLD
from .errors import MetricError

#: Scores are clipped to [1e-7, 1 - 1e-7] before the logarithm: float32 holds nothing closer to 1, and one confidently
#: wrong video then costs at most 16.1 instead of infinity.
LOG_LOSS_CLIP = 1e-7

#: Equal-width bins of p_real for the expected calibration error (Guo et al., "On Calibration of Modern Neural
#: Networks", 2017).
ECE_BINS = 15

#: Share of reals that may be called fake in `tpr_at_fpr`.
FPR_LIMIT = 0.05


def checked(y, p, *, two_classes: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """`y` as (N,) int 0/1 and `p` as (N,) float64, or a refusal.

    Raises:
        MetricError: empty, different lengths, labels other than 0 and 1, scores that are NaN or outside 0..1, or, with
            `two_classes`, only one class.
    """
    y, p = np.asarray(y), np.asarray(p, dtype=np.float64)
    if y.ndim != 1 or p.ndim != 1 or len(y) != len(p):
        raise MetricError(f"labels and scores do not match: shapes {y.shape} and {p.shape}")
    if not len(y):
        raise MetricError("no scores")
    if not np.isin(y, (FAKE, REAL)).all():
        raise MetricError("labels other than 1 (real) and 0 (fake)")
    if np.isnan(p).any():
        raise MetricError(f"{int(np.isnan(p).sum())} of {len(p)} scores are NaN")
    if p.min() < 0 or p.max() > 1:
        raise MetricError("scores outside 0..1")
    y = y.astype(np.int64)
    if two_classes:
        for label, word in ((REAL, "real"), (FAKE, "fake")):
            if not (y == label).any():
                raise MetricError(f"no {word} video: it needs both classes")
    return y, p


@dataclass(frozen=True)
class Metric:
    """A named metric.

    Attributes:
        name: key in tables and JSON.
        label: for people.
        higher_is_better: direction of "better".
        two_classes: whether real and fake must both be present.
    """

    name: str
    label: str
    higher_is_better: bool
    two_classes: bool
    point: Callable[[np.ndarray, np.ndarray], float]
    batch_of: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

    def __call__(self, y, p, **options) -> float:
        """The value. Raises MetricError when the data does not support it."""
        return float(self.point(*checked(y, p, two_classes=self.two_classes), **options))

    def batch(self, y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The value under each row of non-negative `weights` (R, N); (R,), NaN where a class has no weight."""
        with np.errstate(divide="ignore", invalid="ignore"):
            values = self.batch_of(y, p, weights)
        if self.two_classes:
            values = np.where(((weights @ (y == REAL)) > 0) & ((weights @ (y == FAKE)) > 0), values, np.nan)
        return values


# --- ranking metrics --------------------------------------------------------------------------------------------------


def _cumulated(y, p, weights) -> tuple[np.ndarray, np.ndarray]:
    """Weight of fakes and of reals called fake as the threshold rises through the distinct scores: (R, U + 1) each."""
    order = np.argsort(p, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(p[order]) > 0])  # equal scores are called fake together
    called = []
    for label in (FAKE, REAL):
        at = np.add.reduceat(weights[:, order] * (y[order] == label), starts, axis=1)
        called.append(np.concatenate([np.zeros((len(weights), 1)), np.cumsum(at, axis=1)], axis=1))
    return called[0], called[1]


def _auc_point(y, p):
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(y, p)


def _auc_batch(y, p, weights):
    # Mann and Whitney's count: the weight of the fakes below each real, and half of those that tie with it.
    order = np.argsort(p, kind="stable")
    fakes, reals = order[y[order] == FAKE], order[y[order] == REAL]
    below, up_to = (np.searchsorted(p[fakes], p[reals], side) for side in ("left", "right"))
    weight_of_reals = weights[:, reals]
    cumulated = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights[:, fakes], axis=1)], axis=1)
    beaten = cumulated[:, below]
    if (below != up_to).any():
        beaten = (beaten + cumulated[:, up_to]) / 2
    return np.einsum("ij,ij->i", weight_of_reals, beaten) / (cumulated[:, -1] * weight_of_reals.sum(axis=1))


def _ap_point(y, p):
    from sklearn.metrics import average_precision_score

    return average_precision_score(y == FAKE, -p)  # -p orders exactly as 1 - p without rounding ties into being


def _ap_batch(y, p, weights):
    fakes, reals = _cumulated(y, p, weights)
    called = fakes[:, 1:] + reals[:, 1:]
    precision = np.divide(fakes[:, 1:], called, out=np.zeros_like(called), where=called > 0)
    return (np.diff(fakes, axis=1) * precision).sum(axis=1) / fakes[:, -1]


def _eer_batch(y, p, weights):
    fakes, reals = _cumulated(y, p, weights)
    false_alarms, missed = reals / reals[:, -1:], 1 - fakes / fakes[:, -1:]
    gap = false_alarms - missed  # rises from -1 to 1
    after = np.argmax(gap >= 0, axis=1)  # never 0: gap starts at -1
    rows = np.arange(len(weights))
    g0, g1 = gap[rows, after - 1], gap[rows, after]
    f0, f1 = false_alarms[rows, after - 1], false_alarms[rows, after]
    return f0 + (f1 - f0) * (-g0 / (g1 - g0))


def _tpr_batch(y, p, weights, fpr: float = FPR_LIMIT):
    fakes, reals = _cumulated(y, p, weights)
    allowed = reals <= fpr * reals[:, -1:] + 1e-9  # 1e-9: 0.05 x 20 must allow one real
    last = allowed.sum(axis=1) - 1
    return fakes[np.arange(len(weights)), last] / fakes[:, -1]


# --- probability metrics ----------------------------------------------------------------------------------------------


def _log_loss_point(y, p):
    from sklearn.metrics import log_loss as sk_log_loss

    return sk_log_loss(y, np.clip(p, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP), labels=[FAKE, REAL])


def _log_loss_batch(y, p, weights):
    p = np.clip(p, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return weights @ -np.where(y == REAL, np.log(p), np.log1p(-p)) / weights.sum(axis=1)


def _brier_point(y, p):
    from sklearn.metrics import brier_score_loss

    return brier_score_loss(y, p, pos_label=REAL)


def _brier_batch(y, p, weights):
    return weights @ (p - y) ** 2 / weights.sum(axis=1)


def _bin_of(p, bins):
    return np.minimum((p * bins).astype(np.int64), bins - 1)  # [k/bins, (k+1)/bins), the last one closed


def _ece_batch(y, p, weights, bins: int = ECE_BINS):
    member = np.zeros((len(p), bins))
    member[np.arange(len(p)), _bin_of(p, bins)] = 1
    return np.abs((weights * (p - y)) @ member).sum(axis=1) / weights.sum(axis=1)


def _balanced_batch(y, p, weights, threshold: float = TIE_THRESHOLD):
    called_real = p >= threshold
    reals, fakes = (y == REAL), (y == FAKE)
    return (
        weights @ (reals & called_real) / (weights @ reals) + weights @ (fakes & ~called_real) / (weights @ fakes)
    ) / 2


def _one(batch):
    """The point value from a batch form with weight 1 for every row."""

    def point(y, p, **options):
        return batch(y, p, np.ones((1, len(y))), **options)[0]

    return point


auc = Metric("auc", "AUC", True, True, _auc_point, _auc_batch)
"""Area under the ROC curve: the chance that a real scores above a fake, ties one half."""

average_precision = Metric("average_precision", "average precision (fakes)", True, True, _ap_point, _ap_batch)
"""Average precision of finding fakes: sum of precision x step in recall, no interpolation (scikit-learn's
definition)."""

eer = Metric("eer", "EER", False, True, _one(_eer_batch), _eer_batch)
"""Equal error rate: where the share of reals called fake equals the share of fakes missed, the ROC interpolated
linearly."""

log_loss = Metric("log_loss", "log loss", False, False, _log_loss_point, _log_loss_batch)
"""Mean negative log-likelihood in nats, scores clipped to [LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP]. 0.693 is a coin."""

brier = Metric("brier", "Brier score", False, False, _brier_point, _brier_batch)
"""Mean squared difference of p_real and the label (Brier, 1950). 0.25 is a coin."""

ece = Metric("ece", "ECE", False, False, _one(_ece_batch), _ece_batch)
"""Expected calibration error over ECE_BINS equal-width bins of p_real: weighted mean of |share of reals - mean
p_real|."""

balanced_accuracy = Metric("balanced_accuracy", "balanced accuracy", True, True, _one(_balanced_batch), _balanced_batch)
"""Mean of the share of reals and the share of fakes called rightly; p_real >= `threshold` (0.5) is REAL."""

tpr_at_fpr = Metric("tpr_at_fpr", "TPR at 5 % FPR", True, True, _one(_tpr_batch), _tpr_batch)
"""Share of fakes found at the highest threshold that calls at most `fpr` (5 %) of the reals fake. Attained, not
interpolated."""

#: Every metric in the order of reports.
METRICS: dict[str, Metric] = {
    m.name: m for m in (auc, average_precision, eer, log_loss, brier, ece, balanced_accuracy, tpr_at_fpr)
}


def reliability_bins(y, p, bins: int = ECE_BINS) -> list[dict]:
    """The bins behind `ece`: {low, high, count, mean_p_real, share_real} each; the last two None where empty."""
    y, p = checked(y, p)
    which = _bin_of(p, bins)
    rows = []
    for k in range(bins):
        inside = which == k
        rows.append(
            {
                "low": k / bins,
                "high": (k + 1) / bins,
                "count": int(inside.sum()),
                "mean_p_real": float(p[inside].mean()) if inside.any() else None,
                "share_real": float(y[inside].mean()) if inside.any() else None,
            }
        )
    return rows
