"""Trains the detector: balanced batches of faces and blended fakes, strong augmentation, AdamW with a cosine, averaged weights.

    from deepfake_detection.detector import train
    train.run(train.Settings(steps=3000), cache, out=Path("build/detector/main"))

A batch is balanced within every source, so that "which data set is this" never tells the label: 22 real DFDC faces stand beside
14 DFDC fakes and 8 blends of real DFDC faces, and so on (SHARES). A fake brings the video it was made from where that is at hand, so
that person, room and light are on both sides and only the manipulation differs. Batches are a function of (seed, step) alone, so a
run that was killed goes on from its last checkpoint with the batches it would have had.
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
from ..labels import FAKE, REAL
from .data import CACHE_SIZE, POINTS, Cache
from .self_blending import SelfBlender

#: How many faces of a batch of 64 are (real, given fakes, blended fakes) for each source: real = fakes + blends in every line.
SHARES = {"dfdc": (22, 14, 8), "ffpp": (6, 4, 2), "ffpp_faces": (3, 2, 1), "stills": (1, 0, 1)}

#: Which data sets of the cache make up a source.
SOURCES = {"dfdc": ("dfdc",), "ffpp": ("ffpp", "dfd"), "ffpp_faces": ("ffpp_faces",), "stills": ("stills",)}

#: Part of the blends whose inside is another person's (a crude swap) rather than the face's own copy.
SWAP_PART = 0.25

#: A fake and a real face show the same moment when their grey thumbnails correlate by this much (two thirds of the DFDC pairs do).
ALIGNED = 0.9

#: Quality of the WebP (VP8's key frames, close to those of H.264) that stands for a video's compression on single pictures.
CODEC_QUALITY = (1, 50)

#: What part of a fake is left when it is mixed evenly with its original.
MIXED_PART = (0.35, 1.0)

CHECKPOINT = "checkpoint"


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
        blends: with False, given fakes take the place of blended ones.
        mixing: part of the fakes that are mixed with the same moment of the video they were made from, where that is at hand: half
            of them evenly, with the label between the two (mixup, Zhang et al., ICLR 2018; on aligned pairs, as the third place of
            the DFDC challenge did), half by pasting part of the fake into the original with a blending mask.
        codec: part of all faces that go through a video codec's intra coding (CODEC_QUALITY) before augmentation.
        augmentation: a name of `training.augmentation`.
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
    blends: bool = True
    mixing: float = 0.0
    codec: float = 0.0
    augmentation: str = "strong"
    validate_every: int = 400
    seed: int = 1


class Batches:
    """Draws batches of uint8 faces (batch, CACHE_SIZE, CACHE_SIZE, 3) and labels (batch,) from the training split.

    Args:
        cache: all faces; only rows with split `train` are ever read.
        settings: of the run.
    """

    def __init__(self, cache: Cache, settings: Settings):
        self._images = cache.images
        self._points = cache.table[list(POINTS)].to_numpy(np.float32).reshape(-1, 5, 2)
        self._times = cache.table.time_s.to_numpy()
        self._qualities = cache.table.manipulation.to_numpy()
        self._seed, self._batch, self._mixing, self._codec = settings.seed, settings.batch, settings.mixing, settings.codec
        left_out = {"ffpp": ("ffpp", "ffpp_faces"), "dfdc": ("dfdc",)}
        gone = {s for name in settings.without for s in left_out.get(name, (name,))}
        self._shares, self._videos, self._groups, self._reals_of, self._chances = {}, {}, {}, {}, {}
        for source, share in SHARES.items():
            if source in gone:
                continue
            reals, fakes, blends = share if settings.blends else (share[0], share[1] + share[2], 0)
            if source == "stills" and not settings.blends:
                continue
            self._shares[source] = reals, fakes, blends
            for label in (REAL, FAKE):
                # A video is drawn first, then a face of it, so that long videos do not weigh more.
                rows = cache.rows(dataset=SOURCES[source], split="train", label=label)
                videos = [g for _, g in cache.table.iloc[rows].groupby("video", sort=True)]
                self._videos[source, label] = [g.index.to_numpy() for g in videos]
                self._groups[source, label] = [g["group"].iloc[0] for g in videos]
                self._chances[source, label] = _chances([g["manipulation"].iloc[0].split("/")[0] for g in videos])
            self._reals_of[source] = {}
            for number, group in enumerate(self._groups[source, REAL]):
                self._reals_of[source].setdefault(group, []).append(number)
        scale = settings.batch / sum(2 * s[0] for s in self._shares.values())
        self._shares = {k: self._scaled(s, scale) for k, s in self._shares.items()}

    @staticmethod
    def _scaled(share, scale: float):
        reals = max(1, round(share[0] * scale))
        blends = min(reals, round(share[2] * scale)) if share[1] else reals
        return reals, reals - blends, blends

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of one step."""
        rng = np.random.default_rng([self._seed, int(step)])
        blend = SelfBlender(seed=int(rng.integers(2**31)))
        faces, labels = [], []
        for source, (reals, fakes, blends) in self._shares.items():
            fake_videos = self._draw(rng, source, FAKE, fakes)
            groups = [self._groups[source, FAKE][v] for v in fake_videos]
            paired = [int(rng.choice(self._reals_of[source][g])) for g in groups if g in self._reals_of[source]][:reals]
            real_videos = rng.permutation(paired + self._draw(rng, source, REAL, reals - len(paired))).astype(int)
            chosen = self._face_of_each(rng, source, REAL, real_videos)
            faces += [self._images[i] for i in chosen]
            for n, i in enumerate(chosen[:blends]):
                # The blends stand beside the very faces they were made from: what differs is the blending alone.
                if rng.random() < SWAP_PART and reals > 1:
                    j = chosen[(n + 1) % len(chosen)]
                    faces.append(blend(self._images[i], self._points[i], self._images[j], self._points[j]))
                else:
                    faces.append(blend(self._images[i], self._points[i]))
            labels += [REAL] * reals + [FAKE] * blends
            for i, group in zip(self._face_of_each(rng, source, FAKE, fake_videos), groups):
                originals = self._alike(source, i, self._reals_of[source].get(group, ())) if self._mixing else ()
                if originals and rng.random() < self._mixing:
                    face, label = self._mixed(rng, blend, i, source, int(rng.choice(originals)))
                else:
                    face, label = self._images[i], FAKE
                faces.append(face)
                labels.append(label)
        if self._codec:
            faces = [recode(face, int(rng.integers(*CODEC_QUALITY))) if rng.random() < self._codec else face for face in faces]
        return np.stack(faces), np.array(labels, np.float32)

    def _alike(self, source: str, fake: int, originals) -> list[int]:
        """Those of a fake's originals that were compressed as it was: `Deepfakes/c23` goes with `c23`."""
        quality = self._qualities[fake].split("/")[-1]
        return [n for n in originals if self._qualities[self._videos[source, REAL][n][0]] == quality]

    def _mixed(self, rng, blend: SelfBlender, fake: int, source: str, original: int) -> tuple[np.ndarray, float]:
        """A fake mixed with its original, and its label; the fake as it is where the two do not show the same moment.

        Args:
            fake: its row.
            original: number of the real video.
        """
        rows = self._videos[source, REAL][original]
        real = int(rows[np.argmin(np.abs(self._times[rows] - self._times[fake]))])
        fake_face, real_face = self._images[fake], self._images[real]
        if not aligned(fake_face, real_face):
            return fake_face, FAKE
        if rng.random() < 0.5:
            part = float(rng.uniform(*MIXED_PART))
            return (fake_face * np.float32(part) + real_face * np.float32(1 - part) + 0.5).astype(np.uint8), part * FAKE + (1 - part) * REAL
        return blend(real_face, self._points[real], fake_face, self._points[real]), FAKE

    def _draw(self, rng, source: str, label: int, count: int) -> list[int]:
        """Numbers of videos."""
        if not count:
            return []
        chances = self._chances[source, label]
        return rng.choice(len(chances), count, replace=len(chances) < count, p=chances).tolist()

    def _face_of_each(self, rng, source: str, label: int, videos) -> list[int]:
        return [int(rng.choice(self._videos[source, label][v])) for v in videos]


def _chances(kinds: list[str]) -> np.ndarray:
    """How likely each video is drawn: a kind (manipulation or quality) with four times the videos is drawn twice as often."""
    _, numbers, counts = np.unique(np.array(kinds), return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts[numbers])
    return weights / weights.sum()


def recode(face: np.ndarray, quality: int) -> np.ndarray:
    """A face (uint8 RGB, H x W x 3) after lossy WebP, whose coding is that of VP8's key frames: prediction, DCT, loop filter.

    Args:
        quality: 1 (worst) to 100.
    """
    import cv2

    coded = cv2.imencode(".webp", face[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]


def aligned(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two faces (uint8 RGB, H x W x 3) show the same moment: the correlation of their grey thumbnails is ALIGNED or more."""
    import cv2

    thumbnails = [cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
                  for face in (one, other)]
    a, b = (t - t.mean() for t in thumbnails)
    return bool(a @ b >= ALIGNED * np.sqrt((a @ a) * (b @ b)) > 0)


def dataset(cache: Cache, settings: Settings, start: int, size: int):
    """A tf.data.Dataset of (float32 faces (batch, size, size, 3), labels (batch, 1)) from step `start` on, endless."""
    import tensorflow as tf

    from ..training.augmentation import augment

    batches, change = Batches(cache, settings), augment(settings.augmentation, settings.seed)

    def draw(step):
        faces, labels = tf.numpy_function(batches, [step], (tf.uint8, tf.float32))
        return step, tf.ensure_shape(faces, (None, CACHE_SIZE, CACHE_SIZE, 3)), tf.ensure_shape(labels, (None,))

    def alter(step, faces, labels):
        return change(faces, step, size), labels[:, None]

    steps = tf.data.Dataset.range(start, 10**9)
    return steps.map(draw, num_parallel_calls=1).map(alter, num_parallel_calls=1).prefetch(4)


def run(settings: Settings, cache: Cache, out: Path) -> Path:
    """Trains, or goes on with a killed run, and returns the path of the averaged model, `<out>/model.keras`. A run that is done with
    the same settings is not made again.

    Writes `<out>/log.csv` (step, minutes, loss, validation AUCs), `<out>/settings.json` and checkpoints.
    """
    import keras
    from tqdm import tqdm

    from ..models import registry

    keras.utils.set_random_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    made_with = json.loads(json.dumps(asdict(settings)))
    if (out / "result.json").is_file() and json.loads((out / "result.json").read_text()).get("settings") == made_with:
        return out / "model.keras"
    write_json(out / "settings.json", made_with)
    state = {"step": 0, "seconds": 0.0, "log": []}
    if (out / f"{CHECKPOINT}.json").is_file():
        state = json.loads((out / f"{CHECKPOINT}.json").read_text())
        model = keras.models.load_model(out / f"{CHECKPOINT}.keras")
        with np.load(out / f"{CHECKPOINT}.npz") as f:
            average = [f[f"w{i}"] for i in range(len(f.files))]
    else:
        model = _compiled(registry.build(settings.architecture, input_size=_size_at(settings, 0.0), weights=settings.weights,
                                         dropout=settings.dropout), settings)
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
            feed, size = iter(dataset(cache, settings, step, wanted)), wanted
        model.optimizer.learning_rate.assign(_learning_rate(settings, progress))
        faces, labels = next(feed)
        losses.append(float(model.train_on_batch(faces, labels)))
        step += 1
        bar.update()
        # A young average follows closely, so that the first weights are soon forgotten.
        momentum = min(settings.averaging, (1 + step) / (10 + step))
        for kept, now in zip(average, model.get_weights()):
            kept *= momentum
            kept += (1 - momentum) * now
        if step % settings.validate_every == 0:
            elapsed = done_before + time.monotonic() - began
            line = {"step": step, "minutes": round(elapsed / 60, 2), "size": wanted, "loss": round(float(np.mean(losses)), 4),
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
    model.compile(optimizer, keras.losses.BinaryCrossentropy(label_smoothing=settings.smoothing), jit_compile=False)
    return model


def _resized(model, settings: Settings, size: int):
    """The same weights and optimizer state for another input size."""
    from ..models import registry

    larger = _compiled(registry.build(settings.architecture, input_size=size, dropout=settings.dropout), settings)
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
    """An uncompiled copy of the model with other weights."""
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(weights)
    return copy


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
    """AUCs on a part of the validation split: every third DFDC face, eight faces of each FF++ clip, all FF++ crops."""
    from sklearn.metrics import log_loss, roc_auc_score

    table, result = cache.table, {}
    rows = cache.rows(dataset="dfdc", split="val")[::3]
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
