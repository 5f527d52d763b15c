"""The loop of every training: update, judgement, checkpoint.

What is trained, on which batches, and how it is judged, a `Training` says: `folders` for stage 03, `pairs` for the
shipped detector. An epoch is one call of Keras' own `fit`, because between epochs everything that the next one depends
on is written in one file (`checkpoint`). Batches are pure functions of (seed, step). A training that was killed goes on
at the last finished epoch and ends in the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import time
from pathlib import Path

from .. import files
from ..errors import UserError
from . import checkpoint
from .monitor import Bar, Curves
from .start import freeze


class Training:
    """A model with its optimizer. Whoever derives from it gives what raises here: batches, update, judgement.

    Attributes:
        model: takes the batches; `compile` compiles it.
        steps: of an epoch.
        epochs, patience: where the training ends: after so many, or so many without a better one.
        average: the moving average of the weights, which is what is judged and saved; or None.
        variables: all that the next epoch depends on, in a fixed order.
        chief: whether this process writes.
    """

    def __init__(self, model, optimizer, *, steps: int, epochs: int, patience: float = math.inf):
        self.model, self.optimizer = model, optimizer
        self.steps, self.epochs, self.patience = steps, epochs, patience
        self.average: WeightAverage | None = None
        self.chief = True
        freeze(model, "none")
        # Built over all weights, also those frozen for now: unfreezing then keeps the step count and every moment.
        optimizer.build(model.trainable_variables)
        self._frozen: str | None = None

    @functools.cached_property
    def variables(self) -> list:
        # model.variables, unlike model.weights, also holds the state of the dropout generators.
        return [*self.model.variables, *self.optimizer.variables, *(self.average.variables if self.average else [])]

    # ---- what each training has of its own

    def batches(self, epoch: int):
        """The batches of an epoch, a tf.data.Dataset."""
        raise NotImplementedError

    def frozen_in(self, epoch: int) -> str:
        """What stands still in an epoch; where it changes, the model is compiled anew."""
        raise NotImplementedError

    def compile(self, frozen: str) -> None:
        """Freezes layers and compiles the model."""
        raise NotImplementedError

    def judge(self) -> dict:
        """Numbers of the current weights, for the history."""
        raise NotImplementedError

    def better(self, row: dict, progress: checkpoint.Progress) -> bool:
        """Whether the model of this row of the history is the one to keep so far."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Keeps the model that was judged."""
        raise NotImplementedError

    # ---- update

    def train_epoch(self, epoch: int) -> dict:
        """Takes the steps of an epoch; returns its row of the history so far.

        Raises:
            UserError: loss that is no number any more.
        """
        frozen = self.frozen_in(epoch)
        if frozen != self._frozen:
            self.compile(frozen)
            self._frozen = frozen
        bar = Bar(f"epoch {epoch + 1}/{self.epochs}", self.steps, after=self.average and self.average.update)
        row = {"epoch": epoch, **self.take_steps(epoch, bar)}
        if not math.isfinite(row["loss"]):
            raise UserError(f"the loss is no number any more (epoch {epoch + 1})", hint="lower the --learning-rate")
        return row

    def take_steps(self, epoch: int, bar) -> dict:
        """The steps by Keras' `fit`; returns the means over the epoch."""
        own = {"shuffle": False, "verbose": 0}  # the order is ours, and so is what is said
        result = self.model.fit(self.batches(epoch), epochs=epoch + 1, initial_epoch=epoch, callbacks=[bar], **own)
        return {k: float(v[-1]) for k, v in result.history.items()}

    def rate(self) -> float:
        """The learning rate of the next step."""
        rate = self.optimizer.learning_rate  # a variable, also a mirrored one, or a schedule's tensor
        return float(rate.numpy() if hasattr(rate, "numpy") else rate)


def fit(
    training: Training,
    folder: Path,
    *,
    mark: str,
    history: Path | None = None,
    logs: Path | None = None,
    fresh: bool = False,
    stop_after: int | None = None,
) -> checkpoint.Progress:
    """Trains, going on from `folder/training_state.npz` when it is of the same `mark`.

    Args:
        folder: of the state and of the model that is kept.
        mark: the run's fingerprint.
        history: CSV file with a row an epoch, written after each.
        logs: folder of the TensorBoard log; none if None.
        fresh: do not go on from an earlier run.
        stop_after: return after this epoch as if the process had ended there (tests).

    Raises:
        UserError: loss that is no number any more.
    """
    state, ends = folder / checkpoint.STATE, (training.epochs, training.patience)
    progress = checkpoint.resume(state, training.variables, mark, ends, fresh=fresh)
    curves = Curves(logs) if logs is not None and training.chief else None
    while not progress.finished(*ends) and (stop_after is None or progress.epoch < stop_after):
        started = time.monotonic()
        row = training.train_epoch(progress.epoch)
        with training.average or contextlib.nullcontext():
            row |= training.judge() | {"learning_rate": training.rate()}
            row["seconds"] = round(time.monotonic() - started, 3)
            better = training.better(row, progress)
            if better and training.chief:
                training.save(folder)
        progress.count(row, better)
        # After the model: a kill between the two repeats this epoch and saves the same model again.
        checkpoint.save_state(state, progress, training.variables, write=training.chief)
        if not training.chief:
            continue
        if curves:
            curves.add(row)
        if history is not None:
            _write_history(history, progress)
        print(_line(row) + ("  best" if better else ""), file=sys.stderr)
    return progress


def _write_history(path: Path, progress: checkpoint.Progress) -> None:
    import pandas as pd

    files.write_csv(path, pd.DataFrame(progress.history))


def _line(row: dict) -> str:
    return "  ".join(
        [f"epoch {row['epoch'] + 1:>3}"]
        + [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if k != "epoch"]
    )


def cosine(rate: float, steps: int, warmup: int):
    """A learning rate that rises from 0 over `warmup` of the steps and falls to 0 over the rest."""
    import keras

    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else rate,
        max(1, steps - warmup),
        alpha=0.0,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )


class WeightAverage:
    """Exponential moving average of the trainable weights, updated after every step (Polyak & Juditsky, SIAM J. Control
    Optim. 1992).

    Step t (from 0) uses the decay, and in the first step 0; `warm` the decay min(decay, (1 + t) / (10 + t)), so that a
    short training is not the average of where it began. Not the optimizer's own (`use_ema`): Keras overwrites the
    weights with that one at the end of every `fit`, and a `fit` is an epoch here.

    Attributes:
        variables: the averages, in the order of the weights, and the number of updates: part of the training's state.
    """

    def __init__(self, weights: list, decay: float, *, warm: bool):
        import tensorflow as tf

        self.weights, self.decay = list(weights), decay
        self.averages = [tf.Variable(w.numpy(), trainable=False) for w in self.weights]
        self.count = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.variables = [*self.averages, self.count]

        @tf.function
        def update():
            t = tf.cast(self.count, tf.float32)
            keep = tf.minimum(self.decay, (1 + t) / (10 + t)) if warm else tf.where(t > 0, self.decay, 0.0)
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
