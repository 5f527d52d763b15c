"""What the long benchmarks rest on: the split of the published recipe, and the start of EfficientNet-B0."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


def test_published_recipe_keeps_a_source_on_one_side_and_balances():
    import published_recipe

    reals = [f"r{i}.mp4" for i in range(90)]
    train = pd.DataFrame({"split": "train", "video": reals + [f"f{i}.mp4" for i in range(60)], "label": ["real"] * 90 + ["fake"] * 60,
                          "original": reals + [reals[i % 40] for i in range(60)]})
    val = train.assign(split="val", video="v" + train.video, original="v" + train.original)
    chosen, test = published_recipe.places(pd.concat([train, val], ignore_index=True), seed=1, most=None)
    assert set(chosen.split) == {"train"} and set(test.split) == {"val"} and len(test) == len(val)
    assert dict(chosen.label.value_counts()) == {"fake": 60, "real": 60}
    sides = chosen.groupby("original").place.nunique()
    assert (sides == 1).all() and set(chosen.place) == {"train", "val"}
    assert 0.05 < (chosen.place == "val").mean() < 0.2
    again, _ = published_recipe.places(pd.concat([train, val], ignore_index=True), seed=1, most=None)
    pd.testing.assert_frame_equal(chosen, again)


def test_b0_begins_as_a_copy_of_lite0(tmp_path):
    """What leaves the stem is the same but for the factor; after the first block, whose swishes only resemble ReLUs, nearly the same. The
    kernels are random and enlarged, as far as a trained network's reach."""
    import ablations
    import keras

    from deepfake_detection.models import registry

    keras.utils.set_random_seed(3)
    lite0 = registry.build("efficientnet_lite0", input_size=64)
    for name in ("stem_conv", "block0_dw"):
        lite0.get_layer(name).set_weights([6 * w for w in lite0.get_layer(name).get_weights()])
    lite0.save_weights(tmp_path / "lite0.weights.h5")
    lite0 = registry.build("efficientnet_lite0", input_size=64, weights=tmp_path / "lite0.weights.h5")
    ablations.b0_from_lite0(tmp_path / "lite0.weights.h5", tmp_path / "b0.keras")
    b0 = registry.build("efficientnet_b0", input_size=64, weights=tmp_path / "b0.keras")
    faces = np.random.default_rng(1).integers(0, 256, (4, 64, 64, 3)).astype(np.float32)

    def at(model, layer):
        return np.asarray(keras.Model(model.input, model.get_layer(layer).output)(faces, training=False))[:, 2:-2, 2:-2]

    stem, copy = at(lite0, "stem_bn"), at(b0, "stem_bn")
    assert np.abs(copy - ablations.SWISH_SCALE * stem).max() < 1e-3 * np.abs(stem).max()
    first, copied = at(lite0, "block0_bn2"), at(b0, "block1a_project_bn")
    assert np.corrcoef(first.ravel(), copied.ravel())[0, 1] > 0.9
