"""What each lever of the detector's training gives: short runs of equal length, alike but for one thing.

    python recipes/index.py --data ../shared/data --sources DIR --out build/index.csv
    git show 284db78:models/detector.keras > build/detector_1_5.keras
    python benchmarks/ablation.py --index build/index.csv --weights build/detector_1_5.keras    # an hour on two cores

Goes on where it was stopped. Writes benchmarks/results/ablation.md and .json. Judged on faces, four a clip, through the
tight window (what is shipped) before the calibration, in one column through the wide one: on the index's `val` and
`unseen`, which no run learns from. Intervals: 95 %, resampling groups; differences are paired.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
sys.path.insert(0, str(PROJECT / "benchmarks"))

import numpy as np
import pandas as pd
from detector_tables_text import cell, table_text
from strangers import pairs_ordered
from tqdm import tqdm

from deepfake_detection import cli, metrics
from deepfake_detection.files import write_json, write_text
from train_detector import look_at

#: The settings of detector 2.0 and 2.2 for their first steps.
RECIPE = str(PROJECT / "recipes" / "detector.json")
COMMON = ("--recipe", RECIPE, "--size", "176", "--steps", "2000", "--stop-at", "250")
BASE = {"--wide": "0.5", "--consistency": "0.2", "--learning-rate": "2e-4"}
#: Name of a run -> what is other than in BASE.
RUNS: dict[str, dict] = {
    "2.0's settings": {},
    "the worst half of the pairs": {"--worst": "0.5"},
    "pairs as low-rate videos leave them": {"--clips": "0.35"},
    "no degradation": {"--no-degrade": None},
    "tight window only": {"--wide": "0"},
    "no further DFDC fakes": {"--without": ("dfdc_more",)},
    "no stills": {"--without": ("utkface", "lfw", "ffhq", "ciplab", "stills")},
    "only the last layers learn": {"--freeze": "block9_add"},
    "twice the rate": {"--learning-rate": "4e-4"},
    "no blends like live swaps": {"--no-live": None},
    "another seed": {"--seed": "2"},
    "wide window only": {"--wide": "1"},
    "middle of a pair held at 0": {"--centring": "0.3"},
    "no clips of new people": {"--without": ("celebv", "styletalk", "driving")},
    "no loss for a pair's order": {"--ranking": "0"},
    "no loss for a face's copy": {"--consistency": "0"},
}
START = "before (1.5)"
#: Column -> (which untouched clips, which altered ones): pairs of (split, sources).
FF = ("ffpp", "dfd")
STRANGERS = "strangers' untouched against known fakes"
QUESTIONS = {
    STRANGERS: (("unseen", None), ("val", ("dfdc", *FF))),
    "live swaps": (("unseen", ("live_swaps",)), ("unseen", ("live_swaps",))),
    "DFDC": (("val", ("dfdc",)), ("val", ("dfdc",))),
    "FF++ and DFD": (("val", FF), ("val", FF)),
}


def parse(argv=None):
    p = cli.parser(__doc__, data=False, out=False)
    p.add_argument("--index", type=Path, required=True, metavar="FILE", help="index of faces")
    p.add_argument("--weights", type=Path, required=True, metavar="FILE", help="what every run starts from")
    p.add_argument(
        "--work", type=Path, default=Path("build/detector"), metavar="DIR", help="of train_detector.py: %(default)s"
    )
    p.add_argument(
        "--results", type=Path, default=PROJECT / "benchmarks" / "results", metavar="DIR", help="(default: %(default)s)"
    )
    return p.parse_args(argv)


def folder_of(work: Path, name: str) -> Path:
    return work / f"ablation-{name.translate(str.maketrans(' ', '-', chr(39) + '().'))}"


def command(options, name: str) -> list[str]:
    changed = RUNS[name]
    values = {key: value for key, value in BASE.items() if key not in changed} | changed
    given = [
        word
        for key, value in values.items()
        for one in (value if isinstance(value, tuple) else (value,))
        for word in ((key,) if one is None else (key, one))
    ]
    files = {"--index": options.index, "--work": options.work, "--weights": options.weights}
    named = {**files, "--name": folder_of(options.work, name).name}
    own = [str(word) for option in named.items() for word in option]
    return [sys.executable, str(PROJECT / "train_detector.py"), *own, *COMMON, *given]


def at_the_start(options) -> pd.DataFrame:
    """The faces as the weights judge them that every run starts from."""
    import keras

    from deepfake_detection.blending import faces

    kept = folder_of(options.work, START) / "looked.pkl"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        network = keras.models.load_model(options.weights, compile=False)
        network.layers[-1].activation = keras.activations.linear
        look_at(faces.opened(options.work), kept.parent)(network)
    return pd.read_pickle(kept)


def clips_of(looked: pd.DataFrame) -> pd.DataFrame:
    """One row a clip: p and wide (before calibration, through either window), real (1 or 0), source, split, group."""
    clips = looked.groupby("file").agg(
        z=("z_tight", "mean"),
        z_wide=("z_wide", "mean"),
        label=("label", "first"),
        source=("source", "first"),
        split=("split", "first"),
        group=("group", "first"),
    )
    p, wide = (1 / (1 + np.exp(-z)) for z in (clips.z, clips.z_wide))
    return clips.assign(p=p, wide=wide, real=clips.label.eq("real").astype(int))


def asked(clips: pd.DataFrame, question: str) -> pd.DataFrame:
    rows = []
    for real, (split, sources) in zip((1, 0), QUESTIONS[question]):
        here = (clips.real == real) & (clips.split == split)
        rows.append(clips[here & clips.source.isin(sources)] if sources else clips[here])
    return pd.concat(rows)


def judged(clips: pd.DataFrame, base: pd.DataFrame) -> dict:
    """The numbers of a run, each with its difference from `base`."""
    row = {}
    for question in QUESTIONS:
        part = asked(clips, question)
        y, p, groups = part.real.to_numpy(), part.p.to_numpy(), part.group.to_numpy()
        row[question] = metrics.evaluate(y, p, groups)["auc"]
        other = base.loc[part.index].p.to_numpy()
        if not np.array_equal(p, other):
            row[f"{question}, difference"] = metrics.bootstrap_difference(metrics.auc, y, p, other, groups).to_dict()
    part = asked(clips, STRANGERS)
    row["wide"] = metrics.evaluate(part.real.to_numpy(), part.wide.to_numpy(), part.group.to_numpy())["auc"]
    untouched, fakes = part.p[part.real == 1], part.p[part.real == 0]
    row["found"] = round(float((fakes < np.quantile(untouched, 0.05)).mean()), 3)
    live = clips[clips.source == "live_swaps"].reset_index()
    row["pairs"] = pairs_ordered(live.file, live.real, live.p)
    return row


def as_text(rows: dict) -> str:
    lines = []
    for name, row in rows.items():
        cells = []
        for question in QUESTIONS:
            difference = row.get(f"{question}, difference")
            cells.append(cell(row[question]) + (f"; {cell(difference, '+')}" if difference else ""))
        lines.append([name, *cells, cell(row["wide"]), f"{row['found']:.2f}", row["pairs"]])
    found = "known fakes found where 5 % of strangers' untouched are lost"
    header = ["run", *QUESTIONS, "the first of these, wide window", found, "live pairs"]
    return (
        "# Ablation of the training\n\n"
        f"Made by `python benchmarks/ablation.py`: {COMMON[-1]} steps of 64 faces each, from detector 1.5. AUC over "
        "clips with its 95 % interval; after the semicolon the paired difference from the run with 2.0's settings.\n\n"
        + table_text(header, lines)
    )


def main(argv=None) -> int:
    options = parse(argv)
    cli.announce("ablation", options)
    rows: dict[str, dict] = {}
    base = None
    for name in tqdm(RUNS, desc="runs", unit="run", disable=None):
        run = folder_of(options.work, name)
        if not (run / "result.json").is_file():
            subprocess.run(command(options, name), check=True, stdout=subprocess.DEVNULL)
        clips = clips_of(pd.read_pickle(run / "looked.pkl"))
        if base is None:
            base = clips
            rows[START] = judged(clips_of(at_the_start(options)), base)
        rows[name] = judged(clips, base)
        write_json(options.results / "ablation.json", rows)  # after every run: the next one may take long
        write_text(options.results / "ablation.md", as_text(rows))
    print(as_text(rows))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
