"""How many people the linking of faces finds, against how many were counted by eye.

    python benchmarks/people.py --root DIR --sources DIR      # minutes on two cores; writes results/people.md

Clips and counts lie in benchmarks/people.csv (clip, people): paths below --root, --sources or the sample. Only people
whose face can be seen are counted. A name like `a + b + a` is a montage: thirds of the clips one after another, as
after cuts; their people are linked anew over the whole. Found are all tracks, as place and looks link them and as they
are with descriptors, and the people that the verdict names.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))
sys.path.insert(0, str(PROJECT / "benchmarks"))

from detector_tables_text import table_text  # noqa: E402

from deepfake_detection import cli  # noqa: E402
from deepfake_detection.detector import Detector, people  # noqa: E402
from deepfake_detection.errors import UserError  # noqa: E402
from deepfake_detection.faces import extract, tracks  # noqa: E402
from deepfake_detection.files import write_text  # noqa: E402

COUNTED = PROJECT / "benchmarks" / "people.csv"
RESULT = PROJECT / "benchmarks" / "results" / "people.md"
HEAD = ["clip", "counted", "looks alone", "with descriptors", "named in the verdict"]


def parse(argv=None):
    p = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the development clips")
    p.add_argument("--sources", type=Path, metavar="DIR", help="folder of further clips")
    p.add_argument("--counted", type=Path, default=COUNTED, metavar="FILE", help="(default: %(default)s)")
    p.add_argument("--result", type=Path, default=RESULT, metavar="FILE", help="(default: %(default)s)")
    return p.parse_args(argv)


class Frames:
    """The faces of clips, each read once: (frames, width of the source)."""

    def __init__(self, detector: Detector, folders: list[Path]):
        self._detector, self._folders, self._known = detector, folders, {}
        detector.warm()

    def of(self, name: str) -> tuple[list[extract.FrameFaces], int]:
        """Those of a clip, or of a montage with its people linked anew."""
        parts = name.split(" + ")
        if len(parts) == 1:
            return self._read(name)
        shots = []
        for at, part in enumerate(parts):
            frames, width = self._read(part)
            third = len(frames) // 3
            start = third * min(at, 2)
            shots += frames[start : start + third]
        linker, frames = tracks.Linker(), []
        for number, frame in enumerate(shots):
            faces = linker.update(frame.faces, frame.looks)
            frames.append(replace(frame, frame=number, index=number, time_s=float(number), faces=faces))
        return frames, width

    def _read(self, name: str) -> tuple[list[extract.FrameFaces], int]:
        if name not in self._known:
            path = next((p for folder in self._folders if (p := folder / name).is_file()), None)
            if path is None:
                raise UserError("there is no such clip", file=name, hint="see --root and --sources")
            d = self._detector
            reader, stream = extract.iter_faces_of_video(
                path,
                sampling=d._sampling,
                scale=d.resolved["scale"],
                detector=d._faces,
                margin=d.resolved["margin"],
                confidence=d.resolved["confidence"],
            )
            self._known[name] = list(stream), reader.info.width
        return self._known[name]


def found(detector: Detector, frames: list[extract.FrameFaces], width: int) -> tuple[int, int, int]:
    """Tracks by place and looks alone, with descriptors, and people of the verdict."""
    looks_alone = tracks.merge([f.faces for f in frames], [f.looks for f in frames])
    faces = detector._scored(detector._looks(frames, [0.5] * sum(len(f.faces) for f in frames), width))
    named = people.judge(faces, detector.thresholds, detector.decision, "mean", frames=len(frames)).people
    return len({f.person for row in looks_alone for f in row}), len({f.person for f in faces}), len(named)


def main(argv=None) -> int:
    """The command line; returns the exit code."""
    options = parse(argv)
    with options.counted.open(encoding="utf-8") as file:
        clips = [(row["clip"], int(row["people"])) for row in csv.DictReader(file)]
    detector = Detector()
    folders = [f for f in (options.root, options.sources, PROJECT / "train_sample_videos") if f is not None]
    frames, rows = Frames(detector, folders), []
    for name, counted in clips:
        rows.append((name, counted, *found(detector, *frames.of(name))))
        print(*rows[-1], flush=True)
    lines = ["# People found against people counted\n", "Made by `python benchmarks/people.py`.\n"]
    for title, some in (
        ("Clips", [r for r in rows if " + " not in r[0]]),
        ("Montages: thirds of clips one after another", [r for r in rows if " + " in r[0]]),
    ):
        right = [f"{sum(r[i] == r[1] for r in some)} of {len(some)} right" for i in (2, 3, 4)]
        total = ["all", str(sum(r[1] for r in some)), *(f"{sum(r[i] for r in some)}" for i in (2, 3, 4))]
        body = [[" + ".join(Path(part).stem for part in r[0].split(" + ")), *map(str, r[1:])] for r in some]
        lines += [f"## {title}\n", table_text(HEAD, [*body, total, ["", "", *right]]), ""]
    write_text(options.result, "\n".join(lines))
    print(options.result)
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
