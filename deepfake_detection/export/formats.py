"""Exports a trained Keras model for another runtime, and measures that it still says the same.

    python -m deepfake_detection.export --format onnx                # of models/detector.keras
    python -m deepfake_detection.export --format openvino --model-file MODEL.keras --faces-dir split_dataset/test
    python -m deepfake_detection.export --format tflite --int8 --faces-dir split_dataset/test

Input of every exported file: RGB faces (N, H, W, 3) in 0..255 (uint8 for ONNX and OpenVINO, float32 for TFLite);
output: P(real) (N, 1), before calibration. The scores of the Keras model and of the exported file are compared on the
faces of --faces-dir (or on generated pictures, without it), and a file that disagrees by more than --max-difference is
refused and not written. --int8 is calibrated on --faces-dir, half of which are kept for the comparison.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from .. import cli, onnx_session
from ..errors import UserError
from ..files import atomic_path
from ..labels import TIE_THRESHOLD
from ..places import MODEL_FOLDER

FORMATS = {"onnx": ".onnx", "tflite": ".tflite", "openvino": ".xml"}

#: Largest difference of P(real) allowed: floating point sums in another order; eight bits cost more.
FLOAT_BOUND, INT8_BOUND = 1e-4, 0.05

_PICTURES = (".png", ".jpg", ".jpeg")


# --- faces ------------------------------------------------------------------------------------------------------------


def read_faces(folder: Path, size: int, count: int, seed: int) -> np.ndarray:
    """Up to `count` faces of a folder (and below it), chosen by seed, as network input: uint8 RGB (N, size, size, 3).

    Raises:
        UserError: fewer than two pictures can be read.
    """
    from ..faces import pictures
    from ..faces.crops import network_input

    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _PICTURES)
    order = np.random.default_rng(seed).permutation(len(paths))
    faces = []
    for i in order:
        if len(faces) == count:
            break
        image = pictures.read(paths[i])
        if image is not None:
            faces.append(network_input(np.ascontiguousarray(image[:, :, ::-1]), size))
    if len(faces) < 2:
        raise UserError(
            "there are no faces to measure with here",
            file=folder,
            hint="give a folder of face pictures, e.g. split_dataset/test",
        )
    return np.stack(faces)


def generated_faces(size: int, count: int, seed: int) -> np.ndarray:
    """Smooth random pictures, uint8 RGB (N, size, size, 3): what there is to compare with when no face is given."""
    import cv2

    rng = np.random.default_rng(seed)
    return np.stack(
        [
            np.clip(
                cv2.resize(rng.normal(128, 60, (6, 6, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
                + rng.normal(0, 6, (size, size, 3)),
                0,
                255,
            ).astype(np.uint8)
            for _ in range(count)
        ]
    )


# --- formats ----------------------------------------------------------------------------------------------------------


def to_onnx(model, path: Path, faces: np.ndarray | None) -> None:
    """Writes ONNX; eight bits (QDQ form) when `faces` are given to calibrate with."""
    from .onnx_writer import write

    if faces is None:
        write(model, path)
        return
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self, faces: np.ndarray):
            self.rest = iter(faces)

        def get_next(self):
            face = next(self.rest, None)
            return None if face is None else {"image": face[None]}

    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "float.onnx"
        write(model, whole)
        # Convolutions hold nearly all weights and work; per-channel scales are not allowed for the constants of
        # additions.
        quantize_static(
            whole,
            path,
            Reader(faces),
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # 7-bit weights: processors without VNNI overflow with 8
        )


def run_onnx(path: Path, faces: np.ndarray) -> np.ndarray:
    """P(real) (N, 1) of faces (N, H, W, 3) by an exported ONNX file."""
    session = onnx_session.opened(path)
    return session.run(None, {session.get_inputs()[0].name: faces})[0]


def to_openvino(model, path: Path, faces: np.ndarray | None) -> None:
    """Writes OpenVINO's .xml with its .bin beside it, by way of ONNX."""
    import openvino

    with tempfile.TemporaryDirectory() as scratch:
        onnx = Path(scratch) / "model.onnx"
        to_onnx(model, onnx, faces)
        openvino.save_model(openvino.convert_model(onnx), path, compress_to_fp16=False)


def run_openvino(path: Path, faces: np.ndarray) -> np.ndarray:
    """P(real) (N, 1) of faces (N, H, W, 3) by an exported OpenVINO file."""
    import openvino

    # The plugin computes in 16 bits where the processor can, unless told otherwise.
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled(face[None])[0] for face in faces])


def to_tflite(model, path: Path, faces: np.ndarray | None) -> None:
    """Writes TFLite; with `faces`, eight-bit weights and activations (input and output stay float32)."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as scratch:
        model.export(scratch, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        if faces is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([face[None].astype(np.float32)] for face in faces)
        path.write_bytes(converter.convert())


def run_tflite(path: Path, faces: np.ndarray) -> np.ndarray:
    """P(real) (N, 1) of faces (N, H, W, 3) by an exported TFLite file."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_path=str(path), num_threads=1)
    given, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(given, [1, *faces.shape[1:]])
    interpreter.allocate_tensors()
    scores = []
    for face in faces:
        interpreter.set_tensor(given, face[None].astype(np.float32))
        interpreter.invoke()
        scores.append(interpreter.get_tensor(result).copy())
    return np.concatenate(scores)


_WRITE = {"onnx": to_onnx, "openvino": to_openvino, "tflite": to_tflite}
_RUN = {"onnx": run_onnx, "openvino": run_openvino, "tflite": run_tflite}


# --- the export -------------------------------------------------------------------------------------------------------


def agreement(ours: np.ndarray, theirs: np.ndarray) -> dict:
    """How far two runtimes agree on (N,) P(real): largest and mean difference, verdicts at 0.5 that changed."""
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    return {
        "faces": len(ours),
        "largest": float(difference.max()),
        "mean": float(difference.mean()),
        "verdicts_changed": int(((ours >= TIE_THRESHOLD) != (theirs >= TIE_THRESHOLD)).sum()),
    }


def export(
    model_path: Path,
    form: str,
    out: Path,
    *,
    faces: Path | None = None,
    int8: bool = False,
    max_difference: float | None = None,
    count: int = 128,
    seed: int = 1,
) -> dict:
    """Writes `out` and returns its agreement with the Keras model.

    Args:
        model_path: `.keras` or `.h5` model of one picture: (N, H, W, 3) to (N, 1).
        form: a name of `FORMATS`.
        out: file to write; OpenVINO also writes `.bin` beside it.
        faces: folder of faces to compare with, and to calibrate eight bits with.
        int8: eight bits instead of float32.
        max_difference: bound on the largest difference of P(real).
        count: most faces to use. seed: of their choice.

    Raises:
        UserError: the model cannot be read or is of another kind, eight bits without faces, or the result disagrees:
            then nothing is written.
    """
    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}", hint=f"choose one of {', '.join(FORMATS)}")
    if int8 and faces is None:
        raise UserError("eight bits must be calibrated on real faces", hint="give a folder of faces with --faces-dir")
    if not Path(model_path).is_file():
        raise UserError("no such model", file=model_path, hint="train one with stage 03, or name it with --model-file")
    from ..models import model_file

    model = model_file.load(model_path)
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[1] != shape[2] or not shape[1]:
        raise UserError(
            f"only models of one square picture can be exported, this one takes {shape}",
            file=model_path,
            hint="choose a frame model",
        )
    pictures = (
        read_faces(faces, shape[1], count, seed)
        if faces is not None
        else generated_faces(shape[1], min(count, 32), seed)
    )
    calibrating, judged = (pictures[::2], pictures[1::2]) if int8 else (None, pictures)
    bound = max_difference if max_difference is not None else INT8_BOUND if int8 else FLOAT_BOUND
    result = convert(model, form, out, judged, calibrating=calibrating, bound=bound)
    return result | {"measured_on": "faces" if faces is not None else "generated pictures"}


def convert(
    model,
    form: str,
    out: Path,
    judged: np.ndarray,
    *,
    calibrating: np.ndarray | None = None,
    bound: float = FLOAT_BOUND,
) -> dict:
    """Writes `out` if it says what the Keras model says of `judged`; returns their agreement.

    Args:
        model: (N, H, W, 3) in 0..255 to (N, 1).
        judged: uint8 RGB (N, H, W, 3), the faces that both are asked about.
        calibrating: faces that eight bits are calibrated with; None for float32.
        bound: on the largest difference of P(real).

    Raises:
        UserError: they differ by more: then nothing is written.
    """
    from .onnx_writer import scores

    parts = [judged[i : i + 32] for i in range(0, len(judged), 32)]
    expected = np.concatenate([np.asarray(scores(model, part.astype(np.float32))) for part in parts])[:, 0]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as aside:
        made = Path(aside) / out.name
        _WRITE[form](model, made, calibrating)
        result = agreement(expected, np.concatenate([_RUN[form](made, part)[:, 0] for part in parts]))
        result |= {
            "format": form,
            "int8": calibrating is not None,
            "bound": bound,
            "bytes": sum(p.stat().st_size for p in Path(aside).iterdir()),
        }
        if not result["largest"] <= bound:  # NaN is refused as well
            raise UserError(
                f"the exported model disagrees with Keras by up to {result['largest']:.3g}, more than {bound:g}; it "
                "was not written",
                file=out,
                hint="allow more with --max-difference, if you may" if calibrating is None else "export without --int8",
            )
        # The .xml last: it says that the .bin is there.
        for file in sorted(Path(aside).iterdir(), key=lambda p: p.suffix == ".xml"):
            with atomic_path(out.with_name(file.name)) as partial:
                shutil.move(file, partial)
    return result


def parse(argv=None):
    """The options of the command."""
    command = sys.argv[0] if sys.argv[0].startswith("deepfake-detect") else "python -m deepfake_detection.export"
    p = cli.bare_parser(__doc__, command)
    p.add_argument("--format", choices=tuple(FORMATS), required=True, help="what to write")
    cli.option(
        p,
        "--model-file",
        old=["--model"],
        dest="model",
        type=Path,
        default=MODEL_FOLDER / "detector.keras",
        metavar="FILE",
        help="Keras model (default: %(default)s)",
    )
    p.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write (default: exported/<model>[-int8] with the format's suffix)",
    )
    cli.option(
        p,
        "--faces-dir",
        old=["--faces"],
        dest="faces",
        type=Path,
        metavar="DIR",
        help="faces to compare with (default: generated pictures)",
    )
    p.add_argument(
        "--count", type=cli.positive_int, default=128, metavar="N", help="most faces to use (default: %(default)s)"
    )
    p.add_argument("--int8", action="store_true", help="eight bits, calibrated on --faces-dir")
    p.add_argument(
        "--max-difference",
        type=cli.positive_float,
        metavar="P",
        help=f"largest difference of P(real) that is accepted (default: {FLOAT_BOUND:g}, {INT8_BOUND:g} with --int8)",
    )
    p.add_argument(
        "--seed", type=cli.seed, default=1, metavar="N", help="of the choice of faces (default: %(default)s)"
    )
    return p.parse_args(argv)


def main(argv=None):
    """The command line: exports, compares, prints where the file lies."""
    options = parse(argv)
    suffix = FORMATS[options.format]
    # Not beside the model: models/detector.onnx belongs to detector.json, which holds its hash.
    out = options.out or Path("exported") / f"{options.model.stem}{'-int8' if options.int8 else ''}{suffix}"
    if out.suffix != suffix:
        raise UserError(
            f"a file of format {options.format} ends in {suffix}", file=out, hint=f"name it {out.stem}{suffix}"
        )
    if options.faces is not None and not options.faces.is_dir():
        raise UserError("no such folder of faces", file=options.faces, hint="e.g. split_dataset/test after stage 02")
    r = export(
        options.model,
        options.format,
        out,
        faces=options.faces,
        int8=options.int8,
        max_difference=options.max_difference,
        count=options.count,
        seed=options.seed,
    )
    print(f"{out}: {r['bytes'] / 1e6:.1f} MB")
    print(
        f"agreement with Keras on {r['faces']} {r['measured_on']}: largest difference of P(real) {r['largest']:.2g} "
        f"(bound {r['bound']:g}), "
        f"mean {r['mean']:.2g}, verdicts changed {r['verdicts_changed']}"
    )


if __name__ == "__main__":
    cli.run(main)
