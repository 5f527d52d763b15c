"""A decoded frame as a person sees it: upright, not mirrored, with square pixels, in the colours of a plain screen."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ..errors import UserError
from . import containers, hdr
from .resize import scale_for, scaled_size

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}

#: Containers that state the shape of a pixel for the whole video; in the others the frames do, and it may change.
_SHAPE_OF_CONTAINER = ("mov", "matroska")
#: Containers that may say what the colours mean, where the frames do not.
_COLOURS_OF_CONTAINER = ("mov", "matroska", "mxf")
#: A pixel more oblong than this is a wrong tag, which players do not follow either.
_MOST_OBLONG = 16
#: AVColorTransferCharacteristic, AVColorPrimaries, AVColorSpace and AVColorRange of what says nothing.
_UNSAID = {"color_trc": 2, "color_primaries": 2, "colorspace": 2, "color_range": 0}
#: AVColorSpace -> the nearest one that FFmpeg converts: constant luminance and ICtCp to BT.2020.
_NEAREST_MATRIX = {10: 9, 14: 9}
#: AVColorSpace of YUV that says nothing: RGB's own, unspecified, reserved.
_NO_MATRIX = (0, 2, 3)
_BT709, _BT601 = 1, 5
#: Decoders of formats that know one matrix only.
_ALWAYS_BT601 = ("vp8", "theora", "mjpeg")


def orientation(frame: av.VideoFrame) -> tuple[int, bool] | None:
    """(clockwise degrees of 0, 90, 180, 270, mirrored left to right after that) which the frame's display matrix asks
    for.

    Phones, editors and H.264's own messages write one; None where there is none. Of an angle between, the nearest right
    one is taken.
    """
    try:
        matrix = np.frombuffer(frame.side_data["DISPLAYMATRIX"], np.int32, 9).reshape(3, 3)[:2, :2] / 65536
    except (KeyError, ValueError):
        return None
    length = np.hypot(*matrix)
    if not length.all() or abs(np.linalg.det(matrix / length)) < 0.1:
        return 0, False  # it would show a line: nobody's intention
    (a, b), (c, d) = matrix / length  # a stored (x, y) is shown at (a x + c y, b x + d y)
    if abs(b) + abs(c) > abs(a) + abs(d):
        return (90 if b > 0 else 270), bool((b > 0) == (c > 0))
    return (0 if d > 0 else 180), bool((a > 0) != (d > 0))


def turned_by(image: np.ndarray, turn: int) -> np.ndarray:
    """The picture (H, W, 3) turned clockwise by 0, 90, 180 or 270 degrees."""
    return cv2.rotate(image, _TURNS[turn]) if turn else image


def upright(image: np.ndarray, turn: int, mirrored: bool) -> np.ndarray:
    """A stored picture as `orientation` says that it is shown."""
    image = turned_by(image, turn)
    return cv2.flip(image, 1) if mirrored else image


class PixelShape:
    """The sample aspect ratio of a video's frames.

    Args:
        stream: PyAV's, before anything is decoded.
        demuxer: its demuxer's name.
    """

    def __init__(self, stream, demuxer: str):
        self._context = stream.codec_context
        said, coded = _sane(stream.sample_aspect_ratio), _sane(self._context.sample_aspect_ratio)
        by_container = said != 1 and (said != coded or demuxer in _SHAPE_OF_CONTAINER)
        self._fixed = said if by_container else None
        self._oblong = coded != 1
        self._kind, self._graph = None, None

    def of(self, frame: av.VideoFrame) -> Fraction:
        """Width over height of a pixel of this frame."""
        if self._fixed:
            return self._fixed
        # The decoder's own value is that of the newest packet, so it says that something is to be looked at, not for
        # which frame.
        self._oblong = self._oblong or _sane(self._context.sample_aspect_ratio) != 1
        return self._asked(frame) if self._oblong else Fraction(1)

    def _asked(self, frame: av.VideoFrame) -> Fraction:
        # PyAV has no name for a frame's ratio, but FFmpeg's `scale` knows it: the width of what comes out is the ratio
        # in 1/1024.
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        try:
            if kind != self._kind:
                self._kind, self._graph = kind, _scaling(*kind)
            self._graph.push(frame)
            return _sane(Fraction(self._graph.pull().width, 1024))
        except av.FFmpegError:  # colours that it does not convert
            self._kind = None
            return _sane(self._context.sample_aspect_ratio)


def _scaling(width: int, height: int, form: str, colorspace: int, color_range: int) -> av.filter.Graph:
    graph = av.filter.Graph()
    size = f"w='clip(round(sar*1024),1,{1024 * _MOST_OBLONG + 1})':h=2"
    source = {"video_size": f"{width}x{height}", "pix_fmt": form, "time_base": "1/1"}
    nodes = (
        graph.add("buffer", **source, colorspace=str(colorspace), range=str(color_range)),
        graph.add("scale", f"{size}:flags=neighbor:eval=frame"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*nodes).configure()
    return graph


def _sane(ratio: Fraction | None) -> Fraction:
    return ratio if ratio and Fraction(1, _MOST_OBLONG) <= ratio <= _MOST_OBLONG else Fraction(1)


def square_size(width: int, height: int, ratio: Fraction) -> tuple[int, int]:
    """(width, height) in px with square pixels. The side that was squeezed grows, so that nothing is lost."""
    return (round(width * ratio), height) if ratio >= 1 else (width, round(height / ratio))


class Pictures:
    """Makes pictures of the decoded frames of one video, which it has to `see` all.

    Args:
        path: the file, for messages.
        stream: PyAV's, before anything is decoded.
        demuxer: its demuxer's name.

    Attributes:
        turn: (clockwise degrees, mirrored) in force.
    """

    def __init__(self, path: Path, stream, demuxer: str):
        self._path, self.shape = path, PixelShape(stream, demuxer)
        self._reformatter = av.video.reformatter.VideoReformatter()
        context = stream.codec_context
        self._codec = context.codec.name
        self._said = {name: int(getattr(context, name)) for name in _UNSAID} if demuxer in _COLOURS_OF_CONTAINER else {}
        self.turn = (0, False)

    def see(self, frame: av.VideoFrame) -> None:
        """Of every decoded frame, wanted or not: a message within H.264 or H.265 stands before some frames and holds
        for the others.
        """
        self.turn = orientation(frame) or self.turn

    def of(self, frame: av.VideoFrame, scale: str | float = 1.0) -> np.ndarray:
        """(H, W, 3) BGR as shown: uint8, or uint16 where `finished` still has to bring the colours to a plain screen.

        Args:
            scale: "published" or a factor: made in this size at once, by FFmpeg's area interpolation, for a third of
                the time of `resize`. Pixels differ from its by a level or two.

        Raises:
            UserError: too many pixels, or of a form that FFmpeg cannot convert.
        """
        containers.check_size(frame.width, frame.height, self._path)
        width, height = square_size(frame.width, frame.height, self.shape.of(frame))
        containers.check_size(width, height, self._path)
        factor = scale_for(scale, height if self.turn[0] in (90, 270) else width)
        self._complete_colours(frame)
        wide = hdr.is_needed(frame.color_trc, frame.color_primaries)
        width, height = scaled_size(width, height, factor)
        # Interpolation of the chroma planes as OpenCV asks FFmpeg for.
        interpolation = "BICUBIC" if factor >= 1 else "AREA"
        kind = "bgr48le" if wide else "bgr24"
        how = dict(width=width, height=height, format=kind, interpolation=interpolation, threads=1)
        try:
            image = self._reformatter.reformat(frame, **how).to_ndarray()
        except av.FFmpegError:  # a colour matrix that FFmpeg does not convert
            frame.colorspace = _NEAREST_MATRIX.get(frame.colorspace, _BT601)
            try:
                image = self._reformatter.reformat(frame, **how).to_ndarray()
            except av.FFmpegError:
                raise UserError(
                    f"its frames ({frame.format.name}) cannot be turned into pictures",
                    file=self._path,
                    hint="convert the video, e.g. to H.264",
                ) from None
        return upright(image, *self.turn)

    def _complete_colours(self, frame: av.VideoFrame) -> None:
        """What the frame does not say of its colours is what the container said; of the matrix, else what players take
        for granted: BT.709 where the picture is large, BT.601 where it is not."""
        for name, said in self._said.items():
            if frame.format.is_rgb and name in ("colorspace", "color_range"):
                continue  # of RGB there is one kind
            if said != _UNSAID[name] == getattr(frame, name):
                setattr(frame, name, said)
        if not frame.format.is_rgb and frame.colorspace in _NO_MATRIX:
            large = (frame.width >= 1280 or frame.height >= 720) and self._codec not in _ALWAYS_BT601
            frame.colorspace = _BT709 if large else _BT601


def finished(image: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """uint8 BGR of what `Pictures.of` made, resized or not."""
    return image if image.dtype == np.uint8 else hdr.to_sdr(image, frame.color_trc, frame.color_primaries)
