"""Fits what the flicker of a face, from frame to frame, adds to a detector's logit (`faces.flicker`).

    clips = flicker.clips_of(index, without=())
    flicker.fit(clips)                            # "flicker" of detector.json

A swap is made anew for every frame, so that its inside changes where the picture around it stands still, whoever made
it. A linear discriminant (see `head`) of few numbers, means over a clip, is fitted to untouched and altered clips. A
clip is judged by the median of its runs, since fast expressions defeat the flow in some.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..blending.faces import VIDEOS, read_index
from ..errors import UserError
from ..faces import detectors, extract
from ..faces.flicker import COUNT, FOLLOWING
from ..video import sampling
from .head import discriminant, within

#: Every how many of the frames that are looked at a run begins.
EVERY = 4
#: What it counts, as its spread within a class in logits; the most that it adds, either way. A face that trembles or is
#: filmed through a filter of its own must not be FAKE by this alone.
COUNTS, MOST = 1.5, 1.5
#: Training clips of each class that there must be.
LEAST_CLIPS = 10


def clips_of(index: Path, without: tuple[str, ...] = ()):
    """The video files of an index.

    Args:
        without: sources that nothing is learnt from.

    Raises:
        UserError: see `read_index`; fewer than LEAST_CLIPS untouched or altered ones to learn from.
    """
    table = read_index(index)
    clips = table[table.file.map(lambda f: Path(f).suffix.lower() in VIDEOS)]
    clips = clips[~(clips.split.eq("train") & clips.source.isin(without))]
    for label in ("real", "fake"):
        count = int((clips.label.eq(label) & clips.split.eq("train")).sum())
        if count < LEAST_CLIPS:
            raise UserError(
                f"{count} {label} videos are too few to learn how faces flicker",
                file=index,
                hint=f"it takes {LEAST_CLIPS} of each; leave --flicker out",
            )
    return clips


def fit(clips) -> dict:
    """`flicker` of detector.json: learnt from the training split; what says neither lies half way between the classes
    of the others, by which the detector is calibrated.

    Args:
        clips: of `clips_of`.

    Raises:
        UserError: too few of them show a face.
    """
    finder = detectors.create("yunet", min_face_px=20.0)
    found: dict[tuple[bool, str], list[np.ndarray]] = defaultdict(list)
    for clip in tqdm(list(clips.itertuples()), desc="flicker", unit="clip", disable=None):
        try:
            runs = measured(clip.file, finder)
        except UserError as e:
            tqdm.write(f"note: left out: {e}", file=sys.stderr)
            continue
        if len(runs):
            found[clip.split == "train", clip.label].append(runs)
    if few := [label for label in ("real", "fake") if len(found[True, label]) < LEAST_CLIPS]:
        raise UserError(
            f"only {len(found[True, few[0]])} {few[0]} videos show how a face flickers", hint="leave --flicker out"
        )
    untouched, altered = (np.stack([runs.mean(0) for runs in found[True, label]]) for label in ("real", "fake"))
    weights = discriminant(untouched, altered)
    weights *= COUNTS / max(within(untouched @ weights, altered @ weights), 1e-6)
    judged = [found[False, label] or found[True, label] for label in ("real", "fake")]
    middle = np.mean([np.mean([np.median(runs @ weights) for runs in own]) for own in judged])
    return {"every": EVERY, "weights": weights.tolist(), "bias": -float(middle), "most": MOST}


def measured(video: str, finder) -> np.ndarray:
    """`faces.flicker.measure` of the runs of the person seen most, as a detector takes them: (runs, COUNT).

    Args:
        finder: of `faces.detectors.create`.
    """
    seen: Counter[str] = Counter()
    runs: dict[str, list[np.ndarray]] = defaultdict(list)
    _, frames = extract.iter_faces_of_video(
        video, sampling=sampling.parse("even"), detector=finder, runs=sampling.Runs(EVERY, FOLLOWING)
    )
    for frame in frames:
        seen.update(face.person for face in frame.faces)
        for face, values in zip(frame.faces, frame.flickers):
            if not np.isnan(values).any():
                runs[face.person].append(values)
    own = runs[seen.most_common(1)[0][0]] if seen else []
    return np.array(own).reshape(-1, COUNT)
