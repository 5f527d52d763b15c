"""The detector's training: its losses, that a killed run goes on, and what it leaves."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepfake_detection.blending.sampler import Sampler
from deepfake_detection.blending.sampler import Settings as Batches
from deepfake_detection.errors import UserError
from deepfake_detection.training import judge, pairs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "blending"))

TINY = pairs.Settings(
    architecture="compact_cnn",
    steps=4,
    freeze="none",
    freeze_norms=False,
    batches=Batches(size=32, copies=2, degrade=False),
)


class Made:
    """Batches made in this process, in place of `pairs.Feed`."""

    def __init__(self, sampler):
        self.sampler, self.pairs, self.copies = sampler, sampler.pairs, sampler.settings.copies
        self.shape, self.asked = (2 * self.pairs + self.copies, 32, 32, 3), []

    def batches(self, start, count):
        for step in range(start, start + count):
            self.asked.append(step)
            yield self.sampler(step)


@pytest.fixture(scope="module")
def cut_faces():
    import synthetic

    return synthetic.cut_faces()


@pytest.fixture
def feed(cut_faces, monkeypatch):
    monkeypatch.setattr(pairs, "EPOCH", 2)
    return Made(Sampler(cut_faces, TINY.batches))


def test_a_run_leaves_model_log_and_settings_and_is_not_made_again(feed, tmp_path, cut_faces):
    import keras

    rows = judge.rows_to_judge(cut_faces)
    path = pairs.run(TINY, feed, tmp_path, lambda network: judge.numbers(judge.clip_scores(network, cut_faces, rows)))
    model = keras.models.load_model(path, compile=False)
    assert model.input_shape == (None, 32, 32, 3) and model.layers[-1].activation.__name__ == "sigmoid"
    log = pd.read_csv(tmp_path / "history.csv")
    assert log.epoch.tolist() == [0, 1] and log[["unseen_live_swaps_auc", "val_dfdc_auc"]].apply(
        lambda v: v.between(0, 1)
    ).all(None)
    before = path.stat().st_mtime_ns
    assert pairs.run(TINY, None, tmp_path) == path and path.stat().st_mtime_ns == before


def test_a_killed_run_ends_in_the_weights_of_one_that_was_not(feed, tmp_path):
    """With dropout and the averaged weights; it goes on with the batches it would have had."""
    import keras

    def killed(network):
        if (tmp_path / "parts" / "training_state.npz").is_file():
            raise KeyboardInterrupt
        return {}

    whole = pairs.run(TINY, feed, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        pairs.run(TINY, feed, tmp_path / "parts", killed)
    feed.asked.clear()
    parts = pairs.run(TINY, feed, tmp_path / "parts")
    assert feed.asked == [2, 3]
    one, other = (keras.models.load_model(path, compile=False).get_weights() for path in (whole, parts))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_run_that_ends_early_has_the_rates_of_the_whole_one(feed, tmp_path):
    rates = []
    for stop_at in (None, 2):
        pairs.run(replace(TINY, stop_at=stop_at), feed, tmp_path / str(stop_at))
        rates.append(pd.read_csv(tmp_path / str(stop_at) / "history.csv").learning_rate.tolist())
    assert len(rates[1]) == 1 and rates[1] == rates[0][:1] != rates[0][1:]


def test_a_run_does_not_go_on_from_another_ones(feed, tmp_path):
    pairs.run(replace(TINY, steps=2), feed, tmp_path)
    with pytest.raises(UserError, match="other settings") as refused:
        pairs.run(replace(TINY, steps=2, ranking=0.1), feed, tmp_path)
    assert refused.value.hint


def test_a_run_that_could_not_start_was_not_begun(feed, tmp_path):
    with pytest.raises(UserError, match="no such"):
        pairs.run(replace(TINY, steps=2, weights=str(tmp_path / "typo.keras")), feed, tmp_path / "run")
    assert pairs.run(replace(TINY, steps=2), feed, tmp_path / "run").is_file()


@pytest.mark.parametrize(
    "logits, better",
    [
        pytest.param(([2.0, -2.0], [0.5, -2.0]), 0, id="right and sure beats right"),
        pytest.param(([1.0, -1.0], [-1.0, 1.0]), 0, id="right order beats wrong order"),
        pytest.param(([3.0, 1.0], [1.0, 3.0]), 0, id="order counts where both are called real"),
    ],
)
def test_the_loss_wants_an_untouched_face_above_its_fake(logits, better):
    import keras

    settings = replace(TINY, batches=Batches(size=32, copies=0))
    model = pairs.build(settings, pairs=1)
    losses = [float(model.compute_loss(y_pred=keras.ops.convert_to_tensor([[a], [b]], "float32"))) for a, b in logits]
    assert losses[better] < losses[1 - better]


def test_the_loss_wants_a_copy_to_score_as_its_original():
    import keras

    settings = replace(TINY, batches=Batches(size=32, copies=1), consistency=1.0, smoothing=0.0)
    model = pairs.build(settings, pairs=1)

    def loss(copy):
        return float(model.compute_loss(y_pred=keras.ops.convert_to_tensor([[2.0], [-2.0], [copy]], "float32")))

    assert loss(2.0) < loss(0.0) < loss(-2.0)


def test_where_only_the_worst_pairs_count_the_others_do_not():
    import keras

    def loss(worst, first, second):
        model = pairs.build(replace(TINY, batches=Batches(size=32, copies=0), worst=worst), pairs=2)
        return float(model.compute_loss(y_pred=keras.ops.convert_to_tensor([*first, *second], "float32")))

    good, better, bad = ([2.0], [-2.0]), ([3.0], [-3.0]), ([-2.0], [2.0])
    assert loss(0.5, good, bad) == loss(0.5, better, bad) == pytest.approx(loss(1.0, bad, bad))
    assert loss(1.0, good, bad) != loss(1.0, better, bad)


def test_frozen_layers_and_norms_stand_still(feed):
    import keras

    settings = replace(TINY, freeze="conv2d_2", freeze_norms=True)
    training = pairs.PairTraining(settings, feed)
    model = training.model
    names = [layer.name for layer in model.network.layers]
    before = {layer.name: layer.get_weights() for layer in model.network.layers if layer.weights}
    for epoch in (0, 1):
        training.train_epoch(epoch)
    assert int(training.optimizer.iterations) == 4 and feed.asked == [0, 1, 2, 3]
    for layer in model.network.layers:
        if layer.weights:
            same = all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), before[layer.name]))
            stands = names.index(layer.name) <= names.index("conv2d_2") or isinstance(
                layer, keras.layers.BatchNormalization
            )
            assert same or not stands, layer.name


def test_batches_of_another_process_are_those_of_this_one(tmp_path, cut_faces):
    from deepfake_detection.blending import faces

    np.asarray(np.stack([np.pad(i, ((0, 0), (0, 0), (0, 0))) for i in cut_faces.images])).tofile(tmp_path / "faces.npy")
    cut_faces.table.to_csv(tmp_path / "faces.csv", index=False)
    np.save(tmp_path / "meshes.npy", cut_faces.meshes)
    feed = pairs.Feed(tmp_path, TINY.batches)
    try:
        sampler = Sampler(faces.opened(tmp_path), TINY.batches)
        made = [*feed.batches(5, 2), *feed.batches(7, 1), *feed.batches(0, 1)]
        for step, batch in zip((5, 6, 7, 0), made, strict=True):
            np.testing.assert_array_equal(batch, sampler(step))
    finally:
        feed.close()


def test_a_model_between_two(tmp_path):
    import keras

    from deepfake_detection.models import registry

    keras.utils.set_random_seed(1)
    models = {name: registry.build("compact_cnn", input_size=32, weights="none") for name in ("start", "end")}
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    path = pairs.between(tmp_path / "start.keras", tmp_path / "end.keras", 0.75, tmp_path / "between.keras")
    between = keras.models.load_model(path, compile=False).get_weights()
    for a, b, c in zip(models["start"].get_weights(), models["end"].get_weights(), between):
        np.testing.assert_allclose(c, 0.25 * a + 0.75 * b, atol=1e-6)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(UserError, match="not of the architecture"):
        pairs.between(tmp_path / "other.keras", tmp_path / "end.keras", 0.5, tmp_path / "no.keras")


def scored(live, untouched):
    rows = [
        {
            "file": f"x/{n}_{label}.mp4",
            "label": label,
            "source": "live_swaps",
            "group": n,
            "manipulation": "",
            "split": "unseen",
            "z": z,
        }
        for n, (real, fake) in enumerate(live)
        for label, z in (("real", real), ("fake", fake))
    ]
    rows += [
        {
            "file": f"y/{n}.mp4",
            "label": "real",
            "source": "celebv",
            "group": f"c{n}",
            "manipulation": "",
            "split": "unseen",
            "z": z,
        }
        for n, z in enumerate(untouched)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "live, auc, ordered",
    [
        pytest.param([(2, -2), (3, -1)], 1.0, 1.0, id="all told apart"),
        pytest.param([(1, 0), (-1, -2)], 0.75, 1.0, id="only within a pair"),
        pytest.param([(-1, 1), (2, -2)], 0.75, 0.5, id="one pair wrong"),
    ],
)
def test_numbers_of_live_swaps(live, auc, ordered):
    found = judge.numbers(scored(live, [0.5, 1.5]))
    assert (found["unseen_live_swaps_auc"], found["unseen_pairs"]) == (auc, ordered)
    assert found["unseen_celebv_z"] == 1.0 and "unseen_celebv_auc" not in found


@pytest.mark.parametrize("text, right", [("176", True), ("184", False)])
def test_input_sides_of_the_training_script(text, right):
    import argparse

    import train_detector

    if right:
        assert train_detector.side(text) == 176
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="multiple of 16"):
            train_detector.side(text)


def test_where_a_way_begins_is_asked_before_the_training(tmp_path):
    import train_detector

    with pytest.raises(UserError, match="begin at"):
        train_detector.main(
            [
                "--index",
                "x.csv",
                "--interpolate",
                "0.5",
                "--weights",
                str(tmp_path / "gone.keras"),
                "--work",
                str(tmp_path / "work"),
            ]
        )
    assert not (tmp_path / "work").exists()
