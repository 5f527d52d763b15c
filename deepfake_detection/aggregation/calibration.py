"""Scores that mean what they say, and the words REAL, FAKE and UNSURE.

Fit on validation videos only, store with the model (`models/detector.json`: `calibration`, `thresholds`), apply
everywhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..labels import FAKE, REAL, VERDICT_FAKE, VERDICT_REAL, VERDICT_UNSURE

if TYPE_CHECKING:
    import numpy

#: Scores are clipped to [1e-7, 1 - 1e-7] before the logit, as for the log loss: a saturated float32 sigmoid gives
#: exactly 0 or 1.
CLIP = 1e-7

#: Bounds of a fitted temperature. On separable data the best temperature is 0; the bound keeps p_real off 0 and 1.
TEMPERATURE_BOUNDS = (0.05, 20.0)


class CalibrationError(ValueError):
    """These scores cannot be calibrated or cut; `reason` says why."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def _checked(y, p) -> tuple[numpy.ndarray, numpy.ndarray]:
    """`y` (N,) int and `p` (N,) float64 of both classes, pointing the right way."""
    import numpy as np
    from scipy.stats import rankdata

    y, p = np.asarray(y), np.asarray(p, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape or not np.isin(y, (FAKE, REAL)).all():
        raise CalibrationError("labels must be 1 (real) or 0 (fake), one for each score")
    if not ((p >= 0) & (p <= 1)).all():  # NaN fails both comparisons
        raise CalibrationError("scores must be in 0..1")
    reals = int((y == REAL).sum())
    if not 0 < reals < len(y):
        raise CalibrationError("it needs both real and fake videos")
    if rankdata(p)[y == REAL].mean() < rankdata(p)[y == FAKE].mean():
        raise CalibrationError("the scores point the wrong way (AUC below 0.5): check that a score is P(real)")
    return y.astype(np.int64), p


def logit(p) -> numpy.ndarray:
    """log(p / (1 - p)) of scores in 0..1, clipped by CLIP, float64."""
    import numpy as np

    p = np.clip(np.asarray(p, dtype=np.float64), CLIP, 1 - CLIP)
    return np.log(p) - np.log1p(-p)


@dataclass(frozen=True)
class Calibration:
    """p -> sigmoid(logit(p) / temperature + bias): temperature scaling (Guo et al., 2017), with a bias Platt scaling on
    the logit.

    It keeps the order of scores, so AUC and EER do not change (ties at the clip apart).
    """

    temperature: float = 1.0
    bias: float = 0.0

    def __post_init__(self):
        if not (0 < self.temperature < float("inf") and abs(self.bias) < float("inf")):
            raise ValueError(f"not a calibration: temperature {self.temperature}, bias {self.bias}")

    def apply(self, p_real):
        """Calibrated P(real), same shape as given; a float for a float."""
        import numpy as np
        from scipy.special import expit

        value = expit(logit(p_real) / self.temperature + self.bias)
        return float(value) if np.ndim(value) == 0 else value

    def to_dict(self) -> dict:
        """{"temperature", "bias"}, as `models/detector.json` holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Calibration:
        return cls(float(values["temperature"]), float(values["bias"]))


def fit_temperature(y, p, *, balanced: bool = False, weight=None, counts: tuple[int, int] | None = None) -> Calibration:
    """The temperature and bias (Platt) with the least log loss on these videos.

    Args:
        y, p: (N,) labels (1 real, 0 fake) and uncalibrated P(real).
        balanced: weigh both classes equally, so that the share of fakes in this set does not become part of the score.
        weight: (N,) how much each row counts beside the others; all alike if None.
        counts: numbers of independent fakes and reals among the rows. With them the fit aims at Platt's (n + 1) / (n +
            2) instead of 1, so that a few rows which happen to separate do not make every score certain.

    Raises:
        CalibrationError: one class only, NaN, scores outside 0..1, or scores that point the wrong way (AUC below one
            half), which no positive temperature can mend.
    """
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import expit

    y, p = _checked(y, p)
    x = logit(p)
    weight = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
    if balanced:
        weight = weight * np.where(y == REAL, 0.5 / weight[y == REAL].sum(), 0.5 / weight[y == FAKE].sum())
    weight = weight / weight.sum()
    fakes, reals = counts if counts is not None else (np.inf, np.inf)
    aim = np.where(y == REAL, 1 - 1 / (reals + 2), 1 / (fakes + 2))

    def loss(v):  # v = log of 1 / temperature, bias: keeps the temperature positive
        z = np.exp(v[0]) * x + v[1]
        residual = weight * (expit(z) - aim)
        return weight @ (np.logaddexp(0, z) - aim * z), np.array([residual @ (np.exp(v[0]) * x), residual.sum()])

    low, high = TEMPERATURE_BOUNDS
    bounds = [(-np.log(high), -np.log(low)), (-50.0, 50.0)]
    exact = {"gtol": 1e-10, "ftol": 1e-14}
    best = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds, options=exact)
    return Calibration(float(np.exp(-best.x[0])), float(best.x[1]))


@dataclass(frozen=True)
class Thresholds:
    """p_real < fake_below is FAKE, p_real >= real_above is REAL, between them UNSURE."""

    fake_below: float = 0.5
    real_above: float = 0.5

    def __post_init__(self):
        if not 0 <= self.fake_below <= self.real_above <= 1:
            raise ValueError(
                f"thresholds must satisfy 0 <= fake_below <= real_above <= 1: {self.fake_below}, {self.real_above}"
            )

    def verdict(self, p_real: float) -> str:
        """REAL, FAKE or UNSURE."""
        if not 0 <= p_real <= 1:
            raise ValueError(f"not a probability: {p_real}")
        if p_real < self.fake_below:
            return VERDICT_FAKE
        return VERDICT_REAL if p_real >= self.real_above else VERDICT_UNSURE

    def to_dict(self) -> dict:
        """{"fake_below", "real_above"}, as `models/detector.json` holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Thresholds:
        return cls(float(values["fake_below"]), float(values["real_above"]))
