"""Model files from strangers: weights and plain architectures are loaded, code is not, and the line says why."""

import base64
import io
import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from deepfake_detection.errors import UserError

keras = pytest.importorskip("keras")


class Bomb:
    """What a pickle runs when it is read."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch '{self.canary}'",)


def plain():
    return keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    )


def with_lambda(canary):
    """A model whose Lambda layer touches the canary when the layer is built or called."""
    layer = keras.layers.Lambda(
        eval(f"lambda x: (__import__('os').system(\"touch '{canary}'\"), x)[1]"), output_shape=(8, 8, 3)
    )
    return keras.Sequential(
        [keras.Input((8, 8, 3)), layer, keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    )


def edited(path: Path, change) -> None:
    """Changes config.json in a .keras file."""
    with zipfile.ZipFile(path) as z:
        parts = {n: z.read(n) for n in z.namelist()}
    config = json.loads(parts["config.json"])
    change(config)
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as z:
        for name, data in parts.items():
            z.writestr(name, data)


def _lambda_keras(path, canary):
    with_lambda(canary).save(path)


def _lambda_h5(path, canary):
    with_lambda(canary).save(path)


def _function_in_config(path, canary):
    """An activation that names a function of another module (the way of CVE-2025-1550)."""
    plain().save(path)
    call = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    edited(path, lambda c: c["config"]["layers"][2]["config"].update(activation=call))


def _module_in_config(path, canary):
    """A layer that is no layer: a class of another module, called with arguments of the file."""
    plain().save(path)
    edited(
        path,
        lambda c: c["config"]["layers"].insert(
            1,
            {
                "module": "subprocess",
                "class_name": "Popen",
                "registered_name": None,
                "config": {"args": ["touch", str(canary)]},
            },
        ),
    )


def _lambda_in_config(path, canary):
    """A Lambda whose code is put into the file by hand."""
    plain().save(path)
    import marshal

    code = (lambda x: x).__code__
    body = {
        "class_name": "__lambda__",
        "config": {"code": base64.b64encode(marshal.dumps(code)).decode(), "defaults": None, "closure": None},
    }
    edited(
        path,
        lambda c: c["config"]["layers"].insert(
            1,
            {
                "module": "keras.layers",
                "class_name": "Lambda",
                "registered_name": None,
                "config": {"name": "l", "function": body},
            },
        ),
    )


def _pickle(path, canary):
    path.write_bytes(pickle.dumps(Bomb(canary)))


def _pickle_in_npy(path, canary):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(canary)], dtype=object), allow_pickle=True)
    path.write_bytes(buffer.getvalue())


def _zip_of_pickles(path, canary):
    """What PyTorch calls a model."""
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("archive/data.pkl", pickle.dumps(Bomb(canary)))


def _climbing_zip(path, canary):
    plain().save(path)
    with zipfile.ZipFile(path, "a") as z:
        z.writestr(f"../../../../../..{canary}", b"climbed")


HOSTILE = {
    "lambda.keras": _lambda_keras,
    "lambda.h5": _lambda_h5,
    "function.keras": _function_in_config,
    "module.keras": _module_in_config,
    "lambda_by_hand.keras": _lambda_in_config,
    "pickle.keras": _pickle,
    "pickle.h5": _pickle,
    "pickle.pkl": _pickle,
    "pickle.npy": _pickle_in_npy,
    "torch.pt": _zip_of_pickles,
    "torch.keras": _zip_of_pickles,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_code_in_a_model_is_refused(tmp_path, name):
    """By stage 03a, and as starting weights by stage 03 (which reads the numbers of an .h5 and nothing else)."""
    from deepfake_detection.models import weights
    from deepfake_detection.training import scoring

    path, canary = tmp_path / name, tmp_path / "canary"
    HOSTILE[name](path, canary)
    canary.unlink(missing_ok=True)  # building the model called it
    with pytest.raises(UserError) as caught:
        scoring.load(path)
    assert str(caught.value).isprintable() and "hint:" in str(caught.value)
    assert "lambda" not in name or re.search("(?i)code|lambda", caught.value.what), caught.value.what
    if name == "lambda.h5":
        weights.load_into(plain(), path)
    else:
        with pytest.raises(UserError):
            weights.load_into(plain(), path)
    assert not canary.exists()


def test_nothing_climbs_out_of_a_model_file(tmp_path):
    from deepfake_detection.training import scoring

    path, canary = tmp_path / "climbing.keras", tmp_path / "canary"
    _climbing_zip(path, canary)
    try:
        scoring.load(path)
    except UserError:
        pass
    assert not canary.exists()


def _elsewhere(file, secret):
    """Another file's numbers by a link to it, by storage in it, and by a virtual dataset over it."""
    import h5py

    shape = (193,)
    with h5py.File(secret, "w") as f:
        f["secret"] = np.ones(shape)
    raw = secret.with_suffix(".raw")
    raw.write_bytes(np.ones(shape).tobytes())
    layout = h5py.VirtualLayout(shape=shape, dtype="f8")
    layout[:] = h5py.VirtualSource(str(secret), "secret", shape=shape)
    return {
        "link": lambda: file.__setitem__("x", h5py.ExternalLink(str(secret), "secret")),
        "storage": lambda: file.create_dataset("x", shape, "f8", external=[(str(raw), 0, raw.stat().st_size)]),
        "virtual": lambda: file.create_virtual_dataset("x", layout),
    }


@pytest.mark.parametrize("way", ["link", "storage", "virtual"])
@pytest.mark.parametrize("name", ["m.h5", "m.weights.h5", "m.keras"])
def test_a_model_that_points_into_another_file_is_refused(tmp_path, name, way):
    import h5py

    from deepfake_detection.export import formats
    from deepfake_detection.models import weights
    from deepfake_detection.training import scoring

    path, secret = tmp_path / name, tmp_path / "secret.h5"
    (plain().save_weights if "weights" in name else plain().save)(path)
    if name == "m.keras":
        with zipfile.ZipFile(path) as z:
            members = {n: z.read(n) for n in z.namelist()}
        inner = io.BytesIO(members["model.weights.h5"])
        with h5py.File(inner, "r+") as f:
            _elsewhere(f, secret)[way]()
        members["model.weights.h5"] = inner.getvalue()
        with zipfile.ZipFile(path, "w") as z:
            for n, data in members.items():
                z.writestr(n, data)
    else:
        with h5py.File(path, "r+") as f:
            _elsewhere(f, secret)[way]()
    for read in (
        lambda: scoring.load(path),
        lambda: weights.load_into(plain(), path),
        lambda: formats.export(path, "onnx", tmp_path / "out"),
    ):
        with pytest.raises(UserError, match="another"):
            read()


def test_plain_models_are_taken(tmp_path):
    from deepfake_detection.training import scoring

    for name in ("plain.keras", "plain.h5"):
        plain().save(tmp_path / name)
        assert scoring.load(tmp_path / name).output_shape == (None, 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_damaged_model_is_one_line(tmp_path, share):
    from deepfake_detection.training import scoring

    for name in ("plain.keras", "plain.h5"):
        plain().save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UserError) as caught:
            scoring.load(tmp_path / name)
        assert str(caught.value).isprintable()


# --- bombs, foreign classes, two things at once -----------------------------------------------------------------------


def _config_of(layers):
    """An .h5's architecture, by hand: a Sequential of (class name, options)."""
    made = [
        {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": [None, 8, 8, 3], "dtype": "float32", "name": "input_1"},
        }
    ]
    made += [
        {"class_name": name, "config": {"name": f"layer_{i}", **options}} for i, (name, options) in enumerate(layers)
    ]
    return {"class_name": "Sequential", "config": {"name": "s", "layers": made}}


def _h5(path, layers, fill=lambda file: None):
    import h5py

    with h5py.File(path, "w") as f:
        f.attrs["model_config"] = json.dumps(_config_of(layers))
        f.attrs["keras_version"] = "2.11.0"
        group = f.create_group("model_weights")
        group.attrs["layer_names"] = np.array([f"layer_{i}".encode() for i in range(len(layers))])
        for i in range(len(layers)):
            group.create_group(f"layer_{i}").attrs["weight_names"] = np.array([], "S9")
        fill(group)


WIDE = [("Flatten", {}), ("Dense", {"units": 40_000}), ("Dense", {"units": 40_000}), ("Dense", {"units": 1})]


def _bomb_architecture_h5(path):
    _h5(path, WIDE)


def _bomb_architecture_keras(path):
    plain().save(path)
    edited(
        path,
        lambda c: c["config"]["layers"].insert(
            2,
            json.loads(
                json.dumps(c["config"]["layers"][2]).replace('"units": 1,', '"units": 40000,').replace("dense", "wide")
            ),
        ),
    )
    edited(
        path,
        lambda c: c["config"]["layers"].insert(
            3, json.loads(json.dumps(c["config"]["layers"][2]).replace("wide", "wider"))
        ),
    )
    edited(path, lambda c: [layer.pop("build_config", None) for layer in c["config"]["layers"]])


def _bomb_dataset_h5(path):
    """A dataset of 16 GB of which nothing is stored."""
    _h5(path, [("Flatten", {}), ("Dense", {"units": 1})], lambda g: _dataset(g["layer_1"], (1 << 32,)))


def _dataset(group, shape, **options):
    group.create_dataset("kernel:0", shape, "f4", **options)
    group.attrs["weight_names"] = np.array([b"kernel:0"])


def _bomb_chunk_h5(path):
    _h5(
        path,
        [("Flatten", {}), ("Dense", {"units": 1})],
        lambda g: _dataset(g["layer_1"], (10,), chunks=(1 << 28,), maxshape=(None,), compression="gzip"),
    )


def _bomb_repeated_h5(path):
    """One dataset of 8 MB, named two hundred times."""

    def fill(group):
        _dataset(group["layer_1"], (2 << 20,), compression="gzip")
        group["layer_1"]["kernel:0"][:1] = 1
        group["layer_1"].attrs["weight_names"] = np.array([b"kernel:0"] * 200)

    _h5(path, [("Flatten", {}), ("Dense", {"units": 1})], fill)


def _bomb_member_keras(path):
    """Two GB of zeros in 2 MB."""
    plain().save(path)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as z,
        z.open("assets/zeros", "w", force_zip64=True) as f,
    ):
        for _ in range(32):
            f.write(bytes(64 << 20))


def _bomb_inner_keras(path):
    plain().save(path)
    with zipfile.ZipFile(path) as z:
        parts = {n: z.read(n) for n in z.namelist()}
    import h5py

    inner = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(inner, "r+") as f:
        f.create_dataset("x", (1 << 33,), "f4")
    with zipfile.ZipFile(path, "w") as z:
        for name, data in {**parts, "model.weights.h5": inner.getvalue()}.items():
            z.writestr(name, data)


def _bomb_input_h5(path):
    _h5(path, [("GlobalAveragePooling2D", {}), ("Dense", {"units": 1})])
    import h5py

    with h5py.File(path, "r+") as f:
        f.attrs["model_config"] = f.attrs["model_config"].replace("[null, 8, 8, 3]", "[null, 90000, 90000, 3]")


def _bomb_deep_keras(path):
    plain().save(path)
    edited(path, lambda c: None)
    with zipfile.ZipFile(path) as z:
        parts = {n: z.read(n) for n in z.namelist()}
    parts["config.json"] = b'{"class_name": "Sequential", "config": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with zipfile.ZipFile(path, "w") as z:
        for name, data in parts.items():
            z.writestr(name, data)


BOMBS = {
    "architecture.h5": _bomb_architecture_h5,
    "architecture.keras": _bomb_architecture_keras,
    "dataset.h5": _bomb_dataset_h5,
    "chunk.h5": _bomb_chunk_h5,
    "repeated.h5": _bomb_repeated_h5,
    "member.keras": _bomb_member_keras,
    "inner.keras": _bomb_inner_keras,
    "input.h5": _bomb_input_h5,
    "deep.keras": _bomb_deep_keras,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_line_and_takes_no_memory(tmp_path, name):
    import resource

    from deepfake_detection.training import scoring

    path = tmp_path / name
    BOMBS[name](path)
    assert path.stat().st_size < 4 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        scoring.load(path)
    # Nor does what is loaded next: Keras keeps a list of variables that wait for their values.
    plain().save(tmp_path / "plain.keras")
    assert scoring.load(tmp_path / "plain.keras").count_params() == 193
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10, caught.value
    assert str(caught.value).isprintable() and "hint:" in str(caught.value)


@pytest.mark.parametrize("name", ["dataset.h5", "chunk.h5", "repeated.h5", "member.keras", "inner.keras"])
def test_a_bomb_as_starting_weights_is_one_line(tmp_path, name):
    from deepfake_detection.models import weights

    BOMBS[name](tmp_path / name)
    with pytest.raises(UserError, match="unpacks"):
        weights.load_into(plain(), tmp_path / name)


@pytest.mark.parametrize("name", ["m.h5", "m.weights.h5"])
@pytest.mark.parametrize("behind", [b"PK\x05\x06" + bytes(18), "zip"], ids=["empty zip", "zip of a model"])
def test_a_zip_behind_an_hdf5_hides_nothing(tmp_path, name, behind):
    """An end of an archive behind the file made the look for links to other files look into the archive instead."""
    import h5py

    from deepfake_detection.models import weights
    from deepfake_detection.training import scoring

    (plain().save_weights if "weights" in name else plain().save)(tmp_path / name)
    if behind == "zip":
        plain().save(tmp_path / "other.keras")
        behind = (tmp_path / "other.keras").read_bytes()
    with h5py.File(tmp_path / name, "r+") as f:
        f["x"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "secret")
    with open(tmp_path / name, "ab") as f:
        f.write(behind)
    for read in (lambda: scoring.load(tmp_path / name), lambda: weights.load_into(plain(), tmp_path / name)):
        with pytest.raises(UserError, match="another"):
            read()


def test_an_hdf5_behind_other_bytes_is_refused(tmp_path):
    """HDF5 may begin at byte 512; what stands before it is for other readers."""
    from deepfake_detection.training import scoring

    plain().save(tmp_path / "plain.h5")
    for name, before in (("zip.h5", b"PK\x03\x04"), ("text.h5", b"text")):
        (tmp_path / name).write_bytes(before.ljust(512, b"\0") + (tmp_path / "plain.h5").read_bytes())
        with pytest.raises(UserError):
            scoring.load(tmp_path / name)


def _class(home, name, registered=None, **options):
    """A layer of this class in a .keras file, before its Dense."""
    return lambda c: c["config"]["layers"].insert(
        1, {"module": home, "class_name": name, "registered_name": registered, "config": {"name": "l", **options}}
    )


def _activation(home, name):
    return lambda c: c["config"]["layers"][2]["config"].update(
        activation={"module": home, "class_name": "function", "config": name, "registered_name": name}
    )


FOREIGN = {
    "torch": _class(
        "keras.layers", "TorchModuleWrapper", module={"class_name": "__bytes__", "config": {"value": "gASV"}}
    ),
    "torch by its own module": _class("keras.src.utils.torch_utils", "TorchModuleWrapper", module="gASV"),
    "tensorflow": _class("keras.layers", "TFSMLayer", filepath="/tmp/somewhere", call_endpoint="serve"),
    "jax": _class("keras.layers", "JaxLayer", call_fn={"class_name": "__lambda__", "config": {}}),
    "flax": _class("keras.layers", "FlaxLayer", module={}),
    "a file": _class("keras.layers", "StringLookup", vocabulary="/etc/passwd"),
    "numbers of a file": _class("keras.layers", "IntegerLookup", vocabulary="/etc/passwd"),
    "text of a file": _class("keras.layers", "TextVectorization", vocabulary="/etc/passwd"),
    "registered": _class("my.package", "Thing", registered="my>Thing"),
    "module of ours": _class("deepfake_detection.models.weights", "Report"),
    "in a wrapper": _class(
        "keras.layers",
        "TimeDistributed",
        layer={
            "module": "keras.layers",
            "class_name": "TFSMLayer",
            "config": {"filepath": "/x"},
            "registered_name": None,
        },
    ),
    "download": _activation("keras.utils", "get_file"),
    "loader": _activation("keras.saving", "load_model"),
    "numpy": _activation("numpy", "load"),
    "name of no activation": _activation("builtins", "eval"),
    "path of a function": _activation("keras.src.utils.file_utils", "get_file"),
    "near name": _class("keras_evil.layers", "Dense", units=1),
    "initializer": lambda c: c["config"]["layers"][2]["config"].update(
        kernel_initializer={"module": "os", "class_name": "system", "config": {}, "registered_name": None}
    ),
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_is_not_keras_own_is_refused(tmp_path, foreign):
    from deepfake_detection.training import scoring

    plain().save(tmp_path / "m.keras")
    edited(tmp_path / "m.keras", FOREIGN[foreign])
    with pytest.raises(UserError, match="code|another file"):
        scoring.load(tmp_path / "m.keras")


@pytest.mark.parametrize(
    "layer",
    [
        ("TorchModuleWrapper", {"module": "gASV"}),
        ("TFSMLayer", {"filepath": "/x"}),
        ("Thing", {}),
        ("TFOpLambda", {"function": "io.read_file"}),
        ("StringLookup", {"vocabulary": "/etc/passwd"}),
    ],
    ids=lambda layer: layer[0],
)
def test_what_is_not_keras_own_is_refused_in_hdf5(tmp_path, layer):
    from deepfake_detection.training import scoring

    _h5(tmp_path / "m.h5", [layer, ("Flatten", {}), ("Dense", {"units": 1})])
    with pytest.raises(UserError, match="code|another file"):
        scoring.load(tmp_path / "m.h5")


@pytest.mark.parametrize("name, given", [("m.h5", "m.keras"), ("m.keras", "m.h5")])
def test_a_wrong_suffix_is_said(tmp_path, name, given):
    from deepfake_detection.models import model_file

    plain().save(tmp_path / name)
    (tmp_path / name).rename(tmp_path / given)
    with pytest.raises(UserError, match="its content is"):
        model_file.load(tmp_path / given)
