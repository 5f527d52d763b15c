"""The classifier that is fitted to all levels of a network."""

from dataclasses import replace

import numpy as np
import pytest

from deepfake_detection.blending.sampler import Settings
from deepfake_detection.errors import UserError
from deepfake_detection.models import registry
from deepfake_detection.training import head

WIDTHS, COUNTS = [4, 3, 2], [1.0, 1.0, 1.0]


def features(pairs, seed=0, told_by=6):
    """Features (P, 9) of untouched faces and fakes: noise that both of a pair share, and one column that tells them."""
    rng = np.random.default_rng(seed)
    shared, own = rng.normal(0, 1, (pairs, 9)), rng.normal(0, 0.3, (2, pairs, 9))
    untouched, fakes = shared + own[0], shared + own[1]
    untouched[:, told_by] += 1.5
    return untouched, fakes


def test_what_a_lower_level_tells_is_added_to_what_the_top_says():
    untouched, fakes = features(400)
    top = np.concatenate([np.ones(4), np.zeros(5)])
    weights, shift = head.classifier(untouched, fakes, top, WIDTHS, COUNTS)
    new_untouched, new_fakes = features(400, seed=1)

    def found(w):
        return np.mean((new_untouched @ w)[:, None] > (new_fakes @ w)[None])

    assert found(top) < 0.55 and found(weights) > 0.7
    assert np.argmax(np.abs(weights[4:])) == 2
    spread = [np.sqrt(((untouched @ w).var() + (fakes @ w).var()) / 2) for w in (top, weights)]
    assert spread[1] == pytest.approx(spread[0])
    middle = [((untouched @ w).mean() + (fakes @ w).mean()) / 2 for w in (top, weights)]
    assert middle[1] + shift == pytest.approx(middle[0])


@pytest.mark.parametrize("told_by", [0, 3, 8])
def test_the_discriminant_finds_the_column_that_tells(told_by):
    direction = head.discriminant(*features(300, told_by=told_by))
    assert np.argmax(np.abs(direction)) == told_by and direction[told_by] > 0


def test_fitted_on_fakes_and_their_originals_where_there_are_such():
    blend, given = ("blend", {"a": 1.0}, 3), ("given", {"b": 1.0}, 2)
    usual = Settings(shares=(blend, given), wide=0.5)
    made = head.batches_of(usual, tight=True)
    assert made.shares == (given,) and made.copies == 0 and made.wide == 0
    assert head.batches_of(replace(usual, shares=(blend,)), tight=False).shares == (blend,)
    assert head.batches_of(usual, tight=False).wide == 0.5


class Batches:
    def __init__(self, size):
        self.shape = (8, size, size, 3)

    def batches(self, start, count):
        rng = np.random.default_rng(start)
        for _ in range(count):
            faces = rng.integers(60, 200, self.shape)
            faces[1::2] += rng.integers(-40, 40, faces[1::2].shape)  # fakes are rougher
            yield faces.astype(np.uint8)


def test_a_network_keeps_all_but_its_classifier(tmp_path):
    import keras

    keras.utils.set_random_seed(2)
    model = registry.build("efficientnet_lite0", input_size=32)
    model.save(tmp_path / "model.keras")
    path = head.refit(tmp_path / "model.keras", "efficientnet_lite0", Batches(32), 4, tmp_path / "run" / "head.keras")
    made = keras.models.load_model(path, compile=False)
    for a, b in zip(model.layers, made.layers):
        same = all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights()))
        assert same == (a.name != "p_real")
    p = made.predict(next(Batches(32).batches(1, 1)).astype(np.float32), verbose=0)
    assert np.isfinite(p).all()


def test_a_network_of_one_level_is_refused(tmp_path):
    registry.build("compact_cnn", input_size=32).save(tmp_path / "model.keras")
    with pytest.raises(UserError, match="one level only"):
        head.refit(tmp_path / "model.keras", "compact_cnn", Batches(32), 1, tmp_path / "head.keras")


def test_files_with_the_classifier_of_the_last_layer_alone_say_the_same(tmp_path):
    """Those of detector 2.0 and before."""
    import keras

    new = registry.build("efficientnet_lite0", input_size=32)
    x = keras.layers.Dense(1, activation="sigmoid", name="p_real")(new.get_layer("avg_pool").output)
    old = keras.Model(new.inputs, x, name="efficientnet_lite0")
    old.save(tmp_path / "old.keras")
    filled = registry.build("efficientnet_lite0", input_size=32, weights=tmp_path / "old.keras")
    faces = next(Batches(32).batches(0, 1)).astype(np.float32)
    np.testing.assert_allclose(filled.predict(faces, verbose=0), old.predict(faces, verbose=0), atol=1e-6)
