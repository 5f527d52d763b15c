#!/usr/bin/env python
"""Every architecture trained the same way on a small fixed budget: benchmarks/results/models_table.md.

    python benchmarks/models_table.py --train ../shared/data/dfdc_faces/train \\
        --val ../shared/data/dfdc_faces/val --out /tmp/models_table
    python benchmarks/models_table.py --train ff/split_dataset/train --val ff/split_dataset/test \\
        --frames-dir ff/frames --models cnn_lstm landmark_gru ...

Each model gets `--crops` faces an epoch (as many reals as fakes), `--epochs` epochs, Adam, augmentation `published`, no
choice by the validation set: the last epoch is judged, so that the numbers are not selected on what they are measured
on. One row a model is added to <out>/table.csv as soon as it is known; models that are there already are not repeated.
Intervals: 95 %, by resampling groups. Speeds are per second of CPU time (training with its input pipeline and the look
at the validation set after each epoch), so that a busy machine tells the same; on two idle cores the clock shows nearly
twice as many.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np


def groups_from_index(root: Path) -> dict[str, str]:
    """Title -> source video, from an `index.csv` beside the split: a fake and its original are one group."""
    import pandas as pd

    path = root.parent / "index.csv"
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype=str)
    return {Path(v).stem: Path(o).stem for v, o in zip(table["video"], table["original"])}


def thin(faces, count: int | None, seed: int):
    """`count` of the faces, half of each class."""
    if count is None or count >= len(faces):
        return faces
    rng = np.random.default_rng(seed)
    picked = [rng.permutation(np.flatnonzero(faces.y == label))[: count // 2] for label in (0, 1)]
    return faces.take(np.sort(np.concatenate(picked)))


def settings_of(name: str, options):
    from deepfake_detection.models import registry
    from deepfake_detection.training.settings import Settings

    return Settings(
        model=name,
        weights=options.weights.get(name, "none"),
        epochs=options.epochs,
        patience=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        image_size=options.image_size.get(name),
        seed=options.seed,
        features=options.features if hasattr(registry.module(name), "FEATURES") else None,
        augment="published" if registry.module(name).KIND == "frame" else "none",
        balance="sample",
    )


def measure(name: str, options) -> dict:
    from deepfake_detection.models import registry
    from deepfake_detection.models.sequence import extractor_and_head
    from deepfake_detection.training import (
        checkpoint,
        face_list,
        folders,
        known,
        loop,
        results,
        sequences,
        session,
        start,
        stores,
    )

    kind = registry.module(name).KIND
    settings = settings_of(name, options)
    session.start(seed=options.seed, workers=options.threads, announce=False)
    model, origin, _ = start.build_started(settings)
    groups = groups_from_index(options.train) or known.groups_of(options.train)
    sets = {}
    for split, folder, count in (("train", options.train, options.crops), ("val", options.val, options.val_crops)):
        faces = face_list.find_faces(folder, both_classes=True, groups=groups)
        sets[split] = thin(faces, count, options.seed) if kind == "frame" else faces
    tables = {s: sequences.box_tables(f, options.frames_dir) if kind == "sequence" else None for s, f in sets.items()}
    data = {s: stores.store_for(model, f, tables=tables[s], workers=options.threads) for s, f in sets.items()}
    extractor, trained = extractor_and_head(model) if kind == "sequence" else (None, model)
    if extractor is not None:
        cache = options.out / "feature_cache"
        data = {s: sequences.feature_store(store, extractor, cache) for s, store in data.items()}
    (folder := options.out / name).mkdir(parents=True, exist_ok=True)
    cpu, wall = time.process_time(), time.monotonic()
    copies = lambda: (trained, checkpoint.saveable(model))
    training = folders.FolderTraining(trained, data["train"], data["val"], settings, copies=copies)
    progress = loop.fit(training, folder, mark="benchmark", fresh=True)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    begun = time.process_time()
    p = stores.predict(trained, data["val"], 64)
    predicting = time.process_time() - begun
    unit = "faces" if kind == "frame" else "sequences"
    block = results.metrics_of(data["val"].faces, p, seed=options.seed, unit=unit)[unit]
    row = {
        "model": name,
        "start": origin,
        "parameters": model.count_params(),
        "input": stores.face_size(model),
        "unit": unit,
        "train": len(data["train"]),
        "val": len(data["val"]),
        "epochs": progress.epoch,
        "train_per_cpu_s": round(len(data["train"]) * progress.epoch / cpu, 1),
        "train_cpu_s": round(cpu, 1),
        "train_wall_s": round(wall, 1),
        "predict_per_cpu_s": round(len(data["val"]) / predicting, 1),
    }
    for metric in ("auc", "log_loss"):
        entry = block[metric]
        row |= {metric: entry.get("value"), f"{metric}_low": entry.get("low"), f"{metric}_high": entry.get("high")}
    return row


def markdown(table) -> str:
    lines = [
        "| model | starts from | parameters | input | trained on | images/CPU s training | images/CPU s predicting | "
        "AUC | log loss |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    interval = lambda r, m: (
        f"{r[m]:.3f} [{r[m + '_low']:.3f}, {r[m + '_high']:.3f}]"
        if r[m] == r[m] and r[m + "_low"] == r[m + "_low"]
        else f"{r[m]:.3f}"
    )
    for _, r in table.iterrows():
        size = f"{int(r['input'])} px" if r["input"] == r["input"] else "points"
        lines.append(
            f"| `{r['model']}` | {r['start']} | {r['parameters']:,} | {size} | {r['epochs']} x {r['train']:,} "
            f"{r['unit']} | {r['train_per_cpu_s']:.0f} | "
            f"{r['predict_per_cpu_s']:.0f} | {interval(r, 'auc')} | {interval(r, 'log_loss')} |"
        )
    return "\n".join(lines)


def main():
    pairs = lambda text: tuple(text.split("=", 1))
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    p.add_argument("--train", type=Path, required=True)
    p.add_argument("--val", type=Path, required=True)
    p.add_argument("--frames-dir", type=Path, help="box tables, for sequence models")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument(
        "--models",
        nargs="+",
        default=["compact_cnn", "mesonet", "meso_inception", "efficientnet_lite0", "efficientnet_b0", "resnet50"],
    )
    p.add_argument(
        "--weights",
        nargs="*",
        type=pairs,
        default=[],
        metavar="MODEL=W",
        help="what a model starts from (default: none)",
    )
    p.add_argument(
        "--image-size", nargs="*", type=pairs, default=[], metavar="MODEL=PX", help="(default: the model's own)"
    )
    p.add_argument("--features", default="efficientnet_lite0")
    p.add_argument("--crops", type=int, default=6000)
    p.add_argument("--val-crops", type=int, default=3000)
    p.add_argument("--epochs", type=int, default=2)
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--learning-rate", type=float, default=1e-3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    options = p.parse_args()
    options.weights = dict(options.weights)
    options.image_size = {k: int(v) for k, v in options.image_size}
    import pandas as pd

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "table.csv"
    rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
    for name in options.models:
        if name not in {r["model"] for r in rows}:
            rows.append(measure(name, options))
            pd.DataFrame(rows).to_csv(path, index=False)
            print(json.dumps(rows[-1], indent=1), flush=True)
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
