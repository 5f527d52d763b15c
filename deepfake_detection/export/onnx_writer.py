"""A Keras model of single faces as ONNX, by tf2onnx: what ONNX Runtime runs without TensorFlow."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import atomic_path

OPSET = 17

#: Names of the graph's input and output.
INPUT, OUTPUT = "image", "score"


def write(model, path: str | Path) -> None:
    """Writes a Keras model as ONNX: `image`, uint8 (N, H, W, 3) RGB, to `score`, float32 (N, 1), any N.

    Args:
        model: any Keras model of one picture (N, H, W, 3) in 0..255 whose operations ONNX has.

    Raises:
        UserError: when it holds an operation that cannot be written; then there is no file.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it folded; what it cannot write, it raises
    takes = [tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name=INPUT)]
    score = tf.function(lambda image: {OUTPUT: scores(model, tf.cast(image, tf.float32))}, input_signature=takes)
    try:
        with _constants(model):
            proto, _ = tf2onnx.convert.from_function(score, input_signature=takes, opset=OPSET)
        if [v.name for v in (*proto.graph.input, *proto.graph.output)] != [INPUT, OUTPUT]:
            raise ValueError(f"it takes {[v.name for v in proto.graph.input]}, not one picture")
        # Shapes known to nobody are numbered anew in each process; the number of faces has a name.
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "N"
        onnx.checker.check_model(proto, full_check=True)
    except (ValueError, KeyError, RuntimeError, NotImplementedError, onnx.checker.ValidationError) as e:
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:160]
        raise UserError(
            f"the model {model.name} cannot be written as ONNX ({reason})",
            file=path,
            hint="use layers that ONNX has, or another --format",
        ) from None
    with atomic_path(path) as partial:
        onnx.save(proto, partial)


def scores(model, faces):
    """P(real) (N, 1) of faces (N, H, W, 3), without a word from Keras about models whose one input stands in a list."""
    return model([faces] if isinstance(getattr(model, "input", None), list) else faces, training=False)


@contextlib.contextmanager
def _constants(model):
    """Within the block Normalization layers hold arrays: tensors would become inputs of the graph."""
    import keras

    from ..models.weights import leaf_layers

    layers = [layer for layer in leaf_layers(model) if isinstance(layer, keras.layers.Normalization)]
    kept = [(layer.mean, layer.variance) for layer in layers]
    try:
        for layer in layers:
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
        yield
    finally:
        for layer, (mean, variance) in zip(layers, kept, strict=True):
            layer.mean, layer.variance = mean, variance
