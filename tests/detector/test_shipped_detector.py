"""The detector in models/: it loads, Keras and ONNX agree, it points the right way, and no face's score depends on the
others."""

import json
import shutil

import numpy as np
import pytest

from deepfake_detection.detector.config import CONFIG, REQUIRED, read_config
from deepfake_detection.detector.network import KERAS, ONNX, DetectorModel, trim
from deepfake_detection.errors import UserError
from deepfake_detection.faces.crops import network_input
from deepfake_detection.files import sha256

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def model(shipped):
    return DetectorModel.load(shipped)


@pytest.fixture(scope="module")
def noise():
    """Crops of odd sizes that need no data."""
    rng = np.random.default_rng(3)
    return [
        rng.integers(0, 256, (h, w, 3)).astype(np.uint8)
        for h, w in ((40, 30), (300, 250), (160, 160), (97, 211), (1, 1), (224, 224), (64, 512))
    ]


def test_files_are_whole_and_small(shipped):
    config = read_config(shipped)
    for name in (KERAS, ONNX):
        assert sha256(shipped / name) == config["files"][name]
        assert (shipped / name).stat().st_size < 20 * MEGABYTE
    thresholds = config["thresholds"]
    assert 0 < thresholds["fake_below"] <= thresholds["real_above"] < 1
    assert config["calibration"]["temperature"] > 0  # a negative one would turn real into fake


def test_keras_file_opens_without_custom_objects_and_agrees_with_onnx(shipped, model, val_faces):
    import keras

    network = keras.models.load_model(shipped / KERAS)
    crops = val_faces[0][::4]
    size = model.config["input_size"]
    faces = np.stack([network_input(c, size) for c in crops])
    expected = np.asarray(network(faces.astype(np.float32), training=False))[:, 0]
    np.testing.assert_allclose(model._run(faces), expected, atol=1e-4)


def test_real_faces_score_higher_than_fakes(model, val_faces):
    """1 is real. Turned round anywhere between the labels of training and this line, the AUC would be below one
    half."""
    crops, labels = val_faces
    p_real, labels = model.predict(crops, trimmed=True), np.array(labels)
    from deepfake_detection.metrics import auc

    assert auc(labels, p_real) > 0.75
    assert p_real[labels == 1].mean() > p_real[labels == 0].mean() + 0.15


def test_scores_are_calibrated_as_the_configuration_says(model, val_faces):
    from deepfake_detection.aggregation import Calibration

    crops = val_faces[0][:6]
    calibration = Calibration.from_dict(model.config["calibration"])
    np.testing.assert_allclose(model.predict(crops), calibration.apply(model.predict_raw(crops)), atol=1e-6)


def test_a_score_depends_on_its_face_alone(model, noise):
    together = model.predict(noise)
    assert together.shape == (len(noise),) and together.dtype == np.float32
    np.testing.assert_allclose(np.concatenate([model.predict([c]) for c in noise]), together, atol=2e-6)  # batch size
    np.testing.assert_allclose(model.predict(noise[::-1])[::-1], together, atol=2e-6)  # order
    np.testing.assert_allclose(model.predict(noise * 6)[-len(noise) :], together, atol=2e-6)  # more than one batch
    assert model.predict([]).shape == (0,)


def test_threads_do_not_change_scores(shipped, model, noise):
    np.testing.assert_allclose(DetectorModel.load(shipped, threads=2).predict(noise), model.predict(noise), atol=2e-6)


def test_trim_is_applied_unless_the_crop_is_tight(model):
    rng = np.random.default_rng(1)
    crop = rng.integers(0, 256, (200, 150, 3)).astype(np.uint8)
    tight = trim(crop, model.config["trim"])
    assert tight.shape[0] < 200 and tight.shape[1] == 150
    np.testing.assert_array_equal(model.predict([crop]), model.predict([tight], trimmed=True))


@pytest.mark.parametrize(
    "height, cut, rows",
    [
        (100, {"top": 0.2, "bottom": 0.1}, (20, 90)),
        (100, {"top": 0, "bottom": 0}, (0, 100)),
        (1, {"top": 0.2, "bottom": 0.1}, (0, 1)),
        (2, {"top": 0.5, "bottom": 0.5}, (1, 2)),
        (10, {"top": 0.9, "bottom": 0.5}, (9, 10)),
    ],
)
def test_trim(height, cut, rows):
    column = np.arange(height, dtype=np.uint8)[:, None, None]
    np.testing.assert_array_equal(trim(column, cut)[:, 0, 0], np.arange(*rows))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_only_uint8_rgb_is_taken(model, bad):
    with pytest.raises(ValueError, match="uint8"):
        model.predict([bad])


def test_what_is_wrong_with_a_model_folder_is_said(shipped, tmp_path):
    def refuse(match):
        with pytest.raises(UserError, match=match):
            DetectorModel.load(tmp_path)

    refuse("no detector here")
    (tmp_path / CONFIG).write_text("{")
    refuse("not JSON")
    (tmp_path / CONFIG).write_text("[]")
    refuse("no JSON object")
    config = json.loads((shipped / CONFIG).read_text())
    for name in REQUIRED:
        (tmp_path / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if k != name}))
        refuse(f"lacks {name}")
    shutil.copy(shipped / CONFIG, tmp_path)
    refuse("network is missing")
    (tmp_path / ONNX).write_bytes((shipped / ONNX).read_bytes()[:-1] + b"x")
    refuse("not the one")


def test_no_tensorflow_is_needed(project, shipped):
    """The runtime is what predict.py pays for: TensorFlow alone would be five seconds."""
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from deepfake_detection.detector.network import DetectorModel; "
        "DetectorModel.load('models').predict([np.zeros((50, 40, 3), np.uint8)]); "
        "print([m for m in ('tensorflow', 'keras', 'pandas', 'scipy', 'sklearn', 'matplotlib', 'pyspark') if m in "
        "sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
