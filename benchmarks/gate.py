"""Risk against coverage of the face-quality gate: what each bound of `faces.quality.Bounds` costs; refits them.

    python benchmarks/gate.py --index build/index.csv --scores build/gate.jsonl --degraded --stills    # 20 minutes
    python benchmarks/gate.py --data DIR --labels DIR/labels.csv --videos 500 --scores faces.jsonl

The clips are those of an index's splits `val` and `unseen` (recipes/index.py) with the sample, or those of a
folder. `--degraded` also judges each made smaller, darker and softer as a whole (`gate_clips.DEGRADED`), for good clips
say nothing of bounds that their faces never come near; `--stills` the validation pictures of the index, one face of a
video each, in a table of their own. Every clip is judged once and kept; after that only the votes of its faces are
counted anew. Writes benchmarks/results/gate.md: the gate switched off, as it is and refitted; every kind of degraded
copies; one bound at a time; and the refitted bounds as "quality" of detector.json.

A bound is tightened step by step while the clips that lose their say by it are called no more rightly than wrongly (an
untouched clip called FAKE counts twice), and --coverage of the clips as they are keep the say that they have; else
loosened while those that gain one are called more rightly. A step goes to the next value that is fifty clips away.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))
sys.path.insert(0, str(PROJECT / "benchmarks"))

from detector_tables_text import table_text  # noqa: E402
from gate_clips import DEGRADED, STILL, VARIANTS, Clip, Video, scored  # noqa: E402
from gate_risk import DEGRADED_FOR, HEAD, OFF, TRIED, Judge, Outcome, cells, lost_cells, outcome  # noqa: E402

from deepfake_detection import cli, labels  # noqa: E402
from deepfake_detection.datasets.manifest import LAYOUTS  # noqa: E402
from deepfake_detection.errors import UserError  # noqa: E402
from deepfake_detection.faces.quality import Bounds  # noqa: E402

RESULT = PROJECT / "benchmarks" / "results" / "gate.md"
#: See `earns`: an untouched clip called FAKE costs so many right verdicts, and fewer clips than this say nothing.
COST, FEWEST = 2, 50


def pool(videos: list[Video], name: str) -> list[Video]:
    """What a bound is measured on: the clips as they are and their copies degraded in what it is about."""
    kind = DEGRADED_FOR.get(name, "-")
    return [v for v in videos if not v.variant or v.variant.startswith(kind)]


def values_of(name: str, own: float) -> list[float]:
    """The values of a bound that are tried, and that in force, the loosest first."""
    return sorted({*TRIED[name], own}, reverse=name.startswith("max_"))


# -- refitting ---------------------------------------------------------------------------------------------------------
def earns(looser: Outcome, tighter: Outcome) -> bool | None:
    """Whether the clips that have a say by the looser bound alone are called more rightly than wrongly, COST to one;
    None: too few to tell."""
    between = looser.say & ~tighter.say
    fakes, reals = (int((looser.wrong(label) & between).sum()) for label in (labels.REAL, labels.FAKE))
    right = int((between & (looser.said != labels.VERDICT_UNSURE)).sum()) - fakes - reals
    return None if between.sum() < FEWEST else right > COST * fakes + reals


def moved(found: list[Outcome], at: int, least: float) -> int:
    """Where a bound goes from value number `at` of those that gave `found`, the loosest first; `least` clips as they
    are must keep a say."""
    start, last = at, len(found)
    while to := next((i for i in range(at + 1, last) if earns(found[at], found[i]) is not None), None):
        if earns(found[at], found[to]) or found[to].say[found[to].plain].sum() < least:
            break
        at = to
    while at <= start:
        to = next((i for i in reversed(range(at)) if earns(found[i], found[at]) is not None), None)
        if to is None or not earns(found[to], found[at]):
            break
        at = to
    return at


def fit(videos: list[Video], judge: Judge, now: Bounds, coverage: float) -> Bounds:
    """The bounds by the rule at the top of this file, one after the other, from those in force."""
    from tqdm import tqdm

    least = coverage * outcome([v for v in videos if not v.variant], now, judge).say.sum()
    bounds = now
    for name in tqdm(TRIED, desc="fitting", unit="bound", disable=None):
        own, some = getattr(now, name), pool(videos, name) + [v for v in videos if v.variant == STILL]
        tried = [replace(bounds, **{name: value}) for value in values_of(name, own)]
        found = [outcome(some, b, judge) for b in tried]
        bounds = tried[moved(found, values_of(name, own).index(own), least)]
    return bounds


# -- the page ----------------------------------------------------------------------------------------------------------
def by_kind(videos: list[Video], now: Bounds, judge: Judge) -> str:
    """A table of the clips as they are and of each kind of copies: how many have a say, and how they would be judged
    with the gate off."""
    rows = []
    for variant in dict.fromkeys(v.variant for v in sorted(videos, key=lambda v: [*VARIANTS, STILL].index(v.variant))):
        some = [v for v in videos if v.variant == variant]
        rows.append(
            [
                {"": "as they are", STILL: "single faces"}.get(variant, variant),
                str(len(some)),
                cells(outcome(some, now, judge))[0],
            ]
        )
        rows[-1] += cells(outcome(some, OFF, judge))[1:]
    return table_text(["clips", "with a face", "with a say", "AUC", *HEAD[2:]], rows)


def by_value(videos: list[Video], name: str, now: Bounds, judge: Judge) -> str:
    """A table of the values of one bound, the others as they are, on the clips and on the single faces."""
    stills = [v for v in videos if v.variant == STILL]
    return "\n".join(_by_value(some, name, now, judge) for some in (pool(videos, name), stills) if some)


def _by_value(some: list[Video], name: str, now: Bounds, judge: Judge) -> str:
    own, rows, looser = getattr(now, name), [], None
    for value in values_of(name, own):
        found = outcome(some, replace(now, **{name: value}), judge)
        lost = lost_cells(looser, found) if looser else ["", ""]
        kept = f"{found.say[found.plain].mean():.0%}" if found.plain.any() else ""
        rows.append([f"{value:g}" + (" (now)" if value == own else ""), kept, *cells(found), *lost])
        looser = found
    if not found.plain.any() and all(row[2] == rows[0][2] for row in rows):
        return ""  # the bound keeps out none of them
    head = ["as they are", *HEAD] if found.plain.any() else ["", "single faces with a say", *HEAD[1:]]
    return table_text([f"`{name}`", *head, "untouched that lose it", "altered that lose it"], rows)


def page(videos: list[Video], left: list[str], judge: Judge, now: Bounds, fitted: Bounds, about: str) -> str:
    """The whole of gate.md."""
    plain, stills = ([v for v in videos if v.variant == kind] for kind in ("", STILL))
    counts = {word: sum(v.label == word for v in plain) for word in ("REAL", "FAKE")}
    parts = [
        "# The face-quality gate: risk against coverage",
        f"Made by `python benchmarks/gate.py` with {about}; {counts['REAL']} untouched and {counts['FAKE']} "
        f"altered clips with a face, {len(videos) - len(plain) - len(stills):,} degraded copies, {len(stills):,} "
        f"single faces of other videos, {sum(len(v.faces) for v in videos):,} faces.",
    ]
    if min(counts.values()) < 50:
        parts.append("**Too few clips to choose bounds by:** one verdict more or less moves every number here.")
    parts += [
        "A clip has a say when enough of its faces vote; else it is UNSURE. Errors are shares of the clips of their "
        "kind with a say. Brackets: 95 %, resampling groups."
    ]
    gates = {"off": OFF, "the code's defaults": Bounds(), "as it is": now, "refitted": fitted}
    found_by = [(name, outcome(plain, bounds, judge)) for name, bounds in gates.items()]
    rows = [[name, f"{found.vote:.0%}", *cells(found)] for name, found in found_by]
    parts.append("## Clips as they are\n\n" + table_text(["gate", "faces that vote", *HEAD], rows))
    if len(plain) < len(videos):
        parts.append(
            "## Every clip degraded alike\n\nWho has a say with the gate as it is; AUC and errors with it off."
        )
        parts.append(by_kind(videos, now, judge))
    parts.append("## One bound at a time, the others as they are")
    parts.append(
        "On the clips as they are and, for size, sharpness, brightness and contrast, their copies small, soft and "
        "dark; `as they are`: with a say, of those alone. "
        "Last columns: what the row above would call the clips that lose their say by this one, REAL / UNSURE / FAKE."
    )
    parts += [by_value(videos, name, now, judge) for name in TRIED]
    parts += ["## Refitted", "```json\n" + json.dumps({"quality": asdict(fitted)}, indent=2) + "\n```"]
    parts += ["## Left out", "\n".join(f"- {text}" for text in left)] if left else []
    return "\n\n".join(part.strip() for part in parts) + "\n"


# -- the command -------------------------------------------------------------------------------------------------------
def options() -> argparse.ArgumentParser:
    p = cli.parser(__doc__, out=False, layouts=LAYOUTS)
    p.add_argument("--index", type=Path, metavar="FILE", help="index of faces, in place of --data: see above")
    p.add_argument(
        "--degraded", nargs="*", choices=[*DEGRADED], metavar="KIND", help="judge degraded copies too: all, or these"
    )
    p.add_argument("--stills", action="store_true", help="judge the validation pictures of the index too")
    p.add_argument("--videos", type=cli.positive_int, default=200, metavar="N", help="at most (default: %(default)s)")
    p.add_argument(
        "--frame-count", type=cli.positive_int, default=8, metavar="N", help="a video (default: %(default)s)"
    )
    p.add_argument("--model-dir", metavar="DIR", help="the detector (default: the shipped one)")
    p.add_argument("--scores", type=Path, metavar="FILE", help="JSON lines: scores of faces, reused and added to")
    p.add_argument(
        "--coverage", type=cli.fraction, default=0.98, metavar="SHARE", help="see above (default: %(default)s)"
    )
    p.add_argument("--result", type=Path, default=RESULT, metavar="FILE", help="(default: %(default)s)")
    return p


def clips_of(chosen: argparse.Namespace) -> list[Clip]:
    """The labelled clips that the options name."""
    if chosen.index:
        import people_rules

        found = [(c["file"], c["label"], c["group"], False) for c in people_rules.clips_of(chosen.index)]
        if chosen.stills:
            table = people_rules.read_index(chosen.index)
            rest = table[(table.split == "val") & ~table.file.isin([c[0] for c in found])]
            found += [(r.file, r.label, str(r.group), True) for r in rest.itertuples()]
        words = {"real": "REAL", "fake": "FAKE"}
        return [Clip(Path(file), file, words[label], group, still) for file, label, group, still in found]
    from deepfake_detection.datasets.manifest import read_manifest
    from deepfake_detection.video.frames import balanced_titles

    manifest = read_manifest(chosen.data, chosen.layout, chosen.labels)
    usable = manifest[(manifest["error"] == "") & (manifest["label"] != "")]
    if set(usable["label"]) != {"REAL", "FAKE"}:
        raise UserError("there must be untouched and altered videos", file=chosen.data, hint="name them with --labels")
    usable = usable[usable["title"].isin(balanced_titles(usable, chosen.videos, chosen.seed))]
    return [Clip(chosen.data / r.video, r.video, r.label, str(r.group)) for r in usable.itertuples()]


def main(argv=None) -> None:
    chosen = options().parse_args(argv)
    from deepfake_detection import files
    from deepfake_detection.detector.predictor import Detector

    clips = clips_of(chosen)
    own = {"model": chosen.model_dir} if chosen.model_dir else {}
    detector = Detector(frames=chosen.frame_count, threads=chosen.workers, **own)
    kinds = () if chosen.degraded is None else tuple(chosen.degraded or DEGRADED)
    variants = [v for v in VARIANTS if v.partition(" ")[0] in kinds]
    videos, left = scored(detector, clips, variants, chosen.scores, chosen.force)
    if {v.label for v in videos} != {"REAL", "FAKE"}:
        where = chosen.index or chosen.data
        raise UserError("no faces of one of the classes", file=where, hint="; ".join(left[:3]) or "more --videos")
    judge = Judge(detector.thresholds, detector.decision, detector.resolved["aggregate"])
    fitted = fit(videos, judge, detector.bounds, chosen.coverage)
    about = f"{detector.model}, {chosen.frame_count} frames a clip"
    text = page(videos, left, judge, detector.bounds, fitted, about)
    files.write_text(chosen.result, text)
    print(text.split("## One bound")[0].rstrip())
    print(f"\n{chosen.result}")


if __name__ == "__main__":
    cli.run(main)
