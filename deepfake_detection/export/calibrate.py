"""Calibration and thresholds as detector.json holds them, from faces that the network did not learn from."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..aggregation import Calibration, CalibrationError, Thresholds, fit_temperature, logit
from ..labels import REAL

#: What the thresholds allow: untouched videos called FAKE, the worst error, and fakes called REAL.
FAKE_RATE, ERROR_RATE = 0.03, 0.10


def fit(faces, videos, score: Callable[[Calibration], np.ndarray], bound: Callable, **fitting) -> dict:
    """{calibration, aggregation, thresholds, fitted_on}.

    The calibration is fitted on faces, both classes weighing alike, so that 0.5 means "as likely real as fake"; the
    thresholds on videos: at most FAKE_RATE of the untouched ones of every part are called FAKE, and at most ERROR_RATE
    of the fakes REAL. Where the scores support none of it every verdict is UNSURE, and `fitted_on` says why.

    Args:
        faces: table with `real` (1 or 0) and `p_real` before calibration.
        videos: table with `real` and `part`, and what else `bound` looks at.
        score: the scores of `videos` under a calibration.
        bound: bound(p, videos, rate): the score below which a video of this kind lies at such a rate.
        fitting: as `fit_temperature` takes it.
    """
    real = videos["real"].to_numpy() == REAL
    said: dict[str, object] = {
        "faces": len(faces),
        "videos": len(videos),
        "real_videos": int(real.sum()),
        "fake_videos": int((~real).sum()),
        "untouched_called_fake": FAKE_RATE,
        "fakes_called_real": ERROR_RATE,
    }
    try:
        y, p = faces["real"].to_numpy(), faces["p_real"].to_numpy()
        calibration = fit_temperature(y, p, balanced=True, **fitting)
    except CalibrationError as e:
        calibration, thresholds = Calibration(), Thresholds(0.0, 1.0)
        said |= {"unsure_share": 1.0, "no_thresholds": e.reason}
    else:
        p = score(calibration)
        parts = [videos["part"].to_numpy() == part for part in videos["part"].unique()]
        untouched, fakes = ([part & kind for part in parts if (part & kind).any()] for kind in (real, ~real))
        fake_below = min(bound(p[those], videos[those], FAKE_RATE) for those in untouched)
        highest_fake = max(1 - bound(1 - p[those], videos[those], ERROR_RATE) for those in fakes)
        # A fake at the bound is not REAL; 1 - (1 - p) is not p to the last bit.
        real_above = np.clip(highest_fake + 1e-9, fake_below, 1)
        thresholds = Thresholds(float(fake_below), float(real_above))
        if thresholds == Thresholds(0.0, 1.0):
            said["no_thresholds"] = "so few people say nothing about others"
        said["unsure_share"] = round(float(((p >= fake_below) & (p < real_above)).mean()), 3)
    return {
        "calibration": calibration.to_dict(),
        "aggregation": "mean",
        "thresholds": thresholds.to_dict(),
        "fitted_on": said,
    }


def at_most(p: np.ndarray, rate: float) -> float:
    """The score below which at most `rate` of these scores lie."""
    return float(np.sort(p)[int(rate * len(p) + 1e-9)])


def of_a_stranger(p: np.ndarray, groups, rate: float) -> float:
    """The score below which a further video of this kind lies with probability `rate` or less.

    With enough groups that is `at_most`. With fewer than 1 / rate not even the lowest score says it: then the lower
    prediction bound of a normal distribution of the logits (Student's t, one degree of freedom less than there are
    groups), where that is lower. It is 0 for a single group, which says nothing about others.

    Args:
        p: (N,) calibrated scores of videos.
        groups: (N,) who is in them.
        rate: 0..1.
    """
    from scipy.special import expit
    from scipy.stats import t

    count = len(set(groups))
    if count * rate >= 1:
        return at_most(p, rate)
    if count < 2:
        return 0.0
    z = logit(p)
    widest = t.ppf(1 - rate, count - 1) * z.std(ddof=1) * math.sqrt(1 + 1 / count)
    return min(at_most(p, rate), float(expit(z.mean() - widest)))
