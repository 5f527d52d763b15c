"""Risk against coverage of the face-quality gate: what each bound of `faces.quality.Bounds` costs; refits them.

    python benchmarks/gate.py --data DIR --labels DIR/labels.csv        # up to 20 videos, 8 frames each
    python benchmarks/gate.py --data DIR --videos 500 --frames 32 --scores faces.jsonl    # scores are kept and reused

Every video is judged once; after that only the votes of its faces are counted anew. Writes benchmarks/results/gate.md:
the gate switched off, as it is and refitted, then one bound at a time; and the refitted bounds as "quality" of
detector.json. A bound may be where at least --coverage of the videos keep a say and the AUC of these is no lower than
without the gate; of such values the one with the fewest untouched videos called FAKE is taken, then of the highest AUC,
then the loosest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from deepfake_detection import cli, labels  # noqa: E402
from deepfake_detection.aggregation import Thresholds  # noqa: E402
from deepfake_detection.datasets.manifest import LAYOUTS  # noqa: E402
from deepfake_detection.detector import people  # noqa: E402
from deepfake_detection.detector.verdict import FaceScore  # noqa: E402
from deepfake_detection.errors import UserError  # noqa: E402
from deepfake_detection.faces.quality import Bounds, Quality  # noqa: E402

#: The measure that each bound is about.
MEASURES = {f.name: f.name.partition("_")[2] for f in fields(Bounds)}
#: Bounds that keep nobody out.
OFF = Bounds(
    min_size_px=0,
    min_inside=0,
    max_yaw=180,
    max_pitch=180,
    max_roll=180,
    min_sharpness=0,
    min_brightness=0,
    min_contrast=0,
    max_blown_out=1,
    min_confidence=0,
)
#: Shares of the faces that the values which are tried keep out.
SHARES = (0.02, 0.05, 0.1, 0.2, 0.35)
#: How often all bounds are gone through.
ROUNDS = 2
RESULT = PROJECT / "benchmarks" / "results" / "gate.md"


@dataclass(frozen=True)
class Video:
    """A labelled video with the faces that were scored in it; frames: how many were looked at."""

    name: str
    label: str
    frames: int
    faces: tuple[FaceScore, ...]


@dataclass(frozen=True)
class Judge:
    """What turns faces into a verdict, beside the bounds."""

    thresholds: Thresholds
    decision: people.Decision
    rule: str
    _known: dict = field(default_factory=dict, repr=False)

    def __call__(self, video: Video, faces: list[FaceScore]) -> people.Verdict:
        """The verdict on a video with the votes of `faces`; most bounds change few of them, so it is kept."""
        key = video.name, *(face.votes for face in faces)
        if key not in self._known:
            self._known[key] = people.judge(faces, self.thresholds, self.decision, self.rule, frames=video.frames)
        return self._known[key]


@dataclass(frozen=True)
class Row:
    """What a gate comes to: shares of faces that vote and of videos with a say, the AUC of these, verdicts of all."""

    vote: float
    say: float
    auc: float | None
    real: int
    real_called_fake: int
    fake: int
    fake_called_real: int
    unsure: int

    def cells(self) -> list[str]:
        auc = "-" if self.auc is None else f"{self.auc:.3f}"
        wrong = (f"{self.real_called_fake} of {self.real}", f"{self.fake_called_real} of {self.fake}")
        return [f"{self.vote:.0%}", f"{self.say:.0%}", auc, *wrong, str(self.unsure)]


HEAD = ("faces that vote", "videos with a say", "AUC of these")
HEAD += ("untouched called FAKE", "altered called REAL", "UNSURE")


# -- from faces to numbers ---------------------------------------------------------------------------------------------
def gated(faces: Iterable[FaceScore], bounds: Bounds) -> list[FaceScore]:
    """The same faces with the votes that they have under these bounds."""
    faults = ((face, bounds.fault(Quality(**face.quality))) for face in faces)
    return [replace(face, votes=not fault, fault=fault) for face, fault in faults]


def row_of(videos: list[Video], bounds: Bounds, judge: Judge) -> Row:
    """The videos judged with these bounds; those without a face are left out."""
    from deepfake_detection.metrics import MetricError, auc

    said, y, p, verdicts, vote = [], [], [], [], []
    for video in videos:
        faces = gated(video.faces, bounds)
        found = judge(video, faces)
        vote += [face.votes for face in faces]
        said.append(people.enough(faces, judge.decision, video.frames))
        y.append(labels.label_of(video.label))
        p.append(found.p_real)
        verdicts.append((video.label, found.verdict))
    kept = [i for i, say in enumerate(said) if say]
    try:
        area = float(auc([y[i] for i in kept], [p[i] for i in kept]))
    except MetricError:
        area = None
    return Row(
        vote=sum(vote) / len(vote),
        say=len(kept) / len(videos),
        auc=area,
        real=y.count(labels.REAL),
        real_called_fake=verdicts.count(("REAL", "FAKE")),
        fake=y.count(labels.FAKE),
        fake_called_real=verdicts.count(("FAKE", "REAL")),
        unsure=sum(verdict == labels.VERDICT_UNSURE for _, verdict in verdicts),
    )


def candidates(videos: list[Video], name: str) -> list[float]:
    """Values of a bound, the loosest first: off, and those that keep out SHARES of the faces."""
    import numpy as np

    values = np.abs([face.quality[MEASURES[name]] for video in videos for face in video.faces])
    upper = name.startswith("max_")
    cuts = np.quantile(values, [1 - s if upper else s for s in SHARES])
    digits = 3 if np.max(values) <= 2 else 1
    tried = {float(getattr(OFF, name)), *(round(float(c), digits) for c in cuts)}
    return sorted(tried, reverse=upper)


def fit(videos: list[Video], judge: Judge, coverage: float) -> Bounds:
    """The bounds by the rule at the top of this file, one after the other, from the gate switched off."""
    from tqdm import tqdm

    bounds, least = OFF, row_of(videos, OFF, judge).auc
    for name in tqdm([*MEASURES] * ROUNDS, desc="fitting", unit="bound", disable=None):
        best = None
        for place, value in enumerate(candidates(videos, name)):
            tried = replace(bounds, **{name: value})
            row = row_of(videos, tried, judge)
            if value != getattr(OFF, name) and (
                row.say < coverage or least is not None and (row.auc is None or row.auc < least)
            ):
                continue
            cost = (row.real_called_fake, -(row.auc or 0), place)
            if best is None or cost < best[0]:
                best = cost, tried
        bounds = best[1]
    return bounds


# -- faces -------------------------------------------------------------------------------------------------------------
def kept_scores(path: Path | None) -> dict[str, dict]:
    """What an earlier run left, by key; a line that was cut off is as if it were not there."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path and path.is_file() else ():
        try:
            entry = json.loads(line)
            found[entry["key"]] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return found


def scored(detector, data: Path, manifest, scores: Path | None, force: bool = False) -> tuple[list[Video], list[str]]:
    """(videos with a face, lines on those without or with an error); scores are kept as they come."""
    from tqdm import tqdm

    kept, videos, left = {} if force else kept_scores(scores), [], []
    frames = detector.settings.frames
    for line in tqdm(list(manifest.itertuples()), desc="videos", unit="video", disable=None):
        path = data / line.video
        try:
            about = path.stat()
            key = f"{detector.model} {frames} {about.st_size} {about.st_mtime_ns} {line.video}"
            entry = kept.get(key) or _judged(detector, path, key, scores)
        except (UserError, OSError) as e:
            left.append(f"{line.video}: {getattr(e, 'what', e)}")
            continue
        faces = tuple(FaceScore(**{**face, "box": tuple(face["box"])}) for face in entry["faces"])
        if faces:
            videos.append(Video(line.video, line.label, entry["frames"], faces))
        else:
            left.append(f"{line.video}: no face")
    return videos, left


def _judged(detector, path: Path, key: str, scores: Path | None) -> dict:
    found = detector.predict(path)
    faces = [{k: v for k, v in face.to_json().items() if k not in ("votes", "reason")} for face in found.faces]
    entry = {"key": key, "frames": found.frames_decoded, "faces": faces}
    if scores:
        scores.parent.mkdir(parents=True, exist_ok=True)
        with open(scores, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    return entry


# -- the page ----------------------------------------------------------------------------------------------------------
def table(rows: list[tuple[str, Row]], first: str) -> str:
    head = [first, *HEAD]
    lines = [head, ["---"] + ["---:"] * len(HEAD), *([name, *row.cells()] for name, row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def page(videos: list[Video], left: list[str], judge: Judge, now: Bounds, fitted: Bounds, about: str) -> str:
    """The whole of gate.md."""
    counts = {word: sum(v.label == word for v in videos) for word in ("REAL", "FAKE")}
    faces = sum(len(v.faces) for v in videos)
    few = min(counts.values()) < 50
    gates = [("off", OFF), ("as it is", now), ("refitted", fitted)]
    parts = [
        "# The face-quality gate: risk against coverage",
        f"{about} {counts['REAL']} untouched and {counts['FAKE']} altered videos with a face, {faces:,} faces"
        f"{f'; {len(left)} videos left out' if left else ''}.",
    ]
    if few:
        parts.append("**Too few videos to choose bounds by:** one verdict more or less moves every number here.")
    parts += [
        "A video has a say when enough of its faces vote; else it is UNSURE.",
        table([(name, row_of(videos, bounds, judge)) for name, bounds in gates], "gate"),
        "## One bound at a time, the others as they are",
    ]
    for name in MEASURES:
        own = getattr(now, name)
        values = sorted({*candidates(videos, name), own}, reverse=name.startswith("max_"))
        rows = [
            (f"{value:g}" + (" (now)" if value == own else ""), row_of(videos, replace(now, **{name: value}), judge))
            for value in values
        ]
        parts.append(table(rows, f"`{name}`"))
    parts += ["## Refitted", "```json\n" + json.dumps({"quality": asdict(fitted)}, indent=2) + "\n```"]
    parts += ["## Left out", *(f"- {text}" for text in left)] if left else []
    return "\n\n".join(parts) + "\n"


def options() -> argparse.ArgumentParser:
    p = cli.parser(__doc__, out=False, layouts=LAYOUTS)
    p.add_argument("--videos", type=cli.positive_int, default=20, metavar="N", help="at most (default: %(default)s)")
    p.add_argument("--frames", type=cli.positive_int, default=8, metavar="N", help="a video (default: %(default)s)")
    p.add_argument("--model-dir", metavar="DIR", help="the detector (default: the shipped one)")
    p.add_argument("--scores", type=Path, metavar="FILE", help="JSON lines: scores of faces, reused and added to")
    p.add_argument(
        "--coverage", type=cli.fraction, default=0.8, metavar="SHARE", help="see above (default: %(default)s)"
    )
    p.add_argument("--result", type=Path, default=RESULT, metavar="FILE", help="(default: %(default)s)")
    return p


def main(argv=None) -> None:
    chosen = options().parse_args(argv)
    from deepfake_detection import files
    from deepfake_detection.datasets.manifest import read_manifest
    from deepfake_detection.detector.predictor import Detector
    from deepfake_detection.video.frames import balanced_titles

    manifest = read_manifest(chosen.data, chosen.layout, chosen.labels)
    usable = manifest[(manifest["error"] == "") & (manifest["label"] != "")]
    if set(usable["label"]) != {"REAL", "FAKE"}:
        raise UserError("there must be untouched and altered videos", file=chosen.data, hint="name them with --labels")
    usable = usable[usable["title"].isin(balanced_titles(usable, chosen.videos, chosen.seed))]
    own = {"model": chosen.model_dir} if chosen.model_dir else {}
    detector = Detector(frames=chosen.frames, threads=chosen.workers, **own)
    videos, left = scored(detector, chosen.data, usable, chosen.scores, chosen.force)
    if {v.label for v in videos} != {"REAL", "FAKE"}:
        raise UserError("no faces of one of the classes", file=chosen.data, hint="; ".join(left[:3]) or "more --videos")
    judge = Judge(detector.thresholds, detector.decision, detector.resolved["aggregate"])
    fitted = fit(videos, judge, chosen.coverage)
    about = (
        f"{detector.model}, {chosen.frames} frames a video, seed {chosen.seed}, coverage {chosen.coverage:g} or more:"
    )
    text = page(videos, left, judge, detector.bounds, fitted, about)
    files.write_text(chosen.result, text)
    print(text.split("## One bound")[0].rstrip())
    print(f"\n{chosen.result}")


if __name__ == "__main__":
    cli.run(main)
