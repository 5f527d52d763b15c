"""How good a detector is: AUC, average precision, EER, log loss, Brier, ECE, balanced accuracy, TPR at a fixed FPR,
with intervals.

Everywhere `y` is (N,) with 1 = real, 0 = fake and `p` is (N,) with P(real). Where a metric needs a "positive" class it
is FAKE, because a detector is built to find fakes: TPR is the share of fakes that are found, FPR the share of reals
that are called fake. A metric that the data does not support raises `MetricError` with the reason; nothing is ever
invented.
"""

from .bootstrap import Interval, bootstrap_difference, bootstrap_groups
from .errors import MetricError, NoSpread
from .scalar import (
    LOG_LOSS_CLIP,
    METRICS,
    Metric,
    auc,
    average_precision,
    balanced_accuracy,
    brier,
    ece,
    eer,
    log_loss,
    reliability_bins,
    tpr_at_fpr,
)
from .table import evaluate, inverted

__all__ = [
    "Interval", "LOG_LOSS_CLIP", "METRICS", "Metric", "MetricError", "NoSpread", "auc", "average_precision",
    "balanced_accuracy", "bootstrap_difference", "bootstrap_groups", "brier", "ece", "eer", "evaluate", "inverted",
    "log_loss", "reliability_bins", "tpr_at_fpr",
]  # fmt: skip
