"""What a model starts from: downloaded ImageNet weights, or a file of this architecture, whole or its feature
extractor.

A file is matched layer by layer, never by the order in a flat list: first by layer name and shape; where the names
differ (Keras 2 and `.weights.h5` number their layers anew) by the rank of a layer within its kind. What was filled and
what was not is reported, and a file that fills less than half of the feature extractor is refused as one of another
architecture.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError
from . import model_file

#: Seconds without an answer after which a download is given up. Keras itself would wait for ever.
DOWNLOAD_TIMEOUT_S = 10.0

#: Less of the feature extractor than this filled: the file is of another architecture.
MIN_FILLED = 0.5


class WeightsUnavailable(UserError):
    """Weights that would have to be downloaded cannot be. The caller may go on with the next best choice."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a weights file filled.

    Attributes:
        source: the file.
        filled: names of the layers that got their weights from it.
        left: names of the layers that keep what they had.
        share: filled weights / all weights, 0..1.
    """

    source: str
    filled: list[str]
    left: list[str]
    share: float

    def __str__(self) -> str:
        text = (
            f"{len(self.filled)} of {len(self.filled) + len(self.left)} layers ({self.share:.0%} of the weights) "
            f"from {self.source}"
        )
        return text + (f"; new: {', '.join(self.left)}" if self.left else "")


@contextlib.contextmanager
def _download_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def imagenet_backbone(application: str, input_shape: tuple[int, int, int], packages: tuple = ()):
    """`application` without its top, with ImageNet weights, from Keras' cache or downloaded.

    Args:
        packages: modules that have it, asked in turn; `keras.applications` if none.

    Raises:
        WeightsUnavailable: when they are not cached and cannot be downloaded; known within seconds.
    """
    import keras

    for package in packages or (keras.applications,):
        try:
            # Keras announces a download on standard output, where only results belong.
            with _download_timeout(DOWNLOAD_TIMEOUT_S), contextlib.redirect_stdout(sys.stderr):
                return getattr(package, application)(include_top=False, weights="imagenet", input_shape=input_shape)
        except Exception as e:
            # get_file wraps every network failure in a plain Exception whose text starts so; anything else is a bug
            # and must raise.
            if not isinstance(e, OSError) and "URL fetch failure" not in str(e):
                raise
            reason = re.sub(r"^<urlopen error (.*)>$", r"\1", str(e).rsplit(" -- ", 1)[-1]) or type(e).__name__
    raise WeightsUnavailable(
        f"the ImageNet weights of {application} cannot be downloaded ({reason})",
        hint="give a file with --weights PATH, or --weights none",
    )


def copy_by_name(source, target) -> None:
    """Copies the weights of equally named layers of two Keras models, but never those of a Normalization (see
    `set_imagenet_scaling`).

    Raises:
        ValueError: when a layer of `source` with weights is not in `target`: a bug of the caller.
    """
    import keras

    for layer in source.layers:
        if layer.weights and not isinstance(layer, keras.layers.Normalization):
            target.get_layer(layer.name).set_weights(layer.get_weights())


def copy_in_order(source, target) -> None:
    """Copies the weights of two models that the same code built, layer by layer in the order of their layers.

    Raises:
        ValueError: when they differ in the kinds or shapes of their layers: a bug of the caller.
    """
    pairs = [[layer for layer in model.layers if layer.weights] for model in (source, target)]
    for a, b in zip(*pairs, strict=True):
        if type(a) is not type(b):
            raise ValueError(f"{a.name} and {b.name} are of different kinds")
        b.set_weights(a.get_weights())


def load_into(model, path: str | Path, grown: tuple[str, ...] = ()) -> Report:
    """Fills `model` from a `.keras`, `.h5` or `.weights.h5` file: a whole model of this architecture, or its feature
    extractor.

    Layers whose shape differs (a classifier with other outputs) keep what they have. Normalization layers always do:
    they are part of the architecture here, and other packages store other numbers in them (`keras.applications` divides
    by the standard deviation twice, the `efficientnet` package outside the model).

    Args:
        grown: classifiers that once saw fewer features: the file's rows come first, those of the others are 0.

    Raises:
        UserError: no such file, not a weights file, or of another architecture.
    """
    import keras

    path = Path(path)
    source = _grown(_read(path), {layer.name: layer for layer in leaf_layers(model) if layer.name in grown})
    targets = [layer for layer in leaf_layers(model) if layer.weights]
    targets = [layer for layer in targets if not isinstance(layer, keras.layers.Normalization)]
    assigned = _match(source, targets)
    filled, left, n_filled = [], [], 0
    for layer in targets:
        if layer.name in assigned:
            layer.set_weights(assigned[layer.name])
            filled.append(layer.name)
            n_filled += layer.count_params()
        else:
            left.append(layer.name)
    total = sum(layer.count_params() for layer in targets)
    backbone = [layer for layer in targets if not isinstance(layer, keras.layers.Dense)]
    backbone_total = sum(layer.count_params() for layer in backbone)
    backbone_filled = sum(layer.count_params() for layer in backbone if layer.name in assigned)
    if not filled or backbone_filled < MIN_FILLED * backbone_total:
        raise UserError(
            f"these weights are not of the architecture {model.name} "
            f"({backbone_filled / max(backbone_total, 1):.0%} of its feature extractor fits)",
            file=path,
            hint="choose the architecture they were saved from with --architecture, or --weights none",
        )
    return Report(str(path), filled, left, n_filled / total)


def _grown(source: list[tuple[str, str, list]], targets: dict) -> list[tuple[str, str, list]]:
    """The layers of a file, the kernels of narrower classifiers filled up with 0."""
    import numpy as np

    filled = []
    for name, kind, arrays in source:
        if name in targets and len(arrays) == 2 and arrays[0].ndim == 2:
            missing = targets[name].weights[0].shape[0] - arrays[0].shape[0]
            arrays = [np.pad(arrays[0], ((0, max(0, missing)), (0, 0))), arrays[1]]
        filled.append((name, kind, arrays))
    return filled


def leaf_layers(model) -> list:
    """All layers of a model that hold no other layers, in the order of creation, also of models inside it."""
    return [
        layer
        for layer in model._flatten_layers(include_self=False, recursive=True)
        if not list(layer._flatten_layers(include_self=False, recursive=True))
    ]


def _read(path: Path) -> list[tuple[str, str, list]]:
    """The layers of a weights file: (name, kind, arrays), in the file's order; kind is the name without its number."""
    import h5py

    if not path.is_file():
        raise UserError("there is no such weights file", file=path, hint="give a .keras, .h5 or .weights.h5 file")
    broken = UserError(
        "this is not a weights file that can be read", file=path, hint="give a .keras, .h5 or .weights.h5 file"
    )
    kind = model_file.refuse_hostile(path)
    try:
        if kind == "zip":
            layers = [layer for layer in leaf_layers(model_file.load(path)) if layer.weights]
            return [(layer.name, _kind(layer.name), layer.get_weights()) for layer in layers]
        with h5py.File(path, "r") as file:
            if "layer_names" in file.attrs or "model_weights" in file:
                return _read_legacy(file["model_weights"] if "model_weights" in file else file)
            return _read_keras3(file)
    except (OSError, ValueError, KeyError, TypeError):
        # What Keras and h5py raise on a damaged or foreign file; TypeError: a custom object that is not known here.
        raise broken from None


def _read_legacy(group) -> list[tuple[str, str, list]]:
    """Whole-model and weights-only HDF5 of Keras 1, 2 and `model.save("x.h5")` of Keras 3."""
    text = lambda value: value.decode() if isinstance(value, bytes) else str(value)
    layers = []
    for name in map(text, group.attrs["layer_names"]):
        by_layer: dict[str, list] = {}  # a model inside the model is one group with the weights of many layers
        for weight in map(text, group[name].attrs["weight_names"]):
            parts = weight.split("/")
            by_layer.setdefault(parts[-2] if len(parts) > 1 else name, []).append(group[name][weight][()])
        layers += [(layer, _kind(layer), arrays) for layer, arrays in by_layer.items()]
    return layers


def _read_keras3(file) -> list[tuple[str, str, list]]:
    """`.weights.h5` of Keras 3: .../<layer>/vars/{0,1,...}."""
    import h5py

    layers = []

    def visit(path: str, node) -> None:
        if isinstance(node, h5py.Group) and path.rsplit("/", 1)[-1] == "vars" and len(node):
            parts = path.split("/")
            if len(parts) > 1 and parts[0] != "optimizer":
                name = parts[-2]
                layers.append((name, _kind(name), [node[k][()] for k in sorted(node, key=int)]))

    file.visititems(visit)
    return layers


def _kind(name: str) -> str:
    return re.sub(r"_?\d+$", "", name)


def _rank(name: str) -> int:
    number = re.search(r"_(\d+)$", name)
    return int(number.group(1)) if number else 0


def _match(source: list[tuple[str, str, list]], targets: list) -> dict[str, list]:
    """Target layer name -> arrays. By name and shape; where that fills too little, by rank within the kind of layer."""
    shapes = lambda arrays: [tuple(a.shape) for a in arrays]
    wanted = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in targets}
    by_name = {name: arrays for name, _, arrays in source if wanted.get(name) == shapes(arrays)}
    size = lambda matched: sum(int(a.size) for arrays in matched.values() for a in arrays)
    # Keras numbers layers of a kind in the order of creation, and that order is the same wherever an architecture was
    # built; only the number of the first differs. A kind is matched as a whole or not at all, so nothing can slip by
    # one.
    by_rank: dict[str, list] = {}
    for kind in {kind for _, kind, _ in source}:
        have = sorted((entry for entry in source if entry[1] == kind), key=lambda entry: _rank(entry[0]))
        want = [layer for layer in targets if _snake(layer) == kind]
        if len(have) > len(want) or any(wanted[t.name] != shapes(arrays) for (_, _, arrays), t in zip(have, want)):
            continue
        by_rank.update({t.name: arrays for (_, _, arrays), t in zip(have, want)})
    return by_name if size(by_name) >= size(by_rank) else by_rank


def _snake(layer) -> str:
    """Keras' own rule for the default name of a layer: Conv2D -> conv2d, BatchNormalization -> batch_normalization."""
    name = re.sub(r"\W+", "", type(layer).__name__)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def set_imagenet_scaling(model) -> None:
    """Fills the Normalization layer of a `keras.applications` EfficientNet with the mean and variance of ImageNet (of
    RGB in 0..1).

    With `weights=None` Keras leaves mean 0 and variance 1 there, and with `weights="imagenet"` it builds one more
    layer: two models of one name that cannot share weights. Here both are the same: (x / 255 - mean) / standard
    deviation, as the network was trained.
    """
    import keras
    import numpy as np

    mean, deviation = np.array([0.485, 0.456, 0.406], "float32"), np.array([0.229, 0.224, 0.225], "float32")
    (layer,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    layer.set_weights([mean, deviation**2] + [np.zeros(w.shape, w.dtype) for w in layer.weights[2:]])
    layer.finalize_state()


def refuse_imagenet(name: str, weights: str) -> None:
    """For architectures nobody trained on ImageNet.

    Raises:
        UserError: when `weights` is not `"none"`.
    """
    if weights != "none":
        raise UserError(f"{name} has no {weights} weights", hint="--weights none, or a file of this architecture")
