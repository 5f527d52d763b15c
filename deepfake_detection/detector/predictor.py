"""A video in, a verdict with its evidence out: the library face of the detector.

    from deepfake_detection import Detector
    prediction = Detector().predict("clip.mp4")
    prediction.verdict, prediction.p_fake, prediction.interval

One pass over the video (the fused path of `faces.extract`), one batch through ONNX Runtime, people linked into tracks, then the
aggregation rule for each person. The video is as fake as its most fake well-seen person. No TensorFlow, pandas or SciPy here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Sequence

from .. import labels
from ..errors import UserError

#: Where the shipped detector lies: `models/` beside the package.
MODEL_FOLDER = Path(__file__).resolve().parents[2] / "models"

#: Resamples and coverage of the interval over frames.
RESAMPLES, COVERAGE = 1000, 0.95

#: With fewer frames than this a spread over frames says nothing, and no interval is given.
INTERVAL_MIN_FRAMES = 3

#: Faces in one batch through the network: bounds the memory of long videos.
BATCH = 32


@dataclass(frozen=True)
class Settings:
    """How a video is judged. None means: as the model's `detector.json` says, else the default named here.

    Attributes:
        model: folder with detector.onnx and detector.json.
        sampling: which frames: "even" (`frames` frames spread over the video), "per-second" (the published rule) or "keyframes".
        frames: how many frames "even" takes at most.
        max_seconds: look only at the first so many seconds of each video.
        aggregate: rule from face scores to a person's score (`aggregation.rules.RULES`).
        detector: face detector: "mtcnn", "mtcnn_fast" or "yunet".
        confidence: faces below this detector confidence are dropped.
        min_face_px: smallest face side that is looked for, in pixels of the frame after the resize rule.
        scale: "published" (the resize rule by frame width) or a factor.
        min_share: a person is well seen with at least 3 faces and at least this share of the faces of the person seen most.
        threads: threads of one prediction.
        seed: of the interval's resampling.
    """

    model: str = str(MODEL_FOLDER)
    sampling: str | None = None
    frames: int | None = None
    max_seconds: float | None = None
    aggregate: str | None = None
    detector: str | None = None
    confidence: float | None = None
    min_face_px: float | None = None
    scale: str | float | None = None
    min_share: float = 0.2
    threads: int = 1
    seed: int = 1


#: What holds where neither the settings nor detector.json say anything.
DEFAULTS = {"sampling": "even", "frames": 32, "aggregate": "mean", "detector": "mtcnn_fast", "confidence": None, "min_face_px": 20.0,
            "scale": "published", "margin": 0.3}


@dataclass(frozen=True)
class FaceScore:
    """One face in one frame.

    Attributes:
        person: track id, e.g. "p1".
        frame: number of the kept frame, from 0.
        index: index of the frame in the video.
        time_s: time of the frame in seconds.
        p_real: calibrated P(real) of this face, 0..1.
        box: x, y, width, height of the detection in pixels of the resized frame.
        confidence: of the face detector, 0..1.
        crop: what the network saw before squashing, uint8 RGB (H, W, 3).
    """

    person: str
    frame: int
    index: int
    time_s: float
    p_real: float
    box: tuple[float, float, float, float]
    confidence: float
    crop: object = field(repr=False, default=None)


@dataclass(frozen=True)
class Person:
    """One person followed through the shot.

    Attributes:
        id: "p1", "p2", ... in order of appearance.
        p_real: the aggregation rule over this person's faces, in 0..1.
        interval: (low, high) of the fake probability over frames, or None with too few frames.
        verdict: REAL, FAKE or UNSURE.
        first_s, last_s: first and last time seen, seconds.
        frames: in how many of the frames looked at.
        well_seen: whether this person counts for the video's verdict.
    """

    id: str
    p_real: float
    interval: tuple[float, float] | None
    verdict: str
    first_s: float
    last_s: float
    frames: int
    well_seen: bool

    def to_json(self) -> dict:
        return {"id": self.id, "p_real": self.p_real, "verdict": self.verdict, "first_s": self.first_s, "last_s": self.last_s,
                "frames": self.frames, "interval": list(self.interval) if self.interval else None, "well_seen": self.well_seen}


@dataclass(frozen=True)
class Prediction:
    """The verdict on one video.

    Attributes:
        video: the path as it was given.
        verdict: REAL, FAKE, UNSURE or NO FACE; None when `error` is set.
        p_real, p_fake: calibrated probabilities, p_fake = 1 - p_real; None without a face.
        interval: (low, high) of p_fake: 95 % percentile bootstrap over the frames of the person that decides. It says how far
            the frames agree, not how often such verdicts are right.
        frames_decoded, frames_with_face: frames looked at, and those with at least one face.
        people: most fake first.
        seconds: wall time.
        model: name, version and the first 8 digits of the SHA-256 of the network's file.
        error: None, or why there is no verdict.
        note: "" or what is wrong with a file that could be judged all the same, e.g. that it is cut off.
        faces: every face looked at, in time order (not part of `to_json`).
        settings: the resolved settings.
        duration_s: length of the video in seconds, as its container states it.
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

    def to_json(self) -> dict:
        """The object of the JSON output, plain values only."""
        return {"video": self.video, "verdict": self.verdict, "p_real": self.p_real, "p_fake": self.p_fake,
                "interval": list(self.interval) if self.interval else None, "frames_decoded": self.frames_decoded,
                "frames_with_face": self.frames_with_face, "people": [p.to_json() for p in self.people],
                "seconds": round(self.seconds, 3), "model": self.model, "error": self.error,
                "note": self.note}


def failed(video: str, error: str, *, seconds: float = 0.0, model: str | None = None) -> dict:
    """The JSON object of a video without a verdict."""
    return Prediction(video=video, verdict=None, seconds=seconds, model=model, error=error).to_json()


def fake_interval(scores: Sequence[float], rule: Callable, *, seed: int = 1, resamples: int = RESAMPLES,
                  coverage: float = COVERAGE) -> tuple[float, float] | None:
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
    picks = np.sort(np.random.default_rng(seed).integers(0, len(p), (resamples, len(p))), axis=1)
    fakes = np.array([1.0 - rule(p[i]) for i in picks])
    low, high = np.quantile(fakes, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)


class Detector:
    """The shipped detector.

        Detector().predict("clip.mp4").verdict            # REAL, FAKE, UNSURE or NO FACE
        Detector(frames=64, aggregate="median")           # any field of `Settings`
        Detector().score(crops)                           # faces -> p_real

    Loading costs about half a second; keep one Detector for many videos. Not safe to share between threads.

    Args:
        **settings: fields of `Settings`.

    Raises:
        UserError: when the model is missing or damaged, or a setting is unknown.
    """

    def __init__(self, **settings):
        unknown = set(settings) - set(Settings.__dataclass_fields__)
        if unknown:
            raise UserError(f"unknown setting {', '.join(sorted(unknown))}",
                            hint=f"one of {', '.join(Settings.__dataclass_fields__)}")
        self.settings = Settings(**settings)
        self._network = self._load()
        self.config: dict = self._network.config
        self.resolved = self._resolve()
        from ..aggregation import RULES, Thresholds
        if self.resolved["aggregate"] not in RULES:
            raise UserError(f"unknown aggregation rule {self.resolved['aggregate']!r}", hint=f"choose one of {', '.join(RULES)}")
        self._rule = RULES[self.resolved["aggregate"]]
        self.thresholds = Thresholds.from_dict(self.config["thresholds"])
        from ..video import sampling
        try:
            self._sampling = sampling.parse(self.resolved["sampling"], frames=self.resolved["frames"],
                                            max_seconds=self.settings.max_seconds)
        except ValueError as e:
            raise UserError(str(e), hint="see --help for what it may be") from None
        self._faces = None

    def _load(self):
        from .runtime import DetectorModel
        return DetectorModel.load(self.settings.model, threads=self.settings.threads)

    def _resolve(self) -> dict:
        """The settings in force: what was asked for, else what detector.json says, else the defaults."""
        out = {}
        for name, default in DEFAULTS.items():
            asked = getattr(self.settings, name, None)
            stated = self.config.get({"aggregate": "aggregation"}.get(name, name))
            out[name] = asked if asked is not None else stated if stated is not None else default
        if self.settings.confidence is None and out["detector"] != self.config.get("detector", out["detector"]):
            out["confidence"] = None        # stated for another face detector; `warm` takes the chosen one's own
        out["max_seconds"] = self.settings.max_seconds
        out["min_share"] = self.settings.min_share
        return out

    @property
    def model(self) -> str:
        """Name, version and hash of the network in use, e.g. "sbi-lite0 1.0 (3f2a9c01)"."""
        digest = next((str(v) for k, v in (self.config.get("files") or self.config.get("sha256") or {}).items()
                       if str(k).endswith(".onnx")), "")
        name = f"{self.config.get('name', 'detector')} {self.config.get('version', '')}".strip()
        return f"{name} ({digest[:8]})" if digest else name

    def score(self, crops: Sequence, *, trimmed: bool = False) -> list[float]:
        """Calibrated p_real of face crops, each judged alone.

        Args:
            crops: uint8 RGB arrays (H, W, 3) of any size, cut with the model's margin (`faces.crops.crop_face`).
            trimmed: the crops are what `seen_part` gives.

        Returns:
            one float in 0..1 a crop.
        """
        return [float(p) for p in self._network.predict(list(crops), trimmed=trimmed)]

    def seen_part(self, crop):
        """The part of a face crop that the network looks at (detector.json, `trim`): a view, uint8 RGB (h, W, 3)."""
        from .runtime import trim
        return trim(crop, self.config["trim"])

    def warm(self) -> None:
        """Loads the face detector, so that the first video does not wait for it."""
        if self._faces is None:
            from ..faces import detectors, extract  # noqa: F401  (extract: decoding and cropping, imported ahead)
            self._faces = detectors.create(self.resolved["detector"], min_face_px=self.resolved["min_face_px"],
                                           threads=self.settings.threads)
            if self.resolved["confidence"] is None:
                self.resolved["confidence"] = self._faces.confidence

    def predict(self, video: str | Path, progress: Callable[[float, str], None] | None = None) -> Prediction:
        """Judges one video.

        Args:
            video: path of a video file.
            progress: called as progress(share done 0..1, what is being done).

        Returns:
            a Prediction; `verdict` is "NO FACE" when no face was found.

        Raises:
            UserError: when the file is not a video that can be decoded.
        """
        from ..faces import extract, tracks
        tell = progress or (lambda share, what: None)
        start = time.perf_counter()
        tell(0.0, "looking for faces")
        self.warm()
        reader, stream = extract.iter_faces_of_video(Path(video), sampling=self._sampling, detector=self._faces,
                                                     margin=self.resolved["margin"], confidence=self.resolved["confidence"],
                                                     scale=self.resolved["scale"], threads=self.settings.threads)
        frames, people, waiting, scores = [], [], [], []
        linker = tracks.Linker()
        for frame in stream:
            frames.append(frame)
            people.append(linker.update(frame.faces, [tracks.look(crop) for crop in frame.crops]))
            waiting += frame.crops
            if len(waiting) >= BATCH:       # judged while the video is read: memory stays bounded by the crops alone
                scores += self.score(waiting[:BATCH])
                waiting = waiting[BATCH:]
            tell(0.9 * len(frames) / max(len(reader.wanted), 1), "looking for faces")
        if not frames:
            raise UserError("no frame of this video can be decoded", file=video, hint="is it whole, and does it play in another program?")
        tell(0.9, "judging the faces")
        scores += self.score(waiting)
        return self._judge(str(video), _scored(frames, people, scores), frames, reader, start)

    def _judge(self, video: str, faces: list[FaceScore], frames: list, reader, start: float) -> Prediction:
        """From scored faces to the verdict."""
        import numpy as np
        common = dict(video=video, frames_decoded=len(frames), note=reader.note, model=self.model, settings=dict(self.resolved),
                      duration_s=float(reader.info.duration_s))
        if not faces:
            return Prediction(verdict=labels.VERDICT_NO_FACE, seconds=time.perf_counter() - start, **common)
        from ..aggregation import person_scores
        own = {name: [f for f in faces if f.person == name] for name in dict.fromkeys(f.person for f in faces)}
        scores = {name: np.array([f.p_real for f in seen]) for name, seen in own.items()}
        people = [Person(id=s.person, p_real=s.p_real, interval=fake_interval(scores[s.person], self._rule, seed=self.settings.seed),
                         verdict=self.thresholds.verdict(s.p_real), first_s=own[s.person][0].time_s, last_s=own[s.person][-1].time_s,
                         frames=s.frames, well_seen=s.well_seen)
                  for s in person_scores(scores, self.resolved["aggregate"], min_share=self.settings.min_share)]
        people.sort(key=lambda p: (not p.well_seen, p.p_real, p.id))
        worst = people[0]
        return Prediction(verdict=worst.verdict, p_real=worst.p_real, p_fake=1.0 - worst.p_real, interval=worst.interval,
                          frames_with_face=len({f.frame for f in faces}), people=tuple(people), faces=tuple(faces),
                          seconds=time.perf_counter() - start, **common)


def _scored(frames: list, people: list, scores: list[float]) -> list[FaceScore]:
    """FaceScores in time order from frames with crops, their linked faces, and the crops' scores."""
    values = iter(scores)
    return [FaceScore(person=face.person, frame=frame.frame, index=frame.index, time_s=float(frame.time_s), p_real=next(values),
                      box=face.box, confidence=float(face.confidence), crop=crop)
            for frame, faces in zip(frames, people) for face, crop in zip(faces, frame.crops)]
