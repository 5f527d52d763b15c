"""From a trained network to what is shipped."""

import numpy as np
import pandas as pd
import pytest

from deepfake_detection.detector.config import read_config
from deepfake_detection.detector.network import DetectorModel, trim, views_of
from deepfake_detection.export import calibrate, ship
from deepfake_detection.faces.crops import crop_face


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


def scores(turned: bool = False) -> pd.DataFrame:
    """Over-confident validation scores that point the right way (or not); those of the unseen source lie lower."""
    rng, rows = np.random.default_rng(0), []
    for source, split, videos, faces, shift in (
        ("dfdc", "val", 300, 1, 0.0),
        ("ffpp", "val", 60, 8, 0.0),
        ("strangers", "unseen", 80, 8, -1.5),
    ):
        for v in range(videos):
            real = v % 2
            for _ in range(faces):
                logit = 4 * rng.normal(1.0 if real != turned else -1.0, 1.0) + shift
                rows.append(
                    {
                        "source": source,
                        "split": split,
                        "window": "tight" if source == "dfdc" else "wide",
                        "file": f"{source}{v}",
                        "real": real,
                        "p_real": 1 / (1 + np.exp(-logit)),
                    }
                )
    return pd.DataFrame(rows)


def test_calibration_cools_and_thresholds_hold_their_rates_on_every_kind_of_material():
    given = scores()
    found = ship.calibrated(given)
    assert 1.5 < found["calibration"]["temperature"] < 4
    from deepfake_detection.aggregation import Calibration

    p = (
        given.assign(p=Calibration.from_dict(found["calibration"]).apply(given.p_real.to_numpy()))
        .groupby("file")
        .agg(p=("p", "mean"), real=("real", "first"), source=("source", "first"))
    )
    for source, part in p.groupby("source"):
        reals, fakes = part.p[part.real == 1], part.p[part.real == 0]
        assert (reals < found["thresholds"]["fake_below"]).mean() <= calibrate.FAKE_RATE, source
        assert (fakes >= found["thresholds"]["real_above"]).mean() <= calibrate.ERROR_RATE, source
    assert 0 < found["thresholds"]["fake_below"] <= found["thresholds"]["real_above"] < 1


def test_scores_of_the_wrong_polarity_decide_nothing():
    found = ship.calibrated(scores(turned=True))
    assert found["thresholds"] == {"fake_below": 0.0, "real_above": 1.0} and found["calibration"]["temperature"] == 1
    assert "wrong way" in found["fitted_on"]["no_thresholds"]


@pytest.fixture(scope="module")
def shipped_folder(lite0, tmp_path_factory):
    import synthetic

    folder = tmp_path_factory.mktemp("ship")
    lite0.get_layer("block0_dw").trainable = False  # as after a run with `freeze`
    lite0.save(folder / "trained.keras")
    lite0.get_layer("block0_dw").trainable = True
    with pytest.MonkeyPatch.context() as m:
        # An untrained network points neither way; what is calibrated and written is tested here, not how good it is.
        m.setattr(ship, "validation_scores", lambda *args, **options: scores())
        ship.ship(folder / "trained.keras", synthetic.cut_faces(), folder / "models", name="mine", version="0.3")
    return folder / "models"


def test_a_network_that_says_something_else_in_onnx_is_not_shipped(lite0, cut_faces, tmp_path, monkeypatch):
    from deepfake_detection.errors import UserError
    from deepfake_detection.export import formats, onnx_writer

    lite0.save(tmp_path / "trained.keras")
    other = lite0.__class__.from_config(lite0.get_config())
    write = onnx_writer.write
    monkeypatch.setitem(formats._WRITE, "onnx", lambda model, path, faces: write(other, path))
    with pytest.raises(UserError, match="disagrees with Keras"):
        ship.ship(tmp_path / "trained.keras", cut_faces, tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())


def test_shipping_a_network_end_to_end(shipped_folder):
    import keras

    model, config = DetectorModel.load(shipped_folder), read_config(shipped_folder)
    assert config["agreement_with_keras"]["faces"] > 1 and config["agreement_with_keras"]["largest"] < 1e-4
    assert keras.models.load_model(shipped_folder / "detector.keras", compile=False).get_layer("block0_dw").trainable
    assert (config["name"], config["version"], config["input_size"]) == ("mine", "0.3", 64) and len(
        views_of(config)
    ) == 2
    crop = np.random.default_rng(2).integers(0, 256, (90, 80, 3)).astype(np.uint8)
    assert model.predict([crop]).shape == (1,)


def test_two_views_are_averaged_as_logits(shipped_folder):
    model = DetectorModel.load(shipped_folder)
    crop = np.random.default_rng(3).integers(0, 256, (120, 100, 3)).astype(np.uint8)
    model.config = model.config | {"flip": False}
    one, two = (model.predict_raw([trim(crop, view)], trimmed=True)[0] for view in views_of(model.config))
    assert one != two
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    assert logit(model.predict_raw([crop])[0]) == pytest.approx((logit(one) + logit(two)) / 2, abs=1e-4)


def test_faces_of_the_index_are_cut_as_a_video_s_are(cut_faces):
    """The same box in a frame, and in the larger picture that training keeps of it."""
    frame = np.random.default_rng(4).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    box = (150, 90, 100, 120)
    x0, y0, x1, y1 = 110, 40, 300, 260  # what training kept
    inside = np.array([(150 - x0) / 190, (90 - y0) / 220, (250 - x0) / 190, (210 - y0) / 220])
    np.testing.assert_array_equal(ship.cut_out(frame[y0:y1, x0:x1], inside, 0.22), crop_face(frame, box, 0.22))


def test_the_tight_window_is_the_same_place_of_a_face_in_both():
    """Columns and rows tell where they lie."""
    picture = np.stack([*np.mgrid[0:256, 0:256], np.zeros((256, 256))], -1).astype(np.uint8)
    box = np.array([0.25, 0.25, 0.75, 0.75])
    alone, beside = (
        trim(ship.cut_out(picture, box, window["margin"]), views_of(window)[-1]) for window in ship.WINDOWS.values()
    )
    assert len(views_of(ship.WINDOWS["tight"])) == 1
    for corner in (0, -1):
        np.testing.assert_allclose(alone[corner, corner].astype(int), beside[corner, corner].astype(int), atol=2)


@pytest.fixture(scope="module")
def cut_faces():
    import synthetic

    return synthetic.cut_faces()


def test_validation_scores_read_no_training_face(shipped_folder, cut_faces):
    found = ship.validation_scores(shipped_folder, cut_faces)
    assert set(found.split) == {"val", "unseen"} and found.p_real.between(0, 1).all()
    assert found.real.tolist() == (found.label == "real").astype(int).tolist()
