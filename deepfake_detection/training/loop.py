"""The loop of a training: input, update, judgement, checkpoint.

An epoch is one call of Keras' own `fit`, because between epochs everything that the next one depends on is written in
one file (`checkpoint`). Order and augmentation of an epoch are pure functions of (seed, epoch). A training that was
killed goes on at the last finished epoch and ends in the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from pathlib import Path

from .. import labels
from ..errors import UserError
from ..models import registry
from . import checkpoint, distributed
from .input_pipeline import epoch_order
from .monitor import Bar, Curves
from .settings import Settings
from .start import freeze

#: Batches are numbered from epoch * this for the augmentation's draws: an epoch's pictures do not depend on how long
#: the others were.
STEPS_OF_AN_EPOCH = 1 << 20


def fit(
    model,
    train,
    val,
    settings: Settings,
    folder: Path,
    *,
    mark: str,
    logs: Path | None = None,
    copies=None,
    strategy=None,
    fresh: bool = False,
    stop_after: int | None = None,
) -> checkpoint.Progress:
    """Trains `model`, resuming from `folder/training_state.npz` when it is of the same `mark`.

    Args:
        model: built under the strategy's scope, not compiled.
        train, val: stores with `y` (N,) and `batches(order, batch_size, ...)`, e.g. `FaceStore`.
        folder: of the state and of `best_model.keras` and `best_model.h5`.
        mark: the run's fingerprint.
        logs: folder of the TensorBoard log; none if None.
        copies: called without arguments, gives (the model to validate with, the model to save) with the current
            weights; by default `model` itself. Needed under a strategy and in half precision.
        strategy: a tf.distribute strategy, or None.
        fresh: do not resume.
        stop_after: return after this epoch as if the process had ended there (tests).

    Raises:
        UserError: loss that is no number any more, or nothing to train.
    """
    loop = _Loop(model, train, val, settings, copies, strategy)
    state = folder / checkpoint.STATE
    progress = checkpoint.resume(state, loop.variables, mark, settings, fresh=fresh)
    curves = Curves(logs) if logs is not None and loop.chief else None
    while not progress.finished(settings) and (stop_after is None or progress.epoch < stop_after):
        started = time.monotonic()
        row = loop.train_epoch(progress.epoch)
        with loop.average or contextlib.nullcontext():
            judgement, saved = loop.judge()
            row |= judgement
            row["seconds"] = round(time.monotonic() - started, 3)
            better = row["val_loss"] < progress.best
            if better and loop.chief:
                checkpoint.save_model(saved, folder)
        progress.count(row, better)
        # After the best model: a kill between the two repeats this epoch and saves the same model again.
        checkpoint.save_state(state, progress, loop.variables, write=loop.chief)
        if curves:
            curves.add(row)
        if loop.chief:
            print(_line(row) + ("  best" if better else ""), file=sys.stderr)
    return progress


class _Loop:
    """A model with its optimizer, its faces and what an epoch does with them.

    Attributes:
        variables: all that the next epoch depends on, in a fixed order.
        average: the moving average of the weights, or None.
        chief: whether this process writes.
    """

    def __init__(self, model, train, val, settings: Settings, copies, strategy):
        self.model, self.train, self.val, self.settings = model, train, val, settings
        self.strategy, self.multi = strategy, distributed.is_multi_worker(strategy)
        self.chief = strategy is None or distributed.is_chief()
        self.copies = copies or (lambda: (model, checkpoint.saveable(model)))
        self.steps = steps_of_epoch(len(train.y), settings, strategy)
        follow_short_epochs(model, self.steps)
        if strategy is not None:
            distributed.synchronize_batch_norm(model)
        with distributed.scope(strategy):
            self.optimizer = make_optimizer(settings, self.steps)
            freeze(model, "none")
            # Built over all weights, also those frozen for now: unfreezing then keeps the step count and every moment.
            self.optimizer.build(model.trainable_variables)
            self.average = WeightAverage(model.trainable_variables, settings.ema) if settings.ema else None
        # model.variables, unlike model.weights, also holds the state of the dropout generators.
        self.variables = list(model.variables) + list(self.optimizer.variables)
        self.variables += self.average.variables if self.average else []
        self._augment, self._class_weight = _augmentation(settings), _class_weight(train.y, settings)
        self._frozen: str | None = None
        self._step: distributed.TrainStep | None = None

    # ---- input

    def batches(self, epoch: int):
        """The batches of an epoch, a tf.data.Dataset."""
        settings = self.settings
        order = epoch_order(self.train.y, seed=settings.seed, epoch=epoch, balance=settings.balance == "sample")
        return self.train.batches(
            order[: self.steps * settings.batch_size],
            settings.batch_size,
            augment=self._augment,
            first_step=epoch * STEPS_OF_AN_EPOCH,
            drop_remainder=self.strategy is not None,
            sample_weight=self._class_weight,
            shard=distributed.shard_of(self.strategy),
        )

    # ---- update

    def train_epoch(self, epoch: int) -> dict:
        """Takes the steps of an epoch; returns its row of the history so far.

        Raises:
            UserError: loss that is no number any more.
        """
        settings = self.settings
        self._compile(settings.frozen_in(epoch))
        bar = Bar(f"epoch {epoch + 1}/{settings.epochs}", self.steps, after=self.average and self.average.update)
        if self.multi:
            row = {"epoch": epoch, **self._step.epoch(self.batches(epoch), bar)}
        else:
            result = self.model.fit(
                self.batches(epoch), epochs=epoch + 1, initial_epoch=epoch, verbose=0, callbacks=[bar], shuffle=False
            )  # the order is ours
            row = {"epoch": epoch, **{k: float(v[-1]) for k, v in result.history.items()}}
        if not math.isfinite(row["loss"]):
            raise UserError(
                f"the loss is no number any more (epoch {epoch + 1})", hint="choose a smaller --learning-rate"
            )
        return row

    def _compile(self, frozen: str) -> None:
        """Freezes layers; compiles anew where the frozen ones are not those of the epoch before."""
        import keras

        if frozen == self._frozen:
            return
        self._frozen = frozen
        reduction = "none" if self.multi else "sum_over_batch_size"
        loss = keras.losses.BinaryCrossentropy(label_smoothing=self.settings.label_smoothing, reduction=reduction)
        with distributed.scope(self.strategy):
            freeze(self.model, frozen)
            if self.multi:
                self._step = distributed.TrainStep(
                    self.strategy, self.model, self.optimizer, loss, self.settings.batch_size
                )
            else:
                metrics = [keras.metrics.BinaryAccuracy(name="accuracy"), keras.metrics.AUC(name="auc")]
                self.model.compile(self.optimizer, loss, metrics=metrics)

    # ---- judgement

    def judge(self) -> tuple[dict, object]:
        """val_loss, val_accuracy, val_auc and the learning rate of the current weights, and the model to save."""
        judged, saved = self.copies()
        if self.chief:
            # Not through model.evaluate: its AUC is a histogram's, and a strategy would need whole batches.
            values = binary_metrics(self.val.y, predict(judged, self.val, self.settings.batch_size))
        else:
            values = dict.fromkeys(("loss", "accuracy", "auc"), 0.0)
        if self.multi:
            values = distributed.from_chief(self.strategy, values)
        rate = self.optimizer.learning_rate  # a variable, also a mirrored one, or a schedule's tensor
        rate = float(rate.numpy() if hasattr(rate, "numpy") else rate)
        return {f"val_{k}": float(v) for k, v in values.items()} | {"learning_rate": rate}, saved


# ---- helpers of the input and the update -----------------------------------------------------------------------------


def steps_of_epoch(rows: int, settings: Settings, strategy=None) -> int:
    """Steps an epoch. Under a strategy only whole batches count.

    Raises:
        UserError: not one batch, or one that the replicas cannot share.
    """
    size = settings.batch_size
    steps = rows // size if strategy is not None else -(-rows // size)
    if steps == 0:
        raise UserError(
            f"a batch of {size} is more than the {rows} training rows there are", hint="choose a smaller --batch-size"
        )
    if strategy is not None and size % strategy.num_replicas_in_sync:
        raise UserError(
            f"a batch of {size} cannot be shared by {strategy.num_replicas_in_sync} replicas",
            hint=f"choose a --batch-size that {strategy.num_replicas_in_sync} divides",
        )
    return min(steps, settings.max_steps or steps)


def _class_weight(y, settings: Settings):
    import numpy as np

    if settings.balance != "weight":
        return None
    return len(y) / (2 * np.maximum(np.bincount(y, minlength=2), 1))


def _augmentation(settings: Settings):
    if settings.augment == "none" or registry.module(settings.model).KIND == "sequence":
        return None
    import tensorflow as tf

    from .augmentation import augment

    # A tf.function, so that it is traced once and not anew for each epoch's dataset.
    return tf.function(augment(settings.augment, seed=settings.seed & 0x7FFFFFFF))


def make_optimizer(settings: Settings, steps_per_epoch: int):
    """The Keras optimizer of `settings` with its learning-rate schedule."""
    import keras

    rate = settings.learning_rate
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    total = max(1, settings.epochs * steps_per_epoch)
    if settings.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            max(1, total - warmup),
            alpha=0.0,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    elif warmup:
        # PolynomialDecay stays at its end value, so a rise to a constant is a "decay" from 0 to the rate.
        rate = keras.optimizers.schedules.PolynomialDecay(0.0, warmup, end_learning_rate=rate, power=1.0)
    common = dict(learning_rate=rate)
    if settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(**common)
    elif settings.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(weight_decay=settings.weight_decay, **common)
    else:
        optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, weight_decay=settings.weight_decay, **common)
    return keras.optimizers.LossScaleOptimizer(optimizer) if settings.precision == "mixed_float16" else optimizer


def follow_short_epochs(model, steps_per_epoch: int) -> None:
    """Lowers the momentum of batch normalisation where an epoch has few steps, to 1 - 4 / steps, at least 0.8.

    With Keras' 0.99 the running mean and variance need some 300 steps to follow the weights. A small set has ten steps
    an epoch: its first thirty validations would judge statistics of the random start, and the best of them would be
    saved.
    """
    import keras

    from ..models.weights import leaf_layers

    for layer in leaf_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, max(0.8, 1 - 4 / steps_per_epoch))


class WeightAverage:
    """Exponential moving average of the trainable weights, updated after every step (Polyak & Juditsky, SIAM J. Control
    Optim. 1992).

    Step t (from 0) uses the decay min(decay, (1 + t) / (10 + t)), so that a short training is not the average of where
    it began. Not the optimizer's own (`use_ema`): Keras overwrites the weights with that one at the end of every `fit`,
    and a `fit` is an epoch here.

    Attributes:
        variables: the averages, in the order of the weights, and the number of updates: part of the training's state.
    """

    def __init__(self, weights: list, decay: float):
        import tensorflow as tf

        self.weights, self.decay = list(weights), decay
        self.averages = [tf.Variable(w.numpy(), trainable=False) for w in self.weights]
        self.count = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.variables = [*self.averages, self.count]

        @tf.function
        def update():
            t = tf.cast(self.count, tf.float32)
            keep = tf.minimum(self.decay, (1 + t) / (10 + t))
            for average, weight in zip(self.averages, self.weights):
                average.assign_add((1 - keep) * (tf.cast(weight.value, tf.float32) - average))
            self.count.assign_add(1)

        self.update = update

    def __enter__(self):
        """Within the block the weights are their averages."""
        self._kept = [w.numpy() for w in self.weights]
        for weight, average in zip(self.weights, self.averages):
            weight.assign(average)
        return self

    def __exit__(self, *_):
        for weight, value in zip(self.weights, self._kept):
            weight.assign(value)


# ---- helpers of the judgement and the log ----------------------------------------------------------------------------


def binary_metrics(y, p) -> dict:
    """loss (binary cross-entropy), accuracy at 0.5 and exact AUC; AUC is NaN where one class is missing."""
    import numpy as np

    from ..metrics import MetricError, auc, log_loss

    try:
        area = auc(y, p)
    except MetricError:
        area = math.nan
    return {
        "loss": log_loss(y, p),
        "accuracy": float(np.mean((p >= labels.TIE_THRESHOLD) == (y == labels.REAL))),
        "auc": area,
    }


def predict(model, store, batch_size: int, progress: str | None = None, flip: bool = False):
    """P(real) of every row of a store, float32 (N,), in its order; with `flip` the mean of each face and its mirror
    image."""
    import numpy as np
    import tensorflow as tf

    def views(x, *_):
        # Each face beside its mirror image, so that the faces are read once.
        return (tf.reshape(tf.stack([x, x[:, :, ::-1]], 1), (-1, *x.shape[1:])) if flip else x,)

    steps = -(-len(store.y) // batch_size)
    data = store.batches(np.arange(len(store.y)), batch_size)
    p = model.predict(data.map(views), verbose=0, callbacks=[Bar(progress, steps, "predict")] if progress else None)
    return np.asarray(p, np.float32).reshape(len(store.y), -1).mean(axis=1)


def _line(row: dict) -> str:
    return (
        f"epoch {row['epoch'] + 1:>3}  loss {row['loss']:.4f}  val_loss {row['val_loss']:.4f}  "
        f"val_accuracy {row['val_accuracy']:.3f}  val_auc {row['val_auc']:.3f}  {row['seconds']:.1f} s"
    )
