"""From a trained Keras model to what is shipped: detector.keras, detector.onnx and detector.json with calibration and thresholds.

    python train_detector.py          # calls ship() at its end

The ONNX graph is written layer by layer: the network has eight kinds of layers, and each has an exact counterpart. Batch
normalisation is folded into the convolution before it, which halves the number of operations.
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import atomic_path, sha256, write_json
from ..labels import FAKE, REAL
from .data import MARGIN, TRIM, Cache
from .runtime import CONFIG, KERAS, ONNX

NAME, VERSION = "faces-sbi-lite0", "1.4"
OPSET = 17

#: The two thresholds keep both kinds of error at this rate on the validation videos.
ERROR_RATE = 0.10

#: A flipped second look is worth its time only if it lowers the validation log loss by this much.
FLIP_GAIN = 0.003


def to_onnx(model, path: str | Path) -> None:
    """Writes a Keras model of convolutions as ONNX: uint8 (N, H, W, 3) to float32 (N, 1), any N.

    Raises:
        UserError: when a layer has no counterpart here.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, names = [], [], {}

    def constant(name: str, value) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def convolution(layer, source: str, output: str) -> str:
        import keras

        kernel = np.asarray(layer.kernel if hasattr(layer, "kernel") else layer.depthwise_kernel)
        grouped = isinstance(layer, keras.layers.DepthwiseConv2D)
        # Keras: (h, w, in, out) or, depthwise, (h, w, in, 1); ONNX: (out, in of the group, h, w).
        kernel = kernel.transpose(2, 3, 0, 1) if grouped else kernel.transpose(3, 2, 0, 1)
        bias = np.asarray(layer.bias) if layer.use_bias else np.zeros(len(kernel), np.float32)
        norm = _only_consumer(layer)
        if isinstance(norm, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (np.asarray(w, np.float64) for w in norm.get_weights())
            factor = gamma / np.sqrt(variance + norm.epsilon)
            kernel, bias = kernel * factor[:, None, None, None], (bias - mean) * factor + beta
            folded.add(norm.name)
        attributes = {"strides": list(layer.strides), "group": kernel.shape[0] if grouped else 1,
                      "auto_pad": "SAME_UPPER" if layer.padding == "same" else "VALID", "kernel_shape": list(kernel.shape[2:])}
        return add("Conv", [source, constant(f"{output}_kernel", kernel.astype(np.float32)), constant(f"{output}_bias", bias.astype(np.float32))],
                   output, **attributes)

    folded: set[str] = set()
    for layer in model.layers:
        kind = type(layer).__name__
        sources = [] if kind == "InputLayer" else [names[t._keras_history.operation.name] for t in _inputs(layer)]
        name = layer.name
        if kind == "InputLayer":
            size = layer.batch_shape[1]
            floats = add("Cast", ["image"], "image_float", to=TensorProto.FLOAT)
            names[name] = add("Transpose", [floats], "image_nchw", perm=[0, 3, 1, 2])
        elif kind == "Rescaling":
            scaled = add("Mul", [sources[0], constant(f"{name}_scale", np.float32(layer.scale))], f"{name}_scaled")
            names[name] = add("Add", [scaled, constant(f"{name}_offset", np.float32(layer.offset))], name)
        elif kind in ("Conv2D", "DepthwiseConv2D"):
            names[name] = convolution(layer, sources[0], name)
        elif kind == "BatchNormalization" and name in folded:
            names[name] = sources[0]
        elif kind == "ReLU" and layer.max_value == 6 and not layer.threshold:
            names[name] = add("Clip", [sources[0], constant(f"{name}_low", np.float32(0)), constant(f"{name}_high", np.float32(6))], name)
        elif kind == "Add":
            names[name] = add("Add", sources, name)
        elif kind == "GlobalAveragePooling2D":
            names[name] = add("Flatten", [add("GlobalAveragePool", sources, f"{name}_4d")], name)
        elif kind == "Dropout":
            names[name] = sources[0]
        elif kind == "Dense" and layer.activation.__name__ == "sigmoid":
            product = add("Gemm", [sources[0], constant(f"{name}_kernel", np.asarray(layer.kernel)), constant(f"{name}_bias", np.asarray(layer.bias))],
                          f"{name}_logit")
            names[name] = add("Sigmoid", [product], "score")
        else:
            raise UserError(f"the layer {name} ({kind}) cannot be written as ONNX", hint="add it to detector/export.py")
    graph = helper.make_graph(nodes, model.name, [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", size, size, 3])],
                              [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    with atomic_path(path) as partial:
        onnx.save(proto, partial)


def _inputs(layer) -> list:
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _only_consumer(layer):
    """The layer that alone takes this layer's output, or None."""
    consumers = [n.operation for n in layer._outbound_nodes]
    return consumers[0] if len(consumers) == 1 else None


def validation_scores(network: Path, cache: Cache, size: int, *, flip: bool = False, threads: int = 2):
    """The validation split's faces with column `p_real` before calibration (the mean of both views with `flip`).

    Args:
        network: the ONNX file: what is calibrated is what predicts.
    """
    import onnxruntime

    from ..faces.crops import network_input

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])

    def run(faces):
        return session.run(None, {"image": np.ascontiguousarray(faces)})[0][:, 0]

    rows, predicted = cache.rows(split="val"), []
    for start in range(0, len(rows), 32):
        faces = np.stack([network_input(cache.images[i], size) for i in rows[start:start + 32]])
        predicted.append((run(faces) + run(faces[:, :, ::-1])) / 2 if flip else run(faces))
    return cache.table.iloc[rows].assign(p_real=np.concatenate(predicted).astype(np.float64))


def calibrate(scores) -> dict:
    """Calibration, rule and thresholds from the validation faces (`validation_scores`), as detector.json holds them.

    Faces are calibrated with both classes weighted alike, so that 0.5 means "as likely real as fake" and not the share of fakes in
    some data set; one face of each DFDC video and eight of each clip, so that the clips' many alike faces do not decide alone.
    The aggregation rule is the one with the least log loss on the clips. The thresholds are fitted on videos, each DFDC video (one
    face) and each clip (the rule over its faces); reals called FAKE are kept within the error rate on the clips alone as well.
    """
    from ..aggregation import RULES, CalibrationError, Thresholds, aggregate, fit_temperature, fit_thresholds
    from ..metrics import log_loss

    scores = scores[scores.dataset.isin(["dfdc", "ffpp", "dfd", "ffpp_faces"])]
    number = scores.groupby("video").cumcount()
    thinned = scores[(number % 4 == 0) | (scores.dataset == "dfdc")]
    calibration = fit_temperature(thinned.label.to_numpy(), thinned.p_real.to_numpy(), balanced=True)
    faces = scores.assign(p=calibration.apply(scores.p_real.to_numpy())).sort_values(["video", "time_s"], kind="stable")
    clips = faces[faces.dataset.isin(["ffpp", "dfd"])]
    losses = {}
    for rule in RULES:
        videos = [(part.label.iloc[0], aggregate(part.p.to_numpy(), rule)) for _, part in clips.groupby("video")]
        y, p = (np.array(v) for v in zip(*videos))
        losses[rule] = round(float(log_loss(y, p)), 4)
    rule = min(losses, key=losses.get)
    videos = [(part.label.iloc[0], aggregate(part.p.to_numpy(), rule), part.dataset.iloc[0] in ("ffpp", "dfd")) for _, part in faces.groupby("video")]
    y, p, is_clip = (np.array(v) for v in zip(*videos))
    thresholds = fit_thresholds(y, p, ERROR_RATE)
    # Calling a real person FAKE is the worse mistake, so that rate is kept on the clips alone too, few as they are. (The other rate is
    # not: the clips' worst fakes, NeuralTextures under strong compression, would make 43 % of all videos UNSURE.)
    try:
        on_clips = fit_thresholds(y[is_clip], p[is_clip], ERROR_RATE)
        thresholds = Thresholds(min(thresholds.fake_below, on_clips.fake_below), thresholds.real_above)
    except CalibrationError:
        pass                        # too few clips to show such a rate
    unsure = float(np.mean([thresholds.verdict(v) == "UNSURE" for v in p]))
    return {"calibration": calibration.to_dict(), "aggregation": rule, "thresholds": thresholds.to_dict(),
            "fitted_on": {"faces": len(thinned), "videos": len(y), "real_videos": int((y == REAL).sum()), "fake_videos": int((y == FAKE).sum()),
                          "error_rate": ERROR_RATE, "unsure_share": round(unsure, 3), "clip_log_loss_by_rule": losses}}


def ship(model_path: Path, cache: Cache, out: Path, *, version: str = VERSION, training: dict | None = None) -> Path:
    """Writes detector.keras, detector.onnx and detector.json into `out`; returns the path of the .keras file.

    Args:
        model_path: a `.keras` file from `train.run`.
        training: what to say about the run in detector.json.
    """
    import keras

    from ..aggregation import fit_temperature
    from ..metrics import log_loss
    from ..training.train import freeze

    model = keras.models.load_model(model_path, compile=False)
    freeze(model, "none")           # what a run froze in its last part is frozen for that run only
    size = model.input_shape[1]
    out.mkdir(parents=True, exist_ok=True)
    to_onnx(model, out / ONNX)
    with atomic_path(out / KERAS) as partial:
        model.save(partial)
    plain, flipped = validation_scores(out / ONNX, cache, size), validation_scores(out / ONNX, cache, size, flip=True)

    def loss(scores) -> float:
        y, p = scores.label.to_numpy(), scores.p_real.to_numpy()
        return float(log_loss(y, fit_temperature(y, p, balanced=True).apply(p)))

    dfdc = plain.dataset.eq("dfdc").to_numpy()
    gain = loss(plain[dfdc]) - loss(flipped[dfdc])
    flip = gain > FLIP_GAIN
    config = {"name": NAME, "version": version, "score": "p_real: 1 real, 0 fake", "input_size": size, "margin": MARGIN, "trim": TRIM,
              "flip": bool(flip), "flip_gain_log_loss": round(gain, 5), **calibrate(flipped if flip else plain),
              "detector": "yunet", "confidence": 0.6, "sampling": "even", "frames": 32,
              "training": training or {},
              "environment": {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__},
              "files": {KERAS: sha256(out / KERAS), ONNX: sha256(out / ONNX)}}
    write_json(out / CONFIG, config)
    return out / KERAS
