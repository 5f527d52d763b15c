"""From a trained Keras model to what is shipped: detector.keras, .onnx and .json with calibration and thresholds.

    python train_detector.py          # calls ship() at its end

What is shipped is compared first: the ONNX file must say of real faces what Keras says.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np

from ..aggregation import Calibration
from ..blending.faces import BOX, Faces
from ..detector.config import CONFIG, read_config
from ..detector.network import KERAS, ONNX, RIM
from ..faces.crops import crop_face, network_input
from ..files import atomic_path, sha256, write_json
from ..places import MODEL_FOLDER
from ..training.judge import WIDE_MARGIN as MARGIN
from ..training.judge import in_crop
from . import calibrate

#: No source has more faces in the calibration.
FACES_OF_A_SOURCE = 500

#: Every how many frames a face's rim is looked at: what it says changes little from frame to frame.
RIM_EVERY = 4

#: What a network looks at, as detector.json says it: the face from the brows to the chin and its mirrored look; or the
#: whole outline, and from the brows to the chin.
WINDOWS = {
    "tight": {"margin": 0.09, "trim": {edge: in_crop(0.09)[edge] for edge in ("top", "bottom")}},
    "both": {
        "margin": MARGIN,
        "trim": {"top": 0.0, "bottom": 0.0},
        "views": [{"top": 0.0, "bottom": 0.0, "left": 0.0, "right": 0.0}, in_crop(MARGIN)],
    },
}


def validation_scores(folder: Path, faces: Faces, *, per_clip: int = 16):
    """The faces of `val` and `unseen` with column `p_real` before calibration, by the very files that predict.

    Args:
        folder: of detector.onnx and detector.json.
    """
    from ..detector.network import DetectorModel
    from ..training.judge import rows_to_judge

    model, boxes = DetectorModel.load(folder, threads=2), faces.table[list(BOX)].to_numpy(np.float64)
    rows = rows_to_judge(faces, per_clip)
    tight = faces.table.window.eq("tight").to_numpy()[rows]
    predicted = np.zeros(len(rows))
    for some, trimmed in ((rows[~tight], False), (rows[tight], True)):
        crops = [cut_out(np.asarray(faces.images[row]), boxes[row], model.config["margin"]) for row in some]
        predicted[tight == trimmed] = model.predict_raw(crops, trimmed=trimmed)
    return faces.table.loc[rows].assign(p_real=predicted, real=faces.table.label.loc[rows].eq("real").astype(int))


def cut_out(image: np.ndarray, box, margin: float) -> np.ndarray:
    """What `faces.crops.crop_face` cuts, out of a picture that shows a little more (box: parts of the picture; NaN: all
    of it)."""
    if not np.isfinite(box).all():
        return image
    side = np.array(image.shape[1::-1])
    x0, y0, x1, y1 = (np.reshape(box, (2, 2)) * side).ravel()
    return crop_face(image, (x0, y0, x1 - x0, y1 - y0), margin)


def faces_to_compare(faces: Faces, size: int, count: int = 64) -> np.ndarray:
    """Faces of `val` and `unseen`, spread over them, as network input: uint8 RGB (count or fewer, size, size, 3)."""
    from ..training.judge import rows_to_judge

    rows = rows_to_judge(faces, 1)
    some = rows[:: max(1, len(rows) // count)][:count]
    return np.stack([network_input(np.ascontiguousarray(faces.images[row]), size) for row in some])


def calibrated(scores) -> dict:
    """Calibration and thresholds (`calibrate.fit`) from the faces of `validation_scores`.

    The calibration is fitted on `val` (where there is none, on all): what is unseen was often chosen for being hard, or
    has one class only. No source has more than FACES_OF_A_SOURCE faces in it. The thresholds hold for every split and
    window by itself.
    """
    known = scores[scores.split == "val"] if scores.split.eq("val").any() else scores
    thinned = known.groupby("source", group_keys=False).apply(
        lambda part: part.sample(min(len(part), FACES_OF_A_SOURCE), random_state=1)
    )
    videos = scores.groupby("file").agg(real=("real", "first"), part=("split", "first"), window=("window", "first"))
    videos["part"] += " " + videos["window"]

    def score(calibration: Calibration) -> np.ndarray:
        return scores.assign(p=calibration.apply(scores.p_real.to_numpy())).groupby("file").p.mean().to_numpy()

    return calibrate.fit(thinned, videos, score, lambda p, _, rate: calibrate.at_most(p, rate))


def ship(
    model_path: Path,
    faces: Faces,
    out: Path,
    *,
    name: str = "own",
    version: str = "1.0",
    window: str = "both",
    rim: Path | None = None,
    flicker: dict | None = None,
    training: dict | None = None,
) -> Path:
    """Writes detector.keras, .onnx and .json, and perhaps rim.onnx, into `out`; returns the path of the .keras file.

    Args:
        model_path: a `.keras` file from `training.pairs.run`.
        faces: whose `val` and `unseen` faces calibrate it.
        name, version: what the detector calls itself.
        window: a key of WINDOWS.
        rim: a `.keras` file from `training.rim.fit`.
        flicker: of `training.flicker.fit`.
        training: what to say about the run in detector.json.

    Raises:
        UserError: the ONNX file does not say what the Keras model says; nothing is then written.
    """
    import keras

    from ..training.start import freeze

    model = keras.models.load_model(model_path, compile=False)
    freeze(model, "none")  # what a run froze in its last part is frozen for that run only
    compared, beside = _written(model, faces, out / ONNX), _beside(rim, faces, out) if rim else {}
    with atomic_path(out / KERAS) as partial:
        model.save(partial)
    config = {
        "name": name,
        "version": version,
        "score": "p_real: 1 real, 0 fake",
        "input_size": model.input_shape[1],
        **WINDOWS[window],
        **beside,
        **({"flicker": flicker} if flicker else {}),
        "flip": True,
        "calibration": {"temperature": 1.0, "bias": 0.0},  # until it is fitted on what these files say
        "aggregation": "mean",
        "thresholds": {"fake_below": 0.5, "real_above": 0.5},
        "detector": "yunet",
        "confidence": 0.6,
        "sampling": "even",
        "frames": 32,
        # Those of the shipped detector, until benchmarks/gate.py fits this network's own.
        "quality": read_config(MODEL_FOLDER).get("quality") or {},
        "training": training or {},
        "environment": {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__},
        "agreement_with_keras": compared,
        "files": {name: sha256(out / name) for name in (KERAS, ONNX, *([RIM] if rim else []))},
    }
    _write_calibrated(config, faces, out)
    return out / KERAS


def _write_calibrated(config: dict, faces: Faces, out: Path) -> None:
    """Writes detector.json, with what is fitted on the scores that these files give."""
    write_json(out / CONFIG, config)
    write_json(out / CONFIG, config := config | calibrated(validation_scores(out, faces)))
    if reason := config["fitted_on"].get("no_thresholds"):
        print(f"warning: every verdict of it is UNSURE: {reason}", file=sys.stderr)


def _written(model, faces: Faces, path: Path) -> dict:
    """Writes a model as ONNX; returns on how many faces it was held against Keras, and how far it is off."""
    from . import formats

    path.parent.mkdir(parents=True, exist_ok=True)
    compared = formats.convert(model, "onnx", path, faces_to_compare(faces, model.input_shape[1]))
    return {name: compared[name] for name in ("faces", "largest")}


def _beside(rim: Path, faces: Faces, out: Path) -> dict:
    """Writes rim.onnx; returns what detector.json says of it."""
    import keras

    model = keras.models.load_model(rim, compile=False)
    _written(model, faces, out / RIM)
    return {"rim": {"margin": MARGIN, "input_size": model.input_shape[1], "every": RIM_EVERY}}
