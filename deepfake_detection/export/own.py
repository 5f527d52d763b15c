"""The detector that stage 03 leaves: `<out>/detector`, the folder that predict.py and serve.py take with --model-dir.

    python predict.py --model-dir results/detector VIDEO

It finds and cuts faces as stages 00 and 01a did and sees the part of them that the training saw. Calibration and
thresholds are fitted on faces that the network did not learn from: the validation set, or in folds all of them, each
scored out of fold.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .. import files, scores
from ..aggregation import Calibration, CalibrationError, fit_temperature, video_score
from ..detector.config import CONFIG
from ..detector.network import KERAS, ONNX, DetectorModel
from ..faces.crops import SETTINGS_FILE
from ..faces.settings import PUBLISHED_MARGIN
from ..labels import FAKE, REAL, counted
from ..models import registry
from ..training import stores
from ..training.face_list import find_faces
from .ship import ERROR_RATE, FAKE_RATE

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
    """Calibration and thresholds as detector.json holds them, from faces that the network did not learn from.

    Args:
        table: of `scores.read_scores`: video, label, group, person, p_real before calibration.

    Returns:
        {calibration, aggregation, thresholds, fitted_on}. Where the scores support no threshold every verdict is
        UNSURE, and `fitted_on` says why.
    """
    table = table[(table["label"] != "") & table["p_real"].notna()]
    y, p = scores.label_numbers(table["label"]), table["p_real"].to_numpy()
    groups = {label: table["group"][y == label].nunique() for label in (FAKE, REAL)}
    videos = table.groupby("video").agg(label=("label", "first"), group=("group", "first"), faces=("p_real", "size"))
    truth = scores.label_numbers(videos["label"])
    # Every video weighs alike in its class, however many faces it has.
    weight = 1 / table["video"].map(videos["faces"]).to_numpy()
    said = {
        "faces": len(table),
        "videos": len(videos),
        "real_videos": int((truth == REAL).sum()),
        "fake_videos": int((truth == FAKE).sum()),
        "real_groups": groups[REAL],
        "fake_groups": groups[FAKE],
        "untouched_called_fake": FAKE_RATE,
        "fakes_called_real": ERROR_RATE,
    }
    try:
        calibration = fit_temperature(y, p, balanced=True, weight=weight, counts=(groups[FAKE], groups[REAL]))
    except CalibrationError as e:
        return {
            "calibration": Calibration().to_dict(),
            "aggregation": "mean",
            "thresholds": {"fake_below": 0.0, "real_above": 1.0},
            "fitted_on": said | {"unsure_share": 1.0, "no_thresholds": e.reason},
        }
    persons = scores.by_person(table.assign(p_real=calibration.apply(p)))
    judged = np.array([video_score(persons[v]) for v in videos.index])
    names = videos["group"].to_numpy()
    # 0.5 is "as likely real as fake": no untouched side of it is called FAKE, however few the scores there.
    fake_below = min(0.5, lowest(judged[truth == REAL], names[truth == REAL], FAKE_RATE))
    highest_fake = 1 - lowest(1 - judged[truth == FAKE], names[truth == FAKE], ERROR_RATE)
    real_above = float(min(1.0, max(0.5, highest_fake + 1e-9)))  # a fake at the bound is not REAL
    unsure = (judged >= fake_below) & (judged < real_above)
    return {
        "calibration": calibration.to_dict(),
        "aggregation": "mean",
        "thresholds": {"fake_below": float(fake_below), "real_above": real_above},
        "fitted_on": said | {"unsure_share": round(float(unsure.mean()), 3)},
    }


def lowest(p, groups, rate: float) -> float:
    """The score below which a further video of this kind lies with probability `rate` or less.

    With enough groups the score that at most `rate` of the videos lie below. With fewer than 1 / rate not even the
    lowest score says that: then the lower prediction bound of a normal distribution of the logits (Student's t, one
    degree of freedom less than there are groups), where that is lower. It is 0 for a single group, which says nothing
    about others.

    Args:
        p: (N,) calibrated scores of videos.
        groups: (N,) who is in them.
        rate: 0..1.
    """
    from scipy.special import expit
    from scipy.stats import t

    count = len(set(groups))
    bound = float(np.sort(p)[int(rate * len(p) + 1e-9)])
    if count * rate >= 1:
        return bound
    if count < 2:
        return 0.0
    q = np.clip(p, 1e-7, 1 - 1e-7)
    logit = np.log(q) - np.log1p(-q)
    widest = t.ppf(1 - rate, count - 1) * logit.std(ddof=1) * math.sqrt(1 + 1 / count)
    return min(bound, float(expit(logit.mean() - widest)))


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
