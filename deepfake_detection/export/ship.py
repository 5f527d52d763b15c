"""From a trained Keras model to what is shipped: detector.keras, .onnx and .json with calibration and thresholds.

    python train_detector.py          # calls ship() at its end

What is shipped is compared first: the ONNX file must say of real faces what Keras says.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np

from ..blending.faces import BOX, Faces
from ..detector.config import CONFIG, read_config
from ..detector.network import KERAS, ONNX
from ..faces.crops import crop_face, network_input
from ..files import atomic_path, sha256, write_json
from ..labels import FAKE, REAL
from ..places import MODEL_FOLDER
from ..training.judge import WIDE_MARGIN as MARGIN
from ..training.judge import in_crop

#: What the thresholds allow: untouched videos called FAKE, the worst error, and fakes called REAL.
FAKE_RATE, ERROR_RATE = 0.03, 0.10

#: No source has more faces in the calibration.
FACES_OF_A_SOURCE = 500

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


def calibrate(scores, *, fake_rate: float = FAKE_RATE, error_rate: float = ERROR_RATE) -> dict:
    """Calibration and thresholds from the faces of `validation_scores`, as detector.json holds them.

    The calibration is fitted on `val` (where there is none, on all): what is unseen was often chosen for being hard, or
    has one class only. Every source weighs alike in it (none has more than FACES_OF_A_SOURCE faces), and so do both
    classes, so that 0.5 means "as likely real as fake". The thresholds are fitted on videos (the mean over their
    faces): at most `fake_rate` of the untouched videos are called FAKE, of all sources together and of the unseen ones
    alone; at most `error_rate` of the fakes of each split and window are called REAL. Where the scores support none of
    it every verdict is UNSURE, and `fitted_on` says why.
    """
    from ..aggregation import CalibrationError, fit_temperature

    known = scores[scores.split == "val"] if scores.split.eq("val").any() else scores
    thinned = known.groupby("source", group_keys=False).apply(
        lambda part: part.sample(min(len(part), FACES_OF_A_SOURCE), random_state=1)
    )
    try:
        calibration = fit_temperature(thinned.real.to_numpy(), thinned.p_real.to_numpy(), balanced=True)
    except CalibrationError as e:
        return {
            "thresholds": {"fake_below": 0.0, "real_above": 1.0},
            "fitted_on": {"faces": len(thinned), "unsure_share": 1.0, "no_thresholds": e.reason},
        }
    videos = (
        scores.assign(p=calibration.apply(scores.p_real.to_numpy()))
        .groupby("file")
        .agg(p=("p", "mean"), real=("real", "first"), split=("split", "first"), window=("window", "first"))
    )
    parts = [part for _, part in videos.groupby(["split", "window"])]
    fake_below = min(
        _allowed(part.p[part.real == REAL].to_numpy(), fake_rate) for part in parts if (part.real == REAL).any()
    )
    real_above = max(
        1 - _allowed(1 - part.p[part.real == FAKE].to_numpy(), error_rate)
        for part in parts
        if (part.real == FAKE).any()
    )
    real_above = float(np.clip(np.nextafter(real_above, 2), fake_below, 1))
    words = np.where(videos.p < fake_below, "FAKE", np.where(videos.p >= real_above, "REAL", "UNSURE"))
    return {
        "calibration": calibration.to_dict(),
        "aggregation": "mean",
        "thresholds": {"fake_below": float(fake_below), "real_above": real_above},
        "fitted_on": {
            "faces": len(thinned),
            "videos": len(videos),
            "real_videos": int((videos.real == REAL).sum()),
            "fake_videos": int((videos.real == FAKE).sum()),
            "untouched_called_fake": fake_rate,
            "fakes_called_real": error_rate,
            "unsure_share": round(float(np.mean(words == "UNSURE")), 3),
        },
    }


def _allowed(p: np.ndarray, rate: float) -> float:
    """The bound below which at most `rate` of these scores lie."""
    return float(np.sort(p)[int(rate * len(p) + 1e-9)])


def ship(
    model_path: Path,
    faces: Faces,
    out: Path,
    *,
    name: str = "own",
    version: str = "1.0",
    window: str = "both",
    training: dict | None = None,
) -> Path:
    """Writes detector.keras, detector.onnx and detector.json into `out`; returns the path of the .keras file.

    Args:
        model_path: a `.keras` file from `training.pairs.run`.
        faces: whose `val` and `unseen` faces calibrate it.
        name, version: what the detector calls itself.
        window: a key of WINDOWS.
        training: what to say about the run in detector.json.

    Raises:
        UserError: the ONNX file does not say what the Keras model says; nothing is then written.
    """
    import keras

    from ..training.start import freeze
    from . import formats

    model = keras.models.load_model(model_path, compile=False)
    freeze(model, "none")  # what a run froze in its last part is frozen for that run only
    out.mkdir(parents=True, exist_ok=True)
    compared = formats.convert(model, "onnx", out / ONNX, faces_to_compare(faces, model.input_shape[1]))
    with atomic_path(out / KERAS) as partial:
        model.save(partial)
    config = {
        "name": name,
        "version": version,
        "score": "p_real: 1 real, 0 fake",
        "input_size": model.input_shape[1],
        **WINDOWS[window],
        "flip": True,
        "calibration": {"temperature": 1.0, "bias": 0.0},
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
        "agreement_with_keras": {name: compared[name] for name in ("faces", "largest")},
        "files": {KERAS: sha256(out / KERAS), ONNX: sha256(out / ONNX)},
    }
    write_json(out / CONFIG, config)
    config |= calibrate(validation_scores(out, faces))
    write_json(out / CONFIG, config)
    if reason := config["fitted_on"].get("no_thresholds"):
        print(f"warning: every verdict of it is UNSURE: {reason}", file=sys.stderr)
    return out / KERAS
