"""Stage 03: trains one architecture on `split_dataset/` and judges it on the test set. Reads top to bottom: read,
build, fit, judge."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path

from .. import files, labels
from ..errors import UserError
from ..faces.settings import PUBLISHED_MARGIN
from ..models import model_file, registry
from ..models.sequence import extractor_and_head
from . import checkpoint, distributed, loop, results, score_tables, sequences, session, shipped, start, stores
from .face_list import find_faces
from .folders import FolderTraining
from .input_pipeline import WHOLE
from .known import groups_of, known_videos
from .settings import SPLITS, Settings, validate


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
    """Stage 03: trains on `dataset/train`, chooses by `dataset/val`, judges on `dataset/test`, writes everything into
    `out`.

    Args:
        frames: folder with `<title>/faces/boxes.csv` (who is who, and the facial points of sequence models).
        faces_margin: crop margin that the faces were cut with; a model that starts from one with a description sees
            that one's part.

    Returns:
        What metrics.json holds; empty on the workers of a cluster that write nothing.

    Raises:
        UserError: no dataset, an empty class, weights that do not fit, or another run at work in `out`.
    """
    validate(settings)
    groups = groups_of(dataset)
    sets = {split: find_faces(dataset / split, both_classes=True, groups=groups) for split in SPLITS}
    for split, faces in sets.items():
        print(
            f"{split:<6} {len(faces):>7} faces  {int((faces.y == 1).sum())} real, {int((faces.y == 0).sum())} fake, "
            f"{labels.counted(len(set(faces.titles)), 'video')}",
            file=sys.stderr,
        )
    distributed.prepare(settings.strategy, settings.replicas)
    # The workers of a cluster share the folder; worker 0 writes, so it alone holds the lock.
    with files.folder_lock(out, "03_train_cnn") if distributed.is_chief() else contextlib.nullcontext():
        stage = _Stage(sets, out, settings, known_videos(dataset), frames, workers, cache_mb, faces_margin)
        return stage.run(force)


class _Stage:
    """One run of the stage: what it reads, and what its steps hand on."""

    def __init__(self, sets, out: Path, settings: Settings, known, frames, workers: int, cache_mb, faces_margin: float):
        self.sets, self.out, self.settings, self.known = sets, out, settings, known
        self.frames, self.workers, self.cache_mb, self.faces_margin = frames, workers, cache_mb, faces_margin
        self.folder = out / "tmp_checkpoint"
        self.best = self.folder / checkpoint.BEST
        self.sequence = registry.module(settings.model).KIND == "sequence"
        self.unit = "sequences" if self.sequence else "faces"
        self.tables = {s: sequences.box_tables(sets[s], frames) for s in SPLITS} if self.sequence else {}
        self.mark = checkpoint.fingerprint(
            settings,
            {s: results.faces_digest(sets[s]) + sequences.tables_digest(self.tables.get(s, {})) for s in SPLITS[:2]}
            | {"margin": f"{faces_margin:g}"},
        )
        self.unreadable: dict[str, list[str]] = {}

    def run(self, force: bool) -> dict:
        before = None if force else checkpoint.read_progress(self.folder / checkpoint.STATE)
        if before is not None and before.fingerprint != self.mark:
            before = None
        finished = before is not None and before.finished(self.settings.epochs, self.settings.patience)
        done = before if finished and self.best.is_file() else None
        if done is not None:
            print(
                f"this training is finished ({done.epoch} epochs, best {done.best_epoch + 1}); --force repeats it",
                file=sys.stderr,
            )
            standing = results.standing(self.out, self.test_mark(done))
            if standing is not None:
                return standing
        chief = distributed.is_chief()
        self.folder.mkdir(parents=True, exist_ok=True)
        if chief:
            files.remove_partials(self.folder)
        if done is not None and not chief:
            return {}
        session.start(seed=self.settings.seed, workers=self.workers, precision=self.settings.precision)
        if done is not None:
            self.open()
        else:
            self.build()
            if chief and before is None:
                _remove_curves(self.out / "logs")
            done = self.fit(force)
        if not chief:
            return {}
        if not self.best.is_file():
            raise UserError(
                "the training gave no model (no epoch had a finite validation loss)",
                file=self.folder,
                hint="choose a smaller --learning-rate",
            )
        return self.judge(done)

    def test_mark(self, progress: checkpoint.Progress) -> str:
        """What tells whether results are of this training and this test set."""
        return f"{self.mark}-{progress.best_epoch}-{results.faces_digest(self.sets['test'])}"

    # ---- read

    def store(self, split: str):
        """The faces of a set as the model takes them."""
        made = stores.store_for(
            self.model,
            self.sets[split],
            tables=self.tables.get(split),
            workers=self.workers,
            cache_mb=self.cache_mb,
            part=self.part,
            progress=f"reading {split}",
        )
        stores.refuse_lost_class(made, self.sets[split])
        self.unreadable[split] = made.unreadable
        return made

    # ---- build

    def build(self) -> None:
        """The model that the training starts from."""
        self.strategy = distributed.make(self.settings.strategy)
        with distributed.scope(self.strategy):
            self.model, origin, file = start.build_started(self.settings)
        print(f"{self.model.name}: {self.model.count_params():,} parameters, starts from {origin}", file=sys.stderr)
        self._see(file)

    def open(self) -> None:
        """The model of a finished training."""
        self.model = model_file.load(self.best)
        self._see(self.best)

    def _see(self, file: Path | None) -> None:
        self.card = stores.card_of(file) if file else {}
        self.part = WHOLE
        if self.card:
            self.part = stores.part_of(self.faces_margin, self.card["margin"], self.card["trim"])

    # ---- fit

    def fit(self, fresh: bool) -> checkpoint.Progress:
        """Trains, or goes on with a training that was interrupted."""
        extractor, trained = extractor_and_head(self.model) if self.sequence else (None, self.model)
        train, val = self.store("train"), self.store("val")
        if extractor is not None:
            train, val = (
                sequences.feature_store(
                    store,
                    extractor,
                    self.out / "feature_cache",
                    batch_size=self.settings.batch_size,
                    progress=f"features of {name}",
                )
                for name, store in (("train", train), ("val", val))
            )
        if self.settings.precision == "float32" and self.strategy is None:

            def copies():
                return trained, checkpoint.saveable(self.model)

        else:
            copies = checkpoint.Twin(self.model, self.settings)
        if distributed.is_chief():
            checkpoint.write_card(self.out, self.card and {**self.card, "flip": False})
        training = FolderTraining(trained, train, val, self.settings, copies=copies, strategy=self.strategy)
        history, logs = self.out / "history.csv", self.out / "logs"
        return loop.fit(training, self.folder, mark=self.mark, history=history, logs=logs, fresh=fresh)

    # ---- judge

    def judge(self, progress: checkpoint.Progress) -> dict:
        """Every table, figure and number of the best model; what metrics.json holds."""
        import keras
        import pandas as pd

        from ..reports import figures, video_rules

        keras.config.set_dtype_policy("float32")
        test = self.store("test")
        self.model = model_file.load(self.best)
        history = pd.DataFrame(progress.history)
        files.write_csv(self.out / "history.csv", history)
        figures.plot_history(history, self.out)
        p_real = self._predict(test, f"test {self.unit}")
        videos = self._videos(test, p_real, self._threshold())
        score_tables.write_videos(self.out, videos)
        extra = {
            "stage": "03_train_cnn",
            "set": "test",
            "mark": self.test_mark(progress),
            "video_rules": video_rules.rows(videos, self.settings.seed),
            "model": results.model_entry(self.model, self.best, "tmp_checkpoint/best_model.keras"),
            "training": {
                "epochs": progress.epoch,
                "best_epoch": progress.best_epoch + 1,
                "best_val_loss": progress.best,
                "seconds": round(sum(r["seconds"] for r in progress.history), 1),
                "settings": dataclasses.asdict(self.settings),
            },
        }
        for split in self.sets.keys() - self.unreadable.keys():
            self.store(split)  # a training that an earlier run finished: its faces are read for the account
        results.write_account(self.out, "03_train_cnn", self.sets, self.unreadable)
        return results.write_results(self.out, test.faces, p_real, seed=self.settings.seed, extra=extra, unit=self.unit)

    def _predict(self, store, progress: str):
        return stores.predict(
            self.model, store, stores.prediction_batch(self.model, self.settings.batch_size), progress
        )

    def _threshold(self) -> float:
        """Of the videos of val, whose scores are written beside the model: calibration and thresholds are fitted on
        them."""
        from ..reports import video_rules

        val = self.store("val")
        p_real = self._predict(val, f"validation {self.unit}")
        unseen = score_tables.face_table(val.faces, p_real, self.known, frames=self.frames, sets="val")
        score_tables.write_faces(self.folder / score_tables.FACES, unseen)
        means = unseen.groupby("video").agg(label=("label", "first"), p=("p_real", "mean"))
        return video_rules.choose_threshold([labels.label_of(w) for w in means["label"]], means["p"])

    def _videos(self, test, p_real, threshold: float):
        table = score_tables.face_table(test.faces, p_real, self.known, frames=self.frames, sets="test")
        score_tables.write_faces(self.out / score_tables.FACES, table)
        baseline = None if self.sequence else shipped.scores(test.faces, self.faces_margin, self.workers)
        return score_tables.video_table(
            table,
            thresholds=lambda y, p, sets: [threshold] * len(y),
            shipped=baseline,
            shipped_thresholds=shipped.thresholds(),
            without_face=map(results.video_of, self.unreadable["test"]),
        )


def run_seeds(count: int, dataset: Path, out: Path, settings: Settings, **options) -> list[dict]:
    """Repeats the stage with `count` seeds, each in `<out>/seed_<n>`, and writes `<out>/seeds.csv`: a row a seed, mean
    and spread.

    Returns:
        The rows: seed (a number, "mean" or "std", the sample standard deviation), then the metrics of faces and videos.
    """
    import pandas as pd

    rows = []
    for seed in range(settings.seed, settings.seed + count):
        print(f"--- seed {seed}", file=sys.stderr)
        result = run(dataset, out / f"seed_{seed}", dataclasses.replace(settings, seed=seed), **options)
        row: dict[str, object] = {"seed": seed}
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


def _remove_curves(folder: Path) -> None:
    """Removes an earlier training's TensorBoard curves (only its event files), so that two runs are not drawn over each
    other."""
    for path in folder.glob("*/events.out.tfevents.*"):
        path.unlink()
