"""The definition of a face crop and of a network's input: every stage and the fused path use these functions."""

from __future__ import annotations

import math

import cv2
import numpy as np

from .settings import PUBLISHED_MARGIN

#: In a folder of faces: how stage 01a made them, the margin among it.
SETTINGS_FILE = "faces.json"


def widen(box, margin: float, frame_width: int, frame_height: int) -> tuple[int, int, int, int]:
    """The pixels to cut: the box widened by `margin` on every side and clipped to the frame.

    Args:
        box: (x, y, width, height) in px, or a Face.
        margin: part of the box's width (left, right) and height (above, below).
        frame_width, frame_height: px.

    Returns:
        (x0, y0, x1, y1), exclusive ends; at least one pixel wide and high.
    """
    turn = getattr(box, "turned", 0)
    x, y, w, h = getattr(box, "box", box)
    if turn:  # to the pixel what would be cut of the upright picture
        sides = (frame_height, frame_width) if turn in (90, 270) else (frame_width, frame_height)
        u0, v0, u1, v1 = turned_rectangle((x, y, x + w, y + h), turn, frame_width, frame_height)
        upright = widen((u0, v0, u1 - u0, v1 - v0), margin, *sides)
        return turned_rectangle(upright, 360 - turn, *sides)
    x0 = min(max(0, math.floor(x - margin * w)), frame_width - 1)
    y0 = min(max(0, math.floor(y - margin * h)), frame_height - 1)
    x1 = max(min(frame_width, math.floor(x + w + margin * w)), x0 + 1)
    y1 = max(min(frame_height, math.floor(y + h + margin * h)), y0 + 1)
    return x0, y0, x1, y1


def crop_face(frame: np.ndarray, box, margin: float = PUBLISHED_MARGIN) -> np.ndarray:
    """The face's pixels: a view of `frame` (H, W, 3), cut by `widen`."""
    x0, y0, x1, y1 = widen(box, margin, frame.shape[1], frame.shape[0])
    return frame[y0:y1, x0:x1]


def padded_crop(frame: np.ndarray, box, margin: float) -> np.ndarray:
    """The face with all of its margin, (H, W, 3): what lies outside of the frame repeats the frame's edge."""
    x, y, w, h = getattr(box, "box", box)
    x0, y0, x1, y1 = widen((x, y, w, h), margin, frame.shape[1], frame.shape[0])
    outside = [x0 - (x - margin * w), y0 - (y - margin * h), x + w + margin * w - x1, y + h + margin * h - y1]
    left, top, right, bottom = (max(0, math.floor(px)) for px in outside)
    return cv2.copyMakeBorder(frame[y0:y1, x0:x1], top, bottom, left, right, cv2.BORDER_REPLICATE)


def turned_rectangle(corners: tuple, turn: int, width: int, height: int) -> tuple:
    """(x0, y0, x1, y1) in a picture of width x height px, in pixels of that picture turned clockwise by `turn`."""
    x0, y0, x1, y1 = corners
    return {
        0: corners,
        90: (height - y1, x0, height - y0, x1),
        180: (width - x1, height - y1, width - x0, height - y0),
        270: (y0, width - x1, y1, width - x0),
    }[turn % 360]


def network_input(crop_rgb: np.ndarray, size: int) -> np.ndarray:
    """A crop as every network of this project sees it: squashed to size x size, RGB, uint8 0..255.

    Area interpolation when shrinking (no aliasing), bilinear when growing; decided by the crop's area, so that a crop
    that is wider but lower than the input has one answer. All scaling of values is inside the saved models.

    Args:
        crop_rgb: uint8 (H, W, 3), RGB.

    Returns:
        uint8 (size, size, 3).
    """
    height, width = crop_rgb.shape[:2]
    if (height, width) == (size, size):
        return np.ascontiguousarray(crop_rgb)
    shrinks = height * width > size * size
    return cv2.resize(crop_rgb, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
