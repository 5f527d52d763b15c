"""Trains a detector on pairs of an untouched face and a fake (`blending.sampler`), from any index of faces.

    python train_detector.py --index index.csv --weights models/detector.keras --name main

Reads top to bottom: input, model, loss, update, loop. Batches are a function of (seed, step), Keras' own
`BackupAndRestore` keeps weights and optimizer, so a run that was killed goes on from its last epoch with the batches
that it would have had.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..blending.faces import opened
from ..blending.sampler import Sampler
from ..blending.sampler import Settings as Batches
from ..errors import UserError
from ..files import atomic_path, write_json

#: Steps between two looks at the validation; what a killed run loses at most.
EPOCH = 250


@dataclass(frozen=True)
class Settings:
    """A run. Saved beside its results.

    Attributes:
        architecture, weights: a name of `models.registry`, and the file or word that it starts from.
        steps: optimizer steps, one batch each; rounded up to whole epochs.
        learning_rate: its peak, after `warmup` (part of the run), before a cosine to 0.
        weight_decay: of kernels only.
        smoothing: labels are smoothed by this much.
        ranking: weight of the loss that puts a fake below its own original: softplus(z_fake - z_untouched).
        consistency: weight of the loss that holds the score of a face to that of its degraded copy: Huber of their
            logits.
        centring: weight of the loss that holds the middle of a pair's two logits at 0: Huber of (z_untouched + z_fake)
            / 2. What both faces of a pair have in common, as person, light and codec, then says nothing.
        averaging: momentum of the averaged weights, which are what is kept.
        freeze: this layer and all before it stand still: the first layers see the largest pictures and change least.
        freeze_norms: batch normalisation keeps its statistics: a face is then learnt from as it is later judged, alone.
        batches: of `blending.sampler`.
    """

    architecture: str = "efficientnet_lite0"
    weights: str = "none"
    steps: int = 3000
    learning_rate: float = 4e-4
    warmup: float = 0.04
    weight_decay: float = 0.02
    smoothing: float = 0.04
    dropout: float = 0.3
    ranking: float = 0.5
    consistency: float = 0.1
    centring: float = 0.0
    averaging: float = 0.997
    freeze: str = "block2_add"
    freeze_norms: bool = True
    batches: Batches = field(default_factory=Batches)
    seed: int = 1


# ---- input -----------------------------------------------------------------------------------------------------------


class Feed:
    """Batches made ahead by processes of their own, in order.

    Args:
        work: where `blending.faces.prepare` left the faces.
        settings: of the batches.
        workers: processes.
    """

    AHEAD = 4

    def __init__(self, work: Path, settings: Batches, workers: int = 1):
        import multiprocessing

        # Spawned, not forked: threads of TensorFlow and OpenCV do not live on in a forked process.
        self._pool = multiprocessing.get_context("spawn").Pool(workers, initializer=_start, initargs=(work, settings))
        self.pairs, self.copies = self._pool.apply(_layout)
        self.shape = (2 * self.pairs + self.copies, settings.size, settings.size, 3)

    def batches(self, start: int):
        """Endless batches from step `start` on."""
        waiting = [self._pool.apply_async(_batch, (start + i,)) for i in range(self.AHEAD)]
        step = start + self.AHEAD
        while True:
            yield waiting.pop(0).get()
            waiting.append(self._pool.apply_async(_batch, (step,)))
            step += 1

    def close(self) -> None:
        self._pool.terminate()


_sampler = None


def _start(work: Path, settings: Batches) -> None:
    import cv2

    global _sampler
    cv2.setNumThreads(1)
    _sampler = Sampler(opened(work), settings)


def _layout() -> tuple[int, int]:
    return _sampler.pairs, _sampler.settings.copies


def _batch(step: int) -> np.ndarray:
    return _sampler(step)


# ---- model and loss --------------------------------------------------------------------------------------------------


def build(settings: Settings, pairs: int):
    """The network with logits for its output and the loss of the pairs, compiled; `model.network` is the network
    itself."""
    import keras
    from keras import ops

    from ..models import registry
    from .start import freeze

    size = settings.batches.size
    network = registry.build(settings.architecture, input_size=size, weights=settings.weights, dropout=settings.dropout)
    freeze(network, settings.freeze)
    for layer in network.layers:
        if settings.freeze_norms and isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    network.layers[-1].activation = keras.activations.linear
    labels = ops.convert_to_tensor(_labels(pairs, settings.batches.copies), "float32")
    smooth = labels * (1 - settings.smoothing) + settings.smoothing / 2

    class Pairs(keras.Model):
        def call(self, faces, training=None):
            return network(faces, training=training)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            z = y_pred[:, 0]
            loss = ops.mean(keras.losses.binary_crossentropy(smooth[:, None], y_pred, from_logits=True))
            untouched, fake = z[0 : 2 * pairs : 2], z[1 : 2 * pairs : 2]
            loss += settings.ranking * ops.mean(ops.softplus(fake - untouched))
            middle = (untouched + fake)[:, None] / 2
            loss += settings.centring * ops.mean(keras.losses.huber(ops.zeros_like(middle), middle, delta=2.0))
            if settings.batches.copies:
                own = ops.take(z, _copied(settings.batches.copies), axis=0)
                loss += settings.consistency * ops.mean(
                    keras.losses.huber(own[:, None], z[2 * pairs :][:, None], delta=2.0)
                )
            return loss

    model = Pairs(name="pairs")
    model.network = network
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        settings.steps - round(settings.warmup * settings.steps),
        warmup_target=settings.learning_rate,
        warmup_steps=round(settings.warmup * settings.steps),
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=settings.weight_decay, global_clipnorm=1.0, use_ema=True, ema_momentum=settings.averaging
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.compile(optimizer, jit_compile=False)
    model.build((None, size, size, 3))
    return model


def _labels(pairs: int, copies: int) -> np.ndarray:
    """1 for untouched faces, 0 for fakes, in the order of a batch."""
    return np.array([1, 0] * pairs + [1 - i % 2 for i in range(copies)], np.float32)


def _copied(copies: int) -> list[int]:
    """Which face of the batch each copy was made from."""
    return [2 * i + i % 2 for i in range(copies)]


# ---- loop ------------------------------------------------------------------------------------------------------------


def run(settings: Settings, feed: Feed, out: Path, look=None) -> Path:
    """Trains, or goes on with a killed run, and returns the averaged network, `<out>/model.keras`.

    Args:
        look: called as look(network) with the averaged weights after every epoch; gives the numbers of the log's row.

    Raises:
        UserError: when a run with other settings was begun in `out`.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    made_with = json.loads(json.dumps(asdict(settings)))
    if (out / "settings.json").is_file() and json.loads((out / "settings.json").read_text()) != made_with:
        raise UserError(
            "a run with other settings was begun here",
            file=out,
            hint="give this one another --name, or remove that folder",
        )
    if (out / "result.json").is_file():
        return out / "model.keras"
    write_json(out / "settings.json", made_with)
    model = build(settings, feed.pairs)
    done = _epochs_done(out / "backup")
    signature = tf.TensorSpec(feed.shape, tf.uint8)
    data = tf.data.Dataset.from_generator(lambda: feed.batches(done * EPOCH), output_signature=signature)
    data = data.map(lambda faces: (tf.cast(faces, tf.float32), tf.zeros((feed.shape[0], 1)))).prefetch(2)
    looks = [
        keras.callbacks.BackupAndRestore(str(out / "backup"), save_freq="epoch", delete_checkpoint=False),
        keras.callbacks.CSVLogger(str(out / "loss.csv"), append=done > 0),
    ]
    if look:
        looks.insert(0, _Look(model, look, out / "log.jsonl"))
    model.fit(data, epochs=-(-settings.steps // EPOCH), steps_per_epoch=EPOCH, callbacks=looks, verbose=2)
    model.network.layers[-1].activation = keras.activations.sigmoid
    with atomic_path(out / "model.keras") as partial:
        plain(model.network).save(partial)
    write_json(out / "result.json", {"settings": made_with, "steps": -(-settings.steps // EPOCH) * EPOCH})
    return out / "model.keras"


def plain(network):
    """A copy of the network that says P(real), with everything trainable again."""
    import keras

    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    copy.layers[-1].activation = keras.activations.sigmoid
    for layer in copy.layers:
        layer.trainable = True
    return copy


def _epochs_done(backup: Path) -> int:
    """Of `BackupAndRestore`: the epoch that it goes on from."""
    try:
        return int(json.loads((backup / "training_metadata.json").read_text())["epoch"])
    except (OSError, ValueError, KeyError):
        return 0


def _Look(model, look, log: Path):
    import keras

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            swap = model.optimizer
            kept = [v.numpy() for v in model.trainable_variables]
            for variable, average in zip(model.trainable_variables, swap._model_variables_moving_average):
                variable.assign(average)
            row = {
                "step": (epoch + 1) * EPOCH,
                "loss": round(float((logs or {}).get("loss", "nan")), 4),
                **look(model.network),
            }
            plain(model.network).save(log.parent / "averaged.keras")
            for variable, value in zip(model.trainable_variables, kept):
                variable.assign(value)
            print(json.dumps(row), flush=True)
            with open(log, "a") as f:
                f.write(json.dumps(row) + "\n")

    return Look()


def between(start: Path, end: Path, part: float, out: Path) -> Path:
    """Writes the model whose weights are start + part (end - start), and returns `out`.

    A network that was trained on from another loses some of what that one could on other material; a point between the
    two keeps most of both (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).

    Args:
        start, end: `.keras` files of one architecture. The result has the input side of `end`.

    Raises:
        UserError: when the two are of different architectures.
    """
    import keras

    first, last = (keras.models.load_model(path, compile=False) for path in (start, end))
    a, b = first.get_weights(), last.get_weights()
    if [w.shape for w in a] != [w.shape for w in b]:
        raise UserError(
            "these two models are of different architectures",
            file=start,
            hint="interpolate between a run and the .keras file it began with",
        )
    last.set_weights([x + part * (y - x) for x, y in zip(a, b)])
    with atomic_path(out) as partial:
        last.save(partial)
    return out
