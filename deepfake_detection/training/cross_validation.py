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

from .. import files, labels
from ..errors import UserError
from ..faces.settings import PUBLISHED_MARGIN
from ..models import registry
from . import checkpoint, classifier, features, results, score_tables, session, shipped, start, stores
from .face_list import Faces, find_faces
from .input_pipeline import WHOLE
from .known import known_videos
from .settings import SPLITS, Settings, validate

#: With fewer identity groups than this, stage 03 validates in folds unless told otherwise.
FEW_GROUPS = 40
#: Folds where there are so many groups; else one for each group.
FOLDS = 10
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
    fold = classifier.split(faces.y, faces.groups, folds, settings.seed)
    print(
        f"{labels.counted(len(faces), 'face')} of {labels.counted(len(set(faces.titles)), 'video')} and "
        f"{labels.counted(len(set(faces.groups)), 'group')} of people in {fold.max() + 1} folds: each video is judged "
        "by a classifier that saw nobody of its group",
        file=sys.stderr,
    )
    mark = _mark(settings, int(fold.max()) + 1, faces_margin, faces)
    with files.folder_lock(out, "03_train_cnn"):
        standing = None if force else results.standing(out, mark)
        if standing is not None:
            print("this cross-validation is finished; --force repeats it", file=sys.stderr)
            return standing
        (out / "tmp_checkpoint").mkdir(parents=True, exist_ok=True)
        files.remove_partials(out / "tmp_checkpoint")
        made = _features(faces, out, settings, workers, cache_mb, faces_margin)
        return _fit(made, faces, fold, dataset, out, settings, mark, frames)


def _fit(made: tuple, faces: Faces, fold, dataset: Path, out: Path, settings: Settings, mark: str, frames) -> dict:
    """Fits and keeps the classifier, and writes the results; `made` is of `_features`."""
    import numpy as np

    store, views, baseline, model, card = made
    rows = classifier.Rows(views, store.y, np.array(store.faces.titles), np.array(store.faces.groups))
    fold = fold[np.isin(faces.names, store.faces.names)]
    p_real, fitted, history = classifier.cross_validate(rows, fold, settings.seed)
    model = classifier.with_classifier(model, fitted)
    checkpoint.save_model(checkpoint.saveable(model), out / "tmp_checkpoint")
    checkpoint.write_card(out, card)
    scored = (published(store.faces), fold, p_real, baseline, store.unreadable)
    return _write(out, dataset, *scored, history, model, settings, mark, frames)


def _mark(settings: Settings, k: int, faces_margin: float, faces: Faces) -> str:
    """What tells whether results are of these settings and faces."""
    used: list = [settings.model, settings.weights, settings.image_size, settings.seed, k, faces_margin, faces.groups]
    used += [classifier.STRENGTHS, classifier.INNER_FOLDS]
    if Path(settings.weights).is_file():
        used.append(files.sha256(settings.weights))
    return hashlib.sha256(json.dumps([*used, results.faces_digest(faces)]).encode()).hexdigest()[:16]


def _features(faces: Faces, out: Path, settings: Settings, workers: int, cache_mb: int | None, faces_margin: float):
    """The network's features of the faces: (store, views (V, N, F), the shipped detector's scores, network, card)."""
    import numpy as np

    session.start(seed=settings.seed, workers=workers)
    model, origin, path = start.build_started(settings)
    print(
        f"{model.name}: {model.count_params():,} parameters, {origin}; all but the classifier stays as it is",
        file=sys.stderr,
    )
    card = stores.card_of(path) if path is not None else {}
    part = stores.part_of(faces_margin, card["margin"], card["trim"]) if card else WHOLE
    store = stores.store_for(model, faces, workers=workers, cache_mb=cache_mb, part=part, progress="reading faces")
    network, views = registry.features(model), []
    for flipped in (False, True)[: 2 if card.get("flip") else 1]:
        views.append(
            features.face_features(
                (lambda i: store.get(i)[:, :, ::-1]) if flipped else store.get,
                store.faces,
                np.arange(len(store)),
                network,
                out / "feature_cache",
                batch_size=settings.batch_size,
                progress="features" + " mirrored" * flipped,
                variant=_variant(part, flipped),
            )
        )
    views = np.stack(views).astype(np.float64)
    if shipped.is_shipped(path):
        baseline = shipped.from_features(model, views, card)
    else:
        baseline = shipped.scores(store.faces, faces_margin, workers)
    return store, views, baseline, model, card


def _variant(part: tuple, flipped: bool) -> str:
    digest = "" if part == WHOLE else "-" + hashlib.sha256(repr(part).encode()).hexdigest()[:8]
    return digest + ("-mirrored" if flipped else "")


def _write(
    out: Path, dataset: Path, faces: Faces, fold, p_real, baseline, unreadable, history, model, settings, mark, frames
) -> dict:
    import pandas as pd

    from ..reports import figures, video_rules

    known = known_videos(dataset)
    table = score_tables.face_table(faces, p_real, known, frames=frames, sets=[f"fold {f + 1}" for f in fold])
    score_tables.write_faces(out / score_tables.FACES, table)
    score_tables.write_faces(
        out / "tmp_checkpoint" / score_tables.FACES, table
    )  # what calibration and thresholds are fitted on
    without = [*score_tables.videos_without_face(out), *map(results.video_of, unreadable)]
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
    results.write_account(out, "03_train_cnn", {"out of fold": faces}, {"out of fold": unreadable})
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
