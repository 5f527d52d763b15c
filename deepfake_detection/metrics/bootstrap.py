"""Intervals by resampling groups, not rows.

Videos of one actor, or a fake and its original, are not independent: resampling rows would make every interval too
narrow. So whole groups are drawn with replacement (the cluster bootstrap; Field & Welsh, "Bootstrapping clustered
data", 2007) and the interval is the percentile interval of the resampled values.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .errors import MetricError, NoSpread
from .scalar import Metric, checked

#: Below this an interval from resampling groups says nothing.
MIN_GROUPS = 5

#: When more than this share of the resamples hold one class only, the rest are no fair sample and no interval is given.
MAX_SKIPPED = 0.2

#: What the order of summation may change of a value. An interval that is no wider is none.
_ROUNDING = 1e-9

_BLOCK_BYTES = 32 << 20  # of float64 weights at once


class Interval(tuple):
    """`(value, low, high)`, with how it was found.

    Attributes:
        value, low, high: the metric on all rows and the bounds of its interval.
        groups: how many groups were resampled.
        resamples: how many resamples were used.
        skipped: how many resamples were skipped because they held one class only.
        p_value: two-sided, for a difference; else None.
    """

    groups: int
    resamples: int
    skipped: int
    p_value: float | None

    def __new__(
        cls,
        value: float,
        low: float,
        high: float,
        *,
        groups: int,
        resamples: int,
        skipped: int,
        p_value: float | None = None,
    ):
        self = super().__new__(cls, (float(value), float(low), float(high)))
        self.groups, self.resamples, self.skipped, self.p_value = groups, resamples, skipped, p_value
        return self

    value = property(lambda self: self[0])
    low = property(lambda self: self[1])
    high = property(lambda self: self[2])

    def __getnewargs_ex__(self):
        return tuple(self), {
            "groups": self.groups,
            "resamples": self.resamples,
            "skipped": self.skipped,
            "p_value": self.p_value,
        }

    def to_dict(self) -> dict:
        """Plain JSON values."""
        d = {
            "value": self.value, "low": self.low, "high": self.high, "groups": self.groups,
            "resamples": self.resamples, "skipped": self.skipped,
        }  # fmt: skip
        return d if self.p_value is None else {**d, "p_value": self.p_value}


def _group_codes(groups, rows: int) -> tuple[np.ndarray, int]:
    groups = np.asarray(groups)
    if groups.shape != (rows,):
        raise MetricError(f"groups and labels do not match: {groups.shape} and {(rows,)}")
    # Sorted codes, so that the interval does not depend on the order of the rows.
    names, codes = np.unique(groups.astype(str), return_inverse=True)
    if len(names) < MIN_GROUPS:
        raise MetricError(f"an interval needs at least {MIN_GROUPS} groups, here {len(names)}")
    return codes, len(names)


def _weights(codes: np.ndarray, groups: int, n: int, seed: int) -> Iterator[np.ndarray]:
    """How often each row is drawn: blocks (r, N), n resamples together, independent of the block size."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_BYTES // (8 * len(codes)))
    for start in range(0, n, block):
        # Counting drawn numbers is a multinomial draw; numpy's own goes through a binomial for each group and takes ten
        # times as long.
        drawn = np.stack(
            [np.bincount(rng.integers(0, groups, groups), minlength=groups) for _ in range(min(block, n - start))]
        )
        yield drawn[:, codes].astype(np.float64)


def _values(metric, y, p, weights) -> np.ndarray:
    if isinstance(metric, Metric):
        return metric.batch(y, p, weights)
    values = np.full(len(weights), np.nan)
    for i, row in enumerate(weights.astype(np.int64)):  # any function of (y, p)
        drawn = np.repeat(np.arange(len(y)), row)
        try:
            values[i] = metric(y[drawn], p[drawn])
        except MetricError:
            pass  # counted as skipped by the caller
    return values


def _used(values: np.ndarray) -> tuple[np.ndarray, int]:
    used = values[~np.isnan(values)]
    skipped = len(values) - len(used)
    if skipped > MAX_SKIPPED * len(values):
        raise MetricError(
            f"{skipped} of {len(values)} resamples of the groups hold one class only: too few groups for an interval"
        )
    return used, skipped


def bootstrap_groups(metric, y, p, groups, n: int = 1000, seed: int = 1, level: float = 0.95) -> Interval:
    """A metric with its percentile interval from resampling groups.

    Args:
        metric: one of `METRICS`, or any function of (y, p).
        y, p: (N,) labels (1 real, 0 fake) and P(real).
        groups: (N,) group of each row; rows of a group are drawn together.
        n: resamples.
        seed: of the draws.
        level: of the interval.

    Returns:
        An `Interval`, which unpacks as (value, low, high).

    Raises:
        MetricError: what the metric refuses, fewer than MIN_GROUPS groups, too many resamples with one class only, or
            NoSpread: all resamples agree, as those of a perfect ranking do.
    """
    y, p = checked(y, p)
    (interval,) = bootstrap_metrics([metric], [metric(y, p)], y, p, groups, n, seed, level)
    if isinstance(interval, MetricError):
        raise interval
    return interval


def bootstrap_metrics(
    metrics, values, y, p, groups, n: int = 1000, seed: int = 1, level: float = 0.95
) -> list[Interval | MetricError]:
    """Several metrics on the same resamples, each as `bootstrap_groups` gives it, for the price of one set of draws.

    Args:
        metrics: of `METRICS`, or functions of (y, p).
        values: of the metrics on all rows.
        others: as `bootstrap_groups`.

    Returns:
        for each metric its interval, or the MetricError that `bootstrap_groups` would raise.
    """
    y, p = checked(y, p)
    try:
        codes, count = _group_codes(groups, len(y))
    except MetricError as e:
        return [e] * len(metrics)
    blocks = [[_values(metric, y, p, weights) for metric in metrics] for weights in _weights(codes, count, n, seed)]
    return [_interval(value, np.concatenate(resampled), count, level) for value, resampled in zip(values, zip(*blocks))]


def _interval(value: float, resampled: np.ndarray, groups: int, level: float) -> Interval | MetricError:
    try:
        used, skipped = _used(resampled)
    except MetricError as e:
        return e
    low, high = np.quantile(used, [(1 - level) / 2, (1 + level) / 2])
    if high - low < _ROUNDING:
        return NoSpread()
    return Interval(value, low, high, groups=groups, resamples=len(used), skipped=skipped)


def bootstrap_difference(metric, y, p_a, p_b, groups, n: int = 1000, seed: int = 1, level: float = 0.95) -> Interval:
    """metric(A) - metric(B) on the same videos, with a paired interval: both are computed on each resample.

    The two-sided p-value is 2 min(share <= 0, share >= 0) of the resampled differences, each share with one added to
    count and total (Davison & Hinkley, "Bootstrap Methods", 1997), so it is never 0.

    Args and Raises: as `bootstrap_groups`; `p_a` and `p_b` are (N,) scores of the two for the same rows.
    """
    y, p_a = checked(y, p_a)
    _, p_b = checked(y, p_b)
    value = metric(y, p_a) - metric(y, p_b)
    codes, count = _group_codes(groups, len(y))
    differences = [_values(metric, y, p_a, w) - _values(metric, y, p_b, w) for w in _weights(codes, count, n, seed)]
    used, skipped = _used(np.concatenate(differences))
    low, high = np.quantile(used, [(1 - level) / 2, (1 + level) / 2])
    tail = min((used <= 0).sum(), (used >= 0).sum())
    return Interval(
        value,
        low,
        high,
        groups=count,
        resamples=len(used),
        skipped=skipped,
        p_value=min(1.0, 2 * (tail + 1) / (len(used) + 1)),
    )
