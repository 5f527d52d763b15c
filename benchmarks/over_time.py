"""Does it help to look at a clip's faces in their order? A small GRU over the detector's features, against the mean.

    python recipes/index.py --data ../shared/data --sources DIR --out build/index.csv
    python benchmarks/over_time.py --index build/index.csv --work build/detector       # half an hour on two cores

The network stands still. Every untouched clip of the training split becomes sequences: as it is, and blended in one way
from its first face to its last (`SelfBlender` with one seed), with the flicker that swaps have: the outline trembles,
and now and then a face is laid in otherwise or not at all. Both are degraded alike. Altered clips of the training split
are sequences as they are. The heads are judged on the clips of `val` and `unseen`, which nothing here learns from:
the mean of the frames' logits (what the detector does), a GRU over features in order, and the same head over features
in a random order, which can know no time. Writes benchmarks/results/over_time.md and .json. Intervals: 95 %, resampling
groups; differences are paired.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
sys.path.insert(0, str(PROJECT / "benchmarks"))

import numpy as np
import pandas as pd
from detector_tables_text import cell, table_text
from tqdm import tqdm

from deepfake_detection import cli, metrics
from deepfake_detection.files import atomic_path, write_json, write_text

#: Faces of a sequence, blended copies of an untouched clip, and heads whose logits are averaged.
LENGTH, COPIES, HEADS = 32, 4, 3
#: How often a face of a blended clip is laid in otherwise, or not at all; how far its points tremble (of its width).
OTHERWISE, NOT_AT_ALL, TREMBLING = 0.06, 0.04, 0.004
EPOCHS = 30
WAYS = ("mean over frames", "GRU in order", "GRU in a random order")


def parse(argv=None):
    p = cli.parser(__doc__, data=False, out=False, idle=("--force",))
    p.add_argument("--index", type=Path, required=True, metavar="FILE", help="index of faces")
    p.add_argument("--weights", type=Path, default=PROJECT / "models" / "detector.keras", metavar="FILE")
    p.add_argument(
        "--work", type=Path, default=Path("build/detector"), metavar="DIR", help="of train_detector.py: %(default)s"
    )
    p.add_argument(
        "--results", type=Path, default=PROJECT / "benchmarks" / "results", metavar="DIR", help="(default: %(default)s)"
    )
    return p.parse_args(argv)


class Sequences:
    """The network's features and logits of clips, faces in time order.

    Args:
        faces: of `blending.faces.prepare`.
        model: the detector's Keras model.
    """

    def __init__(self, faces, model):
        from deepfake_detection.blending.faces import BOX
        from deepfake_detection.models import registry

        self.faces, self.boxes = faces, faces.table[list(BOX)].to_numpy(np.float64)
        self._network, self.size = registry.features(model), model.input_shape[1]
        self._kernel, self._bias = (np.asarray(w) for w in registry.classifier_layers(model)[-1].get_weights())

    def rows_of(self, file: str) -> np.ndarray:
        rows = np.flatnonzero(self.faces.table.file.to_numpy() == file)
        rows = rows[np.argsort(self.faces.table.time_s.to_numpy()[rows], kind="stable")]
        return rows[np.linspace(0, len(rows) - 1, min(LENGTH, len(rows))).round().astype(int)]

    def seen(self, image: np.ndarray, row: int) -> np.ndarray:
        """A face through the tight window, as the detector looks at it."""
        from deepfake_detection.training import judge

        return judge.seen_in(image, self.boxes[row], "tight", self.size)

    def measured(self, pictures) -> tuple[np.ndarray, np.ndarray]:
        """(features (LENGTH, F), logits (LENGTH)) of a clip's faces; NaN where it has fewer."""
        x = np.stack(pictures).astype(np.float32)
        seen = np.asarray(self._network.predict_on_batch(np.concatenate([x, x[:, :, ::-1]])))
        features = np.full((LENGTH, seen.shape[1]), np.nan, np.float32)
        features[: len(x)] = (seen[: len(x)] + seen[len(x) :]) / 2
        return features, (features @ self._kernel + self._bias)[:, 0]

    def blended(self, rows: np.ndarray, rng) -> list[np.ndarray]:
        """The clip's faces, altered in one way with flicker."""
        from deepfake_detection.blending.blend import SelfBlender

        seed, kind = int(rng.integers(2**31)), str(rng.choice(["own", "live", "expression"], p=[0.4, 0.4, 0.2]))
        other = rng.choice(rows)
        out = []
        for row in rows:
            image, mesh = np.asarray(self.faces.images[row]), self.faces.meshes[row].astype(np.float32)
            if rng.random() < NOT_AT_ALL:
                out.append(image)
                continue
            blend = SelfBlender(int(rng.integers(2**31)) if rng.random() < OTHERWISE else seed)
            mesh = mesh + rng.normal(0, TREMBLING, 2).astype(np.float32)
            if kind == "expression" and np.isfinite(mesh).all() and np.isfinite(self.faces.meshes[other]).all():
                out.append(blend.reenacted(image, mesh, self.faces.meshes[other].astype(np.float32)))
            else:
                out.append((blend.live if kind == "live" else blend)(image, mesh))
        return out


def made(options) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """(one row a sequence: file, real, split, source, group, copy; features (N, LENGTH, F); logits (N, LENGTH)); kept
    in --work."""
    import keras

    from deepfake_detection.blending import faces
    from deepfake_detection.blending.degrade import Degradation
    from deepfake_detection.blending.faces import VIDEOS

    kept = options.work / "over_time.npz"
    if kept.is_file():
        stored = np.load(kept, allow_pickle=False)
        return pd.DataFrame({k: stored[f"clip_{k}"] for k in COLUMNS}), stored["features"], stored["logits"]
    cut = faces.opened(options.work)
    sequences = Sequences(cut, keras.models.load_model(options.weights, compile=False))
    clips = cut.table[cut.table.file.map(lambda f: Path(f).suffix.lower() in VIDEOS)].drop_duplicates("file")
    table, features, logits = [], [], []

    def add(clip, rows, pictures, real: int, copy: int, change=None) -> None:
        shown = [sequences.seen(picture, row) for picture, row in zip(pictures, rows)]
        values = sequences.measured([change(s) for s in shown] if change else shown)
        features.append(values[0])
        logits.append(values[1])
        table.append((clip.file, real, clip.split, clip.source, clip.group, copy))

    for number, clip in enumerate(tqdm(list(clips.itertuples()), desc="clips", unit="clip", disable=None)):
        rng, rows = np.random.default_rng([options.seed, number]), sequences.rows_of(clip.file)
        pictures, real = [np.asarray(cut.images[row]) for row in rows], int(clip.label == "real")
        add(clip, rows, pictures, real, 0)
        for copy in range(1, COPIES + 1) if clip.split == "train" and real else ():
            change = Degradation.drawn(rng)
            add(clip, rows, pictures, 1, copy, change)
            add(clip, rows, sequences.blended(rows, rng), 0, copy, change)
    columns = dict(zip(COLUMNS, map(np.array, zip(*table))))
    with atomic_path(kept) as partial, open(partial, "wb") as out:
        np.savez(
            out, features=np.stack(features), logits=np.stack(logits), **{f"clip_{k}": v for k, v in columns.items()}
        )
    return pd.DataFrame(columns), np.stack(features), np.stack(logits)


COLUMNS = ("file", "real", "split", "source", "group", "copy")


def in_random_order(features: np.ndarray, seed: int) -> np.ndarray:
    """Each sequence's faces in another order; what is missing stays at its end."""
    rng, out = np.random.default_rng(seed), features.copy()
    for one in out:
        there = int(np.isfinite(one[:, 0]).sum())
        one[:there] = one[rng.permutation(there)]
    return out


def gru_scores(table: pd.DataFrame, features: np.ndarray, seed: int) -> np.ndarray:
    """P(real) (N,) of every sequence by heads that were trained on those of the training split."""
    import keras

    from deepfake_detection.models.sequence import gru_head

    mask, train = np.isfinite(features[..., 0]).astype(np.float32), table.split.eq("train").to_numpy()
    known = features[train][mask[train] > 0]
    x = np.nan_to_num((features - known.mean(0)) / (known.std(0) + 1e-6)).astype(np.float32)
    y = table.real.to_numpy(np.float32)
    weight = np.where(y == 1, 0.5 / y[train].mean(), 0.5 / (1 - y[train].mean())).astype(np.float32)
    logits = np.zeros(len(y))
    for number in range(HEADS):
        keras.utils.set_random_seed(seed + number)
        head = gru_head(x.shape[1], x.shape[2], 0.4)
        head.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.02), "binary_crossentropy")
        head.fit(
            [x[train], mask[train]],
            y[train],
            sample_weight=weight[train],
            batch_size=32,
            epochs=EPOCHS,
            shuffle=True,
            verbose=0,
        )
        p = np.clip(np.asarray(head.predict([x, mask], batch_size=128, verbose=0))[:, 0], 1e-6, 1 - 1e-6)
        logits += np.log(p / (1 - p)) / HEADS
    return 1 / (1 + np.exp(-logits))


def judged(table: pd.DataFrame, scores: dict[str, np.ndarray]) -> dict:
    parts = {
        "strangers' untouched, altered clips of val": (table.split.eq("unseen") & table.real.eq(1))
        | (table.split.eq("val") & table.real.eq(0)),
        "live swaps": table.source.eq("live_swaps"),
        "FF++ and DFD, val": table.split.eq("val"),
    }
    rows = {}
    for name, p in scores.items():
        rows[name] = {}
        for part, here in parts.items():
            here = here.to_numpy()
            y, groups = table.real.to_numpy()[here], table.group.to_numpy()[here]
            rows[name][part] = metrics.evaluate(y, p[here], groups)["auc"]
            if name != WAYS[0]:
                difference = metrics.bootstrap_difference(metrics.auc, y, p[here], scores[WAYS[0]][here], groups)
                rows[name][f"{part}, difference"] = difference.to_dict()
    return rows


def as_text(rows: dict, counts: str) -> str:
    parts = [part for part in rows[WAYS[0]] if not part.endswith(", difference")]
    lines = [
        [
            name,
            *(
                cell(row[part]) + (f"; {cell(row[d], '+')}" if (d := f"{part}, difference") in row else "")
                for part in parts
            ),
        ]
        for name, row in rows.items()
    ]
    return (
        "# A clip's faces in their order\n\n"
        f"Made by `python benchmarks/over_time.py`: {counts}. AUC over clips with its 95 % interval; after the "
        "semicolon the paired difference from the mean.\n\n" + table_text(["scores of a clip", *parts], lines)
    )


def main(argv=None) -> int:
    options = parse(argv)
    cli.announce("over_time", options)
    table, features, logits = made(options)
    scores = {WAYS[0]: 1 / (1 + np.exp(-np.nanmean(logits, 1)))}
    scores[WAYS[1]] = gru_scores(table, features, options.seed)
    scores[WAYS[2]] = gru_scores(table, in_random_order(features, options.seed), options.seed)
    rows = judged(table, scores)
    train = table[table.split == "train"]
    counts = (
        f"{len(train):,} sequences of {train.file.nunique()} clips to learn from, "
        f"{(table.split != 'train').sum()} clips to judge by, up to {LENGTH} faces each"
    )
    write_json(options.results / "over_time.json", rows)
    write_text(options.results / "over_time.md", as_text(rows, counts))
    print(as_text(rows, counts))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
