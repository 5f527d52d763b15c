"""Face detectors behind one interface: `DETECTOR` of the module that bears its name.

- mtcnn: the `mtcnn` package (TensorFlow), batched: the reference.
- mtcnn_fast: the same networks and weights on ONNX Runtime: the same faces, a small part of the time, no TensorFlow.
- yunet: OpenCV's YuNet, for the lightest machines: other boxes than MTCNN's.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

import numpy as np

from ..boxes import Face
from ..settings import DETECTORS as NAMES
from ..settings import PUBLISHED_MIN_FACE_PX

#: Where the shipped weights lie.
DATA = Path(__file__).with_name("data")


class Detector(Protocol):
    """What `create` returns.

    Attributes:
        confidence: the bound over which a face is kept when its frame has several.
    """

    name: str
    confidence: float

    def __init__(self, *, min_face_px: float, threads: int) -> None: ...

    def detect(self, frames: list[np.ndarray], min_face_px: float | None = None) -> list[list[Face]]:
        """Faces of each frame, by descending confidence; boxes lie inside the frame.

        Args:
            frames: uint8 (H, W, 3), BGR; of one size they are worked on together.
            min_face_px: the smallest face looked for, instead of the one given to `create`.
        """


def create(name: str, *, min_face_px: float = PUBLISHED_MIN_FACE_PX, threads: int = 1) -> Detector:
    """Builds a detector, once for many videos.

    Args:
        name: one of NAMES.
        min_face_px: the smallest face looked for, in pixels of the frames given (> 0).
        threads: threads of its networks; 1 inside worker processes.

    Raises:
        ValueError: unknown name or a size that is not above 0.
    """
    if name not in NAMES:
        raise ValueError(f"unknown detector {name!r}: choose one of {', '.join(NAMES)}")
    if not min_face_px > 0:
        raise ValueError(f"min_face_px must be above 0, not {min_face_px}")
    module = importlib.import_module(f"{__name__}.{name}")  # here, because mtcnn's takes TensorFlow with it
    return module.DETECTOR(min_face_px=min_face_px, threads=threads)


def in_frame(
    x0: float, y0: float, x1: float, y1: float, confidence: float, points, frame_width: int, frame_height: int
) -> Face | None:
    """A Face from corners, clipped as the `mtcnn` package clips, two decimals; None if nothing is left."""
    x0, x1 = (round(float(min(max(v, 0.0), frame_width - 1)), 2) for v in (x0, x1))
    y0, y1 = (round(float(min(max(v, 0.0), frame_height - 1)), 2) for v in (y0, y1))
    if x1 <= x0 or y1 <= y0:
        return None
    return Face(
        x0,
        y0,
        round(x1 - x0, 2),
        round(y1 - y0, 2),
        round(float(confidence), 4),
        tuple((round(float(px), 2), round(float(py), 2)) for px, py in points),
    )


def by_confidence(faces: list[Face]) -> list[Face]:
    """Descending confidence; equal ones from left to right, so that the order never depends on chance."""
    return sorted(faces, key=lambda f: (-f.confidence, f.x, f.y))
