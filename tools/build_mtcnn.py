"""Writes the three networks of the `mtcnn` package (MIT licence) as ONNX files for mtcnn_fast.

    python tools/build_mtcnn.py

The files are part of the repository; this is how they came about, and a test compares them with the installed package.
The weights are the package's. Folded into the first convolution, exactly: the order of channels (BGR in) and (x -
127.5) / 128. Folded into the last layer: softmax over two classes is the sigmoid of their difference, so one logit
comes out instead of two probabilities. PNet, where the time goes, pools before its first activation: see
`_pooled_prelu`.
"""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deepfake_detection.faces.detectors import DATA  # noqa: E402

NETS = ("pnet", "rnet", "onet")


def package_weights(net: str) -> list[np.ndarray]:
    """The weights of "pnet", "rnet" or "onet" from the installed package, which is not imported (that would load
    TensorFlow)."""
    import joblib

    file = Path(str(distribution("mtcnn").locate_file(f"mtcnn/assets/weights/{net}.lz4")))
    return [np.asarray(w, np.float32) for w in joblib.load(file)]


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
            self.nodes,
            name,
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *size, 3])],
            [helper.make_tensor_value_info(public, TensorProto.FLOAT, shape) for public, (_, shape) in outputs.items()],
            self.constants,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
            producer_name="deepfake_detection",
            doc_string="weights of the mtcnn package 1.0.0, MIT licence",
        )
        checker.check_model(model)
        return model


def _from_bytes(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A first convolution (out, in, h, w) that takes BGR in 0..255 instead of RGB in -1..1, in float64."""
    kernel = kernel.astype(np.float64)
    return kernel[:, ::-1] / 128, bias - 127.5 / 128 * kernel.sum((1, 2, 3))


def _pooled_prelu(g: _Graph, x: str, kernel, bias, slope) -> tuple[str, np.ndarray]:
    """PNet's convolution, PReLU and 2x2 maximum, with the activation after the pooling, where there are a quarter of
    the values.

    For a slope a >= 0 PReLU rises, so it may be taken after the maximum. For a < 0 it is max(x, a x), and the maximum
    over the window is max(max x, max a x): the second term is six more channels of the convolution, which the runtime
    computes in blocks of 16 anyway (10 + 6). Exact up to float rounding; PNet takes two thirds of the time.

    Returns:
        the output's name, and the package's channel number of each output channel.
    """
    slope = slope.ravel()
    order = np.concatenate([np.flatnonzero(slope < 0), np.flatnonzero(slope >= 0)])
    falling, count = int((slope < 0).sum()), len(slope)
    kernel, bias = _from_bytes(kernel.transpose(3, 2, 0, 1)[order], bias[order])
    slope = slope[order]
    kernel = np.concatenate([kernel, kernel[:falling] * slope[:falling, None, None, None]])
    bias = np.concatenate([bias, bias[:falling] * slope[:falling]])
    x = g.add("Conv", x, kernel.astype(np.float32), bias.astype(np.float32), strides=[1, 1])
    x = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")

    def channels(start, end):
        return g.add("Slice", x, *(np.array([v], np.int64) for v in (start, end, 1)))

    low = g.add("Max", channels(0, falling), channels(count, count + falling))
    high = g.add("PRelu", channels(falling, count), slope[falling:].reshape(-1, 1, 1))
    return g.add("Concat", low, high, axis=1), order


def build(net: str):
    """The ONNX model of one network.

    Input `images`: float32 (N, H, W, 3) BGR, 0..255. Outputs: PNet `maps` (N, 5, h, w): the logit of "face", then x1,
    y1, x2, y2 offsets; RNet and ONet `logit` (N, 1), `box` (N, 4), and ONet `points` (N, 10): five x, five y.
    """
    w = iter(package_weights(net))
    g = _Graph()
    x = g.add("Transpose", "images", perm=[0, 3, 1, 2])

    def conv(x, first=False):
        kernel, bias = next(w), next(w)  # (h, w, in, out)
        kernel = kernel.transpose(3, 2, 0, 1)
        if first:
            kernel, bias = _from_bytes(kernel, bias)
        return g.add("Conv", x, kernel.astype(np.float32), bias.astype(np.float32), strides=[1, 1])

    def prelu(x):
        slope = next(w)
        return g.add("PRelu", x, slope.reshape(-1, 1, 1) if slope.ndim == 3 else slope)

    def pool(x, size, stride, same):
        pad = "SAME_UPPER" if same else "VALID"
        return g.add("MaxPool", x, kernel_shape=[size, size], strides=[stride, stride], auto_pad=pad)

    def dense(x):
        kernel, bias = next(w), next(w)
        return g.add("Gemm", x, kernel, bias)

    def logit(x):
        kernel, bias = next(w), next(w)
        return g.add("Gemm", x, kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1])

    if net == "pnet":
        x, order = _pooled_prelu(g, x, next(w), next(w), next(w))
        kernel, bias = next(w), next(w)
        x = prelu(g.add("Conv", x, kernel.transpose(3, 2, 0, 1)[:, order], bias, strides=[1, 1]))
        x = prelu(conv(x))
        box_kernel, box_bias, class_kernel, class_bias = w
        kernel = np.concatenate([class_kernel[..., 1:] - class_kernel[..., :1], box_kernel], -1).transpose(3, 2, 0, 1)
        maps = g.add("Conv", x, kernel, np.concatenate([class_bias[1:] - class_bias[:1], box_bias]))
        return g.model(net, {"maps": (maps, ["n", 5, "h", "w"])}, ["height", "width"])

    x = pool(prelu(conv(x, first=True)), 3, 2, True)
    x = pool(prelu(conv(x)), 3, 2, False)
    x = prelu(conv(x))
    if net == "onet":
        x = prelu(conv(pool(x, 2, 2, True)))
    x = g.add("Transpose", x, perm=[0, 3, 2, 1])  # the package flattens by width, height, channel
    x = prelu(dense(g.add("Flatten", x)))
    outputs = {"box": (dense(x), ["n", 4])}
    if net == "onet":
        outputs["points"] = (dense(x), ["n", 10])
    outputs["logit"] = (logit(x), ["n", 1])
    side = 24 if net == "rnet" else 48
    return g.model(net, outputs, [side, side])


def main() -> None:
    """Writes the three networks as ONNX files."""
    import onnx

    DATA.mkdir(exist_ok=True)
    for net in NETS:
        path = DATA / f"mtcnn_{net}.onnx"
        onnx.save(build(net), path)
        print(f"{path}  {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
