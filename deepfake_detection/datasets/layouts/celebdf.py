"""Celeb-DF v1 and v2 (Li et al. 2020, arXiv:1909.12962): Celeb-real, Celeb-synthesis, YouTube-real,
List_of_testing_videos.txt.

`Celeb-synthesis/id0_id1_0000.mp4` is `Celeb-real/id0_0000.mp4` with the face of id1. The list has one `<1 real|0 fake>
<path>` a line.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from ...errors import UserError
from .. import scan
from ..groups import identities_of_name
from . import Row, check_present
from .dfdc import unsafe

NAME = "celebdf"
EXPECTS = "Celeb-real/ and Celeb-synthesis/"
_LABELS = {"Celeb-real": "REAL", "YouTube-real": "REAL", "Celeb-synthesis": "FAKE"}
_LIST = "List_of_testing_videos.txt"


def matches(data: Path) -> bool:
    return any((data / name).is_dir() for name in ("Celeb-real", "Celeb-synthesis"))


def rows(data: Path) -> list[Row]:
    listed = _test_list(data)
    found = {}
    for folder, label in _LABELS.items():
        if (data / folder).is_dir():
            for name in scan.videos_in(data / folder):
                row = _row(f"{folder}/{name}", label)
                found[row.video] = check_present(data, row)
    # Without the list nothing is known of the split; with it, what is not listed is for training.
    for row in found.values():
        row.split = "train" if listed else ""
    for video, (label, line) in listed.items():
        if unsafe(video) or PurePosixPath(video).parts[0] not in _LABELS:
            found[f"{_LIST}:{line}"] = Row(
                video="",
                name=video,
                dataset=NAME,
                error=f"{_LIST} line {line}: no video of this data set: {video[:80]!r}",
            )
            continue
        if video not in found:
            found[video] = _row(video, _LABELS[PurePosixPath(video).parts[0]])
        row = found[video]
        row.split = "test"
        if label != row.label:
            row.error = f"{_LIST} line {line} says {label or 'neither 0 nor 1'}, the folder says {row.label}"
        check_present(data, row)
    if not found:
        raise UserError(
            "no videos in this Celeb-DF folder", file=data, hint="expected Celeb-real/*.mp4, Celeb-synthesis/*.mp4"
        )
    return list(found.values())


def _row(video: str, label: str) -> Row:
    path = PurePosixPath(video)
    row = Row(video=video, dataset=NAME, label=label, manipulation=path.parts[0] if label == "FAKE" else "")
    prefix = "celebdf_youtube_" if path.parts[0] == "YouTube-real" else "celebdf_"
    row.identities = identities_of_name(path.stem, dataset=NAME) or [prefix + path.stem]
    if label == "FAKE" and (m := re.fullmatch(r"(id\d+)_id\d+_(\d+)", path.stem)):
        row.original = f"Celeb-real/{m[1]}_{m[2]}{path.suffix}"
    return row


def _test_list(data: Path) -> dict[str, tuple[str, int]]:
    """Relative path -> (label, line number) of the official list of test videos; empty when it is not there."""
    path = data / _LIST
    if not path.is_file():
        return {}
    found = {}
    raw = path.read_bytes()
    wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))  # as Windows' editors may save it
    for number, line in enumerate(raw.decode("utf-16" if wide else "utf-8-sig", "replace").splitlines(), 1):
        if line.strip():
            # One space as published; tabs, several spaces or commas where the list went through a spreadsheet.
            label, _, video = re.sub(r"[\s,;]+", " ", line.strip(), count=1).partition(" ")
            video = video.strip().strip('"').replace("\\", "/").removeprefix("./")
            found[video] = ({"1": "REAL", "0": "FAKE"}.get(label, ""), number)
    if found and not any(
        PurePosixPath(video).parts[:1] and PurePosixPath(video).parts[0] in _LABELS for video in found
    ):
        raise UserError(
            "no line of this list names a video of this data set",
            file=path,
            hint="a line is `<1 real|0 fake> <folder/name.mp4>`; without the list all videos are of no set",
        )
    return found
