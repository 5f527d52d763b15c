"""All metrics of one set of videos at once, each with its interval or with the reason why there is none."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..labels import FAKE, REAL, TIE_THRESHOLD
from .bootstrap import bootstrap_metrics
from .errors import MetricError, NoSpread
from .scalar import METRICS

#: Chance of a ranking as bad as this by guessing, below which labels are called inverted where no interval can be
#: given.
_BY_CHANCE = 0.025


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
        {"refused": reason}; that of the AUC with "warning", a sentence, where `inverted` has one.
    """
    metrics = {name: METRICS[name] for name in names}
    if "balanced_accuracy" in metrics:
        m: Any = metrics["balanced_accuracy"]
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
    if "auc" in values and (warning := inverted(results["auc"], y, p, groups)):
        results["auc"]["warning"] = warning
    return {name: results[name] for name in names}


def inverted(auc: dict, y, p, groups) -> str:
    """A sentence with a hint where the AUC is below that of guessing by more than chance; else empty.

    Its interval lies below 0.5; or it has none, and guessing would hardly rank the groups' mean scores as badly (Mann
    and Whitney).

    Args:
        auc: its entry of `evaluate`.
        y, p, groups: as `evaluate`.
    """
    if auc.get("value", 1) >= 0.5:
        return ""
    if "high" in auc:
        found, how = auc["high"] < 0.5, f" ({auc['low']:.3f} to {auc['high']:.3f})"
    else:
        found, how = auc["no_interval"] == NoSpread().reason or _chance_of_groups(y, p, groups) < _BY_CHANCE, ""
    if not found:
        return ""
    return (
        f"AUC {auc['value']:.3f}{how} is worse than guessing: the labels or the scores are probably inverted "
        "(hint: a score is P(real), 1 real and 0 fake; swap the labels, or give 1 - score)"
    )


def _chance_of_groups(y, p, groups) -> float:
    """Chance that guessing puts the real groups so far below the fake ones; rows of one group count once."""
    from scipy.stats import mannwhitneyu

    y, p, groups = np.asarray(y), np.asarray(p, np.float64), np.asarray(groups).astype(str)
    means = [
        [p[(y == label) & (groups == group)].mean() for group in np.unique(groups[y == label])]
        for label in (REAL, FAKE)
    ]
    return float(mannwhitneyu(*means, alternative="less").pvalue)
