"""What a video file says about itself, from one pass over its packets that decodes nothing (17 ms for a 10 s clip)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..errors import UserError
from . import containers
from .picture import PixelShape, orientation, square_size

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
        width, height: pixels as shown, i.e. square ones, after rotation and before any resize.
        fps: frames a second, > 0; the declared rate, or where that is absent or absurd the rate of the packets' times.
        frame_count: frames that the file really holds (packets that show a picture); 0 when they cannot be counted.
        declared_frames: what the header says, 0 if nothing. More than frame_count: the file is cut off.
        duration_s: frame_count / fps or the time from the first to the last frame, whichever the file supports; 0 if
            unknown.
        rotation: clockwise degrees that turn the stored picture into the shown one: 0, 90, 180, 270.
        mirrored: whether it is then mirrored left to right.
        codec: FFmpeg's name, e.g. "h264".
        times_s: shown time of every frame in seconds, ascending, first is 0; None when the packets have no (or
            repeated) times.
        bits_per_pixel: what the coder spent, over all pixels of all frames; 0 if unknown.
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
    mirrored: bool = False
    bits_per_pixel: float = 0.0

    def shown_by(self, frame, ratio: Fraction, turn: tuple[int, bool]) -> VideoInfo:
        """With a decoded frame's size; `ratio` is width over height of its pixels, `turn` rotation and mirroring."""
        rotation, mirrored = turn
        width, height = square_size(frame.width, frame.height, ratio)
        if rotation in (90, 270):
            width, height = height, width
        return replace(self, width=width, height=height, rotation=rotation, mirrored=mirrored)


@dataclass(frozen=True)
class PacketIndex:
    """The packets of a video stream in decoding order, without those that a container hides (edit lists).

    Attributes:
        pts: (N,) int64 presentation times in units of the stream's time base; None when they are of no use: absent,
            repeated, or starting anew within the file (joined recordings).
        key: (N,) bool, random access points.
        order: (N,) int64, frame index (rank of presentation) of each packet; None like pts.
        time_base: seconds a unit.
        clean_start: the first packet is a key frame and the first picture shown, so no frame is silently dropped by
        decoders.
        hidden: packets that are decoded but not shown.
        promised: packets that the container's own table names; 0: it has none, or it cannot be compared.
        one_each: every packet is one picture, and none brings what later ones need (a palette, new parameters), as far
            as can be told without decoding.
        guessed: FFmpeg's guess of the times, right as a set, wrong for a single packet.
        size: bytes of them all.
    """

    pts: np.ndarray | None
    key: np.ndarray
    order: np.ndarray | None
    time_base: float
    clean_start: bool
    hidden: int
    promised: int = 0
    one_each: bool = True
    guessed: bool = False
    size: int = 0

    @property
    def countable(self) -> bool:
        """Whether frames can be told apart, counted and put in order by the packets alone."""
        return self.order is not None and self.clean_start and self.one_each


def open_container(path: str | Path):
    """Opens a video with PyAV and returns (container, video stream): the track that players show.

    Raises:
        UserError: missing, empty, unreadable, without a video stream, or of a codec that is not decoded here.
    """
    path = Path(path)
    demuxer = containers.look_at(path)
    container = _open(path, demuxer)
    try:
        tracks = _by_preference(container)
        if len(tracks) > 1:
            shown = _first_with_pictures(container, tracks)  # this reads: begin anew
            container.close()
            container = _open(path, demuxer)
            tracks = [container.streams[shown]]
        _prepare(tracks[0], path)
    except UserError:
        container.close()
        raise
    return container, tracks[0]


def demuxer_of(container) -> str:
    """The first name of a container's demuxer: "mov", "matroska", "mpegts", ..."""
    return container.format.name.partition(",")[0]


def _open(path: Path, demuxer: str):
    try:
        return av.open(
            containers.url(path), format=demuxer or None, options=containers.options(demuxer), metadata_errors="replace"
        )
    except (av.FFmpegError, OSError, ValueError) as e:
        if demuxer == containers.ANY:
            raise containers.not_a_container(path) from None
        reason = getattr(e, "strerror", None) or type(e).__name__
        raise UserError(f"not a readable video ({reason})", file=path, hint=NOT_A_VIDEO_HINT) from None


def _by_preference(container) -> list:
    """The video tracks that could be meant, first the one that players show: decodable, a film and no still, the
    default, the first.
    """
    Is = av.stream.Disposition

    def rank(track):
        context, kind = track.codec_context, track.disposition
        return (
            context is None or context.name not in containers.DECODERS,
            not (context and context.width),
            bool(kind & (Is.still_image | Is.dependent)),
            not kind & Is.default,
            track.index,
        )

    # Cover art in a sound file is a "video stream" of one picture; the thumbnails of chapters are another.
    films = [s for s in container.streams.video if not s.disposition & (Is.attached_pic | Is.timed_thumbnails)]
    if not films:
        raise UserError(
            "there is no video stream in this file",
            file=container.name.removeprefix("file:"),
            hint="is it sound only, or a picture?",
        )
    return sorted(films, key=rank)


def _first_with_pictures(container, tracks) -> int:
    """Index of the first of the tracks that holds a film, else a picture: a default track may be empty, and a cover may
    come without a word that it is one.
    """
    seen = dict.fromkeys((t.index for t in tracks), 0)
    try:
        for packet in container.demux(tracks):
            if packet.size:
                seen[packet.stream_index] += 1
                if seen[tracks[0].index] > 1:
                    break
    except (av.FFmpegError, OSError):
        pass
    return max(tracks, key=lambda t: min(seen[t.index], 2)).index  # the first of equals


def _prepare(stream, path: Path) -> None:
    """Holds the decoder to what is allowed."""
    context = stream.codec_context
    if context is None:
        raise UserError("the video stream in this file is of no known kind", file=path, hint=NOT_A_VIDEO_HINT)
    if context.name not in containers.DECODERS:
        raise UserError(
            f"videos of the codec {context.name} are not decoded here",
            file=path,
            hint="convert it to H.264 with a program that you trust",
        )
    containers.check_size(context.width, context.height, path)
    context.options = containers.codec_options()


def read_packets(container, stream) -> PacketIndex:
    """Reads every packet's time without decoding. A file that breaks off gives the packets before the break."""
    pts, dts, key, hidden, size, starts_with_key, one_each = [], [], [], 0, 0, None, True
    codec = stream.codec_context.name
    guessed = demuxer_of(container) in _WITHOUT_TIMES and codec in _REORDERED
    oddly = _always if guessed else _ODD_PACKETS.get(codec, _never)
    try:
        for packet in container.demux(stream):
            if packet.size == 0:  # a repeated frame of AVI, or the flushing packet that PyAV adds at the end
                continue
            if starts_with_key is None:
                starts_with_key = packet.is_keyframe
            if packet.is_discard:
                hidden += 1
                continue
            size += packet.size
            pts.append(packet.pts)
            dts.append(packet.dts)
            key.append(packet.is_keyframe)
            one_each = one_each and not oddly(packet) and not _changes_the_decoder(packet)
    except (av.FFmpegError, OSError):
        pass
    key, promised = np.array(key, bool), _promised(container, stream, pts)
    if not pts or None in pts or len(set(pts)) != len(pts) or _starts_anew(dts):
        time_base = float(stream.time_base or 0)
        return PacketIndex(None, key, None, time_base, False, hidden, promised, one_each, guessed, size)
    pts = np.array(pts, np.int64)
    order = np.empty(len(pts), np.int64)
    order[np.argsort(pts)] = np.arange(len(pts))
    clean = bool(starts_with_key and (hidden or order[0] == 0))
    return PacketIndex(pts, key, order, float(stream.time_base), clean, hidden, promised, one_each, guessed, size)


def _starts_anew(dts: list) -> bool:
    known = [t for t in dts if t is not None]
    return any(b < a for a, b in zip(known, known[1:]))


def _promised(container, stream, pts: list) -> int:
    """How many packets there should be. AVI and others count the repeats of a picture, which are no packets: their last
    time tells.
    """
    declared = int(stream.frames or 0)
    if demuxer_of(container) == "mov":  # without what an edit list cuts away
        return min(declared, len(stream.index_entries)) if len(stream.index_entries) else declared
    # AVI counts in its own units, of which programs write two a frame.
    rate = 1 / stream.time_base if demuxer_of(container) == "avi" and stream.time_base else stream.guessed_rate
    known = [t for t in pts if t is not None]
    if declared > len(pts) and known and rate and stream.time_base:
        reached = (max(known) - (stream.start_time or 0)) * float(stream.time_base) * float(rate) + 1
        return declared if reached < declared - 1 else len(pts)
    return declared


def _changes_the_decoder(packet) -> bool:
    return any(data.data_type in _KEPT_BY_DECODERS for data in packet.iter_sidedata())


def _never(packet) -> bool:
    return False


def _always(packet) -> bool:
    return True


def _is_stub(packet) -> bool:
    """MPEG-4: "as before" instead of a picture; programs that pack two pictures into a packet put one in the place of
    the second.
    """
    return packet.size < 24


def _is_unseen(packet) -> bool:
    """VP8: a picture that is only referred to (RFC 6386, 9.1)."""
    return not bytes(packet)[0] & 0x10


#: What a packet can bring besides its picture that the decoder needs for the packets after it.
_KEPT_BY_DECODERS = ("palette", "new_extradata", "param_change")
#: These containers have no times of presentation, and FFmpeg's guess of them is wrong for the B-frames of these codecs.
_WITHOUT_TIMES, _REORDERED = ("avi", "asf", "mxf"), ("h264", "hevc")
#: Decoder -> whether a packet may be anything but one picture.
_ODD_PACKETS = {"mpeg4": _is_stub, "msmpeg4": _is_stub, "vp8": _is_unseen}


def info_of(path: Path, stream, packets: PacketIndex) -> VideoInfo:
    """VideoInfo of an opened video whose packets were read; size and orientation are final once a frame was decoded."""
    times = None
    if packets.pts is not None:
        shown = np.sort(packets.pts)
        times = (shown - shown[0]) * packets.time_base
    context = stream.codec_context
    pixels = context.width * context.height * len(packets.key)
    return timed(
        VideoInfo(
            path,
            context.width,
            context.height,
            _fps(stream, times),
            len(packets.key),
            0.0,
            0,
            context.name,
            int(stream.frames or 0),
            bits_per_pixel=8 * packets.size / pixels if pixels else 0.0,
        ),
        len(packets.key),
        times,
    )


def timed(info: VideoInfo, count: int, times: np.ndarray | None) -> VideoInfo:
    """With `count` frames that are shown at `times` (seconds, ascending, None: unknown)."""
    if times is not None and count > 1:
        duration = float(times[-1]) + float(times[-1]) / (count - 1)
    else:
        duration = count / info.fps
    return replace(info, frame_count=count, duration_s=round(duration, 3), times_s=times)


def probe(path: str | Path) -> VideoInfo:
    """Reads a video's properties; decodes one frame at most.

    Raises:
        UserError: missing, empty, unreadable, or without a video stream.
    """
    container, stream = open_container(path)
    with container:
        info = info_of(Path(path), stream, read_packets(container, stream))
    container, stream = open_container(path)  # not every container can go back to its start
    with container:
        shape = PixelShape(stream, demuxer_of(container))
        try:
            for frame in container.decode(stream):
                return info.shown_by(frame, shape.of(frame), orientation(frame) or (0, False))
        except (av.FFmpegError, OSError):
            pass
    return info


def _fps(stream, times) -> float:
    declared = float(stream.guessed_rate or stream.average_rate or 0)
    if math.isfinite(declared) and 0 < declared <= MOST_FPS:
        return declared
    if times is not None and len(times) > 1 and times[-1] > 0:
        return float(min(MOST_FPS, (len(times) - 1) / times[-1]))
    return FALLBACK_FPS
