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
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")])


def with_lambda(canary):
    """A model whose Lambda layer touches the canary when the layer is built or called."""
    layer = keras.layers.Lambda(eval(f"lambda x: (__import__('os').system(\"touch '{canary}'\"), x)[1]"), output_shape=(8, 8, 3))
    return keras.Sequential([keras.Input((8, 8, 3)), layer, keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")])


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
    edited(path, lambda c: c["config"]["layers"].insert(1, {"module": "subprocess", "class_name": "Popen", "registered_name": None,
                                                            "config": {"args": ["touch", str(canary)]}}))


def _lambda_in_config(path, canary):
    """A Lambda whose code is put into the file by hand."""
    plain().save(path)
    import marshal
    code = (lambda x: x).__code__
    body = {"class_name": "__lambda__", "config": {"code": base64.b64encode(marshal.dumps(code)).decode(), "defaults": None, "closure": None}}
    edited(path, lambda c: c["config"]["layers"].insert(1, {"module": "keras.layers", "class_name": "Lambda", "registered_name": None,
                                                            "config": {"name": "l", "function": body}}))


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


HOSTILE = {"lambda.keras": _lambda_keras, "lambda.h5": _lambda_h5, "function.keras": _function_in_config, "module.keras": _module_in_config,
           "lambda_by_hand.keras": _lambda_in_config, "pickle.keras": _pickle, "pickle.h5": _pickle, "pickle.pkl": _pickle, "pickle.npy": _pickle_in_npy,
           "torch.pt": _zip_of_pickles, "torch.keras": _zip_of_pickles}


@pytest.mark.parametrize("name", HOSTILE)
def test_code_in_a_model_is_refused(tmp_path, name):
    """By stage 03a, and as starting weights by stage 03 (which reads the numbers of an .h5 and nothing else)."""
    from deepfake_detection.models import weights
    from deepfake_detection.training import predict_faces
    path, canary = tmp_path / name, tmp_path / "canary"
    HOSTILE[name](path, canary)
    canary.unlink(missing_ok=True)              # building the model called it
    with pytest.raises(UserError) as caught:
        predict_faces.load(path)
    assert str(caught.value).isprintable() and "hint:" in str(caught.value)
    assert "lambda" not in name or re.search("(?i)code|lambda", caught.value.what), caught.value.what
    if name == "lambda.h5":
        weights.load_into(plain(), path)
    else:
        with pytest.raises(UserError):
            weights.load_into(plain(), path)
    assert not canary.exists()


def test_nothing_climbs_out_of_a_model_file(tmp_path):
    from deepfake_detection.training import predict_faces
    path, canary = tmp_path / "climbing.keras", tmp_path / "canary"
    _climbing_zip(path, canary)
    try:
        predict_faces.load(path)
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
    return {"link": lambda: file.__setitem__("x", h5py.ExternalLink(str(secret), "secret")),
            "storage": lambda: file.create_dataset("x", shape, "f8", external=[(str(raw), 0, raw.stat().st_size)]),
            "virtual": lambda: file.create_virtual_dataset("x", layout)}


@pytest.mark.parametrize("way", ["link", "storage", "virtual"])
@pytest.mark.parametrize("name", ["m.h5", "m.weights.h5", "m.keras"])
def test_a_model_that_points_into_another_file_is_refused(tmp_path, name, way):
    import h5py

    from deepfake_detection import export
    from deepfake_detection.models import weights
    from deepfake_detection.training import predict_faces
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
    for read in (lambda: predict_faces.load(path), lambda: weights.load_into(plain(), path), lambda: export.export(path, "onnx", tmp_path / "out")):
        with pytest.raises(UserError, match="another"):
            read()


def test_plain_models_are_taken(tmp_path):
    from deepfake_detection.training import predict_faces
    for name in ("plain.keras", "plain.h5"):
        plain().save(tmp_path / name)
        assert predict_faces.load(tmp_path / name).output_shape == (None, 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_damaged_model_is_one_line(tmp_path, share):
    from deepfake_detection.training import predict_faces
    for name in ("plain.keras", "plain.h5"):
        plain().save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:int(len(data) * share)])
        with pytest.raises(UserError) as caught:
            predict_faces.load(tmp_path / name)
        assert str(caught.value).isprintable()
