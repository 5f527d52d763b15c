"""Which frames of a video are looked at.

- per-second: frames with `index % floor(fps) == 0`, the published rule (11 of a 10 s DFDC clip of 29.97 fps);
- even: a fixed number of frames in the middle of equal parts of the video (default for prediction);
- keyframes: key frames only, at most a fixed number, evenly thinned: triage of archives, where nothing else need be
  decoded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PER_SECOND, EVEN, KEYFRAMES = "per-second", "even", "keyframes"
NAMES = (PER_SECOND, EVEN, KEYFRAMES)
#: Frames that `gap_s` may ask for: those of a minute at 0.8 s.
MOST_CLOSE = 75


#: Frames a second that a video has at least for `Runs`, and those that a faster one is thinned to.
RUN_FPS = (19.0, 30.0)


@dataclass(frozen=True)
class Runs:
    """Some wanted frames are given with those that come next in the video, as if it had 20 to 45 frames a second.

    Attributes:
        every: of the wanted frames in their order, the first among them.
        following: how many come next; none in a video of fewer frames a second.
    """

    every: int
    following: int

    def step(self, fps: float) -> int:
        """How many frames of the video the next one is away; 0: there is none."""
        return 0 if fps < RUN_FPS[0] else max(1, round(fps / RUN_FPS[1]))


@dataclass(frozen=True)
class Sampling:
    """A rule that chooses frames. Make it with `parse`.

    Attributes:
        name: one of NAMES.
        frames: at most this many frames a video (even, keyframes; per-second has no limit).
        max_seconds: only the video's first so many seconds; None: all of it.
        gap_s: even: frames lie no further apart than this, up to MOST_CLOSE frames, even where that is more than
            `frames`.
    """

    name: str
    frames: int = 32
    max_seconds: float | None = None
    gap_s: float | None = None

    def step(self, fps: float) -> int:
        """Distance of wanted frames under the published rule: floor(fps), at least 1."""
        return max(1, math.floor(fps))

    def end(self, fps: float, frame_count: int) -> int:
        """First index that is out of bounds, by the video's length or by max_seconds."""
        if self.max_seconds is None:
            return frame_count
        return min(frame_count, max(1, math.ceil(self.max_seconds * fps - 1e-9)))

    def indices(self, fps: float, frame_count: int) -> list[int]:
        """The wanted frame indices of a video of `frame_count` frames, ascending. Not for keyframes, which the file
        decides.

        Args:
            fps: frames a second, > 0.
            frame_count: frames in the video, >= 0.
        """
        end = self.end(fps, frame_count)
        if self.name == PER_SECOND:
            return list(range(0, end, self.step(fps)))
        if self.name == EVEN:
            close = 0 if self.gap_s is None else math.ceil(end / fps / self.gap_s - 1e-9)
            return thin(range(end), max(self.frames, min(close, MOST_CLOSE)))
        raise ValueError("key frames are chosen by the file, not by index")

    def settings(self) -> dict:
        """As plain JSON values, to compare with what an output was made with."""
        used = None if self.name == PER_SECOND else self.frames
        return {"sampling": self.name, "frames": used, "max_seconds": self.max_seconds}


def thin(items, most: int) -> list:
    """At most `most` of the items, from the middle of equal parts of the sequence, in order."""
    items = list(items)
    if len(items) <= most:
        return items
    return [items[(2 * i + 1) * len(items) // (2 * most)] for i in range(most)]


def parse(name: str, frames: int = 32, max_seconds: float | None = None, gap_s: float | None = None) -> Sampling:
    """Makes a Sampling from option values.

    Raises:
        ValueError: unknown name, frames < 1, max_seconds <= 0.
    """
    if name not in NAMES:
        raise ValueError(f"unknown sampling {name!r}: choose one of {', '.join(NAMES)}")
    if frames < 1:
        raise ValueError(f"frames must be 1 or more, not {frames}")
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"max_seconds must be more than 0, not {max_seconds}")
    return Sampling(name, frames, max_seconds, gap_s)
