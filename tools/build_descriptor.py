"""Writes face_descriptor.onnx: dlib's face recognition network (Davis King, CC0) as it lies in the npm package
`@vladmandic/face-api` 1.7.15 (MIT), with its 8-bit weights.

    npm pack @vladmandic/face-api@1.7.15 && tar xzf vladmandic-face-api-1.7.15.tgz
    python tools/build_descriptor.py package/model

The file is part of the repository; this is how it came about. Takes uint8 RGB faces (N, 150, 150, 3), gives (N, 128).
Scale and shift after each convolution are folded into it, exactly.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deepfake_detection.faces.detectors import DATA  # noqa: E402

NAME = "face_recognition_model"
MEAN = (122.782, 117.001, 104.298)


class _Graph:
    """ONNX nodes of the network; weights by their names in the package."""

    def __init__(self, folder: Path):
        self.nodes: list = []
        self.constants: list = []
        self.plain: dict[str, np.ndarray] = {}
        self.stored: dict[str, tuple[np.ndarray, float, int]] = {}
        raw, start = (folder / f"{NAME}.bin").read_bytes(), 0
        for entry in json.loads((folder / f"{NAME}-weights_manifest.json").read_text())[0]["weights"]:
            packed = entry.get("quantization")
            kind = np.dtype(np.uint8 if packed else np.float32)
            values = np.frombuffer(raw, kind, int(np.prod(entry["shape"])), start).reshape(entry["shape"])
            start += values.nbytes
            if packed and entry["name"].endswith("/filters"):
                self.stored[entry["name"]] = values, packed["scale"], round(-packed["min"] / packed["scale"])
            else:
                self.plain[entry["name"]] = values * packed["scale"] + packed["min"] if packed else values
        if start != len(raw):
            raise ValueError(f"{NAME}.bin holds {len(raw)} bytes, its list names {start}")

    def constant(self, value, kind=np.float32) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, kind), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, kind: str, *inputs: str, **attributes) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [f"t{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def convolution(self, x: str, name: str, stride: int, pad: int) -> str:
        bias, scale, shift = (self.plain[f"{name}/{part}"] for part in ("conv/bias", "scale/weights", "scale/biases"))
        filters = f"{name}/conv/filters"
        if filters in self.stored:
            values, step, zero = self.stored[filters]
            weights = self.add(
                "DequantizeLinear",
                self.constant(values.transpose(3, 2, 0, 1), np.uint8),
                self.constant(step * scale),
                self.constant(np.full(len(scale), zero), np.uint8),
                axis=0,
            )
        else:
            weights = self.constant((self.plain[filters] * scale).transpose(3, 2, 0, 1))
        return self.add("Conv", x, weights, self.constant(bias * scale + shift), strides=[stride] * 2, pads=[pad] * 4)

    def block(self, x: str, name: str) -> str:
        y = self.convolution(self.add("Relu", self.convolution(x, f"{name}/conv1", 1, 1)), f"{name}/conv2", 1, 1)
        return self.add("Relu", self.add("Add", y, x))

    def halving_block(self, x: str, name: str, side: int, channels: tuple[int, int]) -> str:
        y = self.convolution(self.add("Relu", self.convolution(x, f"{name}/conv1", 2, 0)), f"{name}/conv2", 1, 1)
        pooled = self.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
        y = self._padded(y, [0, side // 2 - ((side - 3) // 2 + 1)])
        pooled = self._padded(pooled, [channels[1] - channels[0], 0])
        return self.add("Relu", self.add("Add", pooled, y))

    def _padded(self, x: str, more: list[int]) -> str:
        channels, pixels = more
        if not channels and not pixels:
            return x
        return self.add("Pad", x, self.constant([0, 0, 0, 0, 0, channels, pixels, pixels], np.int64))


def build(folder: Path):
    """The network as an ONNX model, from the package's folder `model`."""
    from onnx import TensorProto, checker, helper

    graph = _Graph(folder)
    x = graph.add("Transpose", graph.add("Cast", "faces", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = graph.add("Sub", x, graph.constant(np.reshape(MEAN, (1, 3, 1, 1))))
    x = graph.add("Relu", graph.convolution(graph.add("Mul", x, graph.constant(1 / 255)), "conv32_down", 2, 0))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    before, side = 32, 35
    for channels, blocks in ((32, 3), (64, 3), (128, 2), (256, 2)):
        if channels > 32:
            x = graph.halving_block(x, f"conv{channels}_down", side, (before, channels))
            before, side = channels, side // 2
        for number in range(1, blocks + 1):
            x = graph.block(x, f"conv{channels}_{number}")
    x = graph.halving_block(x, "conv256_down_out", side, (256, 256))
    x = graph.add("ReduceMean", x, graph.constant([2, 3], np.int64), keepdims=0)
    graph.nodes.append(helper.make_node("MatMul", [x, graph.constant(graph.plain["fc"])], ["descriptors"]))
    made = helper.make_graph(
        graph.nodes,
        "face_descriptor",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["n", 150, 150, 3])],
        [helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["n", 128])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    return model


if __name__ == "__main__":
    import onnx

    onnx.save(build(Path(sys.argv[1])), DATA / "face_descriptor.onnx")
