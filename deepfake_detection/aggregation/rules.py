"""The named rules that make one P(real) of many.

Every rule takes the P(real) of one person's faces in time order, (N,) with N >= 1, and returns one P(real). A frame
without a face has no score and so no vote: an empty array is refused, never called fake. NumPy is imported where it is
needed, as --help lists the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UserError
from ..labels import TIE_THRESHOLD

if TYPE_CHECKING:
    import numpy

#: A person is well seen with at least this many faces ...
MIN_FRAMES = 3
#: ... and at least this share of the faces of the person seen most. Passers-by and false detections fall below it.
MIN_SHARE = 0.2


def mean(p_real: numpy.ndarray) -> float:
    """The mean: the published rule."""
    return float(p_real.mean())


def median(p_real: numpy.ndarray) -> float:
    """The median; of an even number the mean of the middle two."""
    import numpy as np

    return float(np.median(p_real))


def vote(p_real: numpy.ndarray) -> float:
    """The share of faces with p_real >= 0.5."""
    return float((p_real >= TIE_THRESHOLD).mean())


def confident_mean(p_real: numpy.ndarray) -> float:
    """The rule of the winner of the DFDC challenge (Seferbekov, 2020), stated there for p_fake = 1 - p_real:

    if more than n / 2.5 faces, and more than 11, have p_fake > 0.8, the mean of those;
    else if more than 0.9 n faces have p_fake < 0.2, the mean of those; else the mean of all.
    """
    n = len(p_real)
    # Compared as p_real < 0.2 and > 0.8, because 1 - 0.8 < 0.2 in floating point.
    surely_fake, surely_real = p_real < 0.2, p_real > 0.8
    fakes = surely_fake.sum()
    if fakes > n / 2.5 and fakes > 11:
        return float(p_real[surely_fake].mean())
    if surely_real.sum() > 0.9 * n:
        return float(p_real[surely_real].mean())
    return float(p_real.mean())


def weighted(p_real: numpy.ndarray) -> float:
    """The mean weighted by |p_real - 0.5|: a face that says nothing counts little; 0.5 when none says anything."""
    weight = abs(p_real - 0.5)
    total = weight.sum()
    return float((weight * p_real).sum() / total) if total > 0 else 0.5


#: The rules by the names that options and files use.
RULES: dict[str, Callable[[numpy.ndarray], float]] = {
    "mean": mean,
    "median": median,
    "vote": vote,
    "confident_mean": confident_mean,
    "weighted": weighted,
}
#: What a person reads for the value of a rule.
WORDS = {
    "mean": "average",
    "median": "median",
    "vote": "share of faces that look altered",
    "confident_mean": "average of the sure faces",
    "weighted": "weighted average",
}


def word_of(rule: str) -> str:
    """What the value of a rule is called where a person reads it: "average", "median"."""
    return WORDS.get(rule, "value")


def aggregate(p_real, rule: str = "mean") -> float:
    """One P(real) from the P(real) of faces in time order.

    Args:
        p_real: (N,), N >= 1, each in 0..1.
        rule: a name of `RULES`.

    Raises:
        UserError: unknown rule.
        ValueError: no scores, NaN, or scores outside 0..1.
    """
    import numpy as np

    if rule not in RULES:
        raise UserError(f"unknown aggregation rule {rule!r}", hint=f"choose one of {', '.join(RULES)}")
    p = np.asarray(p_real, dtype=np.float64)
    if p.ndim != 1 or not len(p):
        raise ValueError(f"a rule needs at least one score, got shape {p.shape}")
    if not ((p >= 0) & (p <= 1)).all():  # NaN fails both comparisons
        raise ValueError("scores must be in 0..1")
    return RULES[rule](p)


@dataclass(frozen=True)
class PersonScore:
    """One person of a video: p_real by the rule, number of faces, whether seen well enough to decide for the video."""

    person: str
    p_real: float
    frames: int
    well_seen: bool


def person_scores(
    persons: Mapping[str, numpy.ndarray],
    rule: str = "mean",
    *,
    min_frames: int = MIN_FRAMES,
    min_share: float = MIN_SHARE,
) -> list[PersonScore]:
    """Each person's score, in the order of `persons`; persons without a face are left out.

    Well seen: at least `min_frames` faces and at least `min_share` of the faces of the person seen most. When nobody
    has `min_frames` faces (very short clips), those seen most are the well-seen ones.

    Args:
        persons: person id -> P(real) of that person's faces in time order.

    Raises:
        ValueError: nobody has a face.
    """
    counts = {name: len(p) for name, p in persons.items() if len(p)}
    if not counts:
        raise ValueError("no face of any person")
    most = max(counts.values())
    needed = max(min(min_frames, most), min_share * most)
    return [PersonScore(name, aggregate(persons[name], rule), counts[name], counts[name] >= needed) for name in counts]


def video_score(persons: Mapping[str, numpy.ndarray], rule: str = "mean") -> float:
    """P(real) of the video: the lowest among its well-seen people, so a video is as fake as its most fake person.

    Arguments and errors: see `person_scores`. Faces that belong to no tracked person come as one person "".
    """
    return min(s.p_real for s in person_scores(persons, rule) if s.well_seen)
