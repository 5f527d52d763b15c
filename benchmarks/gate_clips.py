"""The clips of `gate.py` with their scored faces: as they are, and each degraded as a whole.

A degraded clip is its own frames made smaller, darker or softer before the resize rule, so that the face that is seen
most comes to what is asked for; then faces are looked for, linked and judged as in any other video. Not written and
compressed anew. A clip is never made larger, brighter or sharper: what lies below already is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from deepfake_detection.detector.verdict import FaceScore
from deepfake_detection.errors import UserError

#: What a clip's face is brought to: shorter side in px; mean brightness; blur (sigma) as a share of its size.
DEGRADED = {"small": (56, 40, 28, 20), "dark": (40, 28, 18, 10), "soft": (0.015, 0.025, 0.04)}
#: In the place of a variant: a picture.
STILL = "still"
VARIANTS = ["", *(f"{kind} {value:g}" for kind, values in DEGRADED.items() for value in values)]


@dataclass(frozen=True)
class Clip:
    """A labelled clip: where it lies, what it is called, REAL or FAKE, the group of its people, and whether it is a
    picture, one face of a video."""

    path: Path
    name: str
    label: str
    group: str
    still: bool = False


@dataclass(frozen=True)
class Video:
    """A labelled clip with the faces that were scored in it.

    Attributes:
        frames: how many were looked at; variant: "" as it is, else how it was degraded, e.g. "small 40", or STILL.
    """

    name: str
    label: str
    frames: int
    faces: tuple[FaceScore, ...]
    group: str = ""
    variant: str = ""


def kept_scores(path: Path | None) -> dict[str, dict]:
    """What an earlier run left, by key; a line that was cut off is as if it were not there."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path and path.is_file() else ():
        try:
            entry = json.loads(line)
            found[entry["key"]] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return found


def scored(
    detector, clips: Iterable[Clip], variants: Iterable[str], scores: Path | None, force: bool = False
) -> tuple[list[Video], list[str]]:
    """(videos with a face, lines on clips without or with an error); scores are kept as they come."""
    from tqdm import tqdm

    kept, videos, left = {} if force else kept_scores(scores), [], []
    variants = list(dict.fromkeys(["", *variants]))
    for clip in tqdm(list(clips), desc="videos", unit="video", disable=None):
        try:
            entries = entries_of(detector, clip, [""] if clip.still else variants, kept, scores)
        except (UserError, OSError) as e:
            left.append(f"{clip.path.name}: {getattr(e, 'what', e)}")
            continue
        for variant, entry in entries.items():
            faces = tuple(FaceScore(**{**face, "box": tuple(face["box"])}) for face in entry["faces"])
            if clip.still:  # a crop ends round the face, not where a picture would
                faces = tuple(replace(f, quality=f.quality | {"inside": 1.0}) for f in faces)
            if faces:
                videos.append(
                    Video(clip.name, clip.label, entry["frames"], faces, clip.group, STILL if clip.still else variant)
                )
            elif entry["frames"]:
                left.append(f"{clip.path.name}{f' ({variant})' if variant else ''}: no face")
    return videos, left


def entries_of(detector, clip: Clip, variants: list[str], kept: dict, scores: Path | None) -> dict[str, dict]:
    """variant -> what is kept of it, the missing ones made; `frames` 0: this clip cannot be degraded so."""
    about = clip.path.stat()
    name = f"{detector.model} {detector.settings.frames} {about.st_size} {about.st_mtime_ns} {clip.name}"
    keys = {variant: f"{name} {variant}".strip() for variant in variants}
    found = {variant: kept[key] for variant, key in keys.items() if key in kept}
    if "" not in found:
        result = detector.predict(clip.path)
        found[""] = _entry(keys[""], result.frames_decoded, result.faces, scores)
    missing, source = [v for v in variants if v not in found], None
    for variant in missing:
        faces: list[FaceScore] = []
        frames = 0
        if (change := change_of(variant, found[""]["faces"])) is not None:
            source = source if source is not None else _frames_of(detector, clip.path)
            frames, faces = len(source), _faces_of(detector, source, change)
        found[variant] = _entry(keys[variant], frames, faces, scores)
    return {variant: found[variant] for variant in variants}


def _entry(key: str, frames: int, faces: Iterable[FaceScore], scores: Path | None) -> dict:
    plain = [{k: v for k, v in face.to_json().items() if k not in ("votes", "reason")} for face in faces]
    entry = {"key": key, "frames": frames, "faces": plain}
    if scores:
        scores.parent.mkdir(parents=True, exist_ok=True)
        with open(scores, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    return entry


def change_of(variant: str, faces: list[dict]):
    """From a source frame (uint8 BGR) to the degraded one; None when the clip's faces are below that already.

    Args:
        faces: of the clip as it is; the largest of each frame say what they are like.
    """
    kind, _, number = variant.partition(" ")
    value = float(number)
    largest: dict[int, dict] = {}
    for face in sorted(faces, key=lambda face: face["quality"]["size_px"]):
        largest[face["frame"]] = face["quality"]
    if not largest:
        return None
    size, brightness = (float(np.median([q[m] for q in largest.values()])) for m in ("size_px", "brightness"))
    if kind == "soft":
        return lambda image: cv2.GaussianBlur(image, (0, 0), value * size)
    if value >= (size if kind == "small" else brightness):
        return None
    if kind == "dark":
        return lambda image: cv2.convertScaleAbs(image, alpha=value / brightness)
    return lambda image: cv2.resize(image, None, fx=value / size, fy=value / size, interpolation=cv2.INTER_AREA)


def _frames_of(detector, path: Path) -> list:
    from deepfake_detection.video.decode import FrameReader

    return list(FrameReader(path, detector._sampling, scale=1.0, threads=detector.settings.threads))


def _faces_of(detector, frames: list, change) -> list[FaceScore]:
    """The faces of changed source frames, judged as `Detector.predict` does."""
    from deepfake_detection.faces import extract
    from deepfake_detection.video.resize import resize, scale_for

    detector.warm()
    width = 0
    changed = []
    for frame in frames:
        image = change(frame.image)
        width = image.shape[1]
        changed.append(replace(frame, image=resize(image, scale_for(detector.resolved["scale"], width))))
    stream = extract.faces_of_frames(
        changed, detector._faces, margin=detector.resolved["margin"], confidence=detector.resolved["confidence"]
    )
    return detector._scored(detector._looks(*detector._read(stream), width))
