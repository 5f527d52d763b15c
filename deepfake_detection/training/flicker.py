"""Fits what the flicker of a face, from frame to frame, adds to a detector's logit (`faces.flicker`).

    clips = flicker.clips_of(index, without=())
    flicker.fit(clips)                            # "flicker" of detector.json

A swap is made anew for every frame, so that its inside changes where the picture around it stands still. That is seen
in any video whose untouched likes are known, whoever made it: a linear discriminant (see `head`) of few numbers, means
over a clip, is fitted to the untouched and the altered clips of the training split.
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
from ..faces.flicker import FOLLOWING
from ..video import sampling
from .head import discriminant, within

#: Every how many of the frames that are looked at a run begins.
EVERY = 2
#: What it counts, as its spread within a class in logits; the most that it adds, either way.
COUNTS, MOST = 1.0, 2.0
#: Clips of each class that there must be.
LEAST_CLIPS = 10


def clips_of(index: Path, without: tuple[str, ...] = ()):
    """The video files of an index's training split.

    Args:
        without: sources that are left out.

    Raises:
        UserError: see `read_index`; fewer than LEAST_CLIPS untouched or altered ones.
    """
    table = read_index(index)
    is_clip = table.file.map(lambda f: Path(f).suffix.lower() in VIDEOS)
    clips = table[is_clip & table.split.eq("train") & ~table.source.isin(without)]
    for label in ("real", "fake"):
        if (count := int(clips.label.eq(label).sum())) < LEAST_CLIPS:
            raise UserError(
                f"{count} {label} videos are too few to learn how faces flicker",
                file=index,
                hint=f"it takes {LEAST_CLIPS} of each; leave --flicker out",
            )
    return clips


def fit(clips) -> dict:
    """`flicker` of detector.json.

    Args:
        clips: of `clips_of`.

    Raises:
        UserError: too few of them show a face that moves.
    """
    finder = detectors.create("yunet", min_face_px=20.0)
    found: dict[str, list[np.ndarray]] = {"real": [], "fake": []}
    for clip in tqdm(list(clips.itertuples()), desc="flicker", unit="clip", disable=None):
        try:
            mean = measured(clip.file, finder)
        except UserError as e:
            tqdm.write(f"note: left out: {e}", file=sys.stderr)
            continue
        if mean is not None:
            found[clip.label].append(mean)
    for label, means in found.items():
        if len(means) < LEAST_CLIPS:
            raise UserError(
                f"of {len(means)} {label} videos only it can be told how a face flickers", hint="leave --flicker out"
            )
    untouched, altered = np.stack(found["real"]), np.stack(found["fake"])
    weights = discriminant(untouched, altered)
    weights *= COUNTS / max(within(untouched @ weights, altered @ weights), 1e-6)
    middle = ((untouched @ weights).mean() + (altered @ weights).mean()) / 2
    return {"every": EVERY, "weights": weights.tolist(), "bias": -float(middle), "most": MOST}


def measured(video: str, finder) -> np.ndarray | None:
    """Mean of `faces.flicker.measure` over the runs of the person seen most, as a detector takes them; None without.

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
            runs[face.person].append(values)
    own = runs[seen.most_common(1)[0][0]] if seen else []
    return np.mean(own, axis=0) if own else None
