"""The wanted frames of a video, in one pass, never by seeking to a frame.

The reference is OpenCV: grab() every frame, retrieve() the wanted ones. Where a file allows, PyAV gives the same bytes for less:
frames that nothing refers to (B-frames, a third to a half of most uploads) are not decoded unless they are wanted, and neither
are whole groups of pictures (GOPs) without a wanted frame. Whatever looks unusual (no time stamps, a damaged packet, an open GOP
at the start, an exotic pixel format) goes on with the reference, from the frame that was reached. tests/video proves the equality.

Interlaced video is the exception: OpenCV 5.0.0 turns it into coloured noise, so there PyAV decodes every frame instead.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator

# OpenCV's FFmpeg prints every damaged macroblock on stderr; a damaged file is told of once, in words, by the caller.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import av
import cv2
import numpy as np

from ..errors import UserError
from . import containers
from .probe import NOT_A_VIDEO_HINT, PacketIndex, VideoInfo, info_of, open_container, read_packets, rotation_of
from .resize import PUBLISHED, resize, scale_for
from .sampling import KEYFRAMES, Sampling, thin

#: Pixel formats for which PyAV's conversion to BGR was compared with OpenCV's, byte by byte.
_SAME_COLOURS = ("yuv420p", "yuvj420p", "yuv444p")
#: Codecs whose decoders leave out pictures that no other picture refers to.
_SKIPS_UNREFERENCED = ("h264", "hevc")

_DROP, _REFERENCE, _WANTED = 0, 1, 2

_ROTATE = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Frame:
    """One kept frame.

    Attributes:
        number: NNN, counts the kept frames from 0.
        index: frame index in the video, from 0 in order of presentation.
        time_s: when it is shown, in seconds from the first frame.
        image: uint8 (H, W, 3), BGR, upright, after the resize rule.
    """

    number: int
    index: int
    time_s: float
    image: np.ndarray


class _NotHere(Exception):
    """The fast way does not apply, or not any further."""


class FrameReader:
    """Iterates over the wanted frames; holds one at a time.

    Args:
        path: the video.
        sampling: which frames, see `sampling.parse`.
        scale: "published" (by width) or a factor.
        threads: decoder threads; 1 inside worker processes, 0: as many as cores.
        reference: use OpenCV only.

    Attributes:
        info: VideoInfo (`rotation` and shown size are final after the first frame).
        wanted: the wanted indices.
        yielded: frames given so far.
        note: after the last frame: "" or what was wrong with the file, e.g. that it is cut off.

    Raises:
        UserError: missing, empty, unreadable or without a picture. A file that breaks off yields what decodes.
    """

    def __init__(self, path: str | Path, sampling: Sampling, *, scale: str | float = PUBLISHED, threads: int = 1,
                 reference: bool = False):
        self.path, self.sampling, self.scale, self.threads = Path(path), sampling, scale, threads
        container, stream = open_container(path)
        with container:
            self._packets = read_packets(container, stream)
            self.info: VideoInfo = info_of(self.path, stream, self._packets)
            self._pixel_format = stream.codec_context.pix_fmt
        if not self.info.frame_count:
            raise UserError("there is no picture in this video", file=path, hint=NOT_A_VIDEO_HINT)
        self.wanted = self._choose()
        self.yielded, self.note = 0, ""
        self._fast = not reference
        self._frames = self._iterate()

    def __iter__(self) -> "FrameReader":
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Ends the iteration and closes the file."""
        self._frames.close()

    def _choose(self) -> list[int]:
        info, rule, packets = self.info, self.sampling, self._packets
        if rule.name != KEYFRAMES:
            return rule.indices(info.fps, info.frame_count)
        positions = np.flatnonzero(packets.key)
        indices = positions if packets.order is None else packets.order[positions]
        end = rule.end(info.fps, info.frame_count)
        return thin(sorted(int(i) for i in indices if i < end), rule.frames)

    def _time(self, index: int) -> float:
        times = self.info.times_s
        return round(float(times[index]) if times is not None and index < len(times) else index / self.info.fps, 3)

    def _iterate(self) -> Iterator[Frame]:
        reached = -1
        for source in (self._by_pyav, self._by_opencv) if self._fast else (self._by_opencv,):
            try:
                if source == self._by_opencv and self._is_interlaced():
                    source = self._every_frame_by_pyav
                for index, image in source(reached):
                    factor = scale_for(self.scale, image.shape[1])
                    frame = Frame(self.yielded, index, self._time(index), resize(image, factor))
                    reached = index
                    self.yielded += 1
                    yield frame
                break
            except _NotHere:
                continue
        self.note = self._judge()

    def _judge(self) -> str:
        held, declared = self.info.frame_count + self._packets.hidden, self.info.declared_frames
        if declared > held:
            return f"the file is cut off: it holds {held} of {declared} frames"
        if self.yielded < len(self.wanted):
            return f"damaged: {self.yielded} of {len(self.wanted)} wanted frames could be decoded"
        return ""

    # -- the reference -------------------------------------------------------------------------------------------------------
    def _by_opencv(self, after: int) -> Iterator[tuple[int, np.ndarray]]:
        with containers.opencv_held_to(containers.check(self.path)):
            capture = cv2.VideoCapture(containers.url(self.path), cv2.CAP_FFMPEG,
                                       [cv2.CAP_PROP_N_THREADS, self.threads or os.cpu_count() or 1])
        try:
            if not capture.isOpened():
                raise UserError("not a readable video", file=self.path, hint=NOT_A_VIDEO_HINT)
            containers.check_size(int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), self.path)
            wanted = [i for i in self.wanted if i > after]
            index = -1
            for target in wanted:
                while index < target:
                    if not capture.grab():
                        return
                    index += 1
                ok, image = capture.retrieve()
                if ok and image is not None:
                    self._set_rotation_from(capture)
                    yield index, image
        finally:
            capture.release()

    def _set_rotation_from(self, capture) -> None:
        if self.info.times_s is None or not self.yielded:
            width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
            rotation = int(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360
            self.info = replace(self.info, width=width, height=height, rotation=rotation)

    # -- where the reference fails -------------------------------------------------------------------------------------------
    def _is_interlaced(self) -> bool:
        try:
            container, stream = open_container(self.path)
            with container:
                return any(f.interlaced_frame for f, _ in zip(container.decode(stream), range(3)))
        except (av.FFmpegError, OSError):
            return False

    def _every_frame_by_pyav(self, after: int) -> Iterator[tuple[int, np.ndarray]]:
        wanted = {i for i in self.wanted if i > after}
        reformatter = av.video.reformatter.VideoReformatter()
        container, stream = open_container(self.path)
        index = -1
        with container:
            stream.codec_context.thread_count = self.threads
            packets = container.demux(stream)
            while wanted:
                try:
                    frames = next(packets).decode()
                except (StopIteration, OSError):        # FFmpegError is an OSError or a ValueError
                    return
                except av.FFmpegError:
                    continue                            # a damaged packet: its frame is missing, as OpenCV would have it
                for frame in frames:
                    index += 1
                    if index in wanted:
                        if not self.yielded:
                            self._set_rotation(frame)
                        wanted.discard(index)
                        yield index, self._bgr(frame, reformatter)

    # -- the same bytes for less ---------------------------------------------------------------------------------------------
    def _by_pyav(self, after: int) -> Iterator[tuple[int, np.ndarray]]:
        packets = self._packets
        if packets.order is None or not packets.clean_start or self._pixel_format not in _SAME_COLOURS:
            raise _NotHere
        plan = _plan(packets, self.wanted)
        index_of = {int(packets.pts[p]): int(packets.order[p]) for p in np.flatnonzero(plan == _WANTED)}
        pending = len(self.wanted)
        last = after
        reformatter = av.video.reformatter.VideoReformatter()
        try:
            for frame in self._decoded(plan):
                if frame.is_corrupt:
                    raise _NotHere
                index = index_of.get(frame.pts)
                if index is None:
                    continue
                if index <= last:
                    raise _NotHere      # frames out of order: the decoder was confused by what was left out
                if not self.yielded:
                    self._set_rotation(frame)
                yield index, self._bgr(frame, reformatter)
                last = index
                pending -= 1
        except (av.FFmpegError, OSError):
            raise _NotHere from None
        if pending:
            raise _NotHere              # the reference has the last word on what can be decoded

    def _decoded(self, plan: np.ndarray):
        """Decoded frames, at least those that `plan` wants."""
        remaining = int((plan == _WANTED).sum())
        container, stream = open_container(self.path)
        with container:
            context = stream.codec_context
            context.thread_count = self.threads
            context.thread_type = "AUTO" if self.threads != 1 else "NONE"
            skips = context.name in _SKIPS_UNREFERENCED
            position, fed = -1, False
            for packet in container.demux(stream):
                if packet.size == 0:
                    break
                action = _REFERENCE                     # hidden packets are decoded: shown ones may refer to them
                if not packet.is_discard:
                    position += 1
                    action = plan[position] if position < len(plan) else _DROP
                if action == _DROP:
                    if fed:                             # a gap: take out what the decoder still holds, start afresh after it
                        yield from context.decode(None)
                        context.flush_buffers()
                        fed = False
                    if not remaining:
                        return
                    continue
                if skips:
                    context.skip_frame = "DEFAULT" if action == _WANTED else "NONREF"
                remaining -= action == _WANTED
                fed = True
                yield from context.decode(packet)
                if not remaining:
                    break
            if fed:
                yield from context.decode(None)

    def _set_rotation(self, frame) -> None:
        rotation = rotation_of(frame)
        width, height = frame.width, frame.height
        if rotation in (90, 270):
            width, height = height, width
        self.info = replace(self.info, rotation=rotation, width=width, height=height)

    def _bgr(self, frame, reformatter) -> np.ndarray:
        # Interpolation of the chroma planes as OpenCV asks FFmpeg for.
        image = reformatter.reformat(frame, format="bgr24", interpolation="BICUBIC", threads=1).to_ndarray()
        turn = _ROTATE.get(self.info.rotation)
        return image if turn is None else cv2.rotate(image, turn)


def _plan(packets: PacketIndex, wanted: list[int]) -> np.ndarray:
    """What to do with each packet: drop it, decode it because others may refer to it, decode it because it is wanted.

    A segment begins at a key frame that no later packet precedes in presentation (a closed GOP). Packets are dropped from the
    last wanted one to the segment's end, so a segment without a wanted frame is dropped whole.
    """
    order = packets.order
    plan = np.full(len(order), _REFERENCE, np.int8)
    plan[np.isin(order, wanted)] = _WANTED
    if packets.hidden:
        return plan
    # key frame p is closed if every packet from p on is shown at or after it, and everything before p is shown before it.
    later = np.minimum.accumulate(order[::-1])[::-1]
    starts = np.flatnonzero(packets.key & (later == order))
    for start, end in zip(starts, [*starts[1:], len(order)]):
        held = np.flatnonzero(plan[start:end] == _WANTED)
        plan[start + (held[-1] + 1 if len(held) else 0):end] = _DROP
    return plan


def iter_frames(path: str | Path, sampling: Sampling, *, scale: str | float = PUBLISHED, threads: int = 1) -> FrameReader:
    """The wanted frames of a video, ascending: an iterator of `Frame`, see `FrameReader`.

    Raises:
        UserError: the file cannot be read at all.
    """
    return FrameReader(path, sampling, scale=scale, threads=threads)
