"""Stage 03 for small sets: grouped k-fold cross-validation of a classifier on the features of a frozen network.

With few people a test set holds one or two of them, and a number measured on it says nothing. Here every video is
judged once, by a classifier that saw nobody of its group. The network stays as it is, so every face goes through it
once; only the classifier, a logistic regression (scikit-learn), is fitted anew in each fold. The model that is kept has
the classifier fitted on all groups.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files, labels
from ..errors import UserError
from ..faces.settings import PUBLISHED_MARGIN
from ..models import registry
from . import checkpoint, features, results, score_tables, session, shipped, start, stores
from .input_pipeline import WHOLE, Faces, FaceStore, find_faces
from .known import known_videos
from .settings import SPLITS, Settings, validate

if TYPE_CHECKING:
    import numpy

#: With fewer identity groups than this, stage 03 validates in folds unless told otherwise.
FEW_GROUPS = 40
#: Folds where there are so many groups; else one for each group.
FOLDS = 10
#: Folds by which the strength is chosen, inside each training part.
INNER_FOLDS = 3
#: Inverse strengths of the regularisation that are tried (scikit-learn's C, on features of unit variance).
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: Options of stage 03 that are about training a network, which folds leave as it is.
WITHOUT_EFFECT = (
    *("epochs", "patience", "max_steps", "learning_rate", "schedule", "warmup_epochs", "optimizer", "weight_decay"),
    *("augment", "balance", "label_smoothing", "ema", "precision", "dropout", "freeze", "unfreeze_after"),
    *("sequence_length", "features", "replicas"),
)


def resolve(options, given: Collection[str] = ()) -> None:
    """Fills in `folds`, `model` and `weights` of stage 03's options: folds on the shipped detector for a small set that
    says nothing else.

    Says which of the options that were `given` folds have no use for.
    """
    default = Settings()
    free = options.model is None and options.weights is None
    if options.folds is None:
        options.folds = (
            "auto" if free and options.strategy == "none" and options.seeds == 1 and not options.plot_model else 0
        )
    if options.folds == "auto":
        groups = known_videos(options.dataset)["group"].nunique()
        options.folds = FOLDS if 0 < groups < FEW_GROUPS and (not free or start.SHIPPED_DETECTOR.is_file()) else 0
    if options.folds and (options.strategy != "none" or options.seeds > 1):
        raise UserError("folds go together with neither --strategy nor --seeds", hint="--folds 0")
    shipped_model = start.keras_file(start.SHIPPED_DETECTOR).get("name") if options.folds and free else None
    options.model = options.model or shipped_model or default.model
    options.weights = options.weights or ("auto" if shipped_model else default.weights)
    unused = [f"--{name.replace('_', '-')}" for name in WITHOUT_EFFECT if name in given]
    if options.folds and unused and not options.plot_model:
        print(
            "note: no effect in folds, where the network stays as it is and only its classifier is fitted: "
            f"{', '.join(unused)} "
            "(--folds 0 trains the network)",
            file=sys.stderr,
        )


def all_faces(dataset: Path) -> Faces:
    """The faces of train, val and test as one list; names begin with the set's folder."""
    import numpy as np

    groups = known_videos(dataset)["group"].to_dict()
    sets = {s: find_faces(dataset / s, both_classes=True, groups=groups) for s in SPLITS}
    joined = lambda name: tuple(v for faces in sets.values() for v in getattr(faces, name))
    names = tuple(f"{s}/{name}" for s, faces in sets.items() for name in faces.names)
    return Faces(dataset, names, np.concatenate([f.y for f in sets.values()]), joined("titles"), joined("groups"))


def published(faces: Faces) -> Faces:
    """The same faces named without the set's folder, as score files name them."""
    return dataclasses.replace(faces, names=tuple(name.split("/", 1)[1] for name in faces.names))


def split(y, groups, k: int, seed: int):
    """Fold of each row, int64 (N,) 0..k-1: no group in two folds, both classes spread over them.

    Raises:
        UserError: fewer than two groups, or a fold that leaves a class without a row to train on.
    """
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    y, groups = np.asarray(y), np.asarray(groups)
    k = min(k, len(set(groups)))
    hint = "add videos of other people, or train on the split with --folds 0"
    if k < 2:
        raise UserError("cross-validation needs videos of two groups of people or more", hint=hint)
    k = min(k, *np.bincount(y, minlength=2))  # scikit-learn wants a row of each class for each fold
    fold = np.zeros(len(y), np.int64)
    if k >= 2:
        for number, (_, held) in enumerate(
            StratifiedGroupKFold(k, shuffle=True, random_state=seed & 0xFFFFFFFF).split(y, y, groups)
        ):
            fold[held] = number
    if k < 2 or any(len(set(y[fold != f])) < 2 for f in set(fold)):
        raise UserError("too few groups of people: a fold has real or fake faces only to learn from", hint=hint)
    return fold


def video_weights(y, titles):
    """Weights (N,) with mean 1: both classes count alike, and in a class every video."""
    import numpy as np

    _, which, count = np.unique(np.asarray(titles), return_inverse=True, return_counts=True)
    weight = 1.0 / count[which]
    for label in (labels.REAL, labels.FAKE):
        weight[y == label] *= 0.5 / weight[y == label].sum()
    return weight * len(y)


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a classifier is fitted on: views float64 (V, N, F) of the same faces, y (N,), titles and groups (N,)."""

    views: numpy.ndarray
    y: numpy.ndarray
    titles: numpy.ndarray
    groups: numpy.ndarray

    def take(self, keep) -> Rows:
        return Rows(self.views[:, keep], self.y[keep], self.titles[keep], self.groups[keep])

    @property
    def weights(self):
        return video_weights(self.y, self.titles)


def fit(rows: Rows, strength: float):
    """The classifier: weights (F,) and bias of a logistic regression on the mean of the views."""
    from sklearn.linear_model import LogisticRegression

    x = rows.views.mean(axis=0)
    centre = x.mean(axis=0)
    model = LogisticRegression(C=strength, max_iter=1000).fit(x - centre, rows.y, sample_weight=rows.weights)
    return model.coef_[0], float(model.intercept_[0] - model.coef_[0] @ centre)


def score(classifier, views):
    """P(real) (N,) of views (V, N, F): the mean over the views, as the detector looks at a face and its mirror
    image."""
    from scipy.special import expit

    weights, bias = classifier
    return expit(views @ weights + bias).mean(axis=0)


def choose_strength(rows: Rows, seed: int) -> tuple[float, list[dict]]:
    """The strength with the least validation loss in grouped folds of `rows`, and a history row for each that was
    tried."""
    import numpy as np

    from ..metrics import log_loss

    try:
        fold = split(rows.y, rows.groups, INNER_FOLDS, seed)
    except UserError:  # two groups of people: nothing to choose by
        return STRENGTHS[len(STRENGTHS) // 2], []
    history: list[dict] = []
    for strength in STRENGTHS:
        held, seen = np.zeros(len(rows.y)), []
        for number in sorted(set(fold)):
            part = rows.take(fold != number)
            classifier = fit(part, strength)
            held[fold == number] = score(classifier, rows.views[:, fold == number])
            seen.append((part, score(classifier, part.views)))
        weighted = lambda part, p: float(
            np.average(
                -np.where(part.y == labels.REAL, np.log(np.clip(p, 1e-7, 1)), np.log(np.clip(1 - p, 1e-7, 1))),
                weights=part.weights,
            )
        )
        accuracy = lambda y, p: float(np.mean((p >= labels.TIE_THRESHOLD) == (y == labels.REAL)))
        history.append(
            {
                "strength": strength,
                "loss": np.mean([log_loss(part.y, p) for part, p in seen]),
                "accuracy": np.mean([accuracy(part.y, p) for part, p in seen]),
                "val_loss": log_loss(rows.y, held),
                "val_accuracy": accuracy(rows.y, held),
                "chosen_by": weighted(rows, held),
            }
        )
    best = min(history, key=lambda row: row["chosen_by"])
    return best["strength"], history


def cross_validate(rows: Rows, fold, seed: int):
    """(P(real) of every face by the classifier of its fold (N,), the classifier fitted on all, history of the latter's
    choice)."""
    import numpy as np
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    # A rotation into the faces' own span: at most N numbers a face instead of F, and exactly the same regression.
    scale = np.sqrt(((rows.views - rows.views.mean(axis=(0, 1))) ** 2).mean()) or 1.0
    _, _, axes = np.linalg.svd(rows.views.mean(axis=0) / scale, full_matrices=False)
    turned = dataclasses.replace(rows, views=rows.views / scale @ axes.T)
    p = np.zeros(len(rows.y))
    # One thread: the matrices are small, and threads that wait for each other would take most of the time.
    with threadpool_limits(1):
        for number in tqdm(sorted(set(fold)), desc="folds", unit="fold", disable=None):
            part = turned.take(fold != number)
            strength, _ = choose_strength(part, seed)
            p[fold == number] = score(fit(part, strength), turned.views[:, fold == number])
        strength, history = choose_strength(turned, seed)
        weights, bias = fit(turned, strength)
    return p, (weights @ axes / scale, bias), history


def with_classifier(model, classifier):
    """`model` with its classifier replaced by one Dense layer of these weights; its own, where that is one Dense
    layer."""
    import keras
    import numpy as np

    weights, bias = classifier
    values = [np.asarray(weights, np.float32)[:, None], np.array([bias], np.float32)]
    own = [layer for layer in registry.classifier_layers(model) if layer.weights]
    if len(own) == 1 and own[0].units == 1:
        own[0].set_weights(values)
        return model
    dense = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="p_real")
    made = keras.Model(model.inputs, dense(registry.feature_tensor(model)), name=model.name)
    dense.set_weights(values)
    return made


# ---- the stage -------------------------------------------------------------------------------------------------------


def run(
    dataset: Path,
    out: Path,
    settings: Settings,
    *,
    folds: int = FOLDS,
    frames: Path | None = None,
    workers: int = 1,
    force: bool = False,
    cache_mb: int | None = None,
    faces_margin: float = PUBLISHED_MARGIN,
) -> dict:
    """Stage 03 in folds: scores every video out of fold, keeps the model with the classifier of all groups, writes
    everything into `out`.

    Args:
        dataset: `split_dataset`; its three sets are taken together.
        settings: model, weights, image_size, batch_size and seed count; the rest is of whole trainings.
        folds: at most so many.
        frames: folder of stage 01a's results (times and people of scores.csv).
        faces_margin: crop margin that the faces were cut with.

    Returns:
        What metrics.json holds.

    Raises:
        UserError: no dataset, too few groups, a sequence model, or another run at work in `out`.
    """
    validate(settings)
    if registry.module(settings.model).KIND != "frame":
        raise UserError(
            f"{settings.model} is a sequence model, and folds are for models of single faces", hint="--folds 0"
        )
    faces = all_faces(dataset)
    fold = split(faces.y, faces.groups, folds, settings.seed)
    k = int(fold.max()) + 1
    print(
        f"{labels.counted(len(faces), 'face')} of {labels.counted(len(set(faces.titles)), 'video')} and "
        f"{labels.counted(len(set(faces.groups)), 'group')} of people in {k} folds: each video is judged "
        "by a classifier that saw nobody of its group",
        file=sys.stderr,
    )
    used = [
        settings.model,
        settings.weights,
        settings.image_size,
        settings.seed,
        k,
        faces_margin,
        faces.groups,
        STRENGTHS,
        INNER_FOLDS,
    ]
    if Path(settings.weights).is_file():
        used.append(files.sha256(settings.weights))
    mark = hashlib.sha256(json.dumps([*used, results.faces_digest(faces)]).encode()).hexdigest()[:16]
    with files.folder_lock(out, "03_train_cnn"):
        standing = None if force else results.standing(out, mark)
        if standing is not None:
            print("this cross-validation is finished; --force repeats it", file=sys.stderr)
            return standing
        (out / "tmp_checkpoint").mkdir(parents=True, exist_ok=True)
        files.remove_partials(out / "tmp_checkpoint")
        return _run(
            faces,
            fold,
            dataset,
            out,
            settings,
            mark,
            frames=frames,
            workers=workers,
            cache_mb=cache_mb,
            faces_margin=faces_margin,
        )


def _run(
    faces: Faces,
    fold,
    dataset: Path,
    out: Path,
    settings: Settings,
    mark: str,
    *,
    frames,
    workers,
    cache_mb,
    faces_margin,
) -> dict:
    import numpy as np

    session.start(seed=settings.seed, workers=workers)
    model, origin, path = start.build_started(settings)
    print(
        f"{model.name}: {model.count_params():,} parameters, {origin}; all but the classifier stays as it is",
        file=sys.stderr,
    )
    card = stores.card_of(path) if path is not None else {}
    part = stores.part_of(faces_margin, card["margin"], card["trim"]) if card else WHOLE
    store = FaceStore(
        faces,
        stores.face_size(model),
        workers=workers,
        cache_bytes=None if cache_mb is None else cache_mb << 20,
        part=part,
        progress="reading faces",
    )
    keep = np.isin(faces.names, store.faces.names)
    network, everything = registry.features(model), np.arange(len(store))
    views = []
    for flipped in (False, True)[: 2 if card.get("flip") else 1]:
        get = (lambda i: store.get(i)[:, :, ::-1]) if flipped else store.get
        views.append(
            features.face_features(
                get,
                store.faces,
                everything,
                network,
                out / "feature_cache",
                batch_size=settings.batch_size,
                progress="features" + " mirrored" * flipped,
                variant=_variant(part, flipped),
            )
        )
    views = np.stack(views).astype(np.float64)
    baseline = (
        shipped.from_features(model, views, card)
        if shipped.is_shipped(path)
        else shipped.scores(store.faces, faces_margin, workers)
    )
    rows = Rows(views, store.y, np.array(store.faces.titles), np.array(store.faces.groups))
    p_real, classifier, history = cross_validate(rows, fold[keep], settings.seed)
    model = with_classifier(model, classifier)
    checkpoint.save_model(checkpoint.saveable(model), out / "tmp_checkpoint")
    checkpoint.write_card(out, card)
    unreadable = {"all": store.unreadable}
    return _write(
        out,
        dataset,
        published(store.faces),
        fold[keep],
        p_real,
        history,
        baseline,
        model,
        settings,
        mark,
        frames,
        unreadable,
    )


def _variant(part: tuple, flipped: bool) -> str:
    digest = "" if part == WHOLE else "-" + hashlib.sha256(repr(part).encode()).hexdigest()[:8]
    return digest + ("-mirrored" if flipped else "")


def _write(
    out: Path, dataset: Path, faces: Faces, fold, p_real, history, baseline, model, settings, mark, frames, unreadable
) -> dict:
    import pandas as pd

    from ..reports import figures, video_rules

    known = known_videos(dataset)
    table = score_tables.face_table(faces, p_real, known, frames=frames, sets=[f"fold {f + 1}" for f in fold])
    score_tables.write_faces(out / score_tables.FACES, table)
    score_tables.write_faces(
        out / "tmp_checkpoint" / score_tables.FACES, table
    )  # what calibration and thresholds are fitted on
    without = [*score_tables.videos_without_face(out), *map(results.video_of, unreadable["all"])]
    videos = score_tables.video_table(
        table,
        thresholds=video_rules.thresholds_without,
        shipped=baseline,
        shipped_thresholds=shipped.thresholds(),
        without_face=without,
    )
    score_tables.write_videos(out, videos)
    for name in ("Loss.png", "Accuracy.png"):
        (out / name).unlink(missing_ok=True)
    files.write_csv(out / "history.csv", pd.DataFrame(history))
    if history:
        figures.plot_history(pd.DataFrame(history), out, x="strength")
    results.write_account(out, "03_train_cnn", {"out of fold": faces}, {"out of fold": unreadable["all"]})
    extra = {
        "stage": "03_train_cnn",
        "set": "out of fold",
        "folds": int(max(fold)) + 1,
        "mark": mark,
        "video_rules": video_rules.rows(videos, settings.seed),
        "model": {
            "name": model.name,
            "parameters": int(model.count_params()),
            "file": "tmp_checkpoint/best_model.keras",
            "sha256": files.sha256(out / "tmp_checkpoint" / "best_model.keras"),
        },
        "training": {"method": "classifier on frozen features", "settings": dataclasses.asdict(settings)},
    }
    if not history:
        extra |= dict.fromkeys(
            ("Loss.png", "Accuracy.png"), "not drawn: two groups of people are too few to choose a strength by"
        )
    return results.write_results(out, faces, p_real, seed=settings.seed, extra=extra, what="out of fold")
