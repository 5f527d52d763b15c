"""Writes the three networks of the `mtcnn` package (MIT licence) as ONNX files for mtcnn_fast.

    python -m deepfake_detection.faces.detectors.build_mtcnn

The files are part of the repository; this is how they came about, and a test compares them with the installed package. The weights
are the package's. Folded into the first convolution, exactly: the order of channels (BGR in) and (x - 127.5) / 128. Folded into
the last layer: softmax over two classes is the sigmoid of their difference, so one logit comes out instead of two probabilities.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from . import DATA

NETS = ("pnet", "rnet", "onet")


def package_weights(net: str) -> list[np.ndarray]:
    """The weights of "pnet", "rnet" or "onet" from the installed package, which is not imported (that would load TensorFlow)."""
    import joblib

    folder = Path(importlib.util.find_spec("mtcnn").origin).parent
    return [np.asarray(w, np.float32) for w in joblib.load(folder / "assets" / "weights" / f"{net}.lz4")]


class _Graph:
    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def add(self, kind: str, *inputs, **attributes) -> str:
        """Adds a node; arrays among the inputs become constants. Returns the output's name."""
        from onnx import helper, numpy_helper

        names = []
        for value in inputs:
            if not isinstance(value, str):
                self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), f"c{len(self.constants)}"))
                value = self.constants[-1].name
            names.append(value)
        self.count += 1
        self.nodes.append(helper.make_node(kind, names, [f"t{self.count}"], **attributes))
        return f"t{self.count}"

    def model(self, name: str, outputs: dict[str, tuple[str, list]], size: list):
        from onnx import TensorProto, checker, helper

        for public, (inner, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [inner], [public]))
        graph = helper.make_graph(
            self.nodes, name, [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *size, 3])],
            [helper.make_tensor_value_info(public, TensorProto.FLOAT, shape) for public, (_, shape) in outputs.items()],
            self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                                  producer_name="deepfake_detection", doc_string="weights of the mtcnn package 1.0.0, MIT licence")
        checker.check_model(model)
        return model


def build(net: str):
    """The ONNX model of one network.

    Input `images`: float32 (N, H, W, 3) BGR, 0..255. Outputs: PNet `maps` (N, 5, h, w): the logit of "face", then x1, y1, x2, y2 offsets;
    RNet and ONet `logit` (N, 1), `box` (N, 4), and ONet `points` (N, 10): five x, five y.
    """
    w = iter(package_weights(net))
    g = _Graph()
    x = g.add("Transpose", "images", perm=[0, 3, 1, 2])

    def conv(x, first=False):
        kernel, bias = next(w), next(w)                     # (h, w, in, out)
        kernel = kernel.transpose(3, 2, 0, 1).astype(np.float64)
        bias = bias.astype(np.float64)
        if first:
            bias = bias - 127.5 / 128 * kernel.sum((1, 2, 3))
            kernel = kernel[:, ::-1] / 128
        return g.add("Conv", x, kernel.astype(np.float32), bias.astype(np.float32), strides=[1, 1])

    def prelu(x):
        slope = next(w)
        return g.add("PRelu", x, slope.reshape(-1, 1, 1) if slope.ndim == 3 else slope)

    def pool(x, size, stride, same):
        return g.add("MaxPool", x, kernel_shape=[size, size], strides=[stride, stride], auto_pad="SAME_UPPER" if same else "VALID")

    def dense(x):
        kernel, bias = next(w), next(w)
        return g.add("Gemm", x, kernel, bias)

    def logit(x):
        kernel, bias = next(w), next(w)
        return g.add("Gemm", x, kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1])

    if net == "pnet":
        x = pool(prelu(conv(x, first=True)), 2, 2, True)
        x = prelu(conv(prelu(conv(x))))
        box_kernel, box_bias, class_kernel, class_bias = w
        kernel = np.concatenate([class_kernel[..., 1:] - class_kernel[..., :1], box_kernel], -1).transpose(3, 2, 0, 1)
        maps = g.add("Conv", x, kernel, np.concatenate([class_bias[1:] - class_bias[:1], box_bias]))
        return g.model(net, {"maps": (maps, ["n", 5, "h", "w"])}, ["height", "width"])

    x = pool(prelu(conv(x, first=True)), 3, 2, True)
    x = pool(prelu(conv(x)), 3, 2, False)
    x = prelu(conv(x))
    if net == "onet":
        x = prelu(conv(pool(x, 2, 2, True)))
    x = g.add("Transpose", x, perm=[0, 3, 2, 1])            # the package flattens by width, height, channel
    x = prelu(dense(g.add("Flatten", x)))
    outputs = {"box": (dense(x), ["n", 4])}
    if net == "onet":
        outputs["points"] = (dense(x), ["n", 10])
    outputs["logit"] = (logit(x), ["n", 1])
    side = 24 if net == "rnet" else 48
    return g.model(net, outputs, [side, side])


def main() -> None:
    import onnx

    DATA.mkdir(exist_ok=True)
    for net in NETS:
        path = DATA / f"mtcnn_{net}.onnx"
        onnx.save(build(net), path)
        print(f"{path}  {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
