"""All metrics of one set of videos at once, each with its interval or with the reason why there is none."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..labels import TIE_THRESHOLD
from .bootstrap import bootstrap_groups
from .errors import MetricError
from .scalar import METRICS


def evaluate(y, p, groups, *, n: int = 1000, seed: int = 1, threshold: float = TIE_THRESHOLD,
             names: tuple[str, ...] = tuple(METRICS)) -> dict[str, dict]:
    """Every metric of `METRICS`.

    Args:
        y, p, groups: (N,) labels (1 real, 0 fake), P(real), group of each row.
        n, seed: resamples of the groups and their seed.
        threshold: p_real >= threshold is REAL, for the balanced accuracy.
        names: which of `METRICS`.

    Returns:
        For each metric name one of
        {"value", "low", "high", "groups", "resamples", "skipped"},
        {"value", "no_interval": reason} (the value stands, its interval does not),
        {"refused": reason}.
    """
    results: dict[str, dict] = {}
    for name in names:
        metric = METRICS[name]
        if name == "balanced_accuracy":
            metric = replace(metric, point=partial(metric.point, threshold=threshold), batch_of=partial(metric.batch_of, threshold=threshold))
        try:
            value = metric(y, p)
        except MetricError as e:
            results[name] = {"refused": e.reason}
            continue
        try:
            results[name] = bootstrap_groups(metric, y, p, groups, n=n, seed=seed).to_dict()
        except MetricError as e:
            results[name] = {"value": value, "no_interval": e.reason}
    return results
