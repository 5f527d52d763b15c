"""Loading a model file that a stranger may have made: its numbers are taken, its code is not, and its size is known
before.

    model = load("best_model.keras")            # or .h5, of Keras 3 or Keras 2

Three looks, each before anything is built: the container (no other file is read, nothing unpacks to many times the
file), the architecture (Keras' own layers only, none that runs code or reads a file), and the variables (no more than
the file has numbers for). Files of Keras 2 are translated: `tf.keras` wrote some options in another form, and the
`efficientnet` package added a layer of its own.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError

#: What a file may unpack to, or its variables take: FLOOR_BYTES, or this many times its size.
FLOOR_BYTES, MOST_TIMES = 256 << 20, 4
#: Characters of an architecture in JSON; EfficientNet-B7 is 2 MB.
LONGEST_CONFIG = 64 << 20
#: Side of the largest picture that a model may want.
LARGEST_INPUT = 4096

ZIP_START, HDF5_START = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"

#: Layers of Keras that run what the file says: Python's bytecode, a pickle, a program of TensorFlow or JAX.
RUNS_CODE = ("Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer")
#: Options of layers that may name a file, which would be read.
NAMES_FILES = ("vocabulary", "idf_weights", "filepath")

#: Values that Keras writes in the form of a class.
_PLAIN = {
    "__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__tuple__", "__ellipsis__", "__slice__",
    "__typespec__",
}  # fmt: skip

_HINT = "give a whole .keras or .h5 model, as stage 03 writes it"


def load(path: str | Path):
    """The Keras model in a `.keras` or `.h5` file, not compiled.

    Raises:
        UserError: not such a file, one that points into other files, one that needs far more memory than its size, with
            a layer that is not Keras' own or runs code, or with weights that do not fit its architecture.
    """
    import keras

    path = Path(path)
    kind = refuse_hostile(path)
    if path.suffix not in {"zip": (".keras",), "hdf5": (".h5", ".hdf5")}[kind]:
        raise UserError(
            f"this model cannot be loaded (its content is {'a ZIP archive' if kind == 'zip' else 'HDF5'})",
            file=path,
            hint=f"name it {path.stem}{'.keras' if kind == 'zip' else '.h5'}",
        )
    try:
        config = translate(_config(path, kind))
        _refuse_foreign(config, path)
        # Variables are made when the scope ends, so that their size is known before they take any memory.
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        _refuse_large(model, path)
        _initialize()
        model.load_weights(path)
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()
        return model
    except UserError:
        keras.utils.clear_session()  # or the next scope that ends would make the variables of what was refused
        raise
    except MemoryError:
        keras.utils.clear_session()
        raise UserError("this model needs more memory than there is", file=path, hint=_HINT) from None
    except Exception as e:  # whatever a broken or foreign architecture brings: Keras raises some twenty kinds
        keras.utils.clear_session()
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:160]
        raise UserError(f"this model cannot be loaded ({reason})", file=path, hint=_HINT) from None


def _initialize() -> None:
    """Gives the variables that were made inside a StatelessScope their first values."""
    import keras

    with keras.StatelessScope():  # its end does it, where it is the outermost one
        pass


def _config(path: Path, kind: str) -> dict:
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        config.pop("compile_config", None)
    else:
        import h5py

        with h5py.File(path, "r") as file:
            text = file.attrs["model_config"]
        config = json.loads(text)
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise ValueError("no architecture in it")
    return config


# --- the container ----------------------------------------------------------------------------------------------------


def refuse_hostile(path: str | Path) -> str:
    """Looks at a model or weights file without reading its numbers. Returns "zip" or "hdf5".

    Raises:
        UserError: it is neither, or broken; it points into another file (whoever sent it would choose what is read
            here); or it unpacks to far more than its size.
    """
    import h5py

    path = Path(path)
    with open(path, "rb") as file:
        start = file.read(8)
    size = path.stat().st_size
    most = FLOOR_BYTES + MOST_TIMES * size
    try:
        # By the first bytes: a ZIP may stand behind anything, and then both readers find their own.
        if start == HDF5_START:
            with h5py.File(path, "r") as file:
                _refuse_hdf5(file, path, most)
            return "hdf5"
        if start.startswith(ZIP_START):
            _refuse_zip(path, most)
            return "zip"
    except UserError:
        raise
    except Exception:  # h5py and zipfile raise OSError, ValueError, KeyError, RuntimeError, zlib.error, ...
        raise UserError(
            "this model or weights file is broken", file=path, hint="give a .keras, .h5 or .weights.h5 file"
        ) from None
    raise UserError(
        "this is not a weights file or model that can be loaded",
        file=path,
        hint="give a .keras, .h5 or .weights.h5 file",
    )


def _refuse_zip(path: Path, most: int) -> None:
    import h5py

    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(m.file_size for m in members) > most:
            raise _bomb(path)
        for member in members:
            if member.filename.endswith(".npz"):
                raise UserError("the weights in this model are in a form that is not read (npz)", file=path, hint=_HINT)
            if member.filename == "config.json" and member.file_size > LONGEST_CONFIG:
                raise _bomb(path)
            with archive.open(member) as file:
                inside = file.read(len(HDF5_START)) == HDF5_START
            if inside or member.filename.endswith(".h5"):
                with archive.open(member) as file, h5py.File(io.BytesIO(file.read()), "r") as inner:
                    _refuse_hdf5(inner, path, most)


def _bomb(path: Path) -> UserError:
    return UserError(
        f"this file unpacks to far more than its {max(path.stat().st_size >> 10, 1)} KiB",
        file=path,
        hint="ask its author for a file that holds its own numbers",
    )


def _refuse_hdf5(file, path: Path, most: int) -> None:
    import h5py

    total = 0

    # What a visitor returns ends the visit; raising in it would upset h5py's lock.
    def link(name: str, target):
        return None if isinstance(target, (h5py.HardLink, h5py.SoftLink)) else name

    def node(name: str, target):
        nonlocal total
        if isinstance(target, h5py.Dataset):
            if target.external or target.is_virtual:
                return name
            chunk = math.prod(target.chunks or (1,)) * target.dtype.itemsize
            # A text or list of variable length is stored elsewhere in the file, and may be named by many.
            total += (
                max(math.prod(target.shape or (1,)) * target.dtype.itemsize, chunk)
                if not target.dtype.hasobject
                else most + 1
            )
        else:
            total += _listed(target)
        return None

    # Both follow hard links only, so they never open what they look for.
    name = file.visititems_links(link) or file.visititems(node)
    total += _listed(file)
    if name:
        raise UserError(
            f"this file points into another one (at {name[:80]!r})",
            file=path,
            hint="ask its author for a file that holds its own numbers",
        )
    if total > most:
        raise _bomb(path)


def _listed(group) -> int:
    """Bytes that a layer's list of weights names again: Keras reads each as often as it is named."""
    import h5py

    if "weight_names" not in group.attrs:
        return 0
    total = 0
    for name in group.attrs["weight_names"]:
        link = group.get(name, getlink=True)  # of a path with slashes the last part; the visit has seen every link
        target = group.get(name) if isinstance(link, (h5py.HardLink, h5py.SoftLink)) else None
        if isinstance(target, h5py.Dataset):
            total += target.size * target.dtype.itemsize
    return total


# --- the architecture -------------------------------------------------------------------------------------------------


def _parts(config) -> Iterator[dict]:
    """Every dict in a JSON value, outermost first; no recursion, the file decides how deep it is."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _homes() -> dict[str, str]:
    """The classes that an architecture may be made of (Keras' layers, models, ...): name -> module."""
    import keras

    homes = {}
    # Arithmetic on tensors in a graph (x > 0, x[:, 1:]) is stored as Keras' operations, from modules that have no
    # public name.
    ops = keras.src.ops
    for module in (ops.core, ops.image, ops.linalg, ops.math, ops.nn, ops.numpy):
        kinds = {name: kind for name, kind in vars(module).items() if isinstance(kind, type)}
        homes |= {name: module.__name__ for name, kind in kinds.items() if issubclass(kind, keras.Operation)}
    for module in ("dtype_policies", "quantizers", "constraints", "regularizers", "initializers", "layers"):
        here = getattr(keras, module)
        homes |= {name: f"keras.{module}" for name in dir(here) if isinstance(getattr(here, name), type)}
    return {**homes, "Sequential": "keras", "Functional": "keras.src.models.functional"}


def _refuse_foreign(config: dict, path: Path) -> None:
    """Raises UserError for what is not made of Keras' own layers and their options."""
    import keras

    own = set(_homes()) | _PLAIN
    hint = "ask its author for a model of Keras' own layers"
    for part in _parts(config):
        name, module = part.get("class_name"), part.get("module")
        if name in RUNS_CODE or name == "__lambda__":
            raise UserError(f"this model holds code ({name}), which is not run", file=path, hint=hint)
        if name == "function":
            function = part["config"] if isinstance(part.get("config"), str) else ""
            if module not in (None, "builtins", "keras.activations") or not callable(
                getattr(keras.activations, function, None)
            ):
                raise UserError(
                    f"this model calls a function ({str(module)[:40]}.{function[:40]}) that is no activation of "
                    "Keras: code is not run",
                    file=path,
                    hint=hint,
                )
        elif isinstance(name, str) and "config" in part:
            if module not in (None, "builtins") and str(module).split(".")[0] != "keras" or name not in own:
                raise UserError(
                    f"this model holds a class ({str(module or '')[:40]}:{name[:40]}) that is not Keras' own: code "
                    "is not run",
                    file=path,
                    hint=hint,
                )
        for option in NAMES_FILES:
            if isinstance(part.get(option), str):
                raise UserError(f"this model reads another file ({option})", file=path, hint=hint)


def _refuse_large(model, path: Path) -> None:
    total = sum(math.prod(v.shape) for v in model.variables) * 4
    if total > FLOOR_BYTES + MOST_TIMES * path.stat().st_size:
        raise UserError(
            f"this model has variables of {total / 2**30:.1f} GiB, and far fewer numbers for them",
            file=path,
            hint=_HINT,
        )
    for given in model.inputs:
        if any(side is not None and side > LARGEST_INPUT for side in given.shape[1:]):
            raise UserError(
                f"this model takes pictures of {tuple(given.shape[1:])}, too large for a face", file=path, hint=_HINT
            )


# --- Keras 2 ----------------------------------------------------------------------------------------------------------


def translate(config: dict) -> dict:
    """An architecture of Keras 2 in the form of Keras 3; one of Keras 3 comes back as it is."""
    homes = _homes()
    for part in list(_parts(config)):
        if part.get("class_name") == "FixedDropout":  # of `efficientnet`: its shape is worked out at run time
            part |= {"class_name": "Dropout"}
            part |= {k: None for k in ("module", "registered_name") if k in part}
        if part.get("class_name") == "Model":  # what Keras 1 and 2.2 called it
            part["class_name"] = "Functional"
        if (
            isinstance(part.get("class_name"), str)
            and "config" in part
            and part.get("module") is None
            and part["class_name"] in homes
        ):
            part["module"] = homes[part["class_name"]]  # .h5 files name a class alone
        options = part.get("config")
        if not isinstance(options, dict) or not isinstance(part.get("class_name"), str):
            continue
        for ends in ("input_layers", "output_layers"):
            if (
                _is_old(options)
                and isinstance(options.get(ends), list)
                and len(options[ends]) == 1
                and isinstance(options[ends][0], list)
            ):
                (options[ends],) = options[ends]  # a list of one is one; Keras 3 would give a list of one
        if part["class_name"] == "BatchNormalization" and isinstance(options.get("axis"), list):
            (options["axis"],) = options["axis"]
        if part["class_name"] in ("DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"):
            if options.get("groups", 1) == 1:
                options.pop("groups", None)
        if part["class_name"] == "DepthwiseConv2D":  # Keras 1 and 2 inherited the options of Conv2D
            for name in ("kernel_initializer", "kernel_regularizer", "kernel_constraint", "filters"):
                options.pop(name, None)
        if part["class_name"] in ("LSTM", "GRU", "SimpleRNN"):
            for name in ("implementation", "time_major"):
                options.pop(name, None)
        for name, value in options.items():
            # The packages' own names for functions that Keras has; initializers are overwritten by the weights anyway.
            if (
                name.endswith("_initializer")
                and isinstance(value, dict)
                and str(value.get("class_name")).startswith("Efficient")
            ):
                options[name] = {"class_name": "GlorotUniform", "config": {}}
            elif isinstance(value, dict) and value.get("class_name") == "__tuple__":
                options[name] = value.get("items")
            elif name.endswith("activation") and value in ("swish_activation", "Swish"):
                options[name] = "swish"
    return config


def _is_old(options: dict) -> bool:
    """Whether a graph's connections are lists, as Keras 1 and 2 wrote them; Keras 3 writes dicts."""
    layers = options.get("layers")
    known = [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    return any(isinstance(node, list) for layer in known for node in layer.get("inbound_nodes") or [])
