"""How the detector judges videos of people, cameras and kinds of fakes that it never saw; and its thresholds, fitted
there.

    python recipes/index.py --data ../shared/data --sources DIR --out build/index.csv
    python benchmarks/strangers.py --index build/index.csv        # half an hour on two cores; goes on where it stopped
    python benchmarks/strangers.py --index build/index.csv --fit      # also writes `fake_below` of models/detector.json

Every number is made by what users run: `Detector.predict` on the clips of the index's splits `val` and `unseen`, with
the quality gate and the rule over people; as they are, and encoded again as COPIES, which is how strangers' clips come.
Writes benchmarks/results/strangers.md and .json. Intervals: 95 %, resampling groups. So few clips give an ECE by chance
alone: beside it stands that of scores that are exactly right.

`--fit` sets the threshold below which a video is called FAKE so that at most FITTED of the untouched are, of those of
unseen sources and of those of the validation groups each for itself, and at most RATE of them and their copies
together. The other threshold stays: it is set by hand, since lowering it calls more live swaps REAL.

"Risk against coverage" there: how many clips are decided when both thresholds are moved so that at most a share of the
untouched is called FAKE and of the altered REAL. They are moved on the clips they are counted on, which flatters them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
sys.path.insert(0, str(PROJECT / "benchmarks"))

import numpy as np
import pandas as pd
from changes import VIDEO_CHANGES, reencoded
from detector_tables_text import table_text
from gate_risk import share_cell
from tqdm import tqdm

from deepfake_detection import cli, metrics
from deepfake_detection.errors import UserError
from deepfake_detection.files import atomic_path, write_csv, write_json, write_text

#: Part of the untouched clips that may be called FAKE; less of those that the threshold is fitted on, which flatter it.
RATE, FITTED = 0.05, 1 / 30
#: Errors that are allowed of each kind, for risk against coverage.
ALLOWED = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
DRAWS = 500
WORDS = ("REAL", "UNSURE", "FAKE", "NO FACE")
AS_IT_IS = "as it is"
#: How each clip is judged: as it is, and through filters of ffmpeg and x264 at this CRF.
COPIES = {
    AS_IT_IS: None,
    "half the size, CRF 20": (VIDEO_CHANGES["scaled to 0.5"][0], 20),
    "0.6 of the size, CRF 30": ("scale=trunc(iw*0.3)*2:trunc(ih*0.3)*2", 30),
    "CRF 35": VIDEO_CHANGES["x264 CRF 35"],
}


def parse(argv=None):
    p = cli.parser(__doc__, data=False, out=False)
    p.add_argument(
        "--index", type=Path, required=True, metavar="FILE", help="index of faces (deepfake_detection.blending.faces)"
    )
    p.add_argument(
        "--models", type=Path, default=PROJECT / "models", metavar="DIR", help="the detector (default: %(default)s)"
    )
    p.add_argument(
        "--work",
        type=Path,
        default=Path("build/strangers"),
        metavar="DIR",
        help="scores already made (default: %(default)s)",
    )
    p.add_argument("--fit", action="store_true", help="write the fitted threshold into detector.json")
    p.add_argument(
        "--results", type=Path, default=PROJECT / "benchmarks" / "results", metavar="DIR", help="(default: %(default)s)"
    )
    return p.parse_args(argv)


def judged(options) -> pd.DataFrame:
    """One row a clip and copy: copy, source, split, group, real (1 or 0), manipulation, p_real (NaN: none), verdict and
    reason as the detector words them."""
    from deepfake_detection.blending.faces import VIDEOS, read_index
    from deepfake_detection.detector import Detector

    detector, table = Detector(model=str(options.models), threads=2), read_index(options.index)
    clips = table[(table.split != "train") & table.file.map(lambda f: Path(f).suffix.lower() in VIDEOS)]
    own = {k: v for k, v in detector.config.items() if k not in ("training", "fitted_on", "environment")}
    made = options.work / f"{hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]}.csv"
    known = pd.read_csv(made).set_index(["copy", "file"]) if made.is_file() else pd.DataFrame()
    rows = []
    asked = [(copy, clip) for copy in COPIES for clip in clips.itertuples()]
    for copy, clip in tqdm(asked, desc="clips", unit="clip", disable=None):
        key = {"copy": copy, "file": clip.file}
        if tuple(key.values()) in known.index:
            rows.append(key | known.loc[tuple(key.values())].to_dict())
            continue
        rows.append(key | verdict_of(detector, copied(clip.file, copy, options.work / "copies")))
        write_csv(made, pd.DataFrame(rows))
    result = pd.DataFrame(rows)
    meta = (
        clips.set_index("file")
        .loc[result.file, ["source", "split", "group", "manipulation", "label"]]
        .reset_index(drop=True)
    )
    return pd.concat([result, meta.assign(real=meta.label.eq("real").astype(int))], axis=1)


def copied(file: str, copy: str, folder: Path) -> Path:
    """The clip as COPIES has it; made once."""
    how = COPIES[copy]
    if how is None:
        return Path(file)
    name = f"{hashlib.sha256(f'{file} {how}'.encode()).hexdigest()[:16]}.mp4"
    if not (folder / name).is_file():
        with atomic_path(folder / name) as part:
            reencoded(Path(file), part, *how)
    return folder / name


def verdict_of(detector, file: Path) -> dict:
    try:
        found = detector.predict(file)
    except UserError as e:
        return {"p_real": np.nan, "verdict": "NO FACE", "reason": str(e), "votes": 0}
    return {
        "p_real": np.nan if found.p_real is None else found.p_real,
        "verdict": found.verdict,
        "reason": found.reason,
        "votes": sum(f.votes for f in found.faces),
    }


def words(clips: pd.DataFrame, judged_with: dict, fake_below: float, real_above: float) -> np.ndarray:
    """The verdicts with other thresholds than those that they were made with. What was UNSURE although its score was on
    one of their sides (too few good faces, an altered stretch, another person) stays so."""
    by_score = np.where(clips.p_real < fake_below, "FAKE", np.where(clips.p_real >= real_above, "REAL", "UNSURE"))
    between = (clips.p_real >= judged_with["fake_below"]) & (clips.p_real < judged_with["real_above"])
    return np.where(clips.verdict.eq("NO FACE") | (clips.verdict.eq("UNSURE") & ~between), clips.verdict, by_score)


def fitted(clips: pd.DataFrame, judged_with: dict, rate: float = FITTED, of_copies: float = RATE) -> float:
    """The largest `fake_below` that calls at most `rate` of the untouched clips FAKE, of each split for itself, and at
    most `of_copies` of them and their copies together."""
    own = clips[clips["copy"] == AS_IT_IS]
    parts = [(rate, part) for _, part in own[own.real == 1].groupby("split")]
    return min(fake_bound(part, judged_with, share) for share, part in (*parts, (of_copies, clips[clips.real == 1])))


def fake_bound(untouched: pd.DataFrame, judged_with: dict, rate: float) -> float:
    """The largest `fake_below` that calls at most `rate` of these FAKE."""
    scored = untouched[untouched.p_real.notna()]
    # what can be called FAKE at all
    p = np.sort(np.where(words(scored, judged_with, 2, 2) == "FAKE", scored.p_real, 1.0))
    return float(p[int(rate * len(p) + 1e-9)])


def moved(clips: pd.DataFrame, judged_with: dict, rate: float) -> tuple[float, float]:
    """(fake_below, real_above) that call at most `rate` of the untouched clips FAKE and of the altered ones REAL."""
    fake_below = min(fake_bound(part, judged_with, rate) for _, part in clips[clips.real == 1].groupby("split"))
    altered = clips[(clips.real == 0) & clips.p_real.notna()]
    p = np.sort(np.where(words(altered, judged_with, -1, -1) == "REAL", altered.p_real, 0.0))[::-1]
    return fake_below, max(fake_below, float(np.nextafter(p[int(rate * len(p) + 1e-9)], 2)))


def risk(clips: pd.DataFrame, judged_with: dict, thresholds: dict) -> list[list[str]]:
    """Rows of "risk against coverage": the thresholds in force, then the moved ones, of each split and of all."""
    rows = []
    for name, part in (*clips.groupby("split"), ("both", clips.assign(split="both"))):
        if part.real.nunique() < 2:
            continue
        moves = [("in force", (thresholds["fake_below"], thresholds["real_above"]))]
        moves += [(f"{rate:.0%}", moved(part, judged_with, rate)) for rate in ALLOWED]
        for allowed, (low, high) in moves:
            said, groups = words(part, judged_with, low, high), part.group.astype(str).to_numpy()
            decided = np.isin(said, ("REAL", "FAKE"))
            wrong = np.where(part.real == 1, said == "FAKE", said == "REAL")
            cells = [share_cell(decided, np.ones(len(part), bool), groups), share_cell(wrong, decided, groups)]
            cells += by_word(said, part.real)
            rows.append([str(name), allowed, f"{low:.2f}", f"{high:.2f}", *cells])
    return rows


def by_word(said, real) -> list[str]:
    """Cells under BY_WORD: the shares of each verdict among the untouched and among the altered."""
    said, real = np.asarray(said), np.asarray(real)
    return [" / ".join(f"{(said[real == code] == word).mean():.2f}" for word in WORDS[:3]) for code in (1, 0)]


def kinds(clips: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of the table: the untouched and the altered of every source, and all of what is unseen."""
    return {
        **{f"{source} ({split})": part for (split, source), part in clips.groupby(["split", "source"])},
        "all unseen": clips[clips.split == "unseen"],
        "all": clips,
    }


def table(clips: pd.DataFrame, said: np.ndarray) -> dict:
    clips, result = clips.assign(said=said), {}
    for name, part in kinds(clips).items():
        row = {}
        for who, code in (("untouched", 1), ("altered", 0)):
            some = part[part.real == code]
            row[who] = len(some)
            row |= {f"{who} {word}": round(float((some.said == word).mean()), 3) for word in WORDS if len(some)}
        scored = part[part.p_real.notna()]
        if scored.real.nunique() == 2:
            row["auc"] = auc_of(scored)
            reals = np.sort(scored.p_real[scored.real == 1])
            bound = reals[int(RATE * len(reals))]
            row["ece"] = round(metrics.ece(scored.real.to_numpy(), scored.p_real.to_numpy()), 3)
            row["ece of the calibrated"] = [round(x, 3) for x in ece_of_calibrated(scored.p_real.to_numpy())]
            row["found where 5 % of the untouched are called FAKE"] = round(
                float((scored.p_real[scored.real == 0] < bound).mean()), 3
            )
        result[name] = row
    live = clips[clips.source == "live_swaps"]
    if len(live):
        result["live_swaps (unseen)"]["pairs ordered rightly"] = pairs_ordered(live.file, live.real, live.p_real)
    return result


def of_copies(clips: pd.DataFrame, said: np.ndarray) -> list[list[str]]:
    """Rows of "encoded again": each copy, of the unseen sources and of all clips."""
    clips, rows = clips.assign(said=said), []
    for copy, own in clips.groupby("copy", sort=False):
        for name, part in (("unseen", own[own.split == "unseen"]), ("all", own)):
            live = part[part.source == "live_swaps"]
            pairs = pairs_ordered(live.file, live.real, live.p_real) if len(live) else ""
            rows.append(
                [copy, name, *by_word(part.said, part.real), auc_cell(auc_of(part[part.p_real.notna()])), pairs]
            )
    return rows


def auc_of(clips: pd.DataFrame) -> dict:
    """The AUC of clips with scores, of both classes, with an interval where there are groups enough."""
    return metrics.evaluate(clips.real.to_numpy(), clips.p_real.to_numpy(), clips.group.to_numpy())["auc"]


def auc_cell(auc: dict | None) -> str:
    interval = f" [{auc['low']:.3f}, {auc['high']:.3f}]" if auc and "low" in auc else ""
    return f"{auc['value']:.3f}{interval}" if auc else ""


def ece_of_calibrated(p_real: np.ndarray, seed: int = 1) -> tuple[float, float]:
    """(mean, 95 % quantile) of the ECE that so many clips give by chance were every score exactly right; only
    what lies above says that a detector is not calibrated.

    Args:
        p_real: (N,) scores; the labels are drawn from them.
    """
    rng = np.random.default_rng(seed)
    drawn = [metrics.ece((rng.random(len(p_real)) < p_real).astype(int), p_real) for _ in range(DRAWS)]
    return float(np.mean(drawn)), float(np.quantile(drawn, 0.95))


def pairs_ordered(files: pd.Series, real: pd.Series, p_real: pd.Series) -> str:
    """ "12 of 19": the clips NAME_real and NAME_fake of which the first has the higher score."""
    stem = files.str.replace(r"_(real|fake)\.\w+$", "", regex=True).str.rsplit("/", n=1).str[-1]
    table = pd.DataFrame({"stem": stem, "real": real, "p": p_real})
    both = table.pivot_table(index="stem", columns="real", values="p").dropna()
    return f"{int((both[1] > both[0]).sum())} of {len(both)}"


RISK_HEAD = ["clips", "errors allowed", "FAKE below", "REAL from", "decided", "wrong of these"]
BY_WORD = [f"{who} REAL / UNSURE / FAKE" for who in ("untouched", "altered")]
RISK_HEAD += BY_WORD
COPIES_HEAD = ["each clip", "sources", *BY_WORD, "AUC", "live pairs ordered rightly"]


def as_text(results: dict) -> str:
    out = [
        "# Strangers' videos\n",
        f"Made by `python benchmarks/strangers.py` with {results['detector']}; FAKE below "
        f"{results['fake_below']:.3f}, REAL from "
        f"{results['real_above']:.3f}. Shares of clips; AUC with a 95 % interval, resampling groups.\n",
    ]
    header = [
        "clips",
        "untouched",
        *(f"… {w}" for w in WORDS),
        "altered",
        *(f"… {w}" for w in WORDS),
        "AUC",
        "ECE (calibrated: mean, 95 %)",
        "found at 5 %",
        "pairs",
    ]
    lines = []
    for name, row in results["rows"].items():
        lines.append(
            [
                name,
                *(
                    x
                    for who in ("untouched", "altered")
                    for x in (
                        str(row[who]),
                        *(f"{row[f'{who} {w}']:.2f}" if f"{who} {w}" in row else "" for w in WORDS),
                    )
                ),
                auc_cell(row.get("auc")),
                "{} ({}, {})".format(row["ece"], *row["ece of the calibrated"]) if "ece" in row else "",
                str(row.get("found where 5 % of the untouched are called FAKE", "")),
                row.get("pairs ordered rightly", ""),
            ]
        )
    out.append(table_text(header, lines))
    out.append("## Encoded again\n")
    out.append(table_text(COPIES_HEAD, results["copies"]))
    out.append("## Risk against coverage\n")
    out.append(
        "Which share of the clips is decided when the thresholds are moved until errors of each kind are as often as "
        "allowed (untouched called FAKE, altered called REAL); moved on these very clips, which flatters.\n"
    )
    return "\n".join([*out, table_text(RISK_HEAD, results["risk"])])


def main(argv=None) -> int:
    options = parse(argv)
    cli.announce("strangers", options)
    clips = judged(options)
    path = options.models / "detector.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    judged_with, thresholds = config["thresholds"], dict(config["thresholds"])
    if options.fit:
        thresholds["fake_below"] = fitted(clips, judged_with)
        thresholds["real_above"] = max(thresholds["real_above"], thresholds["fake_below"])
        config["thresholds"] = thresholds
        config["fitted_on"] = dict(config.get("fitted_on") or {}) | {
            "untouched_called_fake": round(FITTED, 3),
            "unseen_clips": int((clips.split == "unseen").sum()),
        }
        write_json(path, config)
    said = words(clips, judged_with, thresholds["fake_below"], thresholds["real_above"])
    own = (clips["copy"] == AS_IT_IS).to_numpy()
    results = {
        "detector": f"{config['name']} {config['version']}",
        **thresholds,
        "rows": table(clips[own], said[own]),
        "copies": of_copies(clips, said),
        "risk": risk(clips[own], judged_with, thresholds),
    }
    write_json(options.results / "strangers.json", results)
    write_text(options.results / "strangers.md", as_text(results))
    print(as_text(results))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
