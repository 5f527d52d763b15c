"""What a video file says about itself, from one pass over its packets that decodes nothing (17 ms for a 10 s clip)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from ..errors import UserError
from . import containers

#: Frame rates outside (0, MOST_FPS] are markers, not rates (browsers write 1000 into WebM): they are measured instead.
MOST_FPS = 300.0
#: What is assumed when even the packets have no times.
FALLBACK_FPS = 25.0

NOT_A_VIDEO_HINT = "is it complete, and a video? play it, or download it again"


@dataclass(frozen=True)
class VideoInfo:
    """A video's properties.

    Attributes:
        path: the file.
        width, height: pixels as shown, i.e. after rotation and before any resize.
        fps: frames a second, > 0; the declared rate, or where that is absent or absurd the rate of the packets' times.
        frame_count: frames that the file really holds (packets that show a picture); 0 when they cannot be counted.
        declared_frames: what the header says, 0 if nothing. More than frame_count: the file is cut off.
        duration_s: frame_count / fps or the time from the first to the last frame, whichever the file supports; 0 if unknown.
        rotation: clockwise degrees that turn the stored picture into the shown one: 0, 90, 180, 270.
        codec: FFmpeg's name, e.g. "h264".
        times_s: shown time of every frame in seconds, ascending, first is 0; None when the packets have no (or repeated) times.
    """

    path: Path
    width: int
    height: int
    fps: float
    frame_count: int
    duration_s: float
    rotation: int = 0
    codec: str = ""
    declared_frames: int = 0
    times_s: np.ndarray | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class PacketIndex:
    """The packets of a video stream in decoding order, without those that a container hides (edit lists).

    Attributes:
        pts: (N,) int64 presentation times in units of the stream's time base; None when absent or repeated.
        key: (N,) bool, random access points.
        order: (N,) int64, frame index (rank of presentation) of each packet; None like pts.
        time_base: seconds a unit.
        clean_start: the first packet is a key frame and the first picture shown, so no frame is silently dropped by decoders.
        hidden: packets that are decoded but not shown.
    """

    pts: np.ndarray | None
    key: np.ndarray
    order: np.ndarray | None
    time_base: float
    clean_start: bool
    hidden: int


def open_container(path: str | Path):
    """Opens a video with PyAV and returns (container, video stream).

    Raises:
        UserError: missing, empty, unreadable, or without a video stream.
    """
    path = Path(path)
    demuxer = containers.check(path)
    try:
        container = av.open(containers.url(path), format=demuxer, options=containers.options(demuxer), metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or type(e).__name__
        raise UserError(f"not a readable video ({reason})", file=path, hint=NOT_A_VIDEO_HINT) from None
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        container.close()
        raise UserError("there is no video stream in this file", file=path, hint="is it sound only, or a picture?")
    context = streams[0].codec_context
    try:
        if context is None:
            raise UserError("the video stream in this file is of no known kind", file=path, hint=NOT_A_VIDEO_HINT)
        containers.check_size(context.width, context.height, path)
        context.options = containers.codec_options()
    except UserError:
        container.close()
        raise
    return container, streams[0]


def _is_cover(stream) -> bool:
    """Cover art in a sound file is a "video stream" of one picture."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def read_packets(container, stream) -> PacketIndex:
    """Reads every packet's time without decoding. A file that breaks off gives the packets before the break."""
    pts, key, hidden = [], [], 0
    try:
        for packet in container.demux(stream):
            if packet.size == 0:      # the flushing packet that PyAV adds at the end
                continue
            if packet.is_discard:
                hidden += 1
                continue
            pts.append(packet.pts)
            key.append(packet.is_keyframe)
    except (av.FFmpegError, OSError):
        pass
    key = np.array(key, bool)
    if not pts or any(p is None for p in pts) or len(set(pts)) != len(pts):
        return PacketIndex(None, key, None, float(stream.time_base or 0), False, hidden)
    pts = np.array(pts, np.int64)
    order = np.empty(len(pts), np.int64)
    order[np.argsort(pts)] = np.arange(len(pts))
    return PacketIndex(pts, key, order, float(stream.time_base), bool(key[0] and order[0] == 0), hidden)


def info_of(path: Path, stream, packets: PacketIndex, rotation: int = 0) -> VideoInfo:
    """VideoInfo of an opened video whose packets were read; `rotation` is known once a frame was decoded."""
    times = None
    if packets.pts is not None:
        shown = np.sort(packets.pts)
        times = (shown - shown[0]) * packets.time_base
    count = len(packets.key)
    fps = _fps(stream, times)
    width, height = stream.codec_context.width, stream.codec_context.height
    if rotation in (90, 270):
        width, height = height, width
    if times is not None and count > 1:
        duration = float(times[-1]) + float(times[-1]) / (count - 1)
    else:
        duration = count / fps
    return VideoInfo(path, width, height, fps, count, round(duration, 3), rotation, stream.codec_context.name,
                     int(stream.frames or 0), times)


def probe(path: str | Path) -> VideoInfo:
    """Reads a video's properties; decodes one frame at most.

    Raises:
        UserError: missing, empty, unreadable, or without a video stream.
    """
    container, stream = open_container(path)
    with container:
        packets = read_packets(container, stream)
        rotation = _first_rotation(container, stream)
        return info_of(Path(path), stream, packets, rotation)


def rotation_of(frame) -> int:
    """Clockwise degrees (0, 90, 180, 270) that turn a decoded PyAV frame upright, from the display matrix that phones write."""
    return (-round(frame.rotation / 90) * 90) % 360


def _first_rotation(container, stream) -> int:
    try:
        container.seek(0, stream=stream)
        for frame in container.decode(stream):
            return rotation_of(frame)
    except (av.FFmpegError, OSError):
        pass
    return 0


def _fps(stream, times) -> float:
    declared = float(stream.guessed_rate or stream.average_rate or 0)
    if math.isfinite(declared) and 0 < declared <= MOST_FPS:
        return declared
    if times is not None and len(times) > 1 and times[-1] > 0:
        return float(min(MOST_FPS, (len(times) - 1) / times[-1]))
    return FALLBACK_FPS
