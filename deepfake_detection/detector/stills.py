"""Still pictures for the detector: JPEG, PNG and WebP as a video of one frame, told by their content, not their name.

One frame is weaker evidence than a video: `WARNING` goes with every verdict on a picture.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..faces import pictures
from ..video import containers
from ..video.decode import Frame
from ..video.probe import VideoInfo
from ..video.resize import PUBLISHED, resize, scale_for

#: Suffixes (lower case) of what is taken for a picture in a folder; the last three only to say that they are not read.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif"})

WARNING = "A still picture, one frame: weaker evidence than a video, where many frames must agree."

_HINT = "save it as JPEG or PNG with another program"
#: Kinds of pictures that are not read, by their first bytes.
_NOT_READ = ((b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"))


def is_picture_name(name: str) -> bool:
    """Whether a file's name says that it is a picture; hidden files are not."""
    return Path(name).suffix.lower() in SUFFIXES and not Path(name).name.startswith(".")


def kind_of(head: bytes) -> str | None:
    """ "jpeg", "png" or "webp" of a file's first 12 bytes; None for anything else."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


@dataclass
class Still:
    """A picture in the place of a `video.decode.FrameReader`: gives one frame.

    Attributes:
        info: size as shown, px; codec: the picture's kind; fps 0, one frame at time 0.
        image: uint8 BGR (H, W, 3), upright, before the resize rule.
        scale: "published" (by width) or a factor.
        wanted, note: as `FrameReader`.
    """

    info: VideoInfo
    image: np.ndarray
    scale: str | float = PUBLISHED
    wanted: tuple[int, ...] = (0,)
    note: str = ""

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(0, 0, 0.0, resize(self.image, scale_for(self.scale, self.image.shape[1])))


def is_still(path: str | Path) -> bool:
    """Whether a regular file begins as a JPEG, PNG or WebP.

    Raises:
        UserError: it is a picture of a kind that is not read (HEIC, AVIF, TIFF, BMP).
    """
    path = Path(path)
    try:
        if not path.is_file():  # a pipe would wait for ever; `video.containers` says what is wrong with it
            return False
        with open(path, "rb") as file:
            head = file.read(12)
    except (OSError, ValueError):
        return False
    if kind_of(head):
        return True
    other = next((name for magic, name in _NOT_READ if head.startswith(magic)), None)
    if head[4:8] == b"ftyp" and containers.demuxer_of(head) is None:
        other = "HEIC or AVIF"
    if other:
        raise UserError(f"a picture of a kind that is not read ({other})", file=path, hint=_HINT)
    return False


def read(path: str | Path, scale: str | float = PUBLISHED) -> Still:
    """Reads a picture that `is_still`; its size is judged before a pixel is decoded.

    Raises:
        UserError: too large, animated, cut off or damaged.
    """
    path = Path(path)
    try:
        if path.stat().st_size > 4 * pictures.MOST_PIXELS + (1 << 20):
            raise UserError("the picture's file is too large", file=path, hint="make it smaller with another program")
        data = path.read_bytes()
    except OSError as e:
        raise UserError(
            f"cannot read the picture ({e.strerror})", file=path, hint="check the path and its permissions"
        ) from None
    size = pictures.size_of(data)
    if size is not None and size[0] * size[1] > pictures.MOST_PIXELS:
        raise _too_large(f"{size[0]} x {size[1]} pixels, more than {pictures.MOST_PIXELS:,}", path)
    _check_whole(data, path)
    image = pictures.decode(data)
    if image is None:
        raise _damaged(path)
    height, width = image.shape[:2]
    info = VideoInfo(path, width, height, 0.0, 1, 0.0, codec=kind_of(data[:12]) or "")
    return Still(info, image, scale)


def _check_whole(data: bytes, path: Path) -> None:
    """Refuses what OpenCV would half decode without a word: the missing part would be judged as grey."""
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(io.BytesIO(data), formats=pictures.FORMATS) as picture:
                # A phone's JPEG may hold a preview or a depth map as a second picture: that is no animation.
                frames = 1 if data.startswith(b"\xff\xd8") else getattr(picture, "n_frames", 1)
                picture.load()
    except PIL.Image.DecompressionBombError:  # beyond Pillow's own bound it states no size, and decodes nothing
        raise _too_large(f"more than {pictures.MOST_PIXELS:,} pixels", path) from None
    except Exception:  # whatever a broken picture brings
        raise _damaged(path) from None
    if frames > 1:
        raise UserError(
            f"a picture that is animated ({frames} frames)",
            file=path,
            hint="turn it into a video, or save one frame as JPEG or PNG",
        )


def _too_large(pixels: str, path: Path) -> UserError:
    return UserError(
        f"the picture has {pixels}",
        file=path,
        hint="make it smaller with another program, or cut out the part with the face",
    )


def _damaged(path: Path) -> UserError:
    return UserError(
        "the picture is cut off or damaged", file=path, hint="open it in another program, or copy or download it again"
    )
