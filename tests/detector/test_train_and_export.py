import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from deepfake_detection.detector import export, train
from deepfake_detection.detector.runtime import DetectorModel, read_config
from deepfake_detection.errors import UserError

TINY = train.Settings(architecture="compact_cnn", sizes=((0.0, 32),), steps=4, batch=64, validate_every=2, augmentation="none", warmup=0.1)


@pytest.fixture(scope="module")
def trained(small_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return train.run(TINY, small_cache, out), out


def test_a_run_leaves_model_log_and_settings(trained):
    import keras

    path, out = trained
    assert keras.models.load_model(path, compile=False).input_shape == (None, 32, 32, 3)
    assert json.loads((out / "settings.json").read_text())["steps"] == 4
    before = path.stat().st_mtime_ns
    assert train.run(TINY, None, out) == path and path.stat().st_mtime_ns == before      # done: not made again, no data read
    log = pd.read_csv(out / "log.csv")
    assert log.step.tolist() == [2, 4] and log["size"].tolist() == [32, 32] and log.dfdc_auc.between(0, 1).all()


def run_until_checkpoint(settings, cache, out, monkeypatch):
    """Trains up to the first checkpoint, and is interrupted there."""
    save = train._save

    def save_and_die(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(train, "_save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train.run(settings, cache, out)


def test_a_killed_run_goes_on_where_it_was(trained, small_cache, tmp_path, monkeypatch):
    import keras

    whole = keras.models.load_model(trained[0], compile=False)
    run_until_checkpoint(TINY, small_cache, tmp_path, monkeypatch)
    again = keras.models.load_model(train.run(TINY, small_cache, tmp_path), compile=False)
    assert json.loads((tmp_path / "result.json").read_text())["step"] == 4
    # Dropout draws anew after a restart, so the weights are close, not equal; without the checkpoint they would be far.
    for a, b in zip(whole.get_weights(), again.get_weights()):
        np.testing.assert_allclose(a, b, atol=0.05)


def test_a_run_does_not_go_on_from_another_ones_checkpoint(small_cache, tmp_path, monkeypatch):
    run_until_checkpoint(TINY, small_cache, tmp_path, monkeypatch)
    kept = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(UserError, match=r"other settings .*\(learning_rate, mixing\)"):
        train.run(replace(TINY, learning_rate=1e-2, mixing=0.5), small_cache, tmp_path)
    assert (tmp_path / "settings.json").read_bytes() == kept
    train.run(replace(TINY, steps=3), small_cache, tmp_path)                                # a shorter one is the same run
    assert json.loads((tmp_path / "result.json").read_text())["step"] == 3


def test_a_run_ends_early_with_the_averaged_weights_of_its_last_checkpoint(small_cache, tmp_path, monkeypatch):
    import keras

    run_until_checkpoint(TINY, small_cache, tmp_path, monkeypatch)
    model = keras.models.load_model(train.run(replace(TINY, steps=2), None, tmp_path), compile=False)       # no batch is drawn
    with np.load(tmp_path / "checkpoint.npz") as averaged:
        for i, weight in enumerate(model.get_weights()):
            np.testing.assert_array_equal(weight, averaged[f"w{i}"])


TAUGHT = replace(TINY, where=(0.5, "max_pooling2d_1"))


def test_a_run_that_learns_where_leaves_a_plain_model(small_cache, tmp_path, monkeypatch):
    """With frozen layers and a kill on the way: the second output lives through both, and is gone at the end."""
    import keras

    settings = replace(TAUGHT, freeze=(0.3, "scale"), freeze_norms=0.6)
    run_until_checkpoint(settings, small_cache, tmp_path, monkeypatch)
    checkpoint = keras.models.load_model(tmp_path / "checkpoint.keras")
    assert len(checkpoint.outputs) == 2 and np.abs(checkpoint.get_layer("altered_logits").get_weights()[0]).max() > 0
    model = keras.models.load_model(train.run(settings, small_cache, tmp_path), compile=False)
    assert [tuple(t.shape) for t in model.outputs] == [(None, 1)] and model.input_shape == (None, 32, 32, 3)
    assert not [layer for layer in model.layers if layer.name.startswith("altered")]
    log = pd.read_csv(tmp_path / "log.csv")
    assert log.step.tolist() == [2, 4] and (log.where_loss > 0).all() and (log.loss > 0).all()


def test_maps_that_are_not_known_teach_nothing(small_cache):
    model = train._compiled(train._taught(_built(TAUGHT), TAUGHT), TAUGHT)
    faces, labels, places = np.zeros((4, 32, 32, 3), np.float32), np.zeros((4, 1), np.float32), model.output_shape[1][1]
    for known in ([0, 0, 0, 0], [1, 0, 0, 0]):
        losses = []
        for value in (0.0, 1.0):
            maps = np.zeros((4, places), np.float32)
            maps[1:] = value                                                         # of the faces whose maps are not known
            losses.append(model.test_on_batch(faces, [labels, maps], sample_weight=[np.ones(4), np.array(known, np.float32)])[2])
        assert losses[0] == pytest.approx(losses[1]) and (losses[0] > 0.1) == any(known)


def _built(settings):
    from deepfake_detection.models import registry

    return registry.build(settings.architecture, input_size=32)


@pytest.mark.parametrize("read, text, value", [
    ("teaching", "none", None), ("teaching", "0.5:block10_add", (0.5, "block10_add")), ("teaching", "0:block10_add", ValueError),
    ("teaching", "block10_add", ValueError), ("teaching", "nan:x", ValueError), ("teaching", "0.5:", ValueError),
    ("freezing", "none", None), ("freezing", "0.3:block2_add", (0.3, "block2_add")), ("freezing", "1:block2_add", ValueError),
    ("sizes", "0:128,0.7:160", ((0.0, 128), (0.7, 160))), ("sizes", "0.1:128", ValueError), ("sizes", "0:128,0.5:168", ValueError),
    ("side", "176", 176), ("side", "184", ValueError)])
def test_options_of_the_training_script(read, text, value):
    import argparse

    import train_detector

    if value is ValueError:
        with pytest.raises(argparse.ArgumentTypeError, match="must"):
            getattr(train_detector, read)(text)
    else:
        assert getattr(train_detector, read)(text) == value


def test_a_layer_that_is_not_there_is_said():
    with pytest.raises(UserError, match="no layer named 'nose'.*"):
        train._taught(_built(TAUGHT), replace(TAUGHT, where=(0.5, "nose")))


def test_places_of_a_dataset_are_parts_of_the_map(small_cache):
    """Of the real faces no place is altered, of the blends some are, by a part from 0 to 1."""
    faces, labels, where, known = next(iter(train.dataset(small_cache, TINY, 0, 32, (4, 4))))
    assert where.shape == (64, 16) and known.shape == (64,) and faces.shape == (64, 32, 32, 3)
    real = labels.numpy()[:, 0] == 1
    assert not where.numpy()[real].any()
    blends = where.numpy()[~real & (known.numpy() == 1)]
    assert len(blends) > 10 and 0 <= blends.min() and 0.3 < blends.max() <= 1 and (blends.max(1) > 0).all()


def test_quick_validation_asks_about_every_dfdc_face(small_cache):
    """A model that is right about every face but one video's."""
    images, table = small_cache.images.copy(), small_cache.table
    images[...] = np.where(table.label.to_numpy()[:, None, None, None] == 1, 200, 50)
    model = lambda faces, training: faces.mean((1, 2, 3))[:, None] / 255           # noqa: E731
    assert train.quick_validation(model, train.Cache(table, images), 32)["dfdc_auc"] == 1
    rows = table.index[(table.dataset == "dfdc") & (table.split == "val") & (table.label == 1)]
    for row in rows:
        wrong = images.copy()
        wrong[row] = 10
        assert train.quick_validation(model, train.Cache(table, wrong), 32)["dfdc_auc"] < 1, row


@pytest.fixture(scope="module")
def lite0():
    """A Lite0 whose batch statistics are those of noise, not the zeros and ones that it starts with."""
    from deepfake_detection.models import registry

    model = registry.build("efficientnet_lite0", input_size=64, batch_norm_momentum=0.5)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([rng.uniform(0.7, 1.3, gamma.shape), rng.normal(0, 0.1, beta.shape), mean, variance])
    for _ in range(8):
        model(rng.integers(0, 256, (16, 64, 64, 3)).astype(np.float32), training=True)
    return model


def test_onnx_computes_what_keras_does(lite0, tmp_path):
    import onnxruntime

    export.to_onnx(lite0, tmp_path / "m.onnx")
    faces = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    expected = np.asarray(lite0(faces.astype(np.float32), training=False))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(session.run(None, {"image": faces})[0], expected, atol=1e-5)


def test_a_layer_without_counterpart_is_refused(tmp_path):
    import keras

    image = keras.Input((32, 32, 3), name="image")
    model = keras.Model(image, keras.layers.Dense(1, activation="sigmoid")(keras.layers.Flatten()(keras.layers.Softmax()(image))))
    with pytest.raises(UserError, match="cannot be written as ONNX"):
        export.to_onnx(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def scores(turned: bool = False) -> pd.DataFrame:
    """Over-confident validation scores that point the right way (or not)."""
    rng, rows = np.random.default_rng(0), []
    for dataset, videos, faces in (("dfdc", 300, 1), ("ffpp", 60, 8)):
        for v in range(videos):
            label = v % 2
            for k in range(faces):
                logit = 4 * rng.normal(1.0 if label != turned else -1.0, 1.0)
                rows.append({"dataset": dataset, "video": f"{dataset}{v}", "label": label, "time_s": k / 10, "p_real": 1 / (1 + np.exp(-logit))})
    return pd.DataFrame(rows)


def test_calibration_cools_and_thresholds_hold_their_rate():
    found = export.calibrate(scores())
    assert 1.5 < found["calibration"]["temperature"] < 3
    assert 0 < found["thresholds"]["fake_below"] <= found["thresholds"]["real_above"] < 1
    assert found["aggregation"] in found["fitted_on"]["clip_log_loss_by_rule"]


def test_scores_of_the_wrong_polarity_are_not_shipped():
    from deepfake_detection.aggregation import CalibrationError

    with pytest.raises(CalibrationError, match="wrong way"):
        export.calibrate(scores(turned=True))


def test_shipping_a_network_end_to_end(lite0, small_cache, tmp_path, monkeypatch):
    import keras

    # An untrained network points neither way; what is calibrated and written is tested here, not how good it is.
    monkeypatch.setattr(export, "validation_scores", lambda *args, **options: scores())
    lite0.get_layer("block0_dw").trainable = False          # as after a run with `freeze`
    lite0.save(tmp_path / "trained.keras")
    lite0.get_layer("block0_dw").trainable = True
    export.ship(tmp_path / "trained.keras", small_cache, tmp_path / "models")
    model = DetectorModel.load(tmp_path / "models")
    assert keras.models.load_model(tmp_path / "models" / "detector.keras", compile=False).get_layer("block0_dw").trainable
    config = read_config(tmp_path / "models")
    assert config["input_size"] == 64 and config["flip"] is False and config["fitted_on"]["videos"] == 360
    assert model.predict([small_cache.images[0]], trimmed=True).shape == (1,)


@pytest.mark.parametrize("extra", [{}, {"where": (0.5, "block4_add")}, {"where": (0.5, "block4_add"), "freeze": (0.1, "block2_add"), "freeze_norms": 0.2}],
                         ids=["plain", "with a second output", "frozen before"])
def test_resized_keeps_weights_and_optimizer(lite0, extra):
    """The averages of AdamW go along; without them the first steps at the new size would be far too long. What stands still goes on standing."""
    import keras

    settings = replace(TINY, architecture="efficientnet_lite0", **extra)
    model = keras.models.clone_model(lite0)
    model.set_weights(lite0.get_weights())
    model = train._compiled(train._taught(model, settings), settings)
    model.optimizer.build(model.trainable_variables)
    if train._freezes(model, settings, 0.5):
        model = train._frozen(model, settings, 0.5)
    rng = np.random.default_rng(0)
    for variable in model.optimizer.variables[1:]:
        variable.assign(rng.random(variable.shape))
    larger = train._resized(model, settings, 96)
    assert larger.input_shape[1] == 96 and len(larger.outputs) == len(model.outputs) and not train._freezes(larger, settings, 0.5)
    assert len(larger.optimizer.variables) == len(model.optimizer.variables)
    for a, b in zip([*model.optimizer.variables, *model.get_weights()], [*larger.optimizer.variables, *larger.get_weights()]):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_frozen_layers_stay_and_the_optimizer_goes_on(lite0):
    import keras

    settings = replace(TINY, architecture="efficientnet_lite0", freeze=(0.5, "block2_add"))
    model = train._compiled(keras.models.clone_model(lite0), settings)
    model.set_weights(lite0.get_weights())
    faces = np.random.default_rng(0).uniform(0, 255, (8, 64, 64, 3)).astype(np.float32)
    labels = np.array([0, 1] * 4, np.float32)[:, None]
    model.train_on_batch(faces, labels)
    kept = {train._owner(v): np.asarray(v) for v in model.optimizer.variables}
    model = train._frozen(model, settings, progress=0.5)
    assert 0 < len(model.optimizer.variables) < len(kept)
    for variable in model.optimizer.variables:
        np.testing.assert_array_equal(np.asarray(variable), kept[train._owner(variable)])
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    model.train_on_batch(faces, labels)
    names = [layer.name for layer in model.layers]
    for layer in model.layers:
        if layer.weights:
            same = all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), before[layer.name]))
            assert same == (names.index(layer.name) <= names.index("block2_add")), layer.name
    # What is saved for a restart knows what is frozen.
    assert [w.shape for w in train._with(model, model.get_weights()).get_weights()] == [w.shape for w in model.get_weights()]


def test_normalisation_stands_still_from_its_part_on(lite0):
    import keras

    settings = replace(TINY, architecture="efficientnet_lite0", freeze=(0.2, "block2_add"), freeze_norms=0.6)
    model = train._compiled(keras.models.clone_model(lite0), settings)
    model.set_weights(lite0.get_weights())
    assert not train._freezes(model, settings, 0.1)
    assert train._freezes(model, settings, 0.2)
    model = train._frozen(model, settings, progress=0.2)
    assert not train._freezes(model, settings, 0.5) and train._norms(model)[-1].trainable
    assert train._freezes(model, settings, 0.6)
    model = train._frozen(model, settings, progress=0.6)
    assert not train._freezes(model, settings, 0.9)
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    faces = np.random.default_rng(0).uniform(0, 255, (8, 64, 64, 3)).astype(np.float32)
    model.train_on_batch(faces, np.array([0, 1] * 4, np.float32)[:, None])
    names, norms = [layer.name for layer in model.layers], {layer.name for layer in train._norms(model)}
    for layer in model.layers:
        if layer.weights:
            same = all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), before[layer.name]))
            assert same == (layer.name in norms or names.index(layer.name) <= names.index("block2_add")), layer.name


def test_a_run_may_begin_frozen(small_cache, tmp_path):
    settings = replace(TINY, steps=2, freeze=(0.0, "conv2d_2"))
    assert train.run(settings, small_cache, tmp_path).is_file()


def test_a_run_freezes_at_its_part_and_goes_on_after_a_kill(small_cache, tmp_path, monkeypatch):
    import keras

    settings = replace(TINY, freeze=(0.5, "conv2d_2"), validate_every=3)
    run_until_checkpoint(settings, small_cache, tmp_path, monkeypatch)
    checkpoint = keras.models.load_model(tmp_path / "checkpoint.keras")
    assert not checkpoint.get_layer("conv2d_2").trainable and checkpoint.get_layer("conv2d_3").trainable
    model = keras.models.load_model(train.run(settings, small_cache, tmp_path), compile=False)
    for a, b in zip(model.get_layer("conv2d_1").get_weights(), checkpoint.get_layer("conv2d_1").get_weights()):
        np.testing.assert_allclose(a, b, atol=0.05)          # the average closes in on the frozen value, the value itself stays


def test_a_model_for_another_size(lite0, tmp_path):
    import keras

    lite0.save(tmp_path / "lite0.keras")
    path = train.interpolate(tmp_path / "lite0.keras", tmp_path / "lite0.keras", 1.0, tmp_path / "larger.keras", size=96)
    larger = keras.models.load_model(path, compile=False)
    assert larger.input_shape == (None, 96, 96, 3)
    for a, b in zip(larger.get_weights(), lite0.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_where_a_way_begins_is_asked_before_the_training(project, tmp_path):
    import train_detector

    with pytest.raises(UserError, match="no such model") as refused:
        train_detector.main(["--interpolate", "0.5", "--interpolate-from", str(tmp_path / "gone.keras"), "--work", str(tmp_path / "work")])
    assert refused.value.hint and not (tmp_path / "work").exists()


def test_a_model_between_two(tmp_path):
    import keras

    from deepfake_detection.models import registry

    keras.utils.set_random_seed(1)
    models = {name: registry.build("compact_cnn", input_size=32, weights="none") for name in ("start", "end")}
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    path = train.interpolate(tmp_path / "start.keras", tmp_path / "end.keras", 0.75, tmp_path / "between.keras")
    between = keras.models.load_model(path, compile=False).get_weights()
    for a, b, c in zip(models["start"].get_weights(), models["end"].get_weights(), between):
        np.testing.assert_allclose(c, 0.25 * a + 0.75 * b, atol=1e-6)
    with pytest.raises(UserError, match="do not fit faces of 48 px"):           # its dense layer sees every pixel
        train.interpolate(tmp_path / "start.keras", tmp_path / "end.keras", 0.75, tmp_path / "no.keras", size=48)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(UserError, match="different architectures"):
        train.interpolate(tmp_path / "other.keras", tmp_path / "end.keras", 0.5, tmp_path / "no.keras")
    assert not (tmp_path / "no.keras").exists()
