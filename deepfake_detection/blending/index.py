"""An index of faces (`blending.faces`) from folders of labelled videos and of pictures of untouched faces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .. import files
from ..datasets.manifest import labels_note, read_manifest
from ..datasets.split import assign_groups
from ..datasets.split_check import PICTURES
from ..errors import UserError
from .faces import COLUMNS

#: A third of the people is not learnt from: in `val`, and in `unseen`, the strangers that thresholds are fitted on.
RATIO = (70, 15, 15)
SPLITS = {"train": "train", "val": "val", "test": "unseen"}
#: Frames of a video.
FRAMES = 32


def write(
    path: Path, data: Sequence[Path], real_faces: Sequence[Path] = (), *, layout: str = "auto", seed: int = 1
) -> Path:
    """Writes the index and returns its path; the same folders and seed give the same bytes.

    Args:
        data: folders of labelled videos. Nobody of one group is in two splits, over all of them.
        real_faces: folders of pictures of untouched faces, for training only: they are what blends are made of.
        layout: of `data`, one of `datasets.manifest.LAYOUTS`.
        seed: of the split.

    Raises:
        UserError: a folder without such files, no videos of both classes, or too few groups for the splits.
    """
    import pandas as pd

    folders = [Path(folder).resolve() for folder in (*data, *real_faces)]
    if twice := [folder for folder in folders if folders.count(folder) > 1]:
        raise UserError("this folder is named twice", file=twice[0], hint="name each folder once")
    sources = _names(folders)
    rows = [row for folder in folders[: len(data)] for row in _videos(folder, sources[folder], layout)]
    counts: dict[str, list[int]] = {}
    for row in rows:
        counts.setdefault(row["group"], [0, 0])[row["label"] == "fake"] += 1
    if not all(map(sum, zip(*counts.values()))):
        raise UserError("training needs untouched and altered videos", file=folders[0], hint="add --data of the other")
    split = assign_groups({group: (real, fake) for group, (real, fake) in counts.items()}, RATIO, seed)
    rows = [row | {"split": SPLITS[split[row["group"]]]} for row in rows]
    rows += [row for folder in folders[len(data) :] for row in _pictures(folder, sources[folder])]
    files.write_csv(path, pd.DataFrame(rows, columns=COLUMNS).fillna(""))
    return path


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """What each folder is called as a source: its name, with a number where two have one."""
    names: dict[Path, str] = {}
    for folder in folders:
        name, number = folder.name or "data", 2
        while name in names.values():
            name, number = f"{folder.name}-{number}", number + 1
        names[folder] = name
    return names


def _videos(data: Path, source: str, layout: str) -> list[dict]:
    manifest = read_manifest(data, layout)
    usable = manifest[(manifest["error"] == "") & (manifest["label"] != "")]
    if not len(usable):
        raise UserError(labels_note(manifest), file=data, hint="a labels.csv beside the videos gives labels")
    video_of = dict(zip(usable["title"], usable["video"]))
    return [
        {
            "file": str(data / row.video),
            "label": row.label.lower(),
            "source": source,
            "manipulation": "/".join(filter(None, (row.manipulation, row.compression))),
            "group": row.group,
            "window": "wide",
            "original": str(data / video_of[row.original]) if row.original in video_of else "",
            "frames": str(FRAMES),
        }
        for row in usable.itertuples()
    ]


def _pictures(folder: Path, source: str) -> list[dict]:
    if not folder.is_dir():
        raise UserError("there is no such folder", file=folder, hint="--real-faces takes folders of pictures")
    paths = sorted(
        Path(here) / name
        for here, names in files.walk(folder)
        for name in names
        if os.path.splitext(name)[1].lower() in PICTURES
    )
    if not paths:
        raise UserError("no pictures in this folder", file=folder, hint="--real-faces takes folders of pictures")
    return [
        {
            "file": str(path),
            "label": "real",
            "source": source,
            "group": f"{source}/{path.relative_to(folder)}",
            "split": "train",
            "window": "wide",
        }
        for path in paths
    ]
