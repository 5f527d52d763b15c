"""A detector of a few numbers for tests: p_real from the mean colour of a face, in the file formats of the shipped one.

Reddish faces are REAL and bluish ones FAKE, so a test can make either by tinting a face.
"""

import hashlib
import json
from pathlib import Path

SIZE = 64


def build(folder: Path, *, thresholds=(0.35, 0.65), **config) -> Path:
    """Writes detector.onnx and detector.json; returns the folder.

    The network: uint8 (N, 64, 64, 3) RGB -> (N, 1) p_real = sigmoid(mean red / 12 - mean blue / 12). With `rim` in
    `config` the same again as rim.onnx.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("detector.onnx", *(["rim.onnx"] if "rim" in config else [])):
        _network(folder / name)
    stated = {
        "name": "tiny",
        "version": "0",
        "input_size": SIZE,
        "margin": 0.3,
        "trim": {"top": 0.1, "bottom": 0.1},
        "flip": False,
        "calibration": {"temperature": 1.0, "bias": 0.0},
        "thresholds": {"fake_below": thresholds[0], "real_above": thresholds[1]},
        "aggregation": "mean",
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.onnx"))},
    }
    (folder / "detector.json").write_text(json.dumps({**stated, **config}))
    return folder


def _network(path: Path) -> None:
    import numpy as np
    from onnx import TensorProto, checker, helper, numpy_helper, save

    nodes = [
        helper.make_node("Cast", ["faces"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["p_real"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("p_real", TensorProto.FLOAT, ["N", 1])],
        [
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            numpy_helper.from_array(np.float32([[1 / 12], [0], [-1 / 12]]), "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model)
    save(model, path)
