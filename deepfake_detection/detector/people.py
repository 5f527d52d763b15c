"""From the scored faces of a video to its people and the verdict.

Every number that decides lies in `models/detector.json` ("quality", "decision"), so that it can be fitted anew with a
new network; what the file does not name has the defaults of `faces.quality.Bounds` and `Decision`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .. import labels
from ..aggregation import RULES, Thresholds, person_scores, word_of
from ..faces import quality
from .network import moved
from .verdict import FaceScore, Person, Stretch, fake_interval, frame_range


@dataclass(frozen=True)
class Decision(quality.Stated):
    """How people become a verdict; fields of detector.json's "decision".

    Attributes:
        min_faces: faces that must vote before a video is judged (all of them where fewer frames are looked at), and
            before another person is judged.
        min_vote_share: share of the frames with a face in which one must vote.
        min_confidence: who has no face that votes is somebody only with `min_faces` faces of this confidence: a back of
            a head is found now and then, never surely.
        min_share: a person is well seen with at least this share of the votes of the person with most.
        stretch_two, stretch_three: a person's two or three faces in a row look altered when each is below 0.5 and their
            p_real (mean of the logits) below this.
        stretch_again_s: least length where frames were looked at again, which lie closer than others.
        flicker_bits, flicker_px: with fewer bits a pixel (as H.264 spends them), or smaller faces, untouched faces
            flicker as swaps do: there flicker alone makes no FAKE.
    """

    min_faces: int = 3
    min_vote_share: float = 0.25
    min_confidence: float = 0.8
    min_share: float = 0.2
    stretch_two: float = 0.15
    stretch_three: float = 0.25
    stretch_again_s: float = 0.5
    flicker_bits: float = 0.06
    flicker_px: float = 80.0


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


def judge(
    faces: Sequence[FaceScore],
    thresholds: Thresholds,
    decision: Decision,
    rule: str,
    *,
    frames: int | None = None,
    bits_per_pixel: float = 0.0,
    seed: int = 1,
    intervals: bool = True,
) -> Verdict:
    """The verdict on the faces of a video.

    The largest face that votes in each frame decides; the person who is that in most frames comes first. Another
    well-seen person who looks FAKE, or a stretch that does, makes UNSURE of REAL. Where too few faces vote the verdict
    is UNSURE, and p_real that of all faces.

    Args:
        faces: in time order, with `person`, `votes`, `reason` and `fault`.
        rule: from faces to a score (`aggregation.RULES`).
        frames: frames looked at; None: those with a face.
        bits_per_pixel: of the video, 0: unknown.
        seed: of the interval's resampling; intervals: False leaves them out, which is most of the work.
    """
    everything, faces = faces, [f for f in faces if not f.again]
    if not faces:
        return Verdict(labels.VERDICT_NO_FACE, None)
    largest = _largest_of_each_frame([f for f in faces if f.votes])
    say = enough(faces, decision, frames)
    deciding = largest if say else _largest_of_each_frame(faces)
    people = _people(faces, thresholds, decision, rule, bits_per_pixel, seed if intervals else None)
    led = Counter(f.person for f in deciding)
    people.sort(key=lambda p: (-led[p.id], not p.well_seen, p.p_real, p.id))
    p_real = RULES[rule](np.array([f.p_real for f in deciding]))
    stretches = _stretches(everything, people, thresholds, decision)
    if say:
        word = _word(p_real, deciding, thresholds, decision, rule, bits_per_pixel)
        verdict, reason = _with_doubts(*word, people, stretches)
    else:
        dumb = [f for f in faces if not f.votes]
        said = quality.reason([f.fault for f in dumb], [f.quality["size_px"] for f in dumb])
        verdict, reason = labels.VERDICT_UNSURE, said or "a face is seen too briefly"
    scores = [f.p_real for f in deciding]
    return Verdict(
        verdict,
        float(p_real),
        tuple(people),
        reason,
        fake_interval(scores, RULES[rule], seed=seed) if intervals else None,
        frame_range(scores),
        stretches,
    )


def enough(faces: Sequence[FaceScore], decision: Decision, frames: int | None = None) -> bool:
    """Whether so many faces vote that they decide; arguments as of `judge`."""
    with_face, with_vote = (len({f.frame for f in some}) for some in (faces, [f for f in faces if f.votes]))
    return with_vote >= max(min(decision.min_faces, frames or with_face), decision.min_vote_share * with_face)


def _word(
    p_real: float,
    faces: Sequence[FaceScore],
    thresholds: Thresholds,
    decision: Decision,
    rule: str,
    bits_per_pixel: float,
) -> tuple[str, str]:
    """(verdict, reason) of what a rule makes of these faces alone.

    Of some faces FAKE is said with half the p_real only. Those that had to be turned are found a little elsewhere than
    upright ones, and an untouched face near the threshold would be FAKE one way up and UNSURE the other. Of fewer than
    `min_faces`, as of a still picture, none makes up for another's blur; the threshold is fitted on whole clips.
    """
    verdict, bound = thresholds.verdict(p_real), thresholds.fake_below / 2
    turned, few = any(f.turned for f in faces), len(faces) < decision.min_faces
    if verdict == labels.VERDICT_FAKE and p_real >= bound and (turned or few):
        doubt = "the people are not upright" if turned else "so few faces"
        return labels.VERDICT_UNSURE, f"{doubt}: only above {100 * (1 - bound):.0f} % would this be called FAKE"
    if verdict == labels.VERDICT_FAKE and (cause := _other_cause(faces, decision, bits_per_pixel)):
        still = RULES[rule](np.array([moved(f.p_real, -f.flicker) for f in faces]))
        if thresholds.verdict(still) != verdict:
            return labels.VERDICT_UNSURE, f"it looks altered only by its flicker, which {cause} brings about too"
    word = word_of(rule) if len(faces) > 1 else "fake probability"
    return verdict, between(thresholds, word) if verdict == labels.VERDICT_UNSURE else ""


def _other_cause(faces: Sequence[FaceScore], decision: Decision, bits_per_pixel: float) -> str:
    """What makes these faces flicker if they are untouched; "" where nothing does."""
    if bits_per_pixel < decision.flicker_bits:
        return "strong compression"
    return "a small picture" if np.median([f.quality["size_px"] for f in faces]) < decision.flicker_px else ""


def _with_doubts(verdict: str, reason: str, people: list[Person], stretches: tuple[Stretch, ...]) -> tuple[str, str]:
    """(verdict, reason): what speaks against a REAL makes it UNSURE."""
    if verdict == labels.VERDICT_FAKE:
        return verdict, ""
    others = [p.id for p in people[1:] if p.well_seen and p.verdict == labels.VERDICT_FAKE]
    doubts = [f"another person looks altered ({', '.join(others)})"] if others else []
    # One who is more likely altered than not: a REAL would speak for that person too.
    likely = [p.id for p in people[1:] if p.well_seen and p.p_real < 0.5 and p.id not in others]
    if verdict == labels.VERDICT_REAL and likely:
        doubts.append(f"another person may be altered ({', '.join(likely)})")
    doubts += [s.text for s in stretches[:2]]
    if verdict == labels.VERDICT_UNSURE and not others:
        doubts = [reason]
    return (labels.VERDICT_UNSURE if doubts else verdict), "; ".join(doubts)


def between(thresholds: Thresholds, word: str) -> str:
    """What UNSURE means where nothing is wrong with the picture; `word`: what lies there."""
    low, high = 100 * (1 - thresholds.real_above), 100 * (1 - thresholds.fake_below)
    return f"the {word} lies between {low:.0f} and {high:.0f} %, where this detector does not decide"


def _largest_of_each_frame(faces: Sequence[FaceScore]) -> list[FaceScore]:
    largest: dict[int, FaceScore] = {}
    for face in faces:
        held = largest.get(face.frame)
        if held is None or face.box[2] * face.box[3] > held.box[2] * held.box[3]:
            largest[face.frame] = face
    return list(largest.values())


def _somebody(faces: Sequence[FaceScore], decision: Decision) -> dict[str, list[FaceScore]]:
    """The faces of everybody with one that votes or `min_faces` clear ones; of all where that is nobody."""
    own = {name: [f for f in faces if f.person == name] for name in dict.fromkeys(f.person for f in faces)}
    return {
        name: seen
        for name, seen in own.items()
        if any(f.votes for f in seen)
        or sum(f.confidence >= decision.min_confidence for f in seen) >= decision.min_faces
    } or own


def numbered(faces: Sequence[FaceScore], decision: Decision) -> list[FaceScore]:
    """The same faces with people numbered by appearance, those who are nobody after all others."""
    named = _somebody([f for f in faces if not f.again], decision)
    order = sorted(dict.fromkeys(f.person for f in faces), key=lambda name: name not in named)
    new = {name: f"p{i + 1}" for i, name in enumerate(order)}
    return [replace(f, person=new[f.person]) for f in faces]


def _people(
    faces: Sequence[FaceScore],
    thresholds: Thresholds,
    decision: Decision,
    rule: str,
    bits_per_pixel: float,
    seed: int | None,
) -> list[Person]:
    own = _somebody(faces, decision)
    counted = {name: [f for f in seen if f.votes] or seen for name, seen in own.items()}
    scores = {name: np.array([f.p_real for f in seen]) for name, seen in counted.items()}
    most = max(sum(f.votes for f in seen) for seen in own.values())
    out = []
    for s in person_scores(scores, rule, min_frames=decision.min_faces, min_share=decision.min_share):
        seen, votes = own[s.person], sum(f.votes for f in own[s.person])
        well_seen = votes > 0 and votes >= max(min(decision.min_faces, most), decision.min_share * most)
        verdict, reason = _word(s.p_real, counted[s.person], thresholds, decision, rule, bits_per_pixel)
        if not votes:
            verdict = labels.VERDICT_UNSURE
            reason = quality.reason([f.fault for f in seen], [f.quality["size_px"] for f in seen])
        values = [f.p_real for f in counted[s.person]]
        out.append(
            Person(
                id=s.person,
                p_real=s.p_real,
                interval=None if seed is None else fake_interval(values, RULES[rule], seed=seed),
                verdict=verdict,
                first_s=seen[0].time_s,
                last_s=seen[-1].time_s,
                frames=len(seen),
                well_seen=well_seen,
                faces_that_vote=votes,
                frame_range=frame_range(values),
                reason=reason,
                rim=seen[0].rim,
                flicker=seen[0].flicker,
            )
        )
    return out


def _stretches(
    faces: Sequence[FaceScore], people: list[Person], thresholds: Thresholds, decision: Decision
) -> tuple[Stretch, ...]:
    """Runs of faces that look altered, of everybody; a well-seen person who looks FAKE throughout is no stretch."""
    half = _half_gaps(faces)
    # By the score: FAKE that is held back (`_word`) is no stretch either.
    throughout = {p.id for p in people if p.well_seen and thresholds.verdict(p.p_real) == labels.VERDICT_FAKE}
    out = []
    for name in dict.fromkeys(f.person for f in faces):
        own = [f for f in faces if f.person == name and f.votes]
        if name in throughout or len(own) < 2:
            continue
        for run in _altered_runs(own, decision):
            start, end = max(run[0].time_s - half[run[0].time_s], 0.0), run[-1].time_s + half[run[-1].time_s]
            if any(f.again for f in run) and end - start < decision.stretch_again_s:
                continue  # a frame and its neighbours: the same blur, not a second sign
            out.append(Stretch(start, end, float(1 - np.mean([f.p_real for f in run])), name))
    return tuple(sorted(out, key=lambda s: s.start_s))


def _half_gaps(faces: Sequence[FaceScore]) -> dict[float, float]:
    """Time -> half of the time that its frame stands for."""
    times, first = (sorted({f.time_s for f in some}) for some in (faces, [f for f in faces if not f.again]))
    usual = float(np.median(np.diff(first))) if len(first) > 1 else 0.0
    if len(times) == len(first):
        return dict.fromkeys(times, usual / 2)
    gaps = [usual, *np.diff(times), usual]
    return {t: min(usual, before, after) / 2 for t, before, after in zip(times, gaps, gaps[1:])}


def _altered_runs(own: Sequence[FaceScore], decision: Decision) -> list[list[FaceScore]]:
    """Two or three and more faces of a person in a row that look altered."""
    p = np.clip([f.p_real for f in own], 1e-3, 1 - 1e-3)
    logit = np.log(p) - np.log1p(-p)
    altered = np.zeros(len(own), bool)
    for length, bound in ((2, decision.stretch_two), (3, decision.stretch_three)):
        for i in range(len(own) - length + 1):
            # Each of them on the fake side: one extreme frame among good ones is noise.
            if logit[i : i + length].max() < 0 and logit[i : i + length].mean() < np.log(bound / (1 - bound)):
                altered[i : i + length] = True
    runs = np.split(np.arange(len(own)), np.flatnonzero(np.diff(altered)) + 1)
    return [[own[i] for i in run] for run in runs if altered[run[0]]]


def lone(faces: Sequence[FaceScore], decision: Decision) -> list[FaceScore]:
    """Single faces that look altered among others that do not, the most altered first: what lies around them decides
    whether that is a stretch or noise."""
    out = []
    for name in dict.fromkeys(f.person for f in faces):
        own = [f for f in faces if f.person == name and f.votes]
        known = {f.frame for run in _altered_runs(own, decision) for f in run} if len(own) > 1 else set()
        out += [f for f in own if f.frame not in known and f.p_real < decision.stretch_two]
    return sorted(out, key=lambda f: f.p_real)
