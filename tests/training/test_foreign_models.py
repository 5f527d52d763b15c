"""Models that other people's Keras wrote: of Keras 2, of no fixed size.

`keras2_b0_head.h5.gz` is the published network made small (48 px, 15,096 parameters): EfficientNet of the
`efficientnet` package (one block a stage, two in the second, width 0.05) with the head Dense, Dropout, Dense, Dense,
saved by Keras 2 (`tf_keras` 2.21) as .h5.
"""

import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from deepfake_detection.errors import UserError

keras = pytest.importorskip("keras")

#: What Keras 2 predicted for `pictures()`.
EXPECTED = [0.1100013, 0.197801, 0.3038735, 0.7429917, 0.9141368, 0.9233847]


def pictures():
    """Six pictures of noise from dark to bright, float32 (6, 48, 48, 3) in 0..1."""
    x = np.random.default_rng(5).integers(0, 256, (6, 48, 48, 3)).astype("float32")
    return np.floor(x * np.linspace(0.1, 1, 6, dtype="float32")[:, None, None, None]) / np.float32(255)


def _as_saved(config):
    return config


def _walk(value, change):
    if isinstance(value, dict):
        for v in list(value.values()):
            _walk(v, change)
        change(value)
    elif isinstance(value, list):
        for v in value:
            _walk(v, change)


def _without_modules(config):
    """Keras 2.2 to 2.11 wrote class names alone."""
    _walk(config, lambda d: [d.pop(k, None) for k in ("module", "registered_name", "build_config")])
    return config


def _model_for_functional(config):
    """Keras 2.2 called a graph Model."""
    _walk(
        _without_modules(config),
        lambda d: d.update(class_name="Model") if d.get("class_name") == "Functional" else None,
    )
    return config


def _without_input_layer(config):
    """Keras 2.3 left the first layer of a Sequential to itself."""
    config["config"]["layers"] = [layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"]
    return _model_for_functional(config)


def _own_initializers(config):
    """Other implementations of EfficientNet have initializers of their own."""

    def change(d):
        for k in d:
            if k.endswith("_initializer") and isinstance(d[k], dict) and d[k].get("class_name") == "VarianceScaling":
                d[k] = {"class_name": "EfficientConv2DKernelInitializer", "config": {}}

    _walk(_without_modules(config), change)
    return config


def _inherited_options(config):
    """Keras 2.2's DepthwiseConv2D wrote what it inherited from Conv2D."""
    _walk(
        _without_modules(config),
        lambda d: (
            d["config"].update(
                kernel_initializer={"class_name": "Zeros", "config": {}},
                kernel_regularizer=None,
                kernel_constraint=None,
            )
            if d.get("class_name") == "DepthwiseConv2D"
            else None
        ),
    )
    return config


@pytest.mark.parametrize(
    "change",
    [_as_saved, _without_modules, _model_for_functional, _without_input_layer, _own_initializers, _inherited_options],
    ids=lambda f: f.__name__[1:],
)
@pytest.mark.parametrize("use", ["load", "continue"])
def test_the_published_head_of_keras_2_predicts_what_it_predicted(tmp_path, change, use):
    from deepfake_detection.models import model_file

    path = tmp_path / "best_model.h5"
    path.write_bytes(gzip.decompress((Path(__file__).parent / "keras2_b0_head.h5.gz").read_bytes()))
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(change(json.loads(file.attrs["model_config"])))
    model = model_file.load(path)
    assert model.input_shape == (None, 48, 48, 3) and model.count_params() == 15_096
    if use == "continue":  # saved again in today's format
        model.save(tmp_path / "again.keras")
        model = model_file.load(tmp_path / "again.keras")
    np.testing.assert_allclose(model.predict(pictures(), verbose=0)[:, 0], EXPECTED, atol=2e-6)


def any_size(classes=1):
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes, activation="sigmoid"),
        ]
    )


@pytest.fixture
def faces(tmp_path):
    import cv2

    rng = np.random.default_rng(0)
    for kind, name in (("real", "a"), ("real", "b"), ("fake", "c"), ("fake", "d")):
        (tmp_path / "faces" / kind).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(
            str(tmp_path / "faces" / kind / f"{name}-000-00.png"), rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        )
    return tmp_path / "faces"


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_model_of_any_size_works_with_a_size_and_says_so_without(tmp_path, faces, name):
    from deepfake_detection.training import scoring

    any_size().save(tmp_path / name)
    with pytest.raises(UserError, match="--image-size"):
        scoring.run(tmp_path / name, faces, tmp_path / "out")
    scoring.run(tmp_path / name, faces, tmp_path / "out", image_size=40)
    scores = json.loads((tmp_path / "out" / "cnn_preds_values.json").read_text())
    import cv2

    rows = {name: np.ravel(p)[0] for name, p in scores}
    model = keras.models.load_model(tmp_path / name, compile=False)
    for title, p in rows.items():
        face = cv2.cvtColor(cv2.imread(str(faces / title)), cv2.COLOR_BGR2RGB)
        assert p == pytest.approx(float(model.predict(face[None].astype("float32"), verbose=0)[0, 0]), abs=1e-5)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: any_size(2), "does not give one P"),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((None, 32, 3)),
                    keras.layers.GlobalAveragePooling2D(),
                    keras.layers.Dense(1, activation="sigmoid"),
                ]
            ),
            "",
        ),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((32, 32, 3)),
                    keras.layers.GlobalAveragePooling2D(),
                    keras.layers.Dense(1, bias_initializer="ones", kernel_initializer="ones"),
                ]
            ),
            "no probability",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((None, None, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)]
            ),
            "does not take faces",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((32, 16, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)]
            ),
            "does not take faces",
        ),
        (lambda: keras.Sequential([keras.Input((7,)), keras.layers.Dense(1)]), "does not take faces"),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((None, 32, 32, 3)),
                    keras.layers.Conv3D(1, 3),
                    keras.layers.GlobalAveragePooling3D(),
                    keras.layers.Dense(1),
                ]
            ),
            "no fixed size",
        ),
        (lambda: _masked((None, 32, 32, 3)), "no fixed size"),
        (lambda: _masked((4, None, None, 3)), "no fixed size"),
    ],
    ids=[
        "two classes",
        "free height",
        "no sigmoid",
        "grey",
        "oblong",
        "numbers",
        "free time",
        "free sequence",
        "free faces",
    ],
)
def test_other_shapes_are_one_line_or_work(tmp_path, faces, make, words):
    from deepfake_detection.training import scoring

    make().save(tmp_path / "m.keras")
    if not words:
        scoring.run(tmp_path / "m.keras", faces, tmp_path / "out")
        return
    with pytest.raises(UserError, match=words):
        scoring.run(tmp_path / "m.keras", faces, tmp_path / "out", image_size=32)


def _masked(shape):
    faces, mask = keras.Input(shape), keras.Input((shape[0],))
    x = keras.layers.GlobalAveragePooling3D()(keras.layers.Conv3D(1, 1)(faces))
    return keras.Model([faces, mask], keras.layers.Dense(1)(x))
