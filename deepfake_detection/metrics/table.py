"""All metrics of one set of videos at once, each with its interval or with the reason why there is none."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..labels import TIE_THRESHOLD
from .bootstrap import bootstrap_metrics
from .errors import MetricError
from .scalar import METRICS


def evaluate(
    y,
    p,
    groups,
    *,
    n: int = 1000,
    seed: int = 1,
    threshold: float = TIE_THRESHOLD,
    names: tuple[str, ...] = tuple(METRICS),
) -> dict[str, dict]:
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
    metrics = {name: METRICS[name] for name in names}
    if "balanced_accuracy" in metrics:
        m = metrics["balanced_accuracy"]
        metrics["balanced_accuracy"] = replace(
            m, point=partial(m.point, threshold=threshold), batch_of=partial(m.batch_of, threshold=threshold)
        )
    values: dict[str, float] = {}
    results: dict[str, dict] = {}
    for name, metric in metrics.items():
        try:
            values[name] = metric(y, p)
        except MetricError as e:
            results[name] = {"refused": e.reason}
    intervals = (
        bootstrap_metrics([metrics[name] for name in values], list(values.values()), y, p, groups, n=n, seed=seed)
        if values
        else []
    )
    for (name, value), interval in zip(values.items(), intervals):
        results[name] = (
            {"value": value, "no_interval": interval.reason}
            if isinstance(interval, MetricError)
            else interval.to_dict()
        )
    return {name: results[name] for name in names}
