"""Frames as the MTCNN detectors batch them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def runs_of_one_size(frames: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Neighbouring frames (H, W, 3) of one size together, in order: each run is one batch for the networks."""
    start = 0
    while start < len(frames):
        end = start + 1
        while end < len(frames) and frames[end].shape == frames[start].shape:
            end += 1
        yield frames[start:end]
        start = end
