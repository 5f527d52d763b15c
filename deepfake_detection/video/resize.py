"""The published resize rule: frames are scaled by a factor of the video's width, with area interpolation."""

from __future__ import annotations

import cv2
import numpy as np

#: (largest width in px that the factor holds for, factor); wider than all of them: LARGEST_FACTOR.
PUBLISHED_RULE = ((299, 2.0), (1000, 1.0), (1900, 0.5))
LARGEST_FACTOR = 0.33

PUBLISHED = "published"


def published_scale(width: int) -> float:
    """Width < 300 px: 2; 300-1000: 1; 1001-1900: 0.5; wider: 0.33."""
    for widest, factor in PUBLISHED_RULE:
        if width <= widest:
            return factor
    return LARGEST_FACTOR


def scale_for(scale: str | float, width: int) -> float:
    """Resolves "published" or a positive number to the factor for a video of this width (px).

    Raises:
        ValueError: for anything else.
    """
    if scale == PUBLISHED:
        return published_scale(width)
    factor = float(scale)
    if not 0 < factor < float("inf"):
        raise ValueError(f"the scale must be 'published' or a number above 0, not {scale!r}")
    return factor


def scaled_size(width: int, height: int, factor: float) -> tuple[int, int]:
    """(width, height) in px after scaling; truncated as published, at least 1."""
    return max(1, int(width * factor)), max(1, int(height * factor))


def resize(image: np.ndarray, factor: float) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (H', W', 3) by area interpolation; the same array when the factor is 1."""
    if factor == 1:
        return image
    return cv2.resize(image, scaled_size(image.shape[1], image.shape[0], factor), interpolation=cv2.INTER_AREA)
