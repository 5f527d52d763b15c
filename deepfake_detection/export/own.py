"""The detector that stage 03 leaves: `<out>/detector`, the folder that predict.py and serve.py take with --model-dir.

    python predict.py --model-dir results/detector VIDEO

It finds and cuts faces as stages 00 and 01a did and sees the part of them that the training saw. Calibration and
thresholds are fitted on faces that the network did not learn from: the validation set, or in folds all of them, each
scored out of fold.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .. import files, scores
from ..aggregation import Calibration, video_score
from ..detector.config import CONFIG
from ..detector.network import KERAS, ONNX, DetectorModel
from ..faces.crops import SETTINGS_FILE
from ..faces.settings import PUBLISHED_MARGIN
from ..labels import FAKE, REAL, counted
from ..models import registry
from ..training import stores
from ..training.face_list import find_faces
from . import calibrate

FOLDER = "detector"

#: With fewer groups of untouched or of altered people than this a line warns of the thresholds.
FEW = 20

#: A detector of one's own was compared with no other material: no file is outside of what it was validated on.
ANY_MATERIAL = {
    "min_side_px": 0.0,
    "max_side_px": 1e6,
    "min_bits_per_pixel": 0.0,
    "max_bits_per_pixel": 1e6,
    "min_face_px": 0.0,
}


@dataclasses.dataclass(frozen=True)
class Making:
    """How the faces of a training were found and cut; fields of detector.json, the defaults are the stages'."""

    detector: str = "mtcnn_fast"
    confidence: float | None = None
    min_face_px: float = 20.0
    margin: float = PUBLISHED_MARGIN
    sampling: str = "per-second"
    frames: int = 32
    scale: str | float = "published"


def making(frames: Path | None, titles: Iterable[str], margin: float = PUBLISHED_MARGIN) -> Making:
    """How most of these videos' faces were found, as stage 01a recorded it; the defaults where there is no record.

    Args:
        frames: folder with `<title>/faces/faces.json`.
        margin: what the faces were cut with.
    """
    if frames is None:
        return Making(margin=margin)
    found: Counter[Making] = Counter()
    for title in sorted(set(titles)):
        try:
            record = json.loads((frames / title / "faces" / SETTINGS_FILE).read_text(encoding="utf-8"))
            cut, looked = record["settings"], next(iter(record["source"].values()))["settings"]
            said = {
                # The package `mtcnn` finds the same faces, and needs TensorFlow.
                "detector": {"mtcnn": "mtcnn_fast"}.get(cut["detector"], cut["detector"]),
                "confidence": cut["confidence"],
                "min_face_px": cut["min_face_px"],
                "sampling": looked["sampling"],
                "frames": looked["frames"],
                "scale": looked["scale"],
            }
            found[Making(margin=margin, **{name: value for name, value in said.items() if value is not None})] += 1
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
            continue  # `margins.recorded` has refused what it needs of a broken record
    return found.most_common(1)[0][0] if found else Making(margin=margin)


def notice(architecture: str) -> str:
    """What is said before a training that leaves no detector; empty for one that does."""
    if registry.module(architecture).KIND == "frame":
        return ""
    return (
        f"note: {architecture} judges sequences, and predict.py and serve.py judge single faces: this training leaves "
        "no folder for their --model-dir (hint: score faces with 03a_load_model.py, or choose one of "
        + ", ".join(registry.names("frame"))
        + ")"
    )


# --- calibration and thresholds ---------------------------------------------------------------------------------------


def fit(table) -> dict:
    """Calibration and thresholds (`calibrate.fit`) from faces that the network did not learn from.

    Args:
        table: of `scores.read_scores`: video, label, group, person, p_real before calibration.
    """
    table = table[(table["label"] != "") & table["p_real"].notna()]
    table = table.assign(real=scores.label_numbers(table["label"]))
    videos = table.groupby("video").agg(real=("real", "first"), group=("group", "first"), faces=("p_real", "size"))
    groups = [table["group"][table["real"] == label].nunique() for label in (FAKE, REAL)]

    def score(calibration: Calibration) -> np.ndarray:
        persons = scores.by_person(table.assign(p_real=calibration.apply(table["p_real"].to_numpy())))
        return np.array([video_score(persons[v]) for v in videos.index])

    def bound(p, some, rate: float) -> float:
        # 0.5 is "as likely real as fake": no untouched side of it is called FAKE, however few the scores there.
        return min(0.5, calibrate.of_a_stranger(p, some["group"], rate))

    # Every video weighs alike in its class, however many faces it has.
    weight = 1 / table["video"].map(videos["faces"]).to_numpy()
    fitted = calibrate.fit(table, videos.assign(part=""), score, bound, weight=weight, counts=tuple(groups))
    fitted["fitted_on"] |= {"fake_groups": groups[0], "real_groups": groups[1]}
    return fitted


# --- the folder -------------------------------------------------------------------------------------------------------


def make(out: Path, dataset: Path, *, frames: Path | None = None, faces_margin: float = PUBLISHED_MARGIN) -> list[str]:
    """Writes `<out>/detector` of the training in `out`; the one that stands stays if it is of the same model and
    scores.

    Args:
        out: stage 03's folder: metrics.json and tmp_checkpoint.
        dataset: the split it was trained on, whose validation faces the exported network is compared with.
        frames: folder of stage 01a's results, which says how the faces were found.
        faces_margin: crop margin that the faces were cut with.

    Returns:
        Lines for a person: where it lies and what its words rest on.

    Raises:
        UserError: the network cannot be written as ONNX, or does not say there what it said in Keras.
    """
    folder, checkpoint = out / FOLDER, out / "tmp_checkpoint"
    trained = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    if notice(trained["training"]["settings"]["model"]):
        _remove(folder)  # of an earlier training here
        return []
    made = making(frames, find_faces(dataset / "val").titles, faces_margin)
    origin = {
        "model": files.sha256(checkpoint / "best_model.keras"),
        "scores": files.sha256(checkpoint / "scores.csv"),
        "faces": dataclasses.asdict(made),
    }
    config = _standing(folder, origin)
    if config is None:
        config = _write(folder, checkpoint, dataset, trained, made, origin)
    return _lines(folder, config)


def _standing(folder: Path, origin: dict) -> dict | None:
    """detector.json where it is of this origin and its files are whole."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        whole = all(files.sha256(folder / name) == digest for name, digest in config["files"].items())
        return config if config["made_from"] == origin and whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(folder: Path, checkpoint: Path, dataset: Path, trained: dict, made: Making, origin: dict) -> dict:
    import keras

    from ..models import model_file
    from . import formats

    card = stores.card_of(checkpoint / "best_model.keras")
    fitted = fit(scores.read_scores(checkpoint / "scores.csv"))
    fitted["fitted_on"]["set"] = "out of fold" if "folds" in trained else "validation"
    model = model_file.load(checkpoint / "best_model.keras")
    size = model.input_shape[1]
    config = {
        "name": f"own-{trained['model']['name']}"[:80],
        "version": origin["model"][:8],
        "score": "p_real: 1 real, 0 fake",
        "input_size": size,
        **dataclasses.asdict(made),
        "trim": {"top": 0.0, "bottom": 0.0},
        "flip": bool(card.get("flip")),
        **fitted,
        "validated_on": ANY_MATERIAL,
        "training": trained["training"],
        "environment": {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__},
        "made_from": origin,
    }
    if card:
        left, top, right, bottom = stores.part_of(made.margin, card["margin"], card["trim"])
        config["views"] = [{"top": top, "bottom": 1 - bottom, "left": left, "right": 1 - right}]
    with files.atomic_dir(folder) as aside:
        faces = formats.read_faces(dataset / "val", size, 64, seed=1)
        compared = formats.convert(model, "onnx", aside / ONNX, faces)
        files.link_or_copy(checkpoint / "best_model.keras", aside / KERAS)
        config["agreement_with_keras"] = {name: compared[name] for name in ("faces", "largest")}
        config["files"] = {name: files.sha256(aside / name) for name in (KERAS, ONNX)}
        files.write_json(aside / CONFIG, config)
        DetectorModel.load(aside)  # as predict.py does
    return config


def _remove(folder: Path) -> None:
    for name in (CONFIG, ONNX, KERAS):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _lines(folder: Path, config: dict) -> list[str]:
    on, bounds = config["fitted_on"], config["thresholds"]
    lines = [f"detector: {folder}  (predict.py --model-dir {folder} VIDEO; serve.py takes it too)"]
    if "no_thresholds" in on:
        return [*lines, f"warning: every verdict of it is UNSURE: {on['no_thresholds']} ({on['set']} scores)"]
    lines.append(
        f"  FAKE below p_real {bounds['fake_below']:.3f}, REAL from {bounds['real_above']:.3f}, between them UNSURE: "
        f"from {counted(on['real_videos'], 'untouched video')} of {counted(on['real_groups'], 'group')} of people and "
        f"{counted(on['fake_videos'], 'altered one')} of {on['fake_groups']} ({on['set']} scores)"
    )
    if min(on["real_groups"], on["fake_groups"]) < FEW:
        lines.append("warning: so few people say little about others, so the range of UNSURE is wide")
    return lines
