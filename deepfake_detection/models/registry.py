"""Every architecture by name, built by the same call.

    from deepfake_detection.models import registry
    model = registry.build("efficientnet_b0", input_size=128, weights="none")
    p_real = model.predict(faces)                 # faces (N, 128, 128, 3) RGB 0..255  ->  (N, 1)

A frame model maps faces to P(real). A sequence model maps one person's faces in time order, with a mask of the frames
that are there, to one P(real). Scaling and normalisation are layers of the model, so every caller feeds 0..255.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from ..errors import UserError
from . import weights as weights_module

DEFAULT = "efficientnet_b0"

#: Names, each that of a module here, in the order in which they are listed to people.
NAMES = (
    *("efficientnet_b0", "efficientnet_lite0", "resnet50", "mesonet", "meso_inception", "compact_cnn"),
    *("efficientnet_b2", "inception_v3", "cnn_lstm", "inception_v3_gru", "efficientnet_b2_gru", "landmark_gru"),
)


def names(kind: str | None = None) -> list[str]:
    """The names of all architectures, or of one kind, `"frame"` or `"sequence"`."""
    # Each module is light: Keras is imported on build.
    return [name for name in NAMES if kind is None or module(name).KIND == kind]


def module(name: str) -> ModuleType:
    """The module of an architecture: `NAME`, `KIND`, `INPUT_SIZE`, `build(...)`.

    Raises:
        UserError: when there is none of this name.
    """
    if name not in NAMES:
        raise UserError(f"there is no model named {name!r}", hint="one of: " + ", ".join(NAMES))
    return importlib.import_module(f"{__package__}.{name}")


def build(
    name: str, *, input_size: int | None = None, weights: str | Path = "none", dropout: float | None = None, **options
):
    """A Keras model, not compiled.

    Args:
        name: one of `names()`.
        input_size: side of the square face in pixels; the architecture's own if None.
        weights: `"none"` (random), `"imagenet"` (downloaded, feature extractor only), or a `.keras`, `.h5` or
            `.weights.h5` file of this architecture: the whole of it or its feature extractor (see `weights.load_into`).
            For a sequence model with frozen features they are the feature extractor's.
        dropout: share dropped while training; the architecture's own if None.
        options: what else the architecture's `build` takes.

    Raises:
        UserError: unknown name, weights that are not there or belong to another architecture, or an input too small.
    """
    arch = module(name)
    # A sequence model with another feature extractor than its own takes faces of that one's size.
    network = module(options["features"]) if options.get("features") else arch
    if network.KIND != "frame" and network is not arch:
        raise UserError(
            f"{network.NAME} is not a frame model and cannot give features", hint="one of: " + ", ".join(names("frame"))
        )
    size = network.INPUT_SIZE if input_size is None else int(input_size)
    if dropout is not None:
        options["dropout"] = dropout
    minimum = getattr(network, "MIN_INPUT_SIZE", 32)
    if size < minimum:
        raise UserError(
            f"{name} needs faces of at least {minimum} pixels, not {size}", hint=f"--image-size {minimum} or more"
        )
    if str(weights) in ("none", "imagenet") or hasattr(arch, "FEATURES"):
        return arch.build(size, weights=str(weights), **options)
    model = arch.build(size, weights="none", **options)
    load_into(model, weights)
    return model


def load_into(model, path: str | Path):
    """`weights.load_into` of a model that `build` made: fills it and says what was filled."""
    grown = getattr(module(model.name), "GROWN", ()) if model.name in NAMES else ()
    return weights_module.load_into(model, path, grown)


def features(model):
    """The frame model cut before its classifier, with shared weights: faces (N, S, S, 3) to features (N, F)."""
    import keras

    return keras.Model(model.inputs, feature_tensor(model), name=f"{model.name}_features")


def feature_tensor(model):
    """The tensor (N, F) that a frame model's classifier starts from: the input of its first Dense, before dropout."""
    import keras

    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
    tensor = layer.input
    producer = tensor._keras_history.operation
    while isinstance(producer, keras.layers.Dropout):
        tensor = producer.input
        producer = tensor._keras_history.operation
    return tensor


def classifier_layers(model) -> list:
    """A frame model's layers from its first Dense on: begun anew where only a feature extractor was given."""
    import keras

    first = next(i for i, layer in enumerate(model.layers) if isinstance(layer, keras.layers.Dense))
    return model.layers[first:]
