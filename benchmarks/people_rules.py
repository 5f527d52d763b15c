"""The rule over people: which score of several people says best that one of them is altered.

    python benchmarks/people_rules.py --index FILE --scores build/faces.jsonl    # writes results/people_rules.md

Labelled clips with several people are few, so shots of two people are put together from scores: each clip of the
index's splits `val` and `unseen` and of the sample (none was trained on) beside eight untouched clips of other people,
frame by frame, their faces as large as they are. A shot is altered when its first clip is. Scores are made once
(32 frames a clip) and kept. Intervals: 95 %, resampling the groups of both clips. Apart: the shots whose first clip,
which is the altered one if any is, has the larger faces, and those where it has the smaller.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))
sys.path.insert(0, str(PROJECT / "benchmarks"))

import numpy as np  # noqa: E402
from detector_tables_text import table_text  # noqa: E402

from deepfake_detection import cli  # noqa: E402
from deepfake_detection.blending.faces import VIDEOS, read_index  # noqa: E402
from deepfake_detection.detector.config import read_config  # noqa: E402
from deepfake_detection.errors import UserError  # noqa: E402
from deepfake_detection.files import write_text  # noqa: E402

RESULT = PROJECT / "benchmarks" / "results" / "people_rules.md"
BESIDE, RESAMPLES, FRAMES = 8, 500, 32


def parse(argv=None):
    p = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--index", type=Path, required=True, metavar="FILE", help="index of faces")
    p.add_argument("--scores", type=Path, required=True, metavar="FILE", help="JSON lines: scores, reused and added to")
    p.add_argument("--seed", type=int, default=1, metavar="N", help="(default: %(default)s)")
    p.add_argument("--result", type=Path, default=RESULT, metavar="FILE", help="(default: %(default)s)")
    return p.parse_args(argv)


# -- scores ------------------------------------------------------------------------------------------------------------
def clips_of(index: Path) -> list[dict]:
    """file, label, source and group of every clip that was not trained on."""
    table = read_index(index)
    table = table[(table.split != "train") & table.file.map(lambda f: Path(f).suffix.lower() in VIDEOS)]
    clips = [{"file": r.file, "label": r.label, "source": r.source, "group": str(r.group)} for r in table.itertuples()]
    sample = PROJECT / "train_sample_videos"
    for name, about in json.loads((sample / "metadata.json").read_text(encoding="utf-8")).items():
        group = f"sample-{about.get('identity', name)}"
        clips.append({"file": str(sample / name), "label": about["label"].lower(), "source": "sample", "group": group})
    return clips


def scored(clips: list[dict], kept: Path) -> list[dict]:
    """The clips with a face that votes, with `faces`: (person, frame, p_real, votes, size in px)."""
    from tqdm import tqdm

    from deepfake_detection.detector import Detector

    known, detector = {}, Detector(frames=FRAMES)
    if kept.is_file():
        entries = map(json.loads, kept.read_text(encoding="utf-8").splitlines())
        known = {entry["file"]: entry for entry in entries if entry.get("model") == detector.model}
    with kept.open("a", encoding="utf-8") as file:
        for clip in tqdm([c for c in clips if c["file"] not in known], desc="clips", unit="clip", disable=None):
            try:
                faces = detector.predict(clip["file"]).faces
            except UserError:
                continue
            found = [[f.person, f.frame, f.p_real, f.votes, f.quality["size_px"]] for f in faces]
            known[clip["file"]] = clip | {"model": detector.model, "faces": found}
            file.write(json.dumps(known[clip["file"]]) + "\n")
    here = [known[clip["file"]] for clip in clips if clip["file"] in known]
    return [clip for clip in here if any(face[3] for face in clip["faces"])]


# -- rules -------------------------------------------------------------------------------------------------------------
Shot = dict[str, np.ndarray]  # person -> rows (frame, p_real, size) of the faces that vote


def most_suspicious(shot: Shot) -> float:
    """The lowest of the people's means."""
    return min(float(rows[:, 1].mean()) for rows in shot.values())


def seen_most(shot: Shot) -> float:
    """The mean of who has most faces, of several the one with the largest."""
    return float(max(shot.values(), key=lambda rows: (len(rows), np.median(rows[:, 2])))[:, 1].mean())


def largest(shot: Shot) -> float:
    """The mean over the largest face of each frame."""
    rows = np.concatenate(list(shot.values()))
    rows = rows[np.lexsort((-rows[:, 2], rows[:, 0]))]
    return float(rows[np.unique(rows[:, 0], return_index=True)[1], 1].mean())


def noisy_or(shot: Shot) -> float:
    """The probability that nobody is altered, were the people independent."""
    return float(np.prod([rows[:, 1].mean() for rows in shot.values()]))


def by_area(shot: Shot) -> float:
    """The mean over all faces, each weighted by its area."""
    rows = np.concatenate(list(shot.values()))
    return float(np.average(rows[:, 1], weights=rows[:, 2] ** 2))


RULES: dict[str, Callable[[Shot], float]] = {
    "most suspicious person": most_suspicious,
    "person seen most": seen_most,
    "largest face of each frame (the detector's)": largest,
    "noisy-or over people": noisy_or,
    "mean weighted by area": by_area,
}


# -- shots and numbers -------------------------------------------------------------------------------------------------
def people_of(clip: dict, name: str) -> Shot:
    rows: dict[str, list] = {}
    for person, frame, p_real, votes, size in clip["faces"]:
        if votes:
            rows.setdefault(f"{name} {person}", []).append((frame, p_real, size))
    return {person: np.array(found, float) for person, found in rows.items()}


def shots_of(clips: list[dict], seed: int) -> list[tuple[Shot, int, tuple[str, str]]]:
    """(faces, 1 untouched or 0 altered, groups of both clips) of every clip beside `BESIDE` untouched ones."""
    rng, out = np.random.default_rng(seed), []
    for clip in clips:
        others = [c for c in clips if c["label"] == "real" and c["group"] != clip["group"]]
        for k in rng.choice(len(others), min(BESIDE, len(others)), replace=False):
            shot = {**people_of(clip, "a"), **people_of(others[k], "b")}
            out.append((shot, int(clip["label"] == "real"), (clip["group"], others[k]["group"])))
    return out


def is_larger(shot: Shot) -> bool:
    """Whether the faces of the first clip are the larger ones."""
    first, second = (
        np.median(np.concatenate([rows[:, 2] for name, rows in shot.items() if name.startswith(which)]))
        for which in ("a ", "b ")
    )
    return bool(first >= second)


def weighted_auc(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> float:
    """The chance that an untouched shot scores higher than an altered one, shots weighted; ties count half."""
    values, place = np.unique(p, return_inverse=True)
    real, fake = (np.bincount(place, w * (y == c), len(values)) for c in (1, 0))
    below = np.cumsum(fake) - fake / 2
    return float((real * below).sum() / (real.sum() * fake.sum()))


def main(argv=None) -> int:
    """The command line; returns the exit code."""
    options = parse(argv)
    clips = scored(clips_of(options.index), options.scores)
    shots = shots_of(clips, options.seed)
    y = np.array([label for _, label, _ in shots])
    names = sorted({g for _, _, pair in shots for g in pair})
    first, second = (np.array([names.index(pair[i]) for _, _, pair in shots]) for i in (0, 1))
    rng = np.random.default_rng(options.seed)
    draws = [np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)) for _ in range(RESAMPLES)]
    weights = [w[first] * w[second] for w in draws]
    weights = [w for w in weights if (w * y).sum() and (w * (1 - y)).sum()]
    config = read_config(PROJECT / "models")
    bound = config["thresholds"]["fake_below"]
    larger = np.array([is_larger(shot) for shot, _, _ in shots])
    scores = {name: np.array([rule(shot) for shot, _, _ in shots]) for name, rule in RULES.items()}
    drawn = {name: np.array([weighted_auc(y, p, w) for w in weights]) for name, p in scores.items()}
    ours = next(name for name, rule in RULES.items() if rule is largest)
    lines = []
    for name, p in scores.items():
        low, high = np.quantile(drawn[name], (0.025, 0.975))
        less, more = np.quantile(drawn[name] - drawn[ours], (0.025, 0.975))
        auc = f"{weighted_auc(y, p, np.ones(len(y))):.3f} [{low:.3f}, {high:.3f}]"
        apart = [f"{weighted_auc(y, p, some * 1.0):.3f}" for some in (larger, ~larger)]
        wrong = f"{(p[y == 1] < bound).mean():.3f}"
        lines.append([name, auc, "" if name == ours else f"[{less:+.3f}, {more:+.3f}]", *apart, wrong])
    text = "\n".join(
        [
            "# The rule over people\n",
            f"Made by `python benchmarks/people_rules.py` with {config['name']} {config['version']}: "
            f"{len(shots):,} shots of two people, put together from the scores of "
            f"{sum(c['label'] == 'real' for c in clips)} untouched and "
            f"{sum(c['label'] == 'fake' for c in clips)} altered clips of {len(names)} groups.\n",
            table_text(
                [
                    "rule",
                    "AUC",
                    "difference from the detector's",
                    "first larger",
                    "first smaller",
                    "untouched called FAKE",
                ],
                lines,
            ),
        ]
    )
    write_text(options.result, text)
    print(text)
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
