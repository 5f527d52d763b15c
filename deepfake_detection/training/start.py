"""What a training starts from: the network, its weights, and which of its layers stay as they are."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

from .. import files
from ..errors import UserError
from ..models import registry
from ..places import MODEL_FOLDER
from . import session
from .settings import Settings

#: The shipped detector, which a training of the same architecture can start from.
SHIPPED_DETECTOR = MODEL_FOLDER / "detector.keras"


def build_started(settings: Settings):
    """The model of `settings` with the weights it starts from, one line that says which these are, and their file
    (None: no file).

    Without `image_size` the model takes faces of the size that the `.keras` file it starts from takes, else its own.

    Raises:
        UserError: a weights file that is not there or of another architecture. ImageNet weights that cannot be had are
            no error: the next best choice is taken, and said.
    """
    arch = registry.module(settings.model)
    network = settings.features or getattr(arch, "FEATURES", settings.model)  # what the weights are of

    def from_file(path: Path):
        about = keras_file(path)
        if about.get("name") == settings.model and network != settings.model:  # a whole sequence model
            model = architecture(settings, settings.image_size or about["input_size"])
            return model, str(registry.load_into(model, path)), path
        size = settings.image_size or (about.get("input_size") if about.get("name") == network else None)
        if network != settings.model:
            return architecture(settings, size, weights=str(path)), f"{network} from {path}", path
        model = architecture(settings, size)
        return model, str(registry.load_into(model, path)), path

    choice = settings.weights
    if choice == "none":
        return architecture(settings), "random weights", None
    if choice not in ("imagenet", "auto"):
        return from_file(Path(choice))
    shipped = keras_file(SHIPPED_DETECTOR).get("name") == network
    if choice == "auto" and shipped:
        return from_file(SHIPPED_DETECTOR)
    why = f"{settings.model} has no ImageNet weights"
    if getattr(arch, "HAS_IMAGENET", True):
        try:
            return architecture(settings, settings.image_size, weights="imagenet"), "ImageNet weights", None
        except UserError as e:
            why = e.what
    if shipped:
        model, origin, path = from_file(SHIPPED_DETECTOR)
        return model, f"{why}; instead {origin}", path
    if network != settings.model:
        why += (
            f"; {network} stays frozen at random weights, which is a poor feature extractor "
            "(better: --features efficientnet_lite0 --weights models/detector.keras)"
        )
    return architecture(settings), f"{why}; instead random weights", None


def architecture(settings: Settings, input_size: int | None = None, weights: str = "none"):
    """The network of `settings`, built anew."""
    options: dict[str, object] = {}
    if settings.sequence_length:
        options["length"] = settings.sequence_length
    if settings.features:
        options["features"] = settings.features
    return registry.build(
        settings.model,
        input_size=input_size or settings.image_size,
        dropout=settings.dropout,
        weights=weights,
        **options,
    )


def keras_file(path: Path) -> dict:
    """`name` and `input_size` of the model in a `.keras` file, from its configuration alone; empty for any other
    file."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))["config"]
        shape = next(
            layer["config"]["batch_shape"] for layer in config["layers"] if layer["class_name"] == "InputLayer"
        )
        return {"name": config.get("name"), "input_size": shape[-2]}
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, StopIteration):
        return {}


def freeze(model, which: str) -> list[str]:
    """Sets `trainable` of the layers; returns the names of the frozen ones that have weights.

    Args:
        which: as `Settings.freeze`.

    Raises:
        UserError: no layer of that name, or a share outside 0..1.
    """
    for layer in model.layers:
        layer.trainable = True
    if which == "none":
        return []
    names = [layer.name for layer in model.layers]
    if which == "backbone":
        last = len(names) - len(registry.classifier_layers(model))
    elif which in names:
        last = names.index(which) + 1
    else:
        try:
            share = float(which)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UserError(
                f"{model.name} has no layer named {which!r} to freeze up to",
                hint="none, backbone, a share such as 0.6, or a layer of the model's summary",
            )
        last = round(share * len(names))
    for layer in model.layers[:last]:
        layer.trainable = False
    return [layer.name for layer in model.layers[:last] if layer.weights]


def plot_model(settings: Settings, out: Path) -> Path:
    """Draws the architecture into `<out>/architecture.png` (inner models unfolded, with shapes), or without Graphviz
    into a .dot file.

    Returns:
        The file written.
    """
    session.quiet()
    import keras

    model = architecture(settings)
    keras_dot = keras.utils.model_to_dot(model, show_shapes=True, show_layer_names=True, expand_nested=True, dpi=72)
    out.mkdir(parents=True, exist_ok=True)
    from shutil import which

    if which("dot"):
        with files.atomic_path(out / "architecture.png") as partial:
            keras_dot.write_png(str(partial))
        return out / "architecture.png"
    print(
        "note: Graphviz is not installed (apt install graphviz), so the drawing is left as architecture.dot",
        file=sys.stderr,
    )
    files.write_text(out / "architecture.dot", keras_dot.to_string())
    return out / "architecture.dot"
