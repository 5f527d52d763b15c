"""Frames as the MTCNN detectors batch them."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from ..boxes import Face


class BySize:
    """Detects neighbouring frames of one size together: each run of them is one batch for the networks."""

    _min_face_px: float

    def detect(self, frames: list[np.ndarray], min_face_px: float | None = None) -> list[list[Face]]:
        smallest, found = min_face_px or self._min_face_px, []
        for _, same in groupby(frames, key=np.shape):
            found += self._detect_same_size(list(same), smallest)
        return found

    def _detect_same_size(self, frames: list[np.ndarray], min_face_px: float) -> list[list[Face]]:
        raise NotImplementedError
