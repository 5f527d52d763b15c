"""Stage 03's source of batches for the loop: folders of faces, judged by the loss on the validation set.

Order and augmentation of an epoch are pure functions of (seed, epoch).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from .. import labels
from ..errors import UserError
from ..models import registry
from . import checkpoint, distributed
from .input_pipeline import epoch_order
from .loop import Training, WeightAverage, cosine
from .settings import Settings
from .start import freeze
from .stores import predict

#: Batches are numbered from epoch * this for the augmentation's draws: an epoch's pictures do not depend on how long
#: the others were.
STEPS_OF_AN_EPOCH = 1 << 20


class FolderTraining(Training):
    """A model of stage 03 in training.

    Args:
        model: built under the strategy's scope, not compiled.
        train, val: stores with `y` (N,) and `batches(order, batch_size, ...)`, e.g. `FaceStore`.
        copies: called without arguments, gives (the model to validate with, the model to save) with the current
            weights; by default `model` itself. Needed under a strategy and in half precision.
        strategy: a tf.distribute strategy, or None.

    Raises:
        UserError: nothing to train.
    """

    def __init__(self, model, train, val, settings: Settings, *, copies=None, strategy=None):
        self.train, self.val, self.settings, self.strategy = train, val, settings, strategy
        self.multi = distributed.is_multi_worker(strategy)
        self.copies = copies or (lambda: (model, checkpoint.saveable(model)))
        steps = steps_of_epoch(len(train.y), settings, strategy)
        follow_short_epochs(model, steps)
        if strategy is not None:
            distributed.synchronize_batch_norm(model)
        with distributed.scope(strategy):
            optimizer = make_optimizer(settings, steps)
            super().__init__(model, optimizer, steps=steps, epochs=settings.epochs, patience=settings.patience)
            if settings.ema:
                self.average = WeightAverage(model.trainable_variables, settings.ema, warm=True)
        self.chief = strategy is None or distributed.is_chief()
        self._augment, self._class_weight = _augmentation(settings), _class_weight(train.y, settings)

    # ---- input

    def batches(self, epoch: int):
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

    def frozen_in(self, epoch: int) -> str:
        return self.settings.frozen_in(epoch)

    def compile(self, frozen: str) -> None:
        import keras

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

    def take_steps(self, epoch: int, bar) -> dict:
        return self._step.epoch(self.batches(epoch), bar) if self.multi else super().take_steps(epoch, bar)

    # ---- judgement

    def judge(self) -> dict:
        judged, self._saved = self.copies()
        if self.chief:
            # Not through model.evaluate: its AUC is a histogram's, and a strategy would need whole batches.
            values = binary_metrics(self.val.y, predict(judged, self.val, self.settings.batch_size))
        else:
            values = dict.fromkeys(("loss", "accuracy", "auc"), 0.0)
        if self.multi:
            values = distributed.from_chief(self.strategy, values)
        return {f"val_{k}": float(v) for k, v in values.items()}

    def better(self, row: dict, progress: checkpoint.Progress) -> bool:
        return row["val_loss"] < progress.best

    def save(self, folder: Path) -> None:
        checkpoint.save_model(self._saved, folder)


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
        rate = cosine(rate, total, warmup)
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


# ---- helper of the judgement -----------------------------------------------------------------------------------------


def binary_metrics(y, p) -> dict:
    """loss (binary cross-entropy), accuracy at 0.5 and exact AUC; AUC is NaN where one class is missing."""
    from ..metrics import MetricError, auc, log_loss

    try:
        area = auc(y, p)
    except MetricError:
        area = math.nan
    accuracy = float(np.mean((p >= labels.TIE_THRESHOLD) == (y == labels.REAL)))
    return {"loss": log_loss(y, p), "accuracy": accuracy, "auc": area}
