"""Is the picture of a face good enough to be judged by? Measures, bounds, and the reasons in words.

What is measured needs the detection (box, five points, confidence) and the pixels inside the box, nothing else.
Occlusion is not measured: five points that are always given do not tell it; a face that is much covered shows in the
detector's confidence alone. `models/detector.json` ("quality") may state other bounds; what they rest on is in
`models/README.md`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import cv2
import numpy as np

from ..video.picture import turned_by
from .boxes import Face

#: Eyes, nose tip and corners of the mouth of a mean face, mm; x right, y down, z towards the camera.
_MODEL = np.array(
    [(-31.5, -36.0, -27.0), (31.5, -36.0, -27.0), (0.0, 0.0, 0.0), (-26.0, 31.0, -24.0), (26.0, 31.0, -24.0)]
)
_MODEL_INVERSE = np.linalg.pinv(_MODEL - _MODEL.mean(0))

#: The face around its points, in units of the way from the eyes to the mouth: above the eyes, below the mouth, half its
#: width (medians of the detector's boxes on frontal faces that touch no border). Boxes themselves are clipped to the
#: frame.
_ABOVE, _BELOW, _HALF = 1.08, 0.75, 1.10

#: Side to which a face is brought before its sharpness is measured, px.
_SHARP_SIDE = 128


@dataclass(frozen=True)
class Quality:
    """What was measured of one face.

    Attributes:
        size_px: shorter side of the box in pixels of the source video.
        inside: share of the face that lies inside the frame, 0..1.
        yaw, pitch, roll: degrees; 0 looks into the camera; yaw > 0 to the viewer's right, pitch > 0 up, roll > 0
            clockwise.
        sharpness: spread of the Laplacian over the spread of brightness, at 128 px: about 0.05 blurred, 0.5 sharp.
        brightness: mean of the face's luma, 0..255.
        contrast: spread of the face's luma (standard deviation), 0..127.
        blown_out: share of its pixels that are white (luma >= 250), 0..1.
        confidence: of the face detector, 0..1.
    """

    size_px: float
    inside: float
    yaw: float
    pitch: float
    roll: float
    sharpness: float
    brightness: float
    contrast: float
    blown_out: float
    confidence: float

    def to_json(self) -> dict:
        return {name: round(float(value), 4) for name, value in asdict(self).items()}


class Stated:
    """A dataclass of numbers that detector.json may state."""

    @classmethod
    def from_dict(cls, values: dict | None) -> Self:
        """What the file does not name keeps its default, what it names and nobody knows is left alone."""
        kinds: dict[str, Any] = {f.name: type(f.default) for f in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: kinds[name](value) for name, value in (values or {}).items() if name in kinds})


@dataclass(frozen=True)
class Bounds(Stated):
    """What a face needs to vote; fields of detector.json's "quality". Measures as in `Quality`."""

    min_size_px: float = 40.0
    min_inside: float = 0.75
    max_yaw: float = 50.0
    max_pitch: float = 40.0
    max_roll: float = 60.0
    min_sharpness: float = 0.07
    min_brightness: float = 30.0
    min_contrast: float = 8.0
    max_blown_out: float = 0.35
    min_confidence: float = 0.8

    def fault(self, q: Quality) -> str:
        """ "" when the face may vote, else why not, worst first: a key of `FAULTS`."""
        faults = (
            ("cut", q.inside < self.min_inside),
            ("small", q.size_px < self.min_size_px),
            ("dark", q.brightness < self.min_brightness),
            ("blown out", q.blown_out > self.max_blown_out),
            ("turned", abs(q.roll) > self.max_roll),
            ("side", abs(q.yaw) > self.max_yaw),
            ("tilted", abs(q.pitch) > self.max_pitch),
            ("flat", q.contrast < self.min_contrast),
            ("blurred", q.sharpness < self.min_sharpness),
            ("unclear", q.confidence < self.min_confidence),
        )
        return next((name for name, there in faults if there), "")


#: Why a face does not vote, for one face and, in `reason`, for all of a video. {size}: its or their median in source
#: pixels.
FAULTS = {
    "cut": ("half outside the picture", "the faces are half outside the picture"),
    "small": ("too small ({size} px)", "the faces are too small ({size} px)"),
    "dark": ("too dark", "the faces are too dark"),
    "blown out": ("overexposed", "the faces are overexposed"),
    "turned": ("upside down or on its side", "the faces are upside down or on their side"),
    "side": ("seen from the side", "the faces are seen from the side"),
    "tilted": ("seen from far above or below", "the faces are seen from far above or below"),
    "flat": ("without contrast", "the faces have no contrast"),
    "blurred": ("too blurred", "the faces are too blurred"),
    "unclear": ("hardly to be told as a face", "the faces are hidden or hardly to be told as faces"),
}


def measure(
    face: Face, crop: np.ndarray, crop_origin: tuple[int, int], frame_size: tuple[int, int], scale: float = 1.0
) -> Quality:
    """The measures of one face.

    Args:
        face: in pixels of the frame it was found in.
        crop: uint8 RGB (H, W, 3), part of that frame that holds the face's box; turned upright (`face.turned`).
        crop_origin: (x, y) of the crop's first pixel in the frame.
        frame_size: (width, height) of the frame, px.
        scale: pixels of this frame for one of the source video.
    """
    crop = turned_by(crop, (360 - face.turned) % 360)  # as it lies in the frame
    x0, y0 = max(0, round(face.x - crop_origin[0])), max(0, round(face.y - crop_origin[1]))
    inner = crop[y0 : max(y0 + 1, y0 + round(face.height)), x0 : max(x0 + 1, x0 + round(face.width))]
    grey = cv2.cvtColor(inner if inner.size else crop, cv2.COLOR_RGB2GRAY)
    yaw, pitch, roll = pose(face.points)
    return Quality(
        size_px=min(face.width, face.height) / scale,
        inside=share_inside(face.points, frame_size),
        yaw=yaw,
        pitch=pitch,
        roll=(roll + face.turned + 180) % 360 - 180,
        sharpness=sharpness(grey),
        brightness=float(grey.mean()),
        contrast=float(grey.std()),
        blown_out=float((grey >= 250).mean()),
        confidence=float(face.confidence),
    )


def sharpness(grey: np.ndarray) -> float:
    """Spread of a face's Laplacian over that of its brightness, brought to 128 px; 0 for a plain area."""
    shrinks = grey.size > _SHARP_SIDE**2
    face = cv2.resize(grey, (_SHARP_SIDE, _SHARP_SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    spread = float(face.std())
    return float(cv2.Laplacian(face, cv2.CV_32F).std()) / spread if spread > 1 else 0.0


def pose(points) -> tuple[float, float, float]:
    """(yaw, pitch, roll) in degrees from the five points: the nearest rotation of a mean face seen from far away.

    Five points give some 5 degrees of error for a face seen from the front, more from the side.
    """
    p = np.asarray(points, np.float64)
    eyes = p[1] - p[0]
    roll = math.atan2(eyes[1], eyes[0])
    c, s = math.cos(roll), math.sin(roll)
    upright = (p - p.mean(0)) @ np.array([[c, -s], [s, c]])  # else a roll would mix yaw and pitch
    u, spread, v = np.linalg.svd((_MODEL_INVERSE @ upright).T, full_matrices=False)
    if not np.isfinite(spread).all() or spread[0] < 1e-9:
        return 0.0, 0.0, 0.0
    across, down = u @ v  # two rows of the rotation; the third is at right angles
    forward = np.array([across[2], down[2], np.cross(across, down)[2]])
    yaw = math.degrees(math.atan2(forward[0], forward[2]))
    pitch = math.degrees(math.asin(float(np.clip(-forward[1], -1, 1))))
    return yaw, pitch, math.degrees(roll)


def share_inside(points, frame_size: tuple[int, int]) -> float:
    """Share of the face (a turned rectangle around its points) inside the frame, 0..1."""
    p = np.asarray(points, np.float64)
    eyes, mouth = (p[0] + p[1]) / 2, (p[3] + p[4]) / 2
    down = mouth - eyes
    length = float(np.hypot(*down))
    if length < 1e-6:
        return 0.0
    down /= length
    across = np.array([-down[1], down[0]])
    length = max(length, float(np.hypot(*(p[1] - p[0]))))  # nodding shortens the one, turning the other
    t = np.linspace(-_ABOVE * length, (1 + _BELOW) * length, 24)
    s = np.linspace(-_HALF * length, _HALF * length, 24)
    grid = eyes + t[:, None, None] * down + s[None, :, None] * across
    within = (grid >= 0).all(-1) & (grid < frame_size).all(-1)
    return float(within.mean())


def words(fault: str, size_px: float) -> str:
    """A face's reason: "too small (28 px)"; "" for none."""
    return FAULTS[fault][0].format(size=round(size_px)) if fault else ""


def reason(faults: Iterable[str], sizes_px: Iterable[float]) -> str:
    """Why too few faces vote, in words: the commonest faults, at most three, e.g. "the faces are too small (28 px), too
    dark".

    Args:
        faults: of the faces that do not vote (`Bounds.fault`); sizes_px: their sizes in the same order.
    """
    faults, sizes = list(faults), list(sizes_px)
    counted = Counter(f for f in faults if f)
    named = [f for f, n in counted.most_common(3) if n >= 0.2 * sum(counted.values())]
    if not named:
        return ""
    size = round(float(np.median([s for f, s in zip(faults, sizes) if f == "small"]))) if "small" in named else 0
    texts = [FAULTS[f][1 if i == 0 else 0].format(size=size) for i, f in enumerate(named)]
    return ", ".join(texts)
