"""The network that looks at the rim of a face against what surrounds it."""

import cv2
import numpy as np
import pandas as pd
import pytest

from deepfake_detection.blending.faces import Faces
from deepfake_detection.blending.sampler import Settings
from deepfake_detection.errors import UserError
from deepfake_detection.models import registry
from deepfake_detection.training import rim

SIZE, BLOCK = 96, "block5_bn2"


@pytest.mark.parametrize("side", [3, 6, 11, 22])
def test_weights_hold_the_rim_against_the_surroundings(side):
    weights = rim.against_surroundings(side)
    assert weights.sum() == pytest.approx(0) and weights[weights > 0].sum() == pytest.approx(1)
    assert np.array_equal(weights, weights[::-1]) and np.array_equal(weights, weights.T)
    assert weights[0, 0] < 0 and (side < 6 or weights[side // 2, side // 2] == 0)


def test_a_map_of_four_cells_is_too_small():
    with pytest.raises(UserError, match="too small"):
        rim.against_surroundings(2)


def windows(pairs, seed):
    """Faces (2 P, S, S, 3) of noise, every second one soft along its rim; a pair is soft, dark or bright as a whole."""
    rng = np.random.default_rng(seed)
    across = ((np.arange(SIZE) + 0.5) / SIZE * 2 - 1) * 1.44
    away = np.hypot(across[:, None], across[None])[..., None]
    made = []
    for _ in range(pairs):
        face = cv2.GaussianBlur(rng.normal(rng.uniform(90, 160), 40, (SIZE, SIZE, 3)), (0, 0), rng.uniform(0.3, 0.8))
        soft = cv2.GaussianBlur(face, (0, 0), 1.5)
        made += [face, np.where((away > 0.75) & (away < 1.1), soft, face)]
    return np.clip(made, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def detector():
    import keras

    keras.utils.set_random_seed(1)
    return registry.build("efficientnet_lite0", input_size=SIZE)


def test_a_soft_rim_is_found_on_faces_that_it_was_not_fitted_on(detector):
    model = rim.fitted(detector, [windows(20, seed) for seed in range(4)], BLOCK, 0.75)
    found = model.predict(windows(30, 9).astype(np.float32), verbose=0)[:, 0]
    assert (found[0::2] > found[1::2]).mean() > 0.9
    assert model.output_shape == (None, 1) and ((found > 0) & (found < 1)).all()


class Batches:
    shape = (8, SIZE, SIZE, 3)

    def batches(self, start, count):
        return (windows(4, start + step) for step in range(count))


def test_written_and_opened_again_it_says_the_same(detector, tmp_path):
    import keras

    from deepfake_detection.export import formats

    detector.save(tmp_path / "model.keras")
    path = rim.fit(tmp_path / "model.keras", "efficientnet_lite0", Batches(), 3, tmp_path / "run" / "rim.keras")
    model, faces = keras.models.load_model(path, compile=False), windows(4, 7)
    formats.convert(model, "onnx", tmp_path / "rim.onnx", faces)
    keras_says = model.predict(faces.astype(np.float32), verbose=0)
    np.testing.assert_allclose(formats.run_onnx(tmp_path / "rim.onnx", faces), keras_says, atol=1e-4)


def test_an_architecture_without_a_block_for_it_is_refused(tmp_path):
    registry.build("compact_cnn", input_size=32).save(tmp_path / "model.keras")
    with pytest.raises(UserError, match="names no block"):
        rim.fit(tmp_path / "model.keras", "compact_cnn", Batches(), 1, tmp_path / "rim.keras")


def faces(**windows_of):
    table = pd.DataFrame([{"source": source, "window": window} for source, window in windows_of.items()])
    return Faces(table, np.zeros(0), np.zeros(0))


def test_fitted_on_fakes_that_show_their_surroundings():
    shares = (("blend", {"a": 1.0}, 3), ("given", {"a": 0.5, "b": 0.5}, 2), ("given", {"b": 1.0}, 2))
    usual = Settings(shares=shares, wide=0.5)
    made = rim.batches_of(usual, faces(a="wide", b="tight"))
    assert made.shares == (("given", {"a": 0.5}, 2),) and made.copies == 0 and made.wide == 1
    with pytest.raises(UserError, match="no source of fakes"):
        rim.batches_of(usual, faces(a="tight", b="tight"))
