"""Reading picture files: the size is read from the header, and judged, before a pixel is decoded.

A PNG of 100 KB may state 30000 x 30000 pixels, which a decoder would fill with 2.7 GB of zeros. OpenCV decides by its
own bound of a billion pixels, and by what the first bytes say, whatever the name: a TIFF or an EXR named .png goes to a
decoder nobody asked for.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import numpy as np

#: Width x height of the largest picture that is decoded: 8K (7680 x 4320), of which a face is at most a part.
MOST_PIXELS = 7680 * 4320

#: Kinds of pictures that are read, by content: the suffixes that the stages look for.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")


def size_of(data: bytes) -> tuple[int, int] | None:
    """(width, height) as the header states them; None when the bytes are no picture of `FORMATS`."""
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own word about large pictures; the bound here is lower
            with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                return picture.size
    except Exception:  # OSError, ValueError, SyntaxError, struct.error, ...: whatever a broken header brings
        return None


def decode(data: bytes, *, most_pixels: int = MOST_PIXELS) -> np.ndarray | None:
    """A picture file's bytes as uint8 BGR (H, W, 3); None when broken, not of `FORMATS`, or of too many pixels."""
    size = size_of(data)
    if size is None or not 0 < size[0] * size[1] <= most_pixels:
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None


def read(path: str | Path, *, most_pixels: int = MOST_PIXELS) -> np.ndarray | None:
    """A picture file as uint8 BGR (H, W, 3); None as `decode`, and when there is no such regular file or it cannot be
    read.

    Read by Python, not by OpenCV: file names outside ASCII work everywhere.
    """
    path = Path(path)
    try:
        # No picture within the bound is larger than its pixels and a little; a pipe or device would never end.
        if not path.is_file() or path.stat().st_size > 4 * most_pixels + (1 << 20):
            return None
        return decode(path.read_bytes(), most_pixels=most_pixels)
    except OSError:
        return None
