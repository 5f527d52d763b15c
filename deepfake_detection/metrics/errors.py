"""The refusal of a metric."""

from __future__ import annotations


class MetricError(ValueError):
    """A metric cannot be computed from this data. `reason` says why in a few words a reader of a report understands."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class NoSpread(MetricError):
    """Every resample gives the same value: data without one mistake do not show how often mistakes happen."""

    def __init__(self, reason: str = "all resamples agree, so the data do not show how sure the value is"):
        super().__init__(reason)
