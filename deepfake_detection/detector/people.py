"""From the scored faces of a video to its people and the verdict.

Every number that decides lies in `models/detector.json` ("quality", "decision"), so that it can be fitted anew with a new network;
what the file does not name has the defaults of `faces.quality.Bounds` and `Decision`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Callable, Sequence

import numpy as np

from .. import labels
from ..aggregation import RULES, Thresholds, person_scores
from ..faces import quality
from .prediction import FaceScore, Person, Stretch, fake_interval, frame_range


@dataclass(frozen=True)
class Decision:
    """How people become a verdict; fields of detector.json's "decision".

    Attributes:
        min_faces: faces that must vote before a person decides; fewer in clips with fewer frames, see `needed`.
        min_share: a person decides with at least this share of the votes of the person with most.
    """

    min_faces: int = 3
    min_share: float = 0.2

    @classmethod
    def from_dict(cls, values: dict | None) -> "Decision":
        """Of detector.json; what it does not name keeps its default."""
        known = {f.name: type(f.default) for f in fields(cls)}
        return cls(**{k: known[k](v) for k, v in (values or {}).items() if k in known})

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """What the people of a video come to; fields as in `Prediction`."""

    verdict: str
    p_real: float | None
    people: tuple[Person, ...] = ()
    reason: str = ""
    interval: tuple[float, float] | None = None
    frame_range: tuple[float, float] | None = None
    stretches: tuple[Stretch, ...] = ()


def judge(faces: Sequence[FaceScore], thresholds: Thresholds, decision: Decision, rule: str, *, seed: int = 1) -> Verdict:
    """The verdict on the faces of a video.

    Args:
        faces: in time order, with `person`, `votes` and `reason`.
        rule: from a person's faces to the person's score (`aggregation.RULES`).
        seed: of the interval's resampling.
    """
    if not faces:
        return Verdict(labels.VERDICT_NO_FACE, None)
    own = {name: [f for f in faces if f.person == name] for name in dict.fromkeys(f.person for f in faces)}
    counted = {name: [f for f in seen if f.votes] or seen for name, seen in own.items()}
    scores = {name: np.array([f.p_real for f in seen]) for name, seen in counted.items()}
    people = [_person(s, own[s.person], counted[s.person], thresholds, RULES[rule], seed)
              for s in person_scores(scores, rule, min_frames=decision.min_faces, min_share=decision.min_share)]
    people.sort(key=lambda p: (not p.well_seen, p.p_real, p.id))
    first = people[0]
    return Verdict(first.verdict, first.p_real, tuple(people), first.reason, first.interval, first.frame_range)


def _person(score, seen: list[FaceScore], counted: list[FaceScore], thresholds: Thresholds, rule: Callable, seed: int) -> Person:
    p_real = [f.p_real for f in counted]
    return Person(id=score.person, p_real=score.p_real, interval=fake_interval(p_real, rule, seed=seed),
                  verdict=thresholds.verdict(score.p_real), first_s=seen[0].time_s, last_s=seen[-1].time_s, frames=len(seen),
                  well_seen=score.well_seen, faces_that_vote=sum(f.votes for f in seen), frame_range=frame_range(p_real))
