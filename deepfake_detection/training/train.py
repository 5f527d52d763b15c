"""Stage 03: trains one architecture on `split_dataset/` and judges it on the test set.

The loop is Keras' own `fit`, one epoch a call. Between epochs everything that the next one depends on is written in one file: weights,
batch-norm statistics, dropout generators, optimizer moments, weight averages, the history and the early-stopping count. Order and
augmentation of an epoch are pure functions of (seed, epoch). A training that was killed goes on at the last finished epoch and ends in
the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import sys
import time
from pathlib import Path

from .. import files, labels
from ..errors import UserError
from ..faces.crops import PUBLISHED_MARGIN
from ..models import registry
from ..models.sequence import extractor_and_head
from ..models.weights import load_into
from ..places import MODEL_FOLDER
from . import distributed, results, sequences, session
from .input_pipeline import WHOLE, FaceStore, epoch_order, find_faces
from .known import groups_of, known_videos

#: The shipped detector, which a training of the same architecture can start from.
SHIPPED_DETECTOR = MODEL_FOLDER / "detector.keras"

SPLITS = ("train", "val", "test")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine")
BALANCES = ("none", "sample", "weight")
#: Batches are numbered from epoch * this for the augmentation's draws: an epoch's pictures do not depend on how long the others were.
STEPS_OF_AN_EPOCH = 1 << 20
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything a training depends on besides its data. The defaults are the published recipe.

    Attributes:
        model: name in the registry.
        weights: `imagenet`, `none`, `auto` (the shipped detector if it is of this architecture, else ImageNet, else none) or a file.
        epochs: at most so many.
        batch_size: faces a step, over all workers together.
        learning_rate: the highest one.
        image_size: side of a face in px; the architecture's own if None.
        augment: `published`, `strong` or `none`.
        patience: epochs without a better validation loss after which training stops.
        optimizer: `adam`, `adamw` or `sgd` (Nesterov momentum 0.9).
        weight_decay: decoupled, of adamw and sgd.
        dropout: share; the architecture's own if None.
        balance: `none`; `sample` (as many reals as fakes an epoch); `weight` (the loss of the rarer class counts more).
        schedule: `constant`, or `cosine` down to 0 over all epochs.
        warmup_epochs: epochs (may be a fraction) over which the learning rate rises from 0.
        ema: decay of an exponential moving average of the weights, 0 for none; the average is what is validated and saved.
        precision: number format of the layers.
        freeze: layers that stay as they start: `none`, `backbone` (all but the classifier), a layer's name (it and all before it) or a
            share of the layers, such as `0.6`.
        unfreeze_after: epochs after which the frozen layers learn too; never if None.
        label_smoothing: 0..1.
        max_steps: at most so many steps an epoch; all if None.
        seed: of every random choice.
        strategy: `none`, `mirrored` (all GPUs of this machine) or `multi_worker` (TF_CONFIG, or Slurm's variables).
        replicas: with `mirrored` and no GPU: logical CPU devices.
        sequence_length: faces a sequence (sequence models only); the architecture's own if None.
        features: frame model that a sequence model takes its features from; the architecture's own if None. `weights` are then
            this frame model's, or a `.keras` file of the whole sequence model.
    """

    model: str = registry.DEFAULT
    weights: str = "imagenet"
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-4
    image_size: int | None = None
    augment: str = "published"
    patience: int = 5
    optimizer: str = "adam"
    weight_decay: float = 1e-4
    dropout: float | None = None
    balance: str = "none"
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    ema: float = 0.0
    precision: str = "float32"
    freeze: str = "none"
    unfreeze_after: int | None = None
    label_smoothing: float = 0.0
    max_steps: int | None = None
    seed: int = 1
    strategy: str = "none"
    replicas: int | None = None
    sequence_length: int | None = None
    features: str | None = None


# ---- what to start from ----------------------------------------------------------------------------------------------------------


def build_model(settings: Settings):
    """The model of `settings` and one line on its weights, see `build_started`."""
    return build_started(settings)[:2]


def build_started(settings: Settings):
    """The model of `settings` with the weights it starts from, one line that says which these are, and their file (None: no file).

    Without `image_size` the model takes faces of the size that the `.keras` file it starts from takes, else its own.

    Raises:
        UserError: a weights file that is not there or of another architecture. ImageNet weights that cannot be had are no error:
            the next best choice is taken, and said.
    """
    arch = registry.module(settings.model)
    network = settings.features or getattr(arch, "FEATURES", settings.model)  # what the weights are of

    def from_file(path: Path):
        about = keras_file(path)
        if about.get("name") == settings.model and network != settings.model:  # a whole sequence model
            model = architecture(settings, settings.image_size or about["input_size"])
            return model, str(load_into(model, path)), path
        size = settings.image_size or (about.get("input_size") if about.get("name") == network else None)
        if network != settings.model:
            return architecture(settings, size, weights=str(path)), f"{network} from {path}", path
        model = architecture(settings, size)
        return model, str(load_into(model, path)), path

    choice = settings.weights
    if choice == "none":
        return architecture(settings), "random weights", None
    if choice not in ("imagenet", "auto"):
        return from_file(Path(choice))
    shipped = keras_file(SHIPPED_DETECTOR).get("name") == network
    if choice == "auto" and shipped:
        return from_file(SHIPPED_DETECTOR)
    why = f"{settings.model} has no ImageNet weights"
    if getattr(arch, "HAS_IMAGENET", True):
        try:
            return architecture(settings, settings.image_size, weights="imagenet"), "ImageNet weights", None
        except UserError as e:
            why = e.what
    if shipped:
        model, origin, path = from_file(SHIPPED_DETECTOR)
        return model, f"{why}; instead {origin}", path
    if network != settings.model:
        why += (
            f"; {network} stays frozen at random weights, which is a poor feature extractor "
            "(better: --features efficientnet_lite0 --weights models/detector.keras)"
        )
    return architecture(settings), f"{why}; instead random weights", None


def architecture(settings: Settings, input_size: int | None = None, weights: str = "none"):
    """The network of `settings`, built anew."""
    options = {}
    if settings.sequence_length:
        options["length"] = settings.sequence_length
    if settings.features:
        options["features"] = settings.features
    return registry.build(
        settings.model,
        input_size=input_size or settings.image_size,
        dropout=settings.dropout,
        weights=weights,
        **options,
    )


def keras_file(path: Path) -> dict:
    """`name` and `input_size` of the model in a `.keras` file, from its configuration alone; empty for any other file."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))["config"]
        shape = next(
            layer["config"]["batch_shape"] for layer in config["layers"] if layer["class_name"] == "InputLayer"
        )
        return {"name": config.get("name"), "input_size": shape[-2]}
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, StopIteration):
        return {}


def freeze(model, which: str) -> list[str]:
    """Sets `trainable` of the layers; returns the names of the frozen ones that have weights.

    Args:
        which: as `Settings.freeze`.

    Raises:
        UserError: no layer of that name, or a share outside 0..1.
    """
    for layer in model.layers:
        layer.trainable = True
    if which == "none":
        return []
    names = [layer.name for layer in model.layers]
    if which == "backbone":
        last = len(names) - len(registry.classifier_layers(model))
    elif which in names:
        last = names.index(which) + 1
    else:
        try:
            share = float(which)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UserError(
                f"{model.name} has no layer named {which!r} to freeze up to",
                hint="none, backbone, a share such as 0.6, or a layer of the model's summary",
            )
        last = round(share * len(names))
    for layer in model.layers[:last]:
        layer.trainable = False
    return [layer.name for layer in model.layers[:last] if layer.weights]


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


# ---- state between epochs --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Progress:
    """Where a training stands after `epoch` finished epochs."""

    fingerprint: str
    epoch: int = 0
    best: float = math.inf
    best_epoch: int = 0
    wait: int = 0
    history: list[dict] = dataclasses.field(default_factory=list)

    def finished(self, settings: Settings) -> bool:
        return self.epoch >= settings.epochs or self.wait >= settings.patience


def _variables(model, optimizer) -> list:
    # model.variables, unlike model.weights, also holds the state of the dropout generators.
    return list(model.variables) + list(optimizer.variables)


def save_state(path: Path, progress: Progress, variables: list, write: bool = True) -> None:
    """Everything the next epoch depends on, in one file, written aside and renamed.

    Every worker of a cluster must call it, because reading some variables needs all of them; `write` says which one writes.
    """
    import numpy as np

    arrays = {f"v{i}": np.asarray(v.numpy() if hasattr(v, "numpy") else v) for i, v in enumerate(variables)}
    if not write:
        return
    # JSON has no infinity, and a run that never had a finite loss has an infinite best.
    text = json.dumps({**dataclasses.asdict(progress), "best": None if math.isinf(progress.best) else progress.best})
    with files.atomic_path(path) as partial, open(partial, "wb") as f:
        np.savez(f, progress=np.frombuffer(text.encode(), np.uint8), **arrays)


def read_progress(path: Path) -> Progress | None:
    """The progress in a state file; None when there is no file or it cannot be read (a training then starts anew)."""
    import zipfile

    import numpy as np

    try:
        with np.load(path) as state:
            fields = json.loads(bytes(state["progress"]))
        return Progress(**{**fields, "best": math.inf if fields["best"] is None else fields["best"]})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        print(f"note: the state of an earlier training cannot be read and is not used: {path}", file=sys.stderr)
        return None


def load_state(path: Path, variables: list) -> None:
    """Fills the variables of a training from a state file.

    Raises:
        UserError: when it is of another model (the fingerprint should have told).
    """
    import numpy as np

    with np.load(path) as state:
        if len(state.files) - 1 != len(variables) or any(
            state[f"v{i}"].shape != tuple(v.shape) for i, v in enumerate(variables)
        ):
            raise UserError(
                "the state of the interrupted training does not fit this model",
                file=path,
                hint="start anew with --force",
            )
        for i, variable in enumerate(variables):
            variable.assign(state[f"v{i}"])


def fingerprint(settings: Settings, digests: dict[str, str]) -> str:
    """A hash of what decides the weights of each epoch: a state file of another fingerprint is not continued.

    `patience` is left out, and `epochs` where the schedule does not depend on it: raising them continues a finished training.
    """
    fields = dataclasses.asdict(settings)
    del fields["patience"]
    if settings.schedule == "constant":
        del fields["epochs"]
    if Path(settings.weights).is_file():
        fields["weights"] = files.sha256(settings.weights)
    return hashlib.sha256(json.dumps([fields, digests], sort_keys=True).encode()).hexdigest()[:16]


# ---- the loop --------------------------------------------------------------------------------------------------------------------


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
) -> Progress:
    """Trains `model`, resuming from `folder/training_state.npz` when it is of the same `mark`.

    Args:
        model: built under the strategy's scope, not compiled.
        train, val: stores with `y` (N,) and `batches(order, batch_size, ...)`, e.g. `FaceStore`.
        folder: of the state and of `best_model.keras` and `best_model.h5`.
        mark: the run's fingerprint.
        logs: folder of the TensorBoard log; none if None.
        copies: called without arguments, gives (the model to validate with, the model to save) with the current weights; by default
            `model` itself. Needed under a strategy and in half precision.
        strategy: a tf.distribute strategy, or None.
        fresh: do not resume.
        stop_after: return after this epoch as if the process had ended there (tests).

    Raises:
        UserError: loss that is no number any more, or nothing to train.
    """
    import keras
    import numpy as np

    state = folder / "training_state.npz"
    multi, chief = distributed.is_multi_worker(strategy), strategy is None or distributed.is_chief()
    steps = _steps(len(train.y), settings, strategy is not None)
    if steps == 0:
        raise UserError(
            f"a batch of {settings.batch_size} is more than the {len(train.y)} training rows there are",
            hint="choose a smaller --batch-size",
        )
    if strategy is not None and settings.batch_size % strategy.num_replicas_in_sync:
        raise UserError(
            f"a batch of {settings.batch_size} cannot be shared by {strategy.num_replicas_in_sync} replicas",
            hint=f"choose a --batch-size that {strategy.num_replicas_in_sync} divides",
        )
    follow_short_epochs(model, steps)
    if strategy is not None:
        distributed.synchronize_batch_norm(model)
    with distributed.scope(strategy):
        optimizer = make_optimizer(settings, steps)
        freeze(model, "none")
        # Built over all weights, also those frozen for now: unfreezing then keeps the step count and every moment.
        optimizer.build(model.trainable_variables)
        average = WeightAverage(model.trainable_variables, settings.ema) if settings.ema else None
    variables = _variables(model, optimizer) + (average.variables if average else [])

    progress = None if fresh else read_progress(state)
    if progress is not None and progress.fingerprint != mark:
        print("note: settings or data are not those of the earlier training here; starting anew", file=sys.stderr)
        progress = None
    if progress is None:
        progress = Progress(mark)
    else:
        load_state(state, variables)
        if progress.epoch and not progress.finished(settings):
            print(f"going on after epoch {progress.epoch} of {settings.epochs}", file=sys.stderr)

    weight = None
    if settings.balance == "weight":
        counts = np.bincount(train.y, minlength=2)
        weight = len(train.y) / (2 * np.maximum(counts, 1))
    loss = keras.losses.BinaryCrossentropy(
        label_smoothing=settings.label_smoothing, reduction="none" if multi else "sum_over_batch_size"
    )
    phase, writers, augment = None, {}, _augmentation(settings)
    while not progress.finished(settings) and (stop_after is None or progress.epoch < stop_after):
        epoch = progress.epoch
        frozen = settings.freeze if settings.unfreeze_after is None or epoch < settings.unfreeze_after else "none"
        if frozen != phase:
            phase = frozen
            with distributed.scope(strategy):
                freeze(model, frozen)
                if multi:
                    step = distributed.TrainStep(strategy, model, optimizer, loss, settings.batch_size)
                else:
                    model.compile(
                        optimizer,
                        loss,
                        metrics=[keras.metrics.BinaryAccuracy(name="accuracy"), keras.metrics.AUC(name="auc")],
                    )
        started = time.monotonic()
        order = epoch_order(train.y, seed=settings.seed, epoch=epoch, balance=settings.balance == "sample")[
            : steps * settings.batch_size
        ]
        data = train.batches(
            order,
            settings.batch_size,
            augment=augment,
            first_step=epoch * STEPS_OF_AN_EPOCH,
            drop_remainder=strategy is not None,
            sample_weight=weight,
            shard=distributed.shard_of(strategy),
        )
        bar = _Bar(f"epoch {epoch + 1}/{settings.epochs}", steps, after=average and average.update)
        if multi:
            row = {"epoch": epoch, **step.epoch(data, bar)}
        else:
            result = model.fit(
                data, epochs=epoch + 1, initial_epoch=epoch, verbose=0, callbacks=[bar], shuffle=False
            )  # the order is ours
            row = {"epoch": epoch, **{k: float(v[-1]) for k, v in result.history.items()}}
        if not math.isfinite(row["loss"]):
            raise UserError(
                f"the loss is no number any more (epoch {epoch + 1})", hint="choose a smaller --learning-rate"
            )
        with average or contextlib.nullcontext():
            judged, saved = copies() if copies else (model, saveable(model))
            judgement = _evaluate(judged, val, settings) if chief else dict.fromkeys(("loss", "accuracy", "auc"), 0.0)
            if multi:
                judgement = distributed.from_chief(strategy, judgement)
            row.update({f"val_{k}": float(v) for k, v in judgement.items()})
            rate = optimizer.learning_rate  # a variable, also a mirrored one, or a schedule's tensor
            row["learning_rate"] = float(rate.numpy() if hasattr(rate, "numpy") else rate)
            row["seconds"] = round(time.monotonic() - started, 3)
            better = row["val_loss"] < progress.best
            if better and chief:
                save_model(saved, folder)
        progress.epoch, progress.wait = epoch + 1, 0 if better else progress.wait + 1
        if better:
            progress.best, progress.best_epoch = row["val_loss"], epoch
        progress.history.append(row)
        # After the best model: a kill between the two repeats this epoch and saves the same model again.
        save_state(state, progress, variables, write=chief)
        if logs is not None and chief:
            _log(logs, row, writers)
        if chief:
            print(
                f"epoch {epoch + 1:>3}  loss {row['loss']:.4f}  val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.3f}  "
                f"val_auc {row['val_auc']:.3f}  {row['seconds']:.1f} s" + ("  best" if better else ""),
                file=sys.stderr,
            )
    return progress


def follow_short_epochs(model, steps_per_epoch: int) -> None:
    """Lowers the momentum of batch normalisation where an epoch has few steps, to 1 - 4 / steps, at least 0.8.

    With Keras' 0.99 the running mean and variance need some 300 steps to follow the weights. A small set has ten steps an epoch: its
    first thirty validations would judge statistics of the random start, and the best of them would be saved.
    """
    import keras

    from ..models.weights import leaf_layers

    for layer in leaf_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, max(0.8, 1 - 4 / steps_per_epoch))


def _steps(n: int, settings: Settings, whole_batches: bool) -> int:
    steps = n // settings.batch_size if whole_batches else -(-n // settings.batch_size)
    return min(steps, settings.max_steps or steps)


def _augmentation(settings: Settings):
    if settings.augment == "none" or registry.module(settings.model).KIND == "sequence":
        return None
    import tensorflow as tf

    from .augmentation import augment

    # A tf.function, so that it is traced once and not anew for each epoch's dataset.
    return tf.function(augment(settings.augment, seed=settings.seed & 0x7FFFFFFF))


def _evaluate(model, val, settings: Settings) -> dict:
    # Not through model.evaluate: its AUC is a histogram's, and a strategy would need whole batches.
    return binary_metrics(val.y, predict(model, val, settings.batch_size))


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
    """P(real) of every row of a store, float32 (N,), in its order; with `flip` the mean of each face and its mirror image."""
    import numpy as np
    import tensorflow as tf

    def views(x, *_):
        # Each face beside its mirror image, so that the faces are read once.
        return (tf.reshape(tf.stack([x, x[:, :, ::-1]], 1), (-1, *x.shape[1:])) if flip else x,)

    steps = -(-len(store.y) // batch_size)
    data = store.batches(np.arange(len(store.y)), batch_size)
    p = model.predict(data.map(views), verbose=0, callbacks=[_Bar(progress, steps, "predict")] if progress else None)
    return np.asarray(p, np.float32).reshape(len(store.y), -1).mean(axis=1)


class WeightAverage:
    """Exponential moving average of the trainable weights, updated after every step (Polyak & Juditsky, SIAM J. Control Optim. 1992).

    Step t (from 0) uses the decay min(decay, (1 + t) / (10 + t)), so that a short training is not the average of where it began.
    Not the optimizer's own (`use_ema`): Keras overwrites the weights with that one at the end of every `fit`, and a `fit` is an epoch here.

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


def saveable(model):
    """The same model without its training: saved so, it opens with plain `keras.models.load_model` whatever it was trained with."""
    import keras

    return keras.Model(model.inputs, model.outputs, name=model.name)


def save_model(model, folder: Path) -> None:
    """`best_model.keras`, and of frame models `best_model.h5` for older readers (HDF5 cannot hold the operations of a sequence model)."""
    names = ["best_model.keras"] + ["best_model.h5"] * (len(model.inputs) == 1)
    if len(names) == 1:
        (folder / "best_model.h5").unlink(missing_ok=True)  # an earlier run's would be taken for this one's
    for name in names:
        with files.atomic_path(folder / name) as partial:
            model.save(partial)


def _Bar(description: str, total: int, mode: str = "train", after=None):
    """A Keras callback that shows tqdm and calls `after` when a training step is done. A function, because a class would need Keras when this file is imported."""
    import keras
    from tqdm import tqdm

    class Bar(keras.callbacks.Callback):
        def _open(self, logs=None):
            self.bar = tqdm(total=total, desc=description, unit="batch", leave=False, disable=None, file=sys.stderr)

        def _step(self, batch, logs=None):
            if after is not None:
                after()
            self.bar.update(1)
            if logs and "loss" in logs:
                self.bar.set_postfix(loss=f"{float(logs['loss']):.4f}", refresh=False)

        def _close(self, logs=None):
            self.bar.close()

        if mode == "train":
            on_train_begin, on_train_batch_end, on_train_end = _open, _step, _close
        else:
            on_predict_begin, on_predict_end = _open, _close

            def on_predict_batch_end(self, batch, logs=None):
                self.bar.update(1)

    return Bar()


def _log(folder: Path, row: dict, writers: dict) -> None:
    """One epoch into the TensorBoard log, curves of training and validation in the same graphs. `writers` is kept between calls."""
    import tensorflow as tf

    for name, prefix in (("train", ""), ("validation", "val_")):
        if name not in writers:
            writers[name] = tf.summary.create_file_writer(str(folder / name))
        with writers[name].as_default(step=row["epoch"]):
            for metric in ("loss", "accuracy", "auc"):
                if math.isfinite(row.get(prefix + metric, math.nan)):  # a cluster's training has no AUC
                    tf.summary.scalar(f"epoch_{metric}", row[prefix + metric])
            if not prefix:
                tf.summary.scalar("learning_rate", row["learning_rate"])
        writers[name].flush()


# ---- the stage -------------------------------------------------------------------------------------------------------------------


def run(
    dataset: Path,
    out: Path,
    settings: Settings,
    *,
    frames: Path | None = None,
    workers: int = 1,
    force: bool = False,
    cache_mb: int | None = None,
    faces_margin: float = PUBLISHED_MARGIN,
) -> dict:
    """Stage 03: trains on `dataset/train`, chooses by `dataset/val`, judges on `dataset/test`, writes everything into `out`.

    Args:
        frames: folder with `<title>/faces/boxes.csv` (who is who, and the facial points of sequence models).
        faces_margin: crop margin that the faces were cut with; a model that starts from one with a description sees that one's part.

    Returns:
        What metrics.json holds.

    Raises:
        UserError: no dataset, an empty class, weights that do not fit, or another run at work in `out`.
    """
    validate(settings)
    groups = groups_of(dataset)
    sets = {split: find_faces(dataset / split, both_classes=True, groups=groups) for split in SPLITS}
    for split, faces in sets.items():
        print(
            f"{split:<6} {len(faces):>7} faces  {int((faces.y == 1).sum())} real, {int((faces.y == 0).sum())} fake, "
            f"{len(set(faces.titles))} videos",
            file=sys.stderr,
        )
    distributed.prepare(settings.strategy, settings.replicas)
    # The workers of a cluster share the folder; worker 0 writes, so it alone holds the lock.
    with files.folder_lock(out, "03_train_cnn") if distributed.is_chief() else contextlib.nullcontext():
        return _run(
            sets,
            out,
            settings,
            known_videos(dataset),
            frames=frames,
            workers=workers,
            force=force,
            cache_mb=cache_mb,
            faces_margin=faces_margin,
        )


def validate(settings: Settings) -> None:
    """Refuses settings that contradict each other, before anything is read.

    Raises:
        UserError: which one and why.
    """
    registry.module(settings.model)
    for name, allowed in (
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
        ("balance", BALANCES),
        ("precision", PRECISIONS),
        ("strategy", distributed.STRATEGIES),
    ):
        if getattr(settings, name) not in allowed:
            raise UserError(f"--{name} cannot be {getattr(settings, name)!r}", hint="one of: " + ", ".join(allowed))
    for name, low, high in (
        ("weight_decay", 0, math.inf),
        ("warmup_epochs", 0, math.inf),
        ("ema", 0, 1),
        ("label_smoothing", 0, 1),
        ("dropout", 0, 1),
    ):
        value = getattr(settings, name)
        if value is not None and not low <= value < high:
            raise UserError(
                f"--{name.replace('_', '-')} cannot be {value}",
                hint=f"{low} or more" + ("" if math.isinf(high) else f", less than {high}"),
            )
    if settings.replicas is not None and settings.strategy != "mirrored":
        raise UserError("--replicas is for --strategy mirrored", hint="leave out --replicas")
    if settings.unfreeze_after is not None and settings.freeze == "none":
        raise UserError(
            "--unfreeze-after says when frozen layers begin to learn, and none are frozen", hint="add --freeze backbone"
        )
    arch = registry.module(settings.model)
    if settings.features is not None and not hasattr(arch, "FEATURES"):
        raise UserError(f"{settings.model} has no feature extractor to choose", hint="leave out --features")
    if settings.sequence_length is not None and arch.KIND != "sequence":
        raise UserError(f"{settings.model} is no sequence model", hint="leave out --sequence-length")
    if settings.weights not in ("imagenet", "none", "auto") and not Path(settings.weights).is_file():
        raise UserError(
            "there is no such weights file",
            file=settings.weights,
            hint="imagenet, none, auto or a .keras, .h5 or .weights.h5 file",
        )


def _run(
    sets: dict,
    out: Path,
    settings: Settings,
    known,
    *,
    frames: Path | None,
    workers: int,
    force: bool,
    cache_mb: int | None,
    faces_margin: float,
) -> dict:
    from . import scoring

    folder = out / "tmp_checkpoint"
    arch = registry.module(settings.model)
    sequence = arch.KIND == "sequence"
    tables = {s: sequences.box_tables(sets[s], frames) for s in SPLITS} if sequence else {}
    mark = fingerprint(
        settings,
        {s: results.faces_digest(sets[s]) + sequences.tables_digest(tables.get(s, {})) for s in ("train", "val")}
        | {"margin": f"{faces_margin:g}"},
    )
    progress = None if force else read_progress(folder / "training_state.npz")
    done = (
        progress is not None
        and progress.fingerprint == mark
        and progress.finished(settings)
        and (folder / "best_model.keras").is_file()
    )
    test_mark = f"{mark}-{progress.best_epoch}-{results.faces_digest(sets['test'])}" if progress else ""
    if done:
        print(
            f"this training is finished ({progress.epoch} epochs, best {progress.best_epoch + 1}); --force repeats it",
            file=sys.stderr,
        )
        stands = standing(out, test_mark)
        if stands is not None:
            return stands

    chief = distributed.is_chief()
    folder.mkdir(parents=True, exist_ok=True)
    if chief:
        files.remove_partials(folder)
    if done and not chief:
        return {}
    session.start(seed=settings.seed, workers=workers, precision=settings.precision)
    strategy = None if done else distributed.make(settings.strategy)
    model = keras_model(folder / "best_model.keras") if done else None
    if not done:
        with distributed.scope(strategy):
            model, origin, start = build_started(settings)
        print(f"{model.name}: {model.count_params():,} parameters, starts from {origin}", file=sys.stderr)

    card = scoring.card_of(folder / "best_model.keras" if done else start) if done or start else {}
    part = scoring.part_of(faces_margin, card["margin"], card["trim"]) if card else WHOLE
    unreadable: dict[str, list[str]] = {}

    def store(split: str):
        made = store_for(
            model,
            sets[split],
            tables=tables.get(split),
            workers=workers,
            cache_mb=cache_mb,
            part=part,
            progress=f"reading {split}",
        )
        _refuse_lost_class(made, sets[split])
        unreadable[split] = made.unreadable
        return made

    if not done:
        extractor, trained = extractor_and_head(model) if sequence else (None, model)
        train, val = store("train"), store("val")
        if extractor is not None:
            train, val = (
                sequences.feature_store(
                    s, extractor, out / "feature_cache", batch_size=settings.batch_size, progress=f"features of {name}"
                )
                for name, s in (("train", train), ("val", val))
            )
        logs = out / "logs"
        if chief and (progress is None or progress.fingerprint != mark):
            _remove_logs(logs)
        if settings.precision == "float32" and strategy is None:
            copies = lambda: (trained, saveable(model))
        else:
            copies = _Twin(model, settings)
        if chief:
            write_card(out, card and {**card, "flip": False})
        progress = fit(
            trained, train, val, settings, folder, mark=mark, logs=logs, copies=copies, strategy=strategy, fresh=force
        )
        if not chief:
            return {}
        test_mark = f"{mark}-{progress.best_epoch}-{results.faces_digest(sets['test'])}"
        del train, val
    if not (folder / "best_model.keras").is_file():
        raise UserError(
            "the training gave no model (no epoch had a finite validation loss)",
            file=folder,
            hint="choose a smaller --learning-rate",
        )
    return _judge(
        sets, store, arch, folder, out, settings, progress, test_mark, unreadable, known, frames, faces_margin, workers
    )


def write_card(out: Path, card: dict) -> None:
    """`tmp_checkpoint/best_model.json`: which part of a crop the model beside it sees, and whether also its mirror image.

    Without a card (the model sees whole crops) one of an earlier run is removed. No calibration: the scores are the network's own.
    """
    path = out / "tmp_checkpoint" / "best_model.json"
    if card:
        files.write_json(path, {"margin": card["margin"], "trim": card["trim"], "flip": card["flip"]})
    else:
        path.unlink(missing_ok=True)


def face_size(model) -> int | None:
    """Side in px of the faces that a frame or sequence model takes; None for a model of points."""
    shape = tuple(model.inputs[0].shape)
    return shape[-2] if shape[-1] == 3 else None


def prediction_batch(model, batch_size: int) -> int:
    """Rows a batch when predicting: a sequence of faces counts as many faces, so that 32 of them do not fill the memory."""
    shape = tuple(model.inputs[0].shape)
    return max(1, batch_size // shape[1]) if len(shape) == 5 else batch_size


def store_for(
    model,
    faces,
    *,
    tables: dict | None = None,
    workers: int = 1,
    cache_mb: int | None = None,
    part: tuple = WHOLE,
    progress: str | None = None,
):
    """The store that feeds a model: of faces, of sequences of faces or of sequences of points, by the shape of its first input.

    Raises:
        UserError: when it is none of these.
    """
    shape = tuple(model.inputs[0].shape)[1:]
    if None in shape[:-1]:
        raise UserError(
            f"this model takes faces of no fixed size (its input is {tuple(t.shape for t in model.inputs)})",
            hint="build it for one size, e.g. (N, 128, 128, 3)",
        )
    options = dict(
        workers=workers, cache_bytes=None if cache_mb is None else cache_mb << 20, part=part, progress=progress
    )
    if len(shape) == 3 and shape[0] == shape[1] and shape[2] == 3 and len(model.inputs) == 1:
        return FaceStore(faces, shape[0], **options)
    if len(model.inputs) == 2 and len(shape) == 4 and shape[1] == shape[2] and shape[3] == 3:
        return sequences.pixel_store(faces, shape[0], shape[1], tables=tables, **options)
    if len(model.inputs) == 2 and shape[1:] == (5, 2):
        return sequences.point_store(faces, shape[0], tables or {})
    raise UserError(
        f"this model does not take faces (its input is {tuple(t.shape for t in model.inputs)})",
        hint="a frame model has the input (N, S, S, 3), a sequence model (N, T, S, S, 3) and a mask (N, T)",
    )


def keras_model(path: Path):
    """A saved model, opened as stage 03a does."""
    from ..models import model_file

    return model_file.load(path)


def _judge(
    sets,
    store,
    arch,
    folder: Path,
    out: Path,
    settings: Settings,
    progress: Progress,
    test_mark: str,
    unreadable: dict,
    known,
    frames: Path | None,
    faces_margin: float,
    workers: int,
) -> dict:
    import keras
    import pandas as pd

    from ..reports import figures, video_rules
    from . import score_tables, shipped

    keras.config.set_dtype_policy("float32")
    test = store("test")
    model = keras_model(folder / "best_model.keras")
    history = pd.DataFrame(progress.history)
    files.write_csv(out / "history.csv", history)
    figures.plot_history(history, out)
    unit = "sequences" if arch.KIND == "sequence" else "faces"
    p_real = predict(model, test, prediction_batch(model, settings.batch_size), f"test {unit}")
    val = store("val")
    unseen = score_tables.face_table(
        val.faces,
        predict(model, val, prediction_batch(model, settings.batch_size), f"validation {unit}"),
        known,
        frames=frames,
        sets="val",
    )
    score_tables.write_faces(folder / score_tables.FACES, unseen)  # what calibration and thresholds are fitted on
    means = unseen.groupby("video").agg(label=("label", "first"), p=("p_real", "mean"))
    threshold = video_rules.choose_threshold([labels.label_of(w) for w in means["label"]], means["p"])
    table = score_tables.face_table(test.faces, p_real, known, frames=frames, sets="test")
    score_tables.write_faces(out / score_tables.FACES, table)
    baseline = None if arch.KIND == "sequence" else shipped.scores(test.faces, faces_margin, workers)
    videos = score_tables.video_table(
        table,
        thresholds=lambda y, p, sets: [threshold] * len(y),
        shipped=baseline,
        shipped_thresholds=shipped.thresholds(),
        without_face=map(results.video_of, unreadable["test"]),
    )
    score_tables.write_videos(out, videos)
    extra = {
        "stage": "03_train_cnn",
        "set": "test",
        "mark": test_mark,
        "video_rules": video_rules.rows(videos, settings.seed),
        "model": {
            "name": model.name,
            "parameters": int(model.count_params()),
            "file": "tmp_checkpoint/best_model.keras",
            "sha256": files.sha256(folder / "best_model.keras"),
        },
        "training": {
            "epochs": progress.epoch,
            "best_epoch": progress.best_epoch + 1,
            "best_val_loss": progress.best,
            "seconds": round(sum(r["seconds"] for r in progress.history), 1),
            "settings": dataclasses.asdict(settings),
        },
    }
    for split in sets.keys() - unreadable.keys():
        store(split)  # a training that an earlier run finished: its faces are read for the account
    results.write_account(out, "03_train_cnn", sets, unreadable)
    return results.write_results(out, test.faces, p_real, seed=settings.seed, extra=extra, unit=unit)


def standing(out: Path, mark: str) -> dict | None:
    """metrics.json when it and all other results are there and were made from this training and these faces."""
    try:
        result = json.loads((out / "metrics.json").read_text())
    except (OSError, ValueError):
        return None
    names = [
        n
        for n in (
            *results.RESULT_FILES,
            "history.csv",
            "Loss.png",
            "Accuracy.png",
            "scores.csv",
            "video_scores.csv",
            "tmp_checkpoint/best_model.keras",
            "tmp_checkpoint/scores.csv",
        )
        if n not in result
    ]
    return result if result.get("mark") == mark and all((out / n).is_file() for n in names) else None


def _refuse_lost_class(store: FaceStore, faces) -> None:
    for word, label in labels.CLASS_FOLDERS.items():
        if not (store.faces.y == label).any():
            raise UserError(
                f"no face of the class {word!r} can be decoded",
                file=faces.root / word,
                hint="make the faces again with stages 01a and 02",
            )


class _Twin:
    """The trained model built anew in float32 on one device, and filled when called: (the part to validate with, the whole to save).

    A file in half precision would be slow on a CPU and less exact everywhere; a strategy's variables are no plain model's.
    """

    def __init__(self, model, settings: Settings):
        import keras

        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        try:
            self._twin = architecture(settings, face_size(model))
        finally:
            keras.config.set_dtype_policy(before)
        self._model = model

    def __call__(self):
        self._twin.set_weights(self._model.get_weights())
        return extractor_and_head(self._twin)[1], saveable(self._twin)


def plot_model(settings: Settings, out: Path) -> Path:
    """Draws the architecture into `<out>/architecture.png` (inner models unfolded, with shapes), or without Graphviz into a .dot file.

    Returns:
        The file written.
    """
    session.quiet()
    import keras

    model = architecture(settings)
    keras_dot = keras.utils.model_to_dot(model, show_shapes=True, show_layer_names=True, expand_nested=True, dpi=72)
    out.mkdir(parents=True, exist_ok=True)
    from shutil import which

    if which("dot"):
        with files.atomic_path(out / "architecture.png") as partial:
            keras_dot.write_png(str(partial))
        return out / "architecture.png"
    print(
        "note: Graphviz is not installed (apt install graphviz), so the drawing is left as architecture.dot",
        file=sys.stderr,
    )
    files.write_text(out / "architecture.dot", keras_dot.to_string())
    return out / "architecture.dot"


def run_seeds(count: int, dataset: Path, out: Path, settings: Settings, **options) -> list[dict]:
    """Repeats the stage with `count` seeds, each in `<out>/seed_<n>`, and writes `<out>/seeds.csv`: a row a seed, mean and spread.

    Returns:
        The rows: seed (a number, "mean" or "std", the sample standard deviation), then the metrics of faces and videos.
    """
    import pandas as pd

    rows = []
    for seed in range(settings.seed, settings.seed + count):
        print(f"--- seed {seed}", file=sys.stderr)
        result = run(dataset, out / f"seed_{seed}", dataclasses.replace(settings, seed=seed), **options)
        row = {"seed": seed}
        for unit in ("faces", "sequences", "videos"):
            for metric in ("accuracy", "balanced_accuracy", "auc", "log_loss", "eer"):
                if unit in result and metric in result[unit]:
                    row[f"{unit}_{metric}"] = result[unit][metric].get("value")  # None where the metric was refused
        rows.append(row)
    table = pd.DataFrame(rows)
    numbers = table.drop(columns="seed").astype(float)
    for name, values in (("mean", numbers.mean()), ("std", numbers.std())):
        rows.append({"seed": name, **values.to_dict()})
    files.write_csv(out / "seeds.csv", pd.DataFrame(rows))
    return rows


def _remove_logs(folder: Path) -> None:
    """Removes an earlier training's TensorBoard curves (only its event files), so that two runs are not drawn over each other."""
    for path in folder.glob("*/events.out.tfevents.*"):
        path.unlink()
