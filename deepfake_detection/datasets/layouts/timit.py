"""DeepFake-TIMIT (Korshunov & Marcel 2018, arXiv:1812.08685): higher_quality/ and lower_quality/, one folder a subject.

`higher_quality/fadg0/sa1-video-fram1.avi` (or, flattened, `higher_quality/fadg0-sa1-video-fram1.avi`) shows subject
fadg0 with the face of fram1. The download has fakes only; videos of VidTIMIT that lie beside them in VidTIMIT/ or real/
(`.../fadg0/sa1.avi`) are the reals.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from ...errors import UserError
from .. import scan
from . import Row, check_present

NAME = "timit"
EXPECTS = "higher_quality/ and lower_quality/"
_FAKE = ("higher_quality", "lower_quality")
_REAL = ("vidtimit", "real", "original", "originals")
_SUBJECT = re.compile(r"(?<![a-z0-9])[fm][a-z]{3}\d(?![a-z0-9])")


def matches(data: Path) -> bool:
    return any((data / name).is_dir() for name in _FAKE)


def rows(data: Path) -> list[Row]:
    found = []
    for folder in scan.subfolders(data):
        label = "FAKE" if folder in _FAKE else "REAL" if folder.lower() in _REAL else None
        if label is None:
            continue
        for video in scan.videos_under(data, folder):
            below = str(PurePosixPath(*video.parts[1:]))
            row = Row(video=str(video), dataset=NAME, label=label, manipulation=folder if label == "FAKE" else "")
            subjects = list(dict.fromkeys(_SUBJECT.findall(below.lower())))
            row.identities = [f"timit_{s}" for s in subjects] or [f"timit_{video.stem}"]
            found.append(check_present(data, row))
    if not found:
        raise UserError("no videos in this DeepFake-TIMIT folder", file=data, hint="expected higher_quality/*/*.avi")
    _find_originals(found)
    return found


def _find_originals(found: list[Row]) -> None:
    """The real video of the same subject and sentence, where it is there."""

    def key(row):
        sentence = re.search(r"(?<![a-z0-9])(s[aix]\d+)(?![a-z0-9])", row.video.lower())
        return (row.identities[0], sentence[1]) if sentence else None

    reals = {key(r): r.video for r in found if r.label == "REAL" and key(r)}
    for row in found:
        if row.label == "FAKE" and key(row) in reals:
            row.original = reals[key(row)]
