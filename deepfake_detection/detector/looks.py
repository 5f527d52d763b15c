"""From the frames of a video that were looked at to its scored faces: every frame is measured once, its people are
linked anew when more frames come."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..faces import descriptors, quality, tracks
from ..faces.crops import widen
from ..faces.extract import FrameFaces
from .network import moved
from .verdict import FaceScore

#: What the rim adds to a person's logits at most, either way: a face out of focus before a sharp wall, or a sharp one
#: before a blurred backdrop, has no trace of a swap.
RIM_MOST = 1.0
#: Fewer moments than this say nothing of how a person's face flickers.
LEAST_MOMENTS = 4


@dataclass
class Look:
    """A frame with what was measured of its faces.

    Attributes:
        frame: with its linked faces and their crops; scores: p_real of each, by the face alone.
        rims: what the rim of each adds to its logit; NaN where it was not looked at.
        measured, faults: `faces.quality` of each; origins: where each crop was cut out of the frame, px.
        again: the frame was only looked at because one beside it looked altered.
        described: face -> its descriptor, of those that were asked for.
    """

    frame: FrameFaces
    scores: list[float]
    rims: list[float]
    measured: list[quality.Quality]
    faults: list[str]
    origins: list[tuple[int, int]]
    again: bool = False
    described: dict[int, Any] = field(default_factory=dict)


def measured(
    frames: Sequence[FrameFaces],
    scores: Sequence[float],
    rims: Sequence[float],
    source_width: int,
    bounds: quality.Bounds,
    margin: float,
    again: bool = False,
) -> list[Look]:
    """Measures the faces of frames.

    Args:
        scores, rims: of all faces of all frames, in their order.
        source_width: of the video, px: sizes are those of its pixels; 0: of the frames'.
        margin: that of the crops.
    """
    values, around, out = iter(scores), iter(rims), []
    for frame in frames:
        scale = frame.size[0] / source_width if source_width else 1.0
        origins = [widen(face, margin, *frame.size)[:2] for face in frame.faces]
        own = [
            quality.measure(face, crop, origin, frame.size, scale)
            for face, crop, origin in zip(frame.faces, frame.crops, origins)
        ]
        scored, rimmed = ([next(numbers) for _ in own] for numbers in (values, around))
        out.append(Look(frame, scored, rimmed, own, [bounds.fault(q) for q in own], origins, again))
    return out


def together(first: Sequence[Look], more: Sequence[Look]) -> list[Look]:
    """All in time order, their people linked anew; the later ones are numbered after the first."""
    numbered = [replace(x, frame=replace(x.frame, frame=x.frame.frame + len(first))) for x in more]
    linker = tracks.Linker()
    return [
        replace(x, frame=replace(x.frame, faces=linker.update(x.frame.faces, x.frame.looks)))
        for x in sorted([*first, *numbered], key=lambda x: x.frame.index)
    ]


@dataclass(frozen=True)
class Flicker:
    """What `faces.flicker` says of a person, as a part of the logit: detector.json's `flicker`.

    Attributes:
        weights: of its numbers, (COUNT,); bias: added; most: held within this, either way.
    """

    weights: np.ndarray
    bias: float
    most: float

    @classmethod
    def from_dict(cls, stated: Mapping[str, Any]) -> Flicker:
        return cls(np.array(stated["weights"], np.float64), stated["bias"], stated["most"])

    def of(self, moments: Sequence[np.ndarray]) -> float:
        if len(moments) < LEAST_MOMENTS:
            return 0.0
        added = float(np.median(np.stack(moments) @ self.weights)) + self.bias
        return float(np.clip(added, -self.most, self.most))


def scored(looks: Sequence[Look], describer: descriptors.Describer, flicker: Flicker | None = None) -> list[FaceScore]:
    """The faces in time order, their people merged over the whole video."""

    def describe(places: list[tuple[int, int]]) -> np.ndarray:
        new = [(i, j) for i, j in places if j not in looks[i].described]
        if new:
            cut = [
                descriptors.aligned(looks[i].frame.crops[j], looks[i].origins[j], looks[i].frame.faces[j])
                for i, j in new
            ]
            for (i, j), found in zip(new, describer(cut)):
                looks[i].described[j] = found
        return np.stack([looks[i].described[j] for i, j in places])

    def good(i: int, j: int) -> float:
        own = looks[i]
        return 0.0 if own.faults[j] else own.measured[j].size_px * math.cos(math.radians(own.measured[j].yaw))

    linked = tracks.merge([x.frame.faces for x in looks], [x.frame.looks for x in looks], describe, good)
    faults = [x.faults for x in looks]
    of_rims = lambda found: float(np.clip(np.mean(found), -RIM_MOST, RIM_MOST))
    rims = _by_person(linked, faults, [x.rims for x in looks], of_rims)
    flickers = _by_person(linked, faults, [x.frame.flickers for x in looks], flicker.of) if flicker else {}
    return [
        FaceScore(
            person=face.person,
            frame=x.frame.frame,
            index=x.frame.index,
            time_s=float(x.frame.time_s),
            p_real=moved(p_real, rims.get(face.person, 0.0) + flickers.get(face.person, 0.0)),
            rim=rims.get(face.person, 0.0),
            flicker=flickers.get(face.person, 0.0),
            box=face.box,
            confidence=float(face.confidence),
            crop=crop,
            quality=q.to_json(),
            votes=not fault,
            reason=quality.words(fault, q.size_px),
            fault=fault,
            again=x.again,
            turned=face.turned,
        )
        for x, faces in zip(looks, linked)
        for face, p_real, crop, q, fault in zip(faces, x.scores, x.frame.crops, x.measured, x.faults)
    ]


def _by_person(
    linked: Sequence[Sequence[Any]],
    faults: Sequence[Sequence[str]],
    values: Sequence[Sequence[Any]],
    of: Callable[[list], float],
) -> dict[str, float]:
    """Person -> `of` the values of that person's faces, of those that vote if there are such. NaN says nothing, and so
    does a frame that has no values."""
    seen: dict[str, list[tuple[bool, Any]]] = {}
    for frame in zip(linked, faults, values, strict=True):
        for face, fault, found in zip(*frame):
            if not np.isnan(found).any():
                seen.setdefault(face.person, []).append((not fault, found))
    return {
        person: of([value for votes, value in found if votes] or [value for _, value in found])
        for person, found in seen.items()
    }
