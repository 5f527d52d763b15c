"""The refusal of a metric."""

from __future__ import annotations


class MetricError(ValueError):
    """A metric cannot be computed from this data. `reason` says why in a few words a reader of a report understands."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason
