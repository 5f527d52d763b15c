"""Trains a detector on pairs of an untouched face and a fake (`blending.sampler`), from any index of faces.

    python train_detector.py --index index.csv --weights models/detector.keras --name main

Reads top to bottom: input, model, loss, run; the loop is that of every training (`loop`).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..blending.faces import opened
from ..blending.sampler import Sampler
from ..blending.sampler import Settings as Batches
from ..errors import UserError
from ..files import atomic_path, read_json, write_json
from ..models import registry
from . import loop, session
from .checkpoint import mark_of
from .start import freeze

#: Steps between two looks at the validation; what a killed run loses at most.
EPOCH = 250


@dataclass(frozen=True)
class Settings:
    """A run. Saved beside its results.

    Attributes:
        architecture, weights: a name of `models.registry`, and the file or word that it starts from.
        steps: optimizer steps, one batch each; rounded up to whole epochs.
        stop_at: end after this many of them, also rounded up, at the learning rate that is then reached.
        learning_rate: its peak, after `warmup` (part of the run), before a cosine to 0.
        weight_decay: of kernels only.
        smoothing: labels are smoothed by this much.
        ranking: weight of the loss that puts a fake below its own original: softplus(z_fake - z_untouched).
        consistency: weight of the loss that holds the score of a face to that of its degraded copy: Huber of their
            logits.
        centring: weight of the loss that holds the middle of a pair's two logits at 0: Huber of (z_untouched + z_fake)
            / 2. What both faces of a pair have in common, as person, light and codec, then says nothing.
        worst: the part of a batch's pairs, those with the largest loss, that count; 1: all (the conditional value at
            risk, of which group DRO is a case; Levy et al., "Large-scale methods for distributionally robust
            optimization", NeurIPS 2020).
        averaging: momentum of the averaged weights, which are what is kept.
        freeze: this layer and all before it stand still: the first layers see the largest pictures and change least.
        freeze_norms: batch normalisation keeps its statistics: a face is then learnt from as it is later judged, alone.
        batches: of `blending.sampler`.
    """

    architecture: str = "efficientnet_lite0"
    weights: str = "none"
    steps: int = 3000
    stop_at: int | None = None
    learning_rate: float = 4e-4
    warmup: float = 0.04
    weight_decay: float = 0.02
    smoothing: float = 0.04
    dropout: float = 0.3
    ranking: float = 0.5
    consistency: float = 0.1
    centring: float = 0.0
    worst: float = 1.0
    averaging: float = 0.997
    freeze: str = "block2_add"
    freeze_norms: bool = True
    batches: Batches = field(default_factory=Batches)
    seed: int = 1


#: Settings that are of the steps alone.
TRAINED_BY = (
    "stop_at",
    "learning_rate",
    "ranking",
    "consistency",
    "centring",
    "worst",
    "freeze",
    "learn_norms",  # the option of `freeze_norms`
)


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
        self._waiting: dict = {}

    def batches(self, start: int, count: int):
        """The batches of `count` steps from `start` on; those that follow are already being made."""
        for step in range(start, start + count):
            for ahead in range(step, step + self.AHEAD):
                if ahead not in self._waiting:
                    self._waiting[ahead] = self._pool.apply_async(_batch, (ahead,))
            yield self._waiting.pop(step).get()

    def close(self) -> None:
        self._pool.terminate()


_sampler: Sampler  # of a process of `Feed`


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
    """The network with logits for its output and the loss of the pairs; `model.network` is the network itself."""
    import keras
    from keras import ops

    size = settings.batches.size
    network = registry.build(settings.architecture, input_size=size, weights=settings.weights, dropout=settings.dropout)
    network.layers[-1].activation = keras.activations.linear
    labels = ops.convert_to_tensor(_labels(pairs, settings.batches.copies), "float32")
    smooth = labels * (1 - settings.smoothing) + settings.smoothing / 2

    class Pairs(keras.Model):
        def call(self, faces, training=None):
            return network(faces, training=training)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            z = y_pred[:, 0]
            each = keras.losses.binary_crossentropy(smooth[:, None], y_pred, from_logits=True)
            untouched, fake = z[0 : 2 * pairs : 2], z[1 : 2 * pairs : 2]
            order = settings.ranking * ops.softplus(fake - untouched)
            if settings.worst < 1:
                count = max(1, round(settings.worst * pairs))
                of_pair = (each[0 : 2 * pairs : 2] + each[1 : 2 * pairs : 2]) / 2 + order
                counts = ops.cast(of_pair >= ops.top_k(of_pair, count)[0][-1], "float32") * pairs / count
                counts = ops.stop_gradient(counts)
                order *= counts
                each *= ops.concatenate([ops.repeat(counts, 2), ops.ones(settings.batches.copies)])
            loss = ops.mean(each) + ops.mean(order)
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
    model.build((None, size, size, 3))
    return model


def _labels(pairs: int, copies: int) -> np.ndarray:
    """1 for untouched faces, 0 for fakes, in the order of a batch."""
    return np.array([1, 0] * pairs + [1 - i % 2 for i in range(copies)], np.float32)


def _copied(copies: int) -> list[int]:
    """Which face of the batch each copy was made from."""
    return [2 * i + i % 2 for i in range(copies)]


class PairTraining(loop.Training):
    """The training of a network on the batches of a feed.

    Args:
        feed: a `Feed`.
        look: called as look(network) with the averaged weights after every epoch; gives the numbers of its row.
    """

    def __init__(self, settings: Settings, feed, look=None):
        import keras

        self.settings, self.feed, self.look = settings, feed, look
        epochs = math.ceil(min(settings.steps, settings.stop_at or math.inf) / EPOCH)
        optimizer = keras.optimizers.AdamW(
            loop.cosine(settings.learning_rate, settings.steps, round(settings.warmup * settings.steps)),
            weight_decay=settings.weight_decay,
            global_clipnorm=1.0,
        )
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        super().__init__(build(settings, feed.pairs), optimizer, steps=EPOCH, epochs=epochs)
        self.average = loop.WeightAverage(self.model.trainable_variables, settings.averaging, warm=False)

    def batches(self, epoch: int):
        import tensorflow as tf

        faces = tf.data.Dataset.from_generator(
            lambda: self.feed.batches(epoch * EPOCH, EPOCH), output_signature=tf.TensorSpec(self.feed.shape, tf.uint8)
        )
        data = faces.map(lambda x: (tf.cast(x, tf.float32), tf.zeros((self.feed.shape[0], 1)))).prefetch(2)
        # Where Keras does not know how many there are, it takes an empty step at the end, which counts.
        return data.apply(tf.data.experimental.assert_cardinality(EPOCH))

    def frozen_in(self, epoch: int) -> str:
        return self.settings.freeze

    def compile(self, frozen: str) -> None:
        import keras

        freeze(self.model.network, frozen)
        for layer in self.model.network.layers:
            if self.settings.freeze_norms and isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        self.model.compile(self.optimizer, jit_compile=False)

    def judge(self) -> dict:
        return self.look(self.model.network) if self.look else {}

    def better(self, row: dict, progress) -> bool:
        return True  # the last epoch's network is kept: nothing is chosen by what it is judged on

    def save(self, folder: Path) -> None:
        with atomic_path(folder / "model.keras") as partial:
            plain(self.model.network).save(partial)


def plain(network):
    """A copy of the network that says P(real), with everything trainable again."""
    import keras

    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    copy.layers[-1].activation = keras.activations.sigmoid
    for layer in copy.layers:
        layer.trainable = True
    return copy


def refuse(settings: Settings, *, whole: bool = False, head: bool = False, rim: bool = False) -> None:
    """Refuses settings that would end the run later, after hours of cutting faces and training.

    Args:
        whole: the file in `weights` must fill every layer (`between`).
        head, rim: the run ends with `head.refit`, `rim.fit`.

    Raises:
        UserError: as `build`, `freeze`, `between`, `head.refit` and `rim.fit` do; a sequence model.
    """
    import keras

    from . import head as heads
    from . import rim as rims

    if registry.module(settings.architecture).KIND != "frame":
        raise UserError(
            f"{settings.architecture} is a sequence model, and these are faces one by one",
            hint="--architecture NAME, one of: " + ", ".join(registry.names("frame")),
        )
    if head:
        heads.levels_of(settings.architecture)
    layer = rims.seen_in(settings.architecture)[0] if rim else None
    session.start(seed=settings.seed, announce=False)
    network = build(settings, pairs=1).network
    if settings.steps:
        freeze(network, settings.freeze)
    if whole:
        _must_fill(network, Path(settings.weights))
    if layer is not None:
        rims.against_surroundings(network.get_layer(layer).output.shape[1])
    keras.utils.clear_session()  # the run's own network gets the names of the first


# ---- run -------------------------------------------------------------------------------------------------------------


def run(settings: Settings, feed: Feed, out: Path, look=None) -> Path:
    """Trains, or goes on with a killed run, and returns the averaged network, `<out>/model.keras`; `history.csv` has a
    row an epoch.

    Args:
        look: see `PairTraining`.

    Raises:
        UserError: when a run with other settings was begun in `out`.
    """
    made_with = json.loads(json.dumps(asdict(settings)))
    if (begun := read_json(out / "settings.json")) is not None and begun != made_with:
        raise UserError(
            "a run with other settings was begun here",
            file=out,
            hint="give this one another --name, or remove that folder",
        )
    if not (out / "result.json").is_file():
        session.start(seed=settings.seed)
        training = PairTraining(settings, feed, look)
        write_json(out / "settings.json", made_with)  # not before: a run that cannot start was not begun
        loop.fit(training, out, mark=mark_of(made_with), history=out / "history.csv")
        write_json(out / "result.json", {"settings": made_with, "steps": training.epochs * EPOCH})
    return out / "model.keras"


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

    last = keras.models.load_model(end, compile=False)
    first = keras.models.clone_model(last)
    _must_fill(first, start)
    a, b = first.get_weights(), last.get_weights()
    last.set_weights([x + part * (y - x) for x, y in zip(a, b)])
    with atomic_path(out) as partial:
        last.save(partial)
    return out


def _must_fill(model, path: Path) -> None:
    if left := registry.load_into(model, path).left:
        raise UserError(
            f"these two models are not of one architecture: {', '.join(left)}",
            file=path,
            hint="interpolate between a run and the .keras file it began with",
        )
