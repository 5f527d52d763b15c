#!/usr/bin/env python
"""The published recipe at its full length, as a peer of the detector: stage 03 with its default settings on the DFDC
face crops.

    python benchmarks/published_recipe.py --data ../shared/data  # EfficientNet-B0, random weights; two hours
    python benchmarks/detector_tables.py --parts peers

As many reals as fakes of the customary training parts (0-34), one face a video; a tenth of the source videos is held
back for stage 03's choice of an epoch, a fake and its original together; the test set is parts 35-39, which the
detector is judged on too. The split is a folder of links, so nothing is copied. Leaves
<runs>/published-recipe/model.keras, which detector_tables.py reads, beside the stage's reports. Stopped, the same
command goes on at the last finished epoch. The result: benchmarks/results/published_recipe.txt.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tqdm import tqdm

from deepfake_detection import cli, cpus
from deepfake_detection.errors import UserError
from deepfake_detection.files import atomic_path, write_csv, write_text


def parse(argv=None):
    p = cli.parser(__doc__, data=False, out=False)
    p.add_argument(
        "--data",
        type=Path,
        default=PROJECT.parent / "shared" / "data",
        metavar="DIR",
        help="the shared data (default: %(default)s)",
    )
    p.add_argument(
        "--runs", type=Path, default=PROJECT / "build" / "detector", metavar="DIR", help="(default: %(default)s)"
    )
    cli.option(
        p,
        "--max-faces",
        old=["--most"],
        type=cli.positive_int,
        metavar="N",
        help="at most so many fakes, and as many reals, for a short run (default: all)",
    )
    p.add_argument("--epochs", type=cli.positive_int, metavar="N", help="(default: stage 03's)")
    p.add_argument(
        "--results", type=Path, default=PROJECT / "benchmarks" / "results", metavar="DIR", help="(default: %(default)s)"
    )
    return p.parse_args(argv)


def places(table, seed: int, most: int | None):
    """The rows used, with column `place`: as many reals as fakes of train, split 9 : 1 into train and val by source
    video; test."""
    import numpy as np

    rng = np.random.default_rng(seed)
    train = table[table.split == "train"]
    fakes, reals = (train[train.label == label] for label in ("fake", "real"))
    count = min(len(fakes), len(reals), most or len(train))
    chosen = train.loc[sorted(np.concatenate([rng.permutation(part.index)[:count] for part in (fakes, reals)]))]
    sources = np.sort(chosen.original.unique())
    held = set(rng.permutation(sources)[: max(len(sources) // 10, 1)])
    chosen = chosen.assign(place=["val" if source in held else "train" for source in chosen.original])
    test = table[table.split == "val"].assign(place="test")
    return chosen, test


def lay_out(data: Path, folder: Path, seed: int, most: int | None) -> None:
    """`folder`/{train,val,test}/{real,fake} of links to the crops, made anew, and beside it who belongs to whom, for
    the intervals."""
    import pandas as pd

    root = (data / "dfdc_faces").resolve()
    if not (root / "index.csv").is_file():
        raise UserError(
            "no index of face crops", file=root / "index.csv", hint="give the shared data's folder with --data"
        )
    shutil.rmtree(folder, ignore_errors=True)
    rows = pd.concat(places(pd.read_csv(root / "index.csv", dtype=str), seed, most))
    for row in tqdm(list(rows.itertuples()), desc="links", unit="face", disable=None):
        name = f"{Path(row.video).stem}.jpg"
        link = folder / row.place / row.label / name
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(root / row.split / row.label / name, link)
    write_csv(
        folder.parent / "split_manifest.csv",
        pd.DataFrame({"title": [Path(v).stem for v in rows.video], "group": [Path(o).stem for o in rows.original]}),
    )


def as_text(metrics: dict, history: str) -> str:
    made, block = metrics["training"], metrics["videos"]
    lines = [
        f"Made by python benchmarks/published_recipe.py ({cpus.count()} cores): stage 03 with its default "
        "settings, EfficientNetB0 from random weights.",
        f"{made['epochs']} epochs in {made['seconds'] / 60:.0f} minutes, best {made['best_epoch']} (validation loss "
        f"{made['best_val_loss']:.4f}, on a tenth of the training sources).",
        f"DFDC parts 35-39, {block['real']} real and {block['fake']} fake, 95 % intervals by source video:",
    ]
    for name in ("auc", "log_loss", "eer", "balanced_accuracy"):
        lines.append(f"  {name:<18} {block[name]['value']:.3f} [{block[name]['low']:.3f}, {block[name]['high']:.3f}]")
    return "\n".join([*lines, "", history.strip(), ""])


def main(argv=None) -> int:
    options = parse(argv)
    out = options.runs / "published-recipe"
    cli.announce("published_recipe", options, out)
    lay_out(options.data, out / "split_dataset", options.seed, options.max_faces)
    stage = [
        sys.executable,
        str(PROJECT / "03_train_cnn.py"),
        "--out",
        str(out),
        "--weights",
        "none",
        "--seed",
        str(options.seed),
        "--workers",
        str(options.workers),
        *(["--epochs", str(options.epochs)] if options.epochs else []),
    ]
    code = subprocess.run(stage).returncode
    if code:
        return code
    with atomic_path(out / "model.keras") as partial:
        shutil.copyfile(out / "tmp_checkpoint" / "best_model.keras", partial)
    text = as_text(json.loads((out / "metrics.json").read_text()), (out / "history.csv").read_text())
    write_text(options.results / "published_recipe.txt", text)
    print(text + f"model: {out / 'model.keras'}; now benchmarks/detector_tables.py --parts peers")
    return 0


if __name__ == "__main__":
    cli.run(main)
