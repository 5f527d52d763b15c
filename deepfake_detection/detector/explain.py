"""Why, in a report: the faces that it shows, with a map of what speaks for FAKE or REAL where it is confirmed."""

from __future__ import annotations

import base64
import datetime
import functools
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .. import files, labels
from .maps import LEAST_MARK, check, explainer
from .network import moved

if TYPE_CHECKING:
    from .verdict import FaceScore


#: Of the pictures shown, px.
SIDE = 224


def chosen_faces(prediction) -> list[tuple[str, FaceScore]]:
    """The faces that the report shows: ("suspicious" | "normal", FaceScore), the deciding person's first.

    The lowest and the highest p_real of each well-seen person among the faces that count: two each of the one who
    decides, one each of two more people. Not next to each other in time while there are others.
    """
    out = []
    for place, person in enumerate([p for p in prediction.people if p.well_seen][:3] or prediction.people[:1]):
        own = [f for f in prediction.faces if f.person == person.id]
        own = [f for f in own if f.votes] or own
        most = 2 if place == 0 else 1
        gap = (own[-1].time_s - own[0].time_s) / (4 * most) if len(own) > 2 * most else 0.0
        low = _spread(sorted(own, key=lambda f: f.p_real), min(most, (len(own) + 1) // 2), gap)
        high = _spread(sorted((f for f in own if not any(f is t for t in low)), key=lambda f: -f.p_real), most, gap)
        out += [("suspicious", f) for f in low] + [("normal", f) for f in high]
    return out


def slim(prediction):
    """The prediction with the crops of `chosen_faces` only: what a report needs, of bounded memory."""
    shown = {id(face) for _, face in chosen_faces(prediction)}
    return replace(prediction, faces=tuple(f if id(f) in shown else replace(f, crop=None) for f in prediction.faces))


def _spread(faces: list, most: int, gap: float) -> list:
    taken: list = []
    for wanted in (gap, -1.0):
        for face in faces:
            if (
                len(taken) < most
                and not any(face is t for t in taken)
                and all(abs(face.time_s - t.time_s) > wanted for t in taken)
            ):
                taken.append(face)
    return taken


def evidence_of(
    prediction, detector, method: str = "auto", progress: Callable[[float, str], None] | None = None
) -> list[dict]:
    """What the report shows for each chosen face: plain values, and pictures as data URIs under "face" and "map" (None:
    not drawn).

    Raises:
        UserError: see `explainer`.
    """
    from ..faces.crops import network_input

    name, explain = explainer(method, detector)
    size = int(detector.config["input_size"])
    chosen = chosen_faces(prediction)

    def score(shift, faces, flip=None):
        return [moved(p_real, shift) for p_real in detector.score_seen(faces, flip=flip)]

    out = []
    for number, (kind, face) in enumerate(chosen):
        if progress:
            progress(number / len(chosen), "explaining")
        seen = detector.seen_part(face.crop)
        entry = {
            "kind": kind,
            "person": face.person,
            "time_s": face.time_s,
            "frame": face.frame,
            "index": face.index,
            "p_fake": 1 - face.p_real,
            "method": name,
            "face": data_uri(_shown(seen)),
            "map": None,
            "check": None,
        }
        if explain:
            square = network_input(seen, size)
            # A map is drawn with one look at each picture, not two (the mirrored one): half the work. Its check asks as
            # the verdict did.
            own = functools.partial(score, face.rim + face.flicker)  # as p_fake is
            values = explain(square, functools.partial(own, flip=False))
            found = check(square, values, own, seed=detector.settings.seed)
            if found.confirmed:
                entry["map"] = data_uri(overlay(_shown(seen), values, found.sign))
            entry["check"] = {**asdict(found), "confirmed": found.confirmed}
        out.append(entry)
    return out


def _shown(crop: np.ndarray) -> np.ndarray:
    """The crop at the size it is shown in, never a network's squashed square."""
    scale = SIDE / max(crop.shape[:2])
    return cv2.resize(
        crop,
        (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale))),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
    )


def overlay(image: np.ndarray, values: np.ndarray, sign: str) -> np.ndarray:
    """What a map marks for `sign` over the picture in grey: orange speaks for FAKE, blue for REAL (told apart by
    colour-blind eyes), strength by opacity. What speaks for the other side is not drawn: only this side was checked."""
    values = cv2.resize(values, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC)
    values = np.clip(values, -1, 1)[..., None]
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32) * 0.85 + 20
    factor, colour = (1, [240, 90, 10]) if sign == labels.VERDICT_FAKE else (-1, [20, 110, 240])
    strength = np.clip(values * factor - LEAST_MARK, 0, 1) / (1 - LEAST_MARK) * 0.8
    return (grey * (1 - strength) + np.array(colour, np.float32) * strength).round().clip(0, 255).astype(np.uint8)


def data_uri(image: np.ndarray) -> str:
    """uint8 RGB (H, W, 3) -> a JPEG in a data URI."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not ok:
        raise RuntimeError("JPEG encoding failed")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def report_data(prediction, detector, *, name: str, method: str = "auto", progress=None) -> dict:
    """Everything the report says, as JSON values; pictures are data URIs in `evidence` and `frame`."""
    from .. import __version__
    from ..names import file_name
    from ..reports import track_record
    from .annotate import frame_picture

    source = Path(prediction.video)
    about = dict(prediction.file) or {"bytes": source.stat().st_size, "duration_s": prediction.duration_s}
    folder = Path(detector.settings.model)
    table = track_record.load(detector.config, folder if folder.is_dir() else folder.parent)
    return {
        **prediction.to_json(),
        "video": file_name(name),
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "file": {**about, "sha256": files.sha256(source)},
        "faces": [{**f.to_json(), "size_px": _size_px(f)} for f in prediction.faces],
        "thresholds": detector.thresholds.to_dict(),
        "settings": prediction.settings,
        "program": f"deepfake_detection {__version__}",
        "track_record": track_record.sentences(
            table, prediction.verdict, about, detector.model, detector.thresholds.to_dict()
        ),
        "frame": frame_picture(prediction, detector),
        "evidence": evidence_of(prediction, detector, method, progress),
    }


def _size_px(face) -> float:
    """Shorter side of a face in pixels of the source video, or where that is not known of the judged frame."""
    return float(face.quality.get("size_px") or min(face.box[2:]))


def write_report(prediction, detector, path: str | Path, *, name: str, method: str = "auto", progress=None) -> None:
    """Writes the HTML report to `path` and its data, without pictures, beside it with the suffix .json."""
    from ..reports import html

    data = report_data(prediction, detector, name=name, method=method, progress=progress)
    path = Path(path)
    page = html.video_report(data)
    without = {
        **{k: v for k, v in data.items() if k != "frame"},
        "evidence": [{k: v for k, v in e.items() if k not in ("face", "map")} for e in data["evidence"]],
    }
    files.write_json(path.with_suffix(".json"), without)
    files.write_text(path, page)
