"""The manifest: one table of what is in a data folder, whatever its layout.

python -m deepfake_detection.datasets.manifest DIR [--layout NAME]      prints it as CSV, with a summary on stderr
"""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..errors import UserError
from ..labels import counted
from . import layouts, scan, titles
from .groups import identities_of_name, name_groups

if TYPE_CHECKING:
    import pandas

#: See docs/design.md, "Manifest". All are text; empty means unknown or not so.
COLUMNS = ["title", "video", "label", "dataset", "manipulation", "compression", "original", "group", "split", "error"]

LAYOUTS = ("auto", *layouts.modules())


def read_manifest(data: str | Path, layout: str = "auto", labels: Path | None = None) -> pandas.DataFrame:
    """One row a video or label of the folder, sorted by path. A pure function of the folder: nothing is written.

    Args:
        data: the folder.
        layout: one of `LAYOUTS`; `auto` recognises it.
        labels: list of labels (`layouts.labels_file`) that stands for the layout.

    Returns:
        DataFrame of str with `COLUMNS`. Rows with an `error` cannot be used; their `video` is empty where it would be
        unsafe to touch.

    Raises:
        UserError: the folder is missing or cannot be read, holds no video, is not of the layout, or its only metadata
            is broken.
    """
    import pandas as pd

    data = Path(data)
    chosen = _layout(data, layout, labels)
    rows = chosen.rows(data, Path(labels)) if labels else chosen.rows(data)
    rows = sorted([*rows, *_beside(data, rows, chosen.NAME)], key=lambda r: (r.video, r.name))
    if not rows:
        raise UserError("no videos found in this folder", file=data, hint=f"expected {chosen.EXPECTS}")
    _refuse_odd_paths(rows)
    named = [r.video or "unusable/" + titles.safe(r.name) for r in rows]
    own_folders = {PurePosixPath(r.video).parts[0] for r in rows if len(PurePosixPath(r.video).parts) > 1}
    assigned = titles.assign(named, taken={*own_folders, *scan.OUTPUT_FOLDERS, "real", "fake", "splits"})
    groups = name_groups(
        [r.identities or [f"{r.dataset}_{title}"] for r, title in zip(rows, assigned, strict=True)],
        [r.links for r in rows],
    )
    title_of: dict[str, str] = {}
    for r, title in zip(rows, assigned, strict=True):
        title_of.setdefault(r.video, title)
    lines = []
    for r, title, group in zip(rows, assigned, groups, strict=True):
        # A source that is not in the folder keeps its name: siblings can still be told.
        original = title_of.get(r.original, titles.safe(PurePosixPath(r.original).stem)) if r.original else ""
        lines.append({**vars(r), "title": title, "group": group, "original": original})
    return pd.DataFrame(lines, columns=COLUMNS, dtype="str")


def _layout(data: Path, layout: str, labels: Path | None):
    """The module of the layout that is meant."""
    if layout not in LAYOUTS:
        raise UserError("unknown layout", file=layout, hint=f"one of {', '.join(LAYOUTS)}")
    if not data.exists():
        raise UserError("there is no such folder", file=data, hint="name the folder of your videos with --data DIR")
    if not data.is_dir():
        raise UserError("this is a file, not a folder", file=data, hint="give the folder that the videos are in")
    if labels is not None and layout not in ("auto", "labels"):
        raise UserError("--labels and --layout do not go together", file=labels, hint="leave --layout out")
    if labels:
        return layouts.modules()["labels"]
    return layouts.recognise(data) if layout == "auto" else layouts.modules()[layout]


def _beside(data: Path, rows: list[layouts.Row], layout: str) -> list[layouts.Row]:
    """Rows without a label for the videos that lie in the data folder where the layout expects none."""

    def place(video: PurePosixPath | str) -> tuple[str, str]:
        folder, name = os.path.split(video)
        if folder not in real:
            real[folder] = os.path.realpath(data / folder)
        return real[folder], name

    real: dict[str, str] = {}
    known = {place(row.video) for row in rows if row.video}
    return [
        layouts.check_present(
            data,
            layouts.Row(
                video=str(video),
                dataset=layout,
                identities=identities_of_name(video.stem) or [f"unlabelled_{video.stem}"],
            ),
        )
        for video in scan.videos_under(data)
        # The masks of FaceForensics++ are videos, of no face.
        if "masks" not in video.parts[:-1] and place(video) not in known
    ]


def _refuse_odd_paths(rows: list[layouts.Row]) -> None:
    """Rows whose path cannot be a text cell, or came before, keep their place in the table but not their path."""
    seen = set()
    for row in rows:
        try:
            row.video.encode("utf-8")
        except UnicodeEncodeError:  # a file name in bytes that are no UTF-8
            row.error = "the file's name is not UTF-8 text: rename it"
            row.name, row.video = row.video.encode("utf-8", "backslashreplace").decode(), ""
            row.original, row.links = "", []
            row.identities = [i.encode("utf-8", "backslashreplace").decode() for i in row.identities]
        if row.video and row.video in seen:
            row.error = f"listed by two metadata files: {row.video}"
            row.name, row.video = row.video, ""
        seen.add(row.video)


def describe(manifest) -> str:
    """One line a person reads: how many videos of which label, in how many groups, and how many cannot be used."""
    counts = manifest["label"].replace("", "unlabelled").value_counts().to_dict()
    bad = int((manifest["error"] != "").sum())
    text = f"{counted(len(manifest), 'video')} (" + ", ".join(
        f"{counts[k]} {k}" for k in ("REAL", "FAKE", "unlabelled") if k in counts
    )
    text += f") in {counted(manifest['group'].nunique(), 'group')}, {', '.join(sorted(manifest['dataset'].unique()))}"
    return text + (f"; {bad} cannot be used" if bad else "")


def labels_note(manifest) -> str:
    """What is missing for training, in a line: empty when there are REAL and FAKE videos and none without a label."""
    usable = manifest[manifest["error"] == ""]
    without = usable[usable["label"] == ""]
    counts = usable["label"].value_counts()
    missing = [word for word in ("REAL", "FAKE") if not counts.get(word)]
    bad = manifest[manifest["error"] != ""]
    why = f"; {counted(len(bad), 'video')} cannot be used, the first: {bad['error'].iloc[0]}" if len(bad) else ""
    if len(missing) == 2:
        return "no video has a label: they can be judged, not trained on" + why
    text = f"no video is labelled {missing[0]}: training needs both{why}" if missing else ""
    if len(without):
        named = ", ".join(without["video"].head(3)) + (", ..." if len(without) > 3 else "")
        text += (
            "; " if text else ""
        ) + f"{len(without)} of {counted(len(usable), 'video')} without a label, left out of training ({named})"
    return text


def main(argv=None) -> int:
    """The command line; returns the exit code."""
    from .. import cli

    p = cli.bare_parser("Prints the manifest of a data folder as CSV.")
    p.add_argument("data", type=Path, metavar="DIR")
    p.add_argument("--layout", default="auto", metavar="NAME", help=", ".join(LAYOUTS) + " (default: %(default)s)")
    options = p.parse_args(argv)
    manifest = read_manifest(options.data, options.layout)
    manifest.to_csv(sys.stdout, index=False, lineterminator="\n")
    print(describe(manifest), file=sys.stderr)
    return 0


if __name__ == "__main__":
    from .. import cli

    cli.run(main)
