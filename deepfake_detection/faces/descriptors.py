"""What tells the people of one video apart where their looks do not: a network's 128 numbers of a face.

They are compared within one video only, and kept nowhere: nobody is recognised. Fewer than 7 MB, 12 ms a face on one
core; loaded when the first video has tracks that may be one person.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from .. import onnx_session
from ..video.picture import turned_by
from .boxes import Face
from .detectors import DATA

MODEL = DATA / "face_descriptor.onnx"
#: Side of the network's input, px, and where the five points of a face (`boxes.POINTS`) lie in it.
SIDE = 150
POINTS = np.array([(47.5, 46.6), (100.5, 46.6), (74.0, 76.6), (50.4, 103.0), (97.6, 103.0)], np.float32)


def aligned(crop: np.ndarray, origin: tuple[int, int], face: Face) -> np.ndarray:
    """A face as the network takes it, uint8 (SIDE, SIDE, 3) RGB: shifted, turned and scaled so that its points lie
    best at POINTS.

    Args:
        crop: uint8 RGB (H, W, 3), upright (`Face.turned`); origin: where it was cut out of the frame, px.
    """
    picture = turned_by(crop, -face.turned % 360)  # the points are those of the frame
    x, y = (np.asarray(face.points, np.float32) - np.asarray(origin, np.float32)).T
    u, v = POINTS.T
    zero, one = np.zeros(5), np.ones(5)
    # u = a x - b y + c and v = b x + a y + d
    system = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, c, d = np.linalg.lstsq(system, np.concatenate([u, v]), rcond=None)[0]
    return cv2.warpAffine(
        picture,
        np.array([[a, -b, c], [b, a, d]]),
        (SIDE, SIDE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


class Describer:
    """Describes faces; loads the network at the first."""

    def __init__(self, threads: int = 1):
        self._threads = threads
        self._session: Any = None

    def __call__(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Descriptors (N, 128) of `aligned` faces, float32."""
        if self._session is None:
            self._session = onnx_session.opened(MODEL, threads=self._threads)
        return self._session.run(None, {"faces": np.stack(list(faces))})[0]
