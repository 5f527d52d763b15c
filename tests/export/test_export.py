"""Exports say what Keras says, of every architecture; a disagreement is refused."""

import os
import subprocess
import sys

import numpy as np
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.models import registry

SIZE = 32


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [  # stage 03's users may bring one; the shipped network is functional
            keras.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.5),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):  # as after a training, or folding it would change nothing
            rng = np.random.default_rng(1)
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    from deepfake_detection.export.formats import generated_faces

    features = np.asarray(
        keras.Model(model.inputs[0], model.layers[-2].output)(
            generated_faces(SIZE, 16, 0).astype(np.float32), training=False
        )
    )
    kernel, _ = model.layers[-1].get_weights()
    kernel *= 1.5 / (features @ kernel).std()  # scores spread over 0..1 instead of at one end
    model.layers[-1].set_weights([kernel, -(features @ kernel).mean(axis=0)])
    path = tmp_path_factory.mktemp("model") / "small.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Pictures that are no faces: agreement is a matter of arithmetic."""
    import cv2

    from deepfake_detection.export.formats import generated_faces

    folder = tmp_path_factory.mktemp("faces")
    for i, picture in enumerate(generated_faces(48, 24, 5)):
        (folder / ("real", "fake")[i % 2]).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / ("real", "fake")[i % 2] / f"a-{i:03d}-00.png"), picture)
    (folder / "real" / "broken.png").write_bytes(b"")
    return folder


@pytest.mark.parametrize("form, suffix", [("onnx", ".onnx"), ("openvino", ".xml"), ("tflite", ".tflite")])
@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
def test_an_export_agrees_with_keras_and_runs_with_any_batch(model_path, faces, tmp_path, form, suffix, int8):
    from deepfake_detection.export import formats

    out = tmp_path / "sub" / f"m{suffix}"
    result = formats.export(model_path, form, out, faces=faces, int8=int8, max_difference=0.2 if int8 else None)
    assert result["faces"] == (12 if int8 else 24) and result["measured_on"] == "faces"
    assert (
        (1e-6 if int8 else 0) <= result["largest"] <= (0.2 if int8 else 1e-4)
    )  # eight bits that differ by nothing are not eight bits
    assert sorted(p.name for p in out.parent.iterdir()) == sorted(
        [out.name] + ([out.with_suffix(".bin").name] if form == "openvino" else [])
    )
    pictures = formats.read_faces(faces, SIZE, 7, 1)
    scores = formats._RUN[form](out, pictures)
    assert scores.shape == (7, 1) and np.ptp(scores) > 0.01
    assert np.allclose(formats._RUN[form](out, pictures[2:3]), scores[2:3], atol=1e-5)


def test_a_disagreement_is_refused_and_nothing_is_written(model_path, faces, tmp_path):
    from deepfake_detection.export import formats

    with pytest.raises(UserError, match="disagrees with Keras by up to"):
        formats.export(model_path, "onnx", tmp_path / "m.onnx", faces=faces, int8=True, max_difference=1e-7)
    assert not list(tmp_path.iterdir())


def test_agreement_counts():
    from deepfake_detection.export.formats import agreement

    found = agreement(np.array([0.1, 0.5, 0.9], np.float32), np.array([0.1, 0.49, 0.9], np.float32))
    assert found["faces"] == 3 and found["largest"] == pytest.approx(0.01, abs=1e-6) and found["verdicts_changed"] == 1


def test_wrong_use_in_one_line(model_path, tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "deepfake_detection.export", *arguments],
            capture_output=True,
            text=True,
            env=os.environ,
        )

    for arguments, expected in (
        (["--format", "onnx", "--model-file", "none.keras"], "no such model"),
        (["--format", "onnx", "--model-file", str(model_path), "--int8"], "calibrated on real faces"),
        (["--format", "onnx", "--out", "a.tflite"], "ends in .onnx"),
        (["--format", "onnx", "--faces-dir", "nowhere"], "no such folder of faces"),
        (["--format", "caffe"], "invalid choice"),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and expected in done.stderr and "Traceback" not in done.stderr, (
            arguments,
            done.stderr,
        )


def of_noise(model):
    """The model with batch statistics of its own input, as after a training, and scores that differ from face to
    face."""
    size = model.input_shape[1]
    rng = np.random.default_rng(0)
    import keras

    from deepfake_detection.models.weights import leaf_layers

    for layer in leaf_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    for _ in range(3):
        model(rng.integers(0, 256, (8, size, size, 3)).astype(np.float32), training=True)
    return model


def foreign():
    """Layers that no architecture here has: activations inside convolutions, a Normalization, a model inside the
    model."""
    import keras
    from keras import layers

    image = keras.Input((24, 24, 3), name="picture")
    x = layers.Normalization(mean=[110, 120, 130], variance=[50, 60, 70])(image)
    x = layers.Conv2D(6, 3, activation="elu")(x)
    x = layers.SeparableConv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    inner = keras.Sequential(
        [keras.Input(x.shape[1:]), layers.LayerNormalization(), layers.Conv2D(4, 1, activation="silu")]
    )
    x = layers.GlobalMaxPooling2D()(layers.UpSampling2D(2)(inner(x)))
    return keras.Model(image, layers.Dense(1, activation="sigmoid")(x), name="foreign")


def large(name, parameters):
    return registry.module(name).PARAMETERS > parameters


@pytest.mark.parametrize(
    "name",
    [
        "foreign",
        *(
            pytest.param(name, marks=[pytest.mark.nightly] if large(name, 5_000_000) else [])
            for name in registry.names("frame")
        ),
    ],
)
def test_every_architecture_of_single_faces_becomes_onnx(name, tmp_path):
    """ONNX Runtime loads it as a detector's network: uint8 faces, any number, one input."""
    import keras
    import onnxruntime

    from deepfake_detection.export import onnx_writer

    keras.utils.set_random_seed(5)
    if name == "foreign":
        model = of_noise(foreign())
    else:
        smaller = max(64, getattr(registry.module(name), "MIN_INPUT_SIZE", 0)) if large(name, 1_000_000) else None
        model = of_noise(registry.build(name, input_size=smaller))
    before = {w.path: np.asarray(w) for w in model.weights}
    onnx_writer.write(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    side = model.input_shape[1]
    assert (given.name, given.type, given.shape) == ("image", "tensor(uint8)", ["N", side, side, 3])
    assert (made.name, made.type, made.shape) == ("score", "tensor(float)", ["N", 1])
    for count in (1, 5):
        faces = np.random.default_rng(count).integers(0, 256, (count, side, side, 3)).astype(np.uint8)
        expected = np.asarray(model(faces.astype(np.float32), training=False))
        np.testing.assert_allclose(session.run(None, {"image": faces})[0], expected, atol=1e-5)
    assert all(np.array_equal(before[w.path], np.asarray(w)) for w in model.weights)


def test_an_operation_that_the_exporter_lacks_is_refused(tmp_path):
    import keras

    from deepfake_detection.export import onnx_writer

    image = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Activation("gelu")(image))
    model = keras.Model(image, keras.layers.Dense(1, activation="sigmoid")(x), name="odd")
    with pytest.raises(UserError, match="odd cannot be written as ONNX .*Erfc"):
        onnx_writer.write(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
