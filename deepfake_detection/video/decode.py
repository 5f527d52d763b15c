"""The wanted frames of a video, in one pass, never by seeking to a frame: those that a decoder of every frame gives,
for less.

Where the packets tell frames apart, those that nothing refers to (B-frames, a third to a half of most uploads) are not
decoded unless they are wanted, and neither are whole groups of pictures (GOPs) without a wanted frame. Whatever goes
wrong there (a damaged packet, a picture that does not come) goes on by decoding everything, from the frame that was
reached. Where the packets do not tell (no times, joined recordings, packets of two pictures or none, a recording that
begins in the middle), everything is decoded once to count. Only wanted frames become pictures.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from ..errors import UserError
from . import containers
from .picture import Pictures, finished
from .probe import NOT_A_VIDEO_HINT, PacketIndex, VideoInfo, demuxer_of, info_of, open_container, read_packets, timed
from .resize import PUBLISHED, resize, scale_for
from .sampling import KEYFRAMES, Runs, Sampling, thin

#: Codecs whose decoders leave out pictures that no other picture refers to.
_SKIPS_UNREFERENCED = ("h264", "hevc")
#: A longer time between two frames is a new recording that was joined to the file, seconds.
_LONGEST_GAP_S = 10.0

_DROP, _REFERENCE, _WANTED = 0, 1, 2


@dataclass(frozen=True)
class Frame:
    """One kept frame.

    Attributes:
        number: NNN, counts the kept frames from 0.
        index: frame index in the video, from 0 in order of presentation.
        time_s: when it is shown, in seconds from the first frame.
        image: uint8 (H, W, 3), BGR, upright, after the resize rule.
        run: where `Runs` ask for it, this frame again and those that come next in the video, made in their size at
            once (`Pictures.of`).
    """

    number: int
    index: int
    time_s: float
    image: np.ndarray
    run: tuple[np.ndarray, ...] = ()


class _NotHere(Exception):
    """The plan does not lead any further."""


class FrameReader:
    """Iterates over the wanted frames; holds one at a time, or a run of them.

    Args:
        path: the video.
        sampling: which frames, see `sampling.parse`.
        scale: "published" (by width) or a factor.
        threads: decoder threads; 1 inside worker processes, 0: as many as cores.
        reference: decode every frame.
        wanted: indices in the video, ascending, in place of those that `sampling` chooses.
        runs: which wanted frames are given with those that follow.

    Attributes:
        info: VideoInfo (size and orientation are final after the first frame).
        wanted: the wanted indices.
        yielded: frames given so far.
        note: after the last frame: "" or what was wrong with the file, e.g. that it is cut off.

    Raises:
        UserError: missing, empty, unreadable or without a picture. A file that breaks off yields what decodes.
    """

    def __init__(
        self,
        path: str | Path,
        sampling: Sampling,
        *,
        scale: str | float = PUBLISHED,
        threads: int = 1,
        reference: bool = False,
        wanted: Sequence[int] | None = None,
        runs: Runs | None = None,
    ):
        self.path, self.sampling, self.scale, self.threads = Path(path), sampling, scale, threads
        container, stream = open_container(path)
        with container:
            self._packets = read_packets(container, stream)
            self.info: VideoInfo = info_of(self.path, stream, self._packets)
        if not self.info.frame_count:
            raise UserError("there is no picture in this video", file=path, hint=NOT_A_VIDEO_HINT)
        key, order = self._packets.key, self._packets.order
        self._key = key if order is None else key[np.argsort(order)]
        self._by_time = self._packets.countable
        if not self._by_time:
            self._count()
        self.wanted = self._choose() if wanted is None else [i for i in wanted if i < self.info.frame_count]
        self._run = _run_of(self.wanted, runs, self.info)
        self._needed = sorted({i for run in self._run.values() for i in run})
        self._held: deque[Frame] = deque()
        self.yielded, self.note = 0, ""
        self._fast = self._by_time and not reference
        self._frames = self._iterate()

    def __iter__(self) -> FrameReader:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Ends the iteration and closes the file."""
        self._frames.close()

    def _count(self) -> None:
        """Decodes everything once, to know how many frames there are and when."""
        pts, key = [], []
        for frame in self._every_frame():
            pts.append(frame.pts)
            key.append(frame.key_frame)
        if pts:  # else: nothing decodes, which the iteration finds too
            self._key = np.array(key, bool)
            if self._packets.guessed and None not in pts:
                pts.sort()
            self.info = timed(self.info, len(pts), _times(pts, self._packets.time_base, self.info.fps))

    def _choose(self) -> list[int]:
        info, rule = self.info, self.sampling
        if rule.name != KEYFRAMES:
            return rule.indices(info.fps, info.frame_count)
        end = rule.end(info.fps, info.frame_count)
        return thin([int(i) for i in np.flatnonzero(self._key) if i < end], rule.frames)

    def _time(self, index: int) -> float:
        times = self.info.times_s
        return round(float(times[index]) if times is not None and index < len(times) else index / self.info.fps, 3)

    def _iterate(self) -> Iterator[Frame]:
        reached = -1
        for source in (self._by_plan, self._by_all) if self._fast else (self._by_all,):
            try:
                for index, wanted, frame, pictures in source(reached):
                    if wanted:
                        image = pictures.of(frame)
                        image = finished(resize(image, scale_for(self.scale, image.shape[1])), frame)
                        self._held.append(Frame(self.yielded + len(self._held), index, self._time(index), image))
                    if reached < 0:
                        self.info = self.info.shown_by(frame, pictures.shape.of(frame), pictures.turn)
                    reached = index
                    self._add_to_runs(index, frame, pictures)
                    yield from self._whole(index)
                break
            except _NotHere:
                continue
        yield from self._whole(self.info.frame_count)
        if not self.yielded:
            self._refuse_bomb()
        self.note = self._judge()

    def _add_to_runs(self, index: int, frame: av.VideoFrame, pictures: Pictures) -> None:
        """Adds a decoded frame to those of the held frames' runs that come to it next; where one is missing, the run
        ends before it."""
        image = None
        for i, held in enumerate(self._held):
            run = self._run.get(held.index, range(0))
            if len(run) > 1 and len(held.run) < len(run) and index == run[len(held.run)]:
                if image is None:
                    image = finished(pictures.of(frame, self.scale), frame)
                self._held[i] = replace(held, run=(*held.run, image))

    def _whole(self, reached: int) -> Iterator[Frame]:
        """The held frames whose runs have come, when all up to `reached` is decoded."""
        while self._held and self._run.get(self._held[0].index, (reached,))[-1] <= reached:
            self.yielded += 1
            yield self._held.popleft()

    def _judge(self) -> str:
        held, promised = len(self._packets.key) + self._packets.hidden, self._packets.promised
        if promised > held:
            return f"the file is cut off: it holds {held} of {promised} frames"
        if self.yielded < len(self.wanted):
            return f"damaged: {self.yielded} of {len(self.wanted)} wanted frames could be decoded"
        return ""

    def _refuse_bomb(self) -> None:
        """Where nothing came: says so if it is because the first picture is larger than the decoder may make."""
        size = _size_refused(self.path)
        if size:
            containers.check_size(*size, self.path)

    # -- every frame ----------------------------------------------------------------------
    def _every_frame(self, opened: list | None = None) -> Iterator[av.VideoFrame]:
        """Every frame that decodes, in order of presentation. `opened` is given the Pictures of the video."""
        container, stream = open_container(self.path)
        with container:
            pictures = Pictures(self.path, stream, demuxer_of(container))
            if opened is not None:
                opened.append(pictures)
            self._use_threads(stream.codec_context)
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets)
                except (StopIteration, av.FFmpegError, OSError):
                    return  # the end, or the place where the file breaks off
                try:
                    frames = packet.decode()
                except MemoryError:
                    raise
                except av.FFmpegError:
                    continue  # a damaged packet: its frame is missing
                for frame in frames:
                    pictures.see(frame)
                    yield frame

    def _by_all(self, after: int) -> Iterator[tuple[int, bool, av.VideoFrame, Pictures]]:
        opened: list[Pictures] = []
        wanted = [i for i in self._needed if i > after]
        times = np.sort(self._packets.pts) if self._by_time else None
        for count, frame in enumerate(self._every_frame(opened)):
            if not wanted:
                return
            if times is None or frame.pts is None:
                index = count
            else:  # of a damaged file a frame may be missing: the others keep their places
                index = int(np.searchsorted(times, frame.pts, "right")) - 1
            if index < wanted[0]:
                continue
            passed = [i for i in wanted if i <= index]
            wanted = wanted[len(passed) :]
            for_itself = any(i in self._run for i in passed)  # in the place of a missing one the next that there is
            if for_itself or index in passed:
                yield index, for_itself, frame, opened[0]

    # -- the same frames for less ---------------------------------------------------------
    def _by_plan(self, _: int) -> Iterator[tuple[int, bool, av.VideoFrame, Pictures]]:
        packets = self._packets
        plan = _plan(packets, self._needed)
        index_of = {int(packets.pts[p]): int(packets.order[p]) for p in np.flatnonzero(plan == _WANTED)}
        pending = list(self._needed)
        opened: list[Pictures] = []
        try:
            for frame in self._decoded(plan, opened):
                opened[0].see(frame)
                if frame.is_corrupt:
                    raise _NotHere
                index = index_of.get(frame.pts)
                if index is None:
                    continue
                if not pending or index != pending.pop(0):
                    raise _NotHere  # one is missing or out of order: the decoder was confused by what was left out
                yield index, index in self._run, frame, opened[0]
        except (av.FFmpegError, OSError):
            raise _NotHere from None
        if pending:
            raise _NotHere  # who decodes everything has the last word on what can be decoded

    def _decoded(self, plan: np.ndarray, opened: list) -> Iterator[av.VideoFrame]:
        """Decoded frames, at least those that `plan` wants. `opened` is given the Pictures of the video."""
        remaining = int((plan == _WANTED).sum())
        container, stream = open_container(self.path)
        with container:
            context = stream.codec_context
            opened.append(Pictures(self.path, stream, demuxer_of(container)))
            self._use_threads(context)
            skips = context.name in _SKIPS_UNREFERENCED
            if skips:
                # How to turn the picture may stand in the first frame only.
                plan = np.concatenate([np.maximum(plan[:1], _REFERENCE), plan[1:]])
            position, fed, fresh = -1, False, False

            def decoded(packet) -> Iterator[av.VideoFrame]:
                nonlocal fresh
                for frame in context.decode(packet):
                    if fresh and not frame.key_frame:
                        raise _NotHere  # the container calls packets key frames that are none
                    fresh = False
                    yield frame

            for packet in container.demux(stream):
                if packet.size == 0:
                    if packet.dts is None:  # the one that PyAV adds at the end
                        break
                    continue
                action = _REFERENCE  # hidden packets are decoded: shown ones may refer to them
                if not packet.is_discard:
                    position += 1
                    action = plan[position] if position < len(plan) else _DROP
                if action == _DROP:
                    if fed:  # a gap: take out what the decoder still holds, start afresh after it
                        yield from decoded(None)
                        context.flush_buffers()
                        fed = False
                    fresh = True
                    if not remaining:
                        return
                    continue
                if skips:
                    context.skip_frame = "DEFAULT" if action == _WANTED else "NONREF"
                remaining -= action == _WANTED
                fed = True
                yield from decoded(packet)
                if not remaining:
                    break
            if fed:
                yield from decoded(None)

    def _use_threads(self, context) -> None:
        context.thread_count = self.threads
        context.thread_type = "AUTO" if self.threads != 1 else "NONE"


def _run_of(wanted: list[int], runs: Runs | None, info: VideoInfo) -> dict[int, range]:
    """Wanted index -> the indices of its run, itself first."""
    step = 0 if runs is None else runs.step(info.fps)
    if runs is None or not step:
        return {i: range(i, i + 1) for i in wanted}
    lengths = [1 if number % runs.every else 1 + runs.following for number in range(len(wanted))]
    ends = [min(first + step * length, info.frame_count) for first, length in zip(wanted, lengths)]
    return {first: range(first, max(end, first + 1), step) for first, end in zip(wanted, ends)}


def _times(pts: list, time_base: float, fps: float) -> np.ndarray:
    """Seconds from the first frame of frames in order of presentation; where times are missing or start anew, at the
    video's rate.
    """
    ticks = np.array([np.nan if t is None else t for t in pts], float) * time_base
    steps = np.diff(ticks)
    steps[~((steps > 0) & (steps <= _LONGEST_GAP_S))] = 1 / fps
    return np.concatenate([[0.0], np.cumsum(steps)])


def _size_refused(path: Path) -> tuple[int, int] | None:
    """(width, height) that the decoder refused in the first packets; None when that was not the reason."""
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # else "repeated" of an earlier file would be among them
    try:
        with av.logging.Capture() as said:
            container, stream = open_container(path)
            with container:
                stream.codec_context.thread_count = 1
                for packet, _ in zip(container.demux(stream), range(3)):
                    with contextlib.suppress(av.FFmpegError):
                        packet.decode()
    except (av.FFmpegError, OSError, UserError):
        pass
    finally:
        av.logging.set_level(before[0])
        av.logging.set_skip_repeated(before[1])
    found = re.search(r"[Pp]icture size (\d+)x(\d+)", "\n".join(text for _, _, text in said))
    return (int(found[1]), int(found[2])) if found else None


def _plan(packets: PacketIndex, wanted: list[int]) -> np.ndarray:
    """What to do with each packet: drop it, decode it because others may refer to it, decode it because it is wanted.

    A segment begins at a key frame that no later packet precedes in presentation (a closed GOP). Packets are dropped
    from the last wanted one to the segment's end, so a segment without a wanted frame is dropped whole.
    """
    order = packets.order
    plan = np.full(len(order), _REFERENCE, np.int8)
    plan[np.isin(order, wanted)] = _WANTED
    if packets.hidden:
        return plan
    # key frame p is closed if every packet from p on is shown at or after it, and everything before p is shown before
    # it.
    later = np.minimum.accumulate(order[::-1])[::-1]
    starts = np.flatnonzero(packets.key & (later == order))
    for start, end in zip(starts, [*starts[1:], len(order)]):
        held = np.flatnonzero(plan[start:end] == _WANTED)
        plan[start + (held[-1] + 1 if len(held) else 0) : end] = _DROP
    return plan
