"""What the detector says of a video: verdict, people, faces. `to_json` gives the objects of the JSON output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

#: Resamples and coverage of the interval of the average over frames.
RESAMPLES, COVERAGE = 1000, 0.95

#: With fewer frames than this a spread over frames says nothing, and no interval is given.
INTERVAL_MIN_FRAMES = 3


@dataclass(frozen=True)
class FaceScore:
    """One face in one frame.

    Attributes:
        person: track id, e.g. "p1".
        frame: number of the kept frame, from 0.
        index: index of the frame in the video.
        time_s: time of the frame in seconds.
        p_real: calibrated P(real) of this face, 0..1, `rim` and `flicker` in it.
        box: x, y, width, height of the detection in pixels of the resized frame.
        confidence: of the face detector, 0..1.
        crop: what the network saw before squashing, uint8 RGB (H, W, 3).
        quality: what was measured of the picture (`faces.quality.Quality`), plain numbers.
        votes: whether the picture is good enough for this face to count.
        reason: "" or why it does not vote, e.g. "too small (28 px)".
        fault: "" or the same as a key of `faces.quality.FAULTS`.
        again: of a frame that was only looked at because one beside it looked altered: it counts for stretches alone.
        turned: degrees by which it was turned, because nobody had said that it is not upright.
        rim: what the rims of this person's faces against their surroundings add to the logit; below 0 speaks for FAKE.
        flicker: the same of how this person's face changes from one frame to the next.
    """

    person: str
    frame: int
    index: int
    time_s: float
    p_real: float
    box: tuple[float, float, float, float]
    confidence: float
    crop: object = field(repr=False, default=None)
    quality: dict = field(repr=False, default_factory=dict)
    votes: bool = True
    reason: str = ""
    fault: str = ""
    again: bool = False
    turned: int = 0
    rim: float = 0.0
    flicker: float = 0.0

    def to_json(self) -> dict:
        return {
            "person": self.person,
            "frame": self.frame,
            "index": self.index,
            "time_s": self.time_s,
            "p_real": self.p_real,
            "rim": self.rim,
            "flicker": self.flicker,
            "box": [round(float(v), 1) for v in self.box],
            "confidence": self.confidence,
            "quality": dict(self.quality),
            "votes": self.votes,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Stretch:
    """A part of a person's time that looks altered.

    Attributes:
        start_s, end_s: seconds; p_fake: mean over its faces, 0..1; person: whose.
    """

    start_s: float
    end_s: float
    p_fake: float
    person: str = ""

    @property
    def text(self) -> str:
        """ "a stretch of 0.8 s looks altered (4.0 to 4.8 s)"."""
        return (
            f"a stretch of {max(self.end_s - self.start_s, 0.1):.1f} s looks altered ({self.start_s:.1f} to "
            f"{self.end_s:.1f} s)"
        )

    def to_json(self) -> dict:
        return {"start_s": self.start_s, "end_s": self.end_s, "p_fake": self.p_fake, "person": self.person}


@dataclass(frozen=True)
class Person:
    """One person followed through the video.

    Attributes:
        id: "p1", "p2", ... in order of appearance: the same everywhere.
        p_real: the aggregation rule over this person's faces that vote (all faces, where none votes), in 0..1.
        interval: (low, high) of the rule's fake probability, by resampling frames, or None with too few.
        verdict: REAL, FAKE or UNSURE.
        first_s, last_s: first and last time seen, seconds.
        frames: in how many of the frames looked at.
        well_seen: whether this person counts for the video's verdict.
        faces_that_vote: faces good enough to be judged by.
        frame_range: (low, high) of the fake probability of single faces that vote (5th and 95th percentile), or None.
        reason: "" or why this person is not judged or UNSURE.
        rim, flicker: those of `FaceScore`, of these faces.
    """

    id: str
    p_real: float
    interval: tuple[float, float] | None
    verdict: str
    first_s: float
    last_s: float
    frames: int
    well_seen: bool
    faces_that_vote: int = 0
    frame_range: tuple[float, float] | None = None
    reason: str = ""
    rim: float = 0.0
    flicker: float = 0.0

    def to_json(self) -> dict:
        return {
            "id": self.id,
            "p_real": self.p_real,
            "verdict": self.verdict,
            "first_s": self.first_s,
            "last_s": self.last_s,
            "frames": self.frames,
            "interval": _listed(self.interval),
            "well_seen": self.well_seen,
            "faces_that_vote": self.faces_that_vote,
            "frame_range": _listed(self.frame_range),
            "reason": self.reason,
            "rim": self.rim,
            "flicker": self.flicker,
        }


@dataclass(frozen=True)
class Prediction:
    """The verdict on one video or picture.

    Attributes:
        video: the path as it was given.
        verdict: REAL, FAKE, UNSURE or NO FACE; None when `error` is set.
        p_real, p_fake: calibrated probabilities, p_fake = 1 - p_real; None without a face.
        interval: (low, high) of p_fake: 95 % percentile bootstrap of the frames that decide. It says how sure the
            rule's value is, not how far single frames agree (`frame_range`), nor how often such verdicts are
            right.
        frame_range: (low, high) of p_fake of single frames that decide (5th and 95th percentile), or None.
        reason: "" or in words why the verdict is UNSURE, e.g. "the faces are too small (28 px)".
        frames_decoded, frames_with_face: frames looked at, and those with at least one face.
        people: the one who decides first.
        stretches: parts in time that look altered although the average does not.
        file: width, height (as shown), codec, fps, bitrate (bit/s of the whole file), bits_per_pixel, duration_s,
            bytes, still (a picture, not a video: then without bit rate, fps and duration 0).
        warnings: sentences about the material, e.g. that the detector was not checked at such a bit rate.
        seconds: wall time.
        model: name, version and the first 8 digits of the SHA-256 of the network's file.
        error: None, or why there is no verdict.
        note: "" or what is wrong with a file that could be judged all the same, e.g. that it is cut off.
        faces: every face looked at, in time order (not part of `to_json`).
        settings: the resolved settings.
        duration_s: length of the video in seconds, see `video.probe.VideoInfo`; 0 if unknown.
    """

    video: str
    verdict: str | None
    p_real: float | None = None
    p_fake: float | None = None
    interval: tuple[float, float] | None = None
    frames_decoded: int = 0
    frames_with_face: int = 0
    people: tuple[Person, ...] = ()
    seconds: float = 0.0
    model: str | None = None
    error: str | None = None
    note: str = ""
    faces: tuple[FaceScore, ...] = field(repr=False, default=())
    settings: dict = field(repr=False, default_factory=dict)
    duration_s: float = 0.0
    reason: str = ""
    frame_range: tuple[float, float] | None = None
    stretches: tuple[Stretch, ...] = ()
    file: dict = field(repr=False, default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict:
        """The object of the JSON output, plain values only."""
        return {
            "video": self.video,
            "verdict": self.verdict,
            "reason": self.reason,
            "p_real": self.p_real,
            "p_fake": self.p_fake,
            "rule": self.settings.get("aggregate", ""),
            "interval": _listed(self.interval),
            "frame_range": _listed(self.frame_range),
            "frames_decoded": self.frames_decoded,
            "frames_with_face": self.frames_with_face,
            "people": [p.to_json() for p in self.people],
            "stretches": [s.to_json() for s in self.stretches],
            "file": dict(self.file),
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
            "model": self.model,
            "error": self.error,
            "note": self.note,
        }


def _listed(pair: tuple[float, float] | None) -> list[float] | None:
    return list(pair) if pair else None


def failed(video: str, error: str, *, seconds: float = 0.0, model: str | None = None) -> dict:
    """The JSON object of a video without a verdict."""
    return Prediction(video=video, verdict=None, seconds=seconds, model=model, error=error).to_json()


def fake_interval(scores: Sequence[float], rule: Callable, *, seed: int = 1) -> tuple[float, float] | None:
    """Percentile bootstrap of 1 - rule(scores) over frames (Efron 1979); None for fewer than 3 frames.

    Frames of one video resemble each other, so this is the agreement of the frames, not the chance of being right.

    Args:
        scores: calibrated p_real of one person's faces, one a frame, in time order.
        rule: from an array of p_real to one p_real.
    """
    import numpy as np

    p = np.asarray(scores, np.float64)
    if len(p) < INTERVAL_MIN_FRAMES:
        return None
    # Sorted indices keep the time order that a rule may rely on.
    picks = np.sort(np.random.default_rng(seed).integers(0, len(p), (RESAMPLES, len(p))), axis=1)
    fakes = np.array([1.0 - rule(p[i]) for i in picks])
    low, high = np.quantile(fakes, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def frame_range(scores: Sequence[float]) -> tuple[float, float] | None:
    """(5th, 95th percentile) of 1 - score over single frames; None for fewer than 3."""
    import numpy as np

    if len(scores) < INTERVAL_MIN_FRAMES:
        return None
    low, high = np.quantile(1.0 - np.asarray(scores, np.float64), [0.05, 0.95])
    return float(low), float(high)
