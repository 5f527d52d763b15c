"""A video in, a verdict with its evidence out: the library face of the detector.

    from deepfake_detection import Detector
    prediction = Detector().predict("clip.mp4")
    prediction.verdict, prediction.p_fake, prediction.interval

One pass over the video (the fused path of `faces.extract`, which links faces into people), ONNX Runtime, the picture
quality of each face (`faces.quality`), then the decision (`people`). No TensorFlow, pandas or SciPy here.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import labels
from ..aggregation import RULES, Thresholds
from ..errors import UserError
from ..faces import detectors, extract, flicker
from ..faces.descriptors import Describer
from ..faces.quality import Bounds
from ..places import MODEL_FOLDER
from ..video import sampling
from ..video.decode import FrameReader
from . import looks, material, people, stills
from .config import check_settings
from .network import ONNX, RIM, DetectorModel, trim, views_of
from .verdict import FaceScore, Person, Prediction, Stretch, failed, fake_interval

__all__ = ["Detector", "FaceScore", "Person", "Prediction", "Settings", "Stretch", "failed", "fake_interval"]

#: Frames lie no further apart in videos of up to a minute, so that a stretch of this length is not missed.
GAP_S = 0.8
#: Around a single face that looks altered frames so far apart are looked at too, of so many faces at most.
AGAIN_S, MOST_AGAIN = 0.2, 3

#: So many faces are judged at a time, while the video is read: bounds the memory of long videos.
BATCH = 8


@dataclass(frozen=True)
class Settings:
    """How a video is judged. None means: as the model's `detector.json` says, else the default named here.

    Attributes:
        model: folder with detector.onnx and detector.json.
        sampling: which frames: "even" (`frames` frames spread over the video), "per-second" (the published rule) or
            "keyframes".
        frames: how many frames "even" takes at most; where nothing is said here, more of videos of 26 s and longer
            (GAP_S), and those around a single face that looks altered.
        max_seconds: look only at the first so many seconds of each video.
        aggregate: rule from face scores to a person's score (`aggregation.rules.RULES`).
        detector: face detector: "mtcnn", "mtcnn_fast" or "yunet".
        confidence: of a frame's faces those over this detector confidence are kept, or its only face.
        min_face_px: smallest face side that is looked for, in pixels of the frame after the resize rule.
        scale: "published" (the resize rule by frame width) or a factor.
        min_share: a person is well seen with at least this share of the faces that vote of the person with most.
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
    min_share: float | None = None
    threads: int = 1
    seed: int = 1


#: What holds where neither the settings nor detector.json say anything.
DEFAULTS = {
    "sampling": "even", "frames": 32, "aggregate": "mean", "detector": "mtcnn_fast", "confidence": None,
    "min_face_px": 20.0, "scale": "published", "margin": 0.3,
}  # fmt: skip


class Detector:
    """The shipped detector.

        Detector().predict("clip.mp4").verdict            # REAL, FAKE, UNSURE or NO FACE
        Detector(frames=64, aggregate="median")           # any field of `Settings`
        Detector().score(crops)                           # faces -> p_real

    Loading costs about half a second; keep one Detector for many videos. Not safe to share between threads.

    Args:
        **settings: fields of `Settings`.

    Raises:
        UserError: when the model is missing or damaged, or a setting is unknown or not what it must be.
    """

    def __init__(self, **settings):
        unknown = set(settings) - set(Settings.__dataclass_fields__)
        if unknown:
            raise UserError(
                f"unknown setting {', '.join(sorted(unknown))}",
                hint=f"one of {', '.join(Settings.__dataclass_fields__)}",
            )
        check_settings(settings)
        self.settings = Settings(**settings)
        self._network = DetectorModel.load(self.settings.model, threads=self.settings.threads)
        self.config: dict = self._network.config
        self.resolved = self._resolve()
        if self.resolved["aggregate"] not in RULES:
            raise UserError(
                f"unknown aggregation rule {self.resolved['aggregate']!r}", hint=f"choose one of {', '.join(RULES)}"
            )
        self._rule = RULES[self.resolved["aggregate"]]
        self.thresholds = Thresholds.from_dict(self.config["thresholds"])
        try:
            self._sampling = sampling.parse(
                self.resolved["sampling"],
                frames=self.resolved["frames"],
                max_seconds=self.settings.max_seconds,
                gap_s=GAP_S if self.settings.frames is None else None,
            )
        except ValueError as e:
            raise UserError(str(e), hint="see --help for what it may be") from None
        self._faces = None
        self._describer = Describer(self.settings.threads)
        rim = self.config.get("rim")
        self._windows = None if rim is None else extract.Windows(rim["margin"], rim["every"])
        flickers = self.config.get("flicker")
        self._flicker = None if flickers is None else looks.Flicker.from_dict(flickers)
        self._runs = None if flickers is None else sampling.Runs(flickers["every"], flicker.FOLLOWING)
        self.bounds = Bounds.from_dict(self.config.get("quality"))
        stated = dict(self.config.get("decision") or {})
        if self.settings.min_share is not None:
            stated["min_share"] = self.settings.min_share
        self.decision = people.Decision.from_dict(stated)
        self.resolved["min_share"] = self.decision.min_share
        self.validated = material.Validated.from_dict(self.config.get("validated_on"))

    def _resolve(self) -> dict:
        """The settings in force: what was asked for, else what detector.json says, else the defaults."""
        out = {}
        for name, default in DEFAULTS.items():
            asked = getattr(self.settings, name, None)
            stated = self.config.get({"aggregate": "aggregation"}.get(name, name))
            out[name] = asked if asked is not None else stated if stated is not None else default
        if self.settings.confidence is None and out["detector"] != self.config.get("detector", out["detector"]):
            out["confidence"] = None  # stated for another face detector; `warm` takes the chosen one's own
        out["max_seconds"] = self.settings.max_seconds
        return out

    @property
    def model(self) -> str:
        """Name, version and hash of the networks in use, e.g. "sbi-lite0 1.0 (3f2a9c01)"."""
        digest = self.config["files"][ONNX]  # of the file that was loaded
        if self._windows is not None:
            digest = hashlib.sha256((digest + self.config["files"][RIM]).encode()).hexdigest()
        if self._flicker is not None:
            digest = hashlib.sha256((digest + json.dumps(self.config["flicker"])).encode()).hexdigest()
        return f"{self.config['name']} {self.config['version']} ({digest[:8]})"

    def score(self, crops: Sequence, *, trimmed: bool = False, flip: bool | None = None) -> list[float]:
        """Calibrated p_real of face crops, each judged alone, by the face: a crop does not show what surrounds it.

        Args:
            crops: uint8 RGB arrays (H, W, 3) of any size, cut with the model's margin (`faces.crops.crop_face`).
            trimmed: the crops already end at the brows and the chin, and are looked at whole.
            flip: look at the mirrored face too; None: as the model says, which is what a verdict is made of.

        Returns:
            one float in 0..1 a crop.
        """
        return [float(p) for p in self._network.predict(list(crops), trimmed=trimmed, flip=flip)]

    def seen_part(self, crop):
        """The part of a face crop that the network looks at (detector.json): a view, uint8 RGB (h, w, 3)."""
        views = views_of(self.config)
        edges = ("top", "bottom", "left", "right")
        return trim(crop, {edge: min(view.get(edge, 0.0) for view in views) for edge in edges})

    def score_seen(self, parts: Sequence, *, flip: bool | None = None) -> list[float]:
        """p_real of what `seen_part` gives, or of changed copies; several views must together be the whole crop."""
        return self.score(parts, trimmed=len(views_of(self.config)) == 1, flip=flip)

    def warm(self) -> None:
        """Loads the face detector, so that the first video does not wait for it."""
        if self._faces is None:
            self._faces = detectors.create(
                self.resolved["detector"], min_face_px=self.resolved["min_face_px"], threads=self.settings.threads
            )
            if self.resolved["confidence"] is None:
                self.resolved["confidence"] = self._faces.confidence

    def predict(self, video: str | Path, progress: Callable[[float, str], None] | None = None) -> Prediction:
        """Judges one video, or one still picture (JPEG, PNG, WebP) as a video of one frame.

        Args:
            video: path of a video or picture file.
            progress: called as progress(share done 0..1, what is being done).

        Returns:
            a Prediction; `verdict` is "NO FACE" when no face was found.

        Raises:
            UserError: when the file is no video or picture that can be decoded.
        """
        tell = progress or (lambda share, what: None)
        start = time.perf_counter()
        tell(0.0, "looking for faces")
        self.warm()
        cut = {"detector": self._faces, "margin": self.resolved["margin"], "confidence": self.resolved["confidence"]}
        cut["windows"] = self._windows
        if stills.is_still(video):
            reader = stills.read(video, self.resolved["scale"])
            stream = extract.faces_of_frames(reader, **cut)
        else:
            reader, stream = extract.iter_faces_of_video(
                Path(video),
                sampling=self._sampling,
                scale=self.resolved["scale"],
                threads=self.settings.threads,
                runs=self._runs,
                **cut,
            )
        read = self._read(stream, lambda n: tell(0.9 * n / max(len(reader.wanted), 1), "looking for faces"))
        frames = read[0]
        if not frames:
            raise UserError(
                "no frame of this video can be decoded",
                file=video,
                hint="is it whole, and does it play in another program?",
            )
        tell(0.9, "judging the faces")
        seen = self._looks(*read, reader.info.width)
        faces = self._scored(seen)
        if self._sampling.gap_s is not None and (near := self._to_look_again(faces, reader)):
            again = FrameReader(
                Path(video), self._sampling, scale=self.resolved["scale"], threads=self.settings.threads, wanted=near
            )
            cut["windows"] = None  # these frames change no score
            more = self._looks(*self._read(extract.faces_of_frames(again, **cut)), reader.info.width, again=True)
            faces = self._scored(looks.together(seen, more))
        return self._judge(str(video), faces, frames, reader, start)

    def _read(
        self, stream: Iterable, tell: Callable[[int], None] | None = None
    ) -> tuple[list, list[float], list[float]]:
        """The frames of a stream with their faces, the scores of these, and what their rims add (NaN where a face is
        not shown with more around it), judged while the video is read: memory stays bounded by the crops alone."""
        frames: list = []
        waiting: list = []
        scores: list[float] = []
        rims: list[float] = []
        for frame in stream:
            rims += (
                self._network.predict_rim(frame.windows).tolist() if frame.windows else [math.nan] * len(frame.crops)
            )
            frames.append(replace(frame, windows=[]))
            waiting += frame.crops
            if len(waiting) >= BATCH:
                scores += self.score(waiting[:BATCH])
                waiting = waiting[BATCH:]
            if tell is not None:
                tell(len(frames))
        return frames, scores + self.score(waiting), rims

    def _to_look_again(self, faces: list[FaceScore], reader) -> list[int]:
        """Frames around single faces that look altered in a video that would be REAL, where frames lie further apart
        than AGAIN_S; [] for most videos."""
        fps, wanted = reader.info.fps, reader.wanted
        if len(wanted) < 2 or (wanted[1] - wanted[0]) / fps <= 2 * AGAIN_S:
            return []
        lone = people.lone(faces, self.decision)[:MOST_AGAIN]
        if not lone:  # most videos: they are judged once only
            return []
        judged = people.judge(faces, self.thresholds, self.decision, self.resolved["aggregate"], intervals=False)
        if judged.verdict != labels.VERDICT_REAL:
            return []
        near = {face.index + round(step * AGAIN_S * fps) for face in lone for step in (-4, -3, -2, -1, 1, 2, 3, 4)}
        return sorted(i for i in near - set(wanted) if 0 <= i <= wanted[-1])

    def _looks(
        self, frames: list, scores: list[float], rims: list[float], source_width: int, again: bool = False
    ) -> list[looks.Look]:
        """The frames with what is measured of their faces."""
        return looks.measured(frames, scores, rims, source_width, self.bounds, self.resolved["margin"], again)

    def _scored(self, seen: list[looks.Look]) -> list[FaceScore]:
        """The faces in time order, their people linked over all frames."""
        return looks.scored(seen, self._describer, self._flicker)

    def _judge(self, video: str, faces: list[FaceScore], frames: list, reader, start: float) -> Prediction:
        """From scored faces to the verdict."""
        faces = people.numbered(faces, self.decision)
        facts = material.facts(Path(video), reader.info)
        found = people.judge(
            faces,
            self.thresholds,
            self.decision,
            self.resolved["aggregate"],
            frames=len(frames),
            bits_per_pixel=reader.info.bits_per_pixel,
            seed=self.settings.seed,
        )
        return Prediction(
            video=video,
            verdict=found.verdict,
            p_real=found.p_real,
            p_fake=None if found.p_real is None else 1.0 - found.p_real,
            interval=found.interval,
            frame_range=found.frame_range,
            reason=found.reason,
            people=found.people,
            stretches=found.stretches,
            frames_decoded=len(frames),
            frames_with_face=len({f.frame for f in faces if not f.again}),
            faces=tuple(faces),
            note=reader.note,
            model=self.model,
            settings=dict(self.resolved),
            file=facts,
            warnings=material.warnings(facts, faces, self.validated)
            + material.turned(face.turned for frame in frames for face in frame.faces),
            duration_s=float(reader.info.duration_s),
            seconds=time.perf_counter() - start,
        )
