"""Trains the detector: balanced batches of faces and blended fakes, strong augmentation, AdamW with a cosine, averaged weights.

    from deepfake_detection.detector import train
    train.run(train.Settings(steps=3000), cache, out=Path("build/detector/main"))

The batches (`batches.py`) are a function of (seed, step) alone, so a run that was killed goes on from its last checkpoint with the
batches it would have had.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import atomic_path, write_json, write_text
from .batches import Batches
from .data import CACHE_SIZE, Cache

CHECKPOINT = "checkpoint"

#: What may change when a run goes on from its checkpoint: how long it takes, and how often it is looked at.
MAY_CHANGE = ("steps", "minutes", "validate_every")


@dataclass(frozen=True)
class Settings:
    """A training run. Saved beside its results.

    Attributes:
        architecture: a name of `models.registry`.
        sizes: ((part of the run, input side), ...): small faces first, larger ones at the end.
        steps, batch: optimizer steps, and faces a step (a multiple of 64).
        minutes: if given, the schedule also ends after this time; the steps reached are in the log and repeat the run.
        learning_rate: its peak, after `warmup` (part of the run), before a cosine to 0.
        weight_decay: of convolution and dense kernels only.
        smoothing: labels are smoothed by this much.
        averaging: momentum of the averaged weights, which are what is saved.
        freeze: (part of the run, layer): from that part on this layer and all before it stay as they are. The first layers see the
            largest pictures and change least: without their gradients a step takes two thirds of the time (after Brock et al.,
            "FreezeOut", 2017). None: everything learns to the end.
        freeze_norms: from this part of the run on all batch normalisation uses and keeps its running mean and variance. It makes a step a third
            shorter, and a face is then learnt from as it is later judged: alone, without the batch's others. None: never.
        without: sources left out ("dfdc" or "ffpp", which takes ffpp_faces with it), for leave-one-dataset-out.
        blends: part of the usual blends (`batches.SHARES`) that is made; given fakes take the place of the others. From ImageNet weights all
            of them are too hard for a first hour.
        mixing: part of the fakes that are mixed with the same moment of the video they were made from, where that is at hand: half
            of them evenly, with the label between the two (mixup, Zhang et al., ICLR 2018; on aligned pairs, as the third place of
            the DFDC challenge did), half by pasting part of the fake into the original with a blending mask.
        codec: part of all faces that go through a video codec's intra coding (CODEC_QUALITY) before augmentation.
        augmentation: a name of `training.augmentation`.
        where: (weight, layer): a second output, one number for each place of this layer's result, learns with this weight where a face
            was altered: the mask of a blend, the difference between a fake and its original. A network that must say where cannot
            get by on knowing the person or the room (Dang et al., "On the Detection of Digital Face Manipulation", CVPR 2020; Zhao et al., "Learning
            Self-Consistency for Deepfake Detection", ICCV 2021). It is not part of what is saved at the end. None: no such output.
    """

    architecture: str = "efficientnet_lite0"
    weights: str = "none"
    sizes: tuple = ((0.0, 128),)
    steps: int = 3000
    batch: int = 64
    minutes: float | None = None
    learning_rate: float = 8e-4
    warmup: float = 0.04
    weight_decay: float = 0.02
    smoothing: float = 0.04
    dropout: float = 0.3
    averaging: float = 0.996
    freeze: tuple | None = None
    freeze_norms: float | None = None
    without: tuple = ()
    blends: float = 1.0
    mixing: float = 0.0
    codec: float = 0.0
    augmentation: str = "strong"
    where: tuple | None = None
    validate_every: int = 400
    seed: int = 1


def dataset(cache: Cache, settings: Settings, start: int, size: int, places: tuple[int, int] | None = None):
    """A tf.data.Dataset from step `start` on, endless, of (float32 faces (batch, size, size, 3), labels (batch, 1)); with `places`
    (rows, columns) also of what part of each place was altered, (batch, rows * columns), and whether that is known, (batch,)."""
    import tensorflow as tf

    from ..training.augmentation import augment

    batches, change = Batches(cache, settings), augment(settings.augmentation, settings.seed)

    def draw(step):
        kinds = (tf.uint8, tf.float32, tf.uint8, tf.float32) if places else (tf.uint8, tf.float32)
        faces, labels, *rest = tf.numpy_function(batches.located if places else batches, [step], kinds)
        return step, tf.ensure_shape(faces, (None, CACHE_SIZE, CACHE_SIZE, 3)), tf.ensure_shape(labels, (None,)), *rest

    def alter(step, faces, labels, maps=None, known=None):
        if maps is None:
            return change(faces, step, size), labels[:, None]
        both = change(tf.concat([faces, tf.ensure_shape(maps, (None, CACHE_SIZE, CACHE_SIZE))[..., None]], -1), step, size)
        where = tf.image.resize(both[..., 3:] / 255, places, method="area")
        return both[..., :3], labels[:, None], tf.reshape(where, (-1, places[0] * places[1])), tf.ensure_shape(known, (None,))

    steps = tf.data.Dataset.range(start, 10**9)
    return steps.map(draw, num_parallel_calls=1).map(alter, num_parallel_calls=1).prefetch(4)


def run(settings: Settings, cache: Cache, out: Path) -> Path:
    """Trains, or goes on with a killed run, and returns the path of the averaged model, `<out>/model.keras`. A run that is done with
    the same settings is not made again.

    To end a run early, interrupt it and run it again with `steps` of its last checkpoint: its averaged weights become the model as they are.

    Writes `<out>/log.csv` (step, minutes, loss, validation AUCs), `<out>/settings.json` and checkpoints.

    Raises:
        UserError: when `out` holds a checkpoint of a run with other settings than MAY_CHANGE.
    """
    import keras
    import tensorflow as tf
    from tqdm import tqdm

    keras.utils.set_random_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    made_with = json.loads(json.dumps(asdict(settings)))
    if (out / "result.json").is_file() and json.loads((out / "result.json").read_text()).get("settings") == made_with:
        return out / "model.keras"
    state = {"step": 0, "seconds": 0.0, "log": []}
    if (out / f"{CHECKPOINT}.json").is_file():
        state = json.loads((out / f"{CHECKPOINT}.json").read_text())
        _same_run(state.get("settings", made_with), made_with, out)
    state["settings"] = made_with
    write_json(out / "settings.json", made_with)
    if state["step"]:
        model = keras.models.load_model(out / f"{CHECKPOINT}.keras")
        with np.load(out / f"{CHECKPOINT}.npz") as f:
            average = [f[f"w{i}"] for i in range(len(f.files))]
    else:
        model = _compiled(_built(settings, _size_at(settings, 0.0), settings.weights), settings)
        average = [w.copy() for w in model.get_weights()]

    began, done_before = time.monotonic(), state["seconds"]
    step, progress, losses, feed, size = state["step"], 0.0, [], None, None
    bar = tqdm(total=settings.steps, initial=step, desc=out.name, unit="step", mininterval=10)
    while True:
        elapsed = done_before + time.monotonic() - began
        progress = step / settings.steps
        if settings.minutes is not None:
            progress = max(progress, elapsed / 60 / settings.minutes)
        if progress >= 1:
            break
        wanted = _size_at(settings, progress)
        if model.input_shape[1] != wanted:
            model = _resized(model, settings, wanted)
        if _freezes(model, settings, progress):
            model = _frozen(model, settings, progress)
        if size != wanted:
            places = model.get_layer(settings.where[1]).output.shape[1:3] if settings.where else None
            feed, size = iter(dataset(cache, settings, step, wanted, places)), wanted
        model.optimizer.learning_rate.assign(_learning_rate(settings, progress))
        faces, labels, *where = next(feed)
        if where:
            losses.append(model.train_on_batch(faces, [labels, where[0]], sample_weight=[tf.ones(len(labels)), where[1]])[1:])
        else:
            losses.append([model.train_on_batch(faces, labels)])
        step += 1
        bar.update()
        # A young average follows closely, so that the first weights are soon forgotten.
        momentum = min(settings.averaging, (1 + step) / (10 + step))
        for kept, now in zip(average, model.get_weights()):
            kept *= momentum
            kept += (1 - momentum) * now
        if step % settings.validate_every == 0:
            elapsed = done_before + time.monotonic() - began
            mean = np.mean(losses, 0).round(4).tolist()
            line = {"step": step, "minutes": round(elapsed / 60, 2), "size": wanted, **dict(zip(("loss", "where_loss"), mean)),
                    **quick_validation(_with(model, average), cache, wanted)}
            losses = []
            bar.write(json.dumps(line))
            state["log"].append(line)
            _save(out, model, average, state | {"step": step, "seconds": done_before + time.monotonic() - began})
    bar.close()
    final = _with(model, average)
    with atomic_path(out / "model.keras") as partial:
        final.save(partial)
    write_json(out / "result.json", {"step": step, "minutes": round((done_before + time.monotonic() - began) / 60, 1), "settings": made_with,
                                     "log": state["log"]})
    return out / "model.keras"


def _same_run(before: dict, now: dict, out: Path) -> None:
    other = [name for name in now if name not in MAY_CHANGE and before.get(name) != now[name]]
    if other:
        raise UserError(f"a run with other settings was begun here ({', '.join(other)})", file=out,
                        hint="give this one another --name, or remove the folder of the other")


def interpolate(start: Path, end: Path, part: float, out: Path, *, size: int | None = None) -> Path:
    """Writes the model whose weights are start + part (end - start), and returns `out`.

    A network that was trained on from another loses some of what that one could on other material; a point between the two keeps
    most of both (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).

    Args:
        start: the `.keras` file that the training began with; of the same architecture.
        end: what it ended with.
        size: its input side, if not that of `end`. The best size to look at is not always that of the training (Touvron et al., "Fixing
            the train-test resolution discrepancy", NeurIPS 2019), least of all between two models of different sizes.

    Raises:
        UserError: when the two are of different architectures, or take no other `size`.
    """
    import keras

    first, last = (keras.models.load_model(path, compile=False) for path in (start, end))
    a, b = first.get_weights(), last.get_weights()
    if [w.shape for w in a] != [w.shape for w in b]:
        raise UserError("these two models are of different architectures", file=start, hint="interpolate between a run and the .keras file it began with")
    if size:
        last = keras.models.clone_model(last, input_tensors=keras.Input((size, size, 3), name="image"))
        if [w.shape for w in last.get_weights()] != [w.shape for w in b]:
            raise UserError(f"this architecture's weights do not fit faces of {size} px", file=end, hint="leave the size as it was in training")
    last.set_weights([x + part * (y - x) for x, y in zip(a, b)])
    with atomic_path(out) as partial:
        last.save(partial)
    return out


def _compiled(model, settings: Settings):
    import keras

    optimizer = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    loss, weights = keras.losses.BinaryCrossentropy(label_smoothing=settings.smoothing), None
    if settings.where:
        loss, weights = [loss, keras.losses.BinaryCrossentropy()], [1.0, settings.where[0]]
    model.compile(optimizer, loss, loss_weights=weights, jit_compile=False)
    return model


def _built(settings: Settings, size: int, weights: str = "none"):
    """The network of the settings for one input size, uncompiled, with every output that it is trained with."""
    from ..models import registry

    return _taught(registry.build(settings.architecture, input_size=size, weights=weights, dropout=settings.dropout), settings)


def _taught(model, settings: Settings):
    """The model with the output that learns where a face was altered, if the settings want one. Its own layers stay what they are."""
    if not settings.where:
        return model
    import keras

    try:
        features = model.get_layer(settings.where[1]).output
    except ValueError:
        raise UserError(f"{model.name} has no layer named {settings.where[1]!r}", hint="--where takes a layer of the model's summary, such as block10_add") from None
    # From zeros: the features of a trained network are not pulled about by a random output before this one has learnt anything.
    logits = keras.layers.Conv2D(1, 1, kernel_initializer="zeros", name="altered_logits")(features)
    altered = keras.layers.Activation("sigmoid", dtype="float32", name="altered")(keras.layers.Flatten(name="altered_places")(logits))
    return keras.Model(model.input, [model.output, altered], name=model.name)


def _plain(model):
    """The model without that output: the layers are shared."""
    import keras

    return keras.Model(model.input, model.outputs[0], name=model.name) if len(model.outputs) > 1 else model


def _resized(model, settings: Settings, size: int):
    """The same weights and optimizer state for another input size."""
    larger = _built(settings, size)
    for new, old in zip(larger.layers, model.layers):
        new.trainable = old.trainable           # what stands still has no state in the optimizer
    _compiled(larger, settings)
    larger.set_weights(model.get_weights())
    larger.optimizer.build(larger.trainable_variables)
    for new, old in zip(larger.optimizer.variables, model.optimizer.variables):
        new.assign(old)
    return larger


def _freezes(model, settings: Settings, progress: float) -> bool:
    """Whether something that is to stand still from `progress` on still moves."""
    layers, norms = _due(settings, progress)
    return layers and model.layers[1].trainable or norms and any(layer.trainable for layer in _norms(model))


def _due(settings: Settings, progress: float) -> tuple[bool, bool]:
    """Whether the first layers and the normalisations stand still at this part of the run."""
    return (settings.freeze is not None and progress >= settings.freeze[0],
            settings.freeze_norms is not None and progress >= settings.freeze_norms)


def _norms(model) -> list:
    import keras

    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def _frozen(model, settings: Settings, progress: float):
    """The model with all frozen that is to be by `progress`; the optimizer keeps its state of everything else."""
    from ..training.train import freeze

    old = {_owner(v): v for v in model.optimizer.variables}
    layers, norms = _due(settings, progress)
    freeze(model, settings.freeze[1] if layers else "none")
    for layer in _norms(model) if norms else ():
        layer.trainable = False
    _compiled(model, settings)
    model.optimizer.build(model.trainable_variables)
    for variable in model.optimizer.variables:
        if _owner(variable) in old:                 # not when a run begins frozen: its optimizer has no state yet
            variable.assign(old[_owner(variable)])
    return model


def _owner(variable) -> str:
    """What a variable of an optimizer belongs to, without the optimizer's own name: `stem_conv_kernel_momentum`."""
    return variable.path.split("/", 1)[-1]


def _with(model, weights):
    """An uncompiled copy of the model with other weights, and with P(real) alone for its output."""
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(weights)
    return _plain(copy)


def _size_at(settings: Settings, progress: float) -> int:
    return [size for begin, size in settings.sizes if progress >= begin][-1]


def _learning_rate(settings: Settings, progress: float) -> float:
    """Linear warm-up, then a cosine to 0."""
    if progress < settings.warmup:
        return settings.learning_rate * (progress + 1e-3) / settings.warmup
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - settings.warmup) / (1 - settings.warmup)))


def _save(out: Path, model, average, state: dict) -> None:
    """The json is written last: a checkpoint without it does not count."""
    with atomic_path(out / f"{CHECKPOINT}.keras") as partial:
        model.save(partial)
    with atomic_path(out / f"{CHECKPOINT}.npz") as partial:
        np.savez(partial, **{f"w{i}": w for i, w in enumerate(average)})
    write_json(out / f"{CHECKPOINT}.json", state)
    write_text(out / "log.csv", "\n".join([",".join(state["log"][-1])] + [",".join(map(str, r.values())) for r in state["log"]]) + "\n")


def predict_rows(model, cache: Cache, rows: np.ndarray, size: int, batch: int = 64) -> np.ndarray:
    """P(real) of cached faces, (len(rows),) float32, before calibration."""
    from ..faces.crops import network_input

    predicted = [np.asarray(model(np.stack([network_input(cache.images[i], size) for i in rows[k:k + batch]]).astype(np.float32),
                                  training=False))[:, 0] for k in range(0, len(rows), batch)]
    return np.concatenate(predicted)


def quick_validation(model, cache: Cache, size: int) -> dict:
    """AUCs on the validation split: all DFDC faces (one a video; a third of them, drawn by their order, was once .02 too kind), eight
    faces of each FF++ clip, all FF++ crops."""
    from sklearn.metrics import log_loss, roc_auc_score

    table, result = cache.table, {}
    rows = cache.rows(dataset="dfdc", split="val")
    p, y = predict_rows(model, cache, rows, size), table.label.to_numpy()[rows]
    result["dfdc_auc"], result["dfdc_log_loss"] = round(roc_auc_score(y, p), 4), round(log_loss(y, np.clip(p, 1e-6, 1 - 1e-6)), 4)
    rows = cache.rows(dataset=("ffpp", "dfd"), split="val")[::4]
    part = table.iloc[rows].assign(p=predict_rows(model, cache, rows, size))
    videos = part.groupby("video").agg(p=("p", "mean"), label=("label", "first"), manipulation=("manipulation", "first"))
    for quality in ("c23", "c40"):
        some = videos[videos.manipulation.str.contains(quality)]
        result[f"ffpp_{quality}_auc"] = round(roc_auc_score(some.label, some.p), 4)
    rows = cache.rows(dataset="ffpp_faces", split="val")
    result["ffpp_faces_auc"] = round(roc_auc_score(table.label.to_numpy()[rows], predict_rows(model, cache, rows, size)), 4)
    return result
