"""A bare folder of videos, at any depth, without labels: for prediction."""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from .. import scan
from ..groups import identities_of_name
from . import Row, check_present

NAME = "unlabelled"
EXPECTS = "videos without labels"


def matches(data: Path) -> bool:
    return scan.has_video(data)


def rows(data: Path) -> list[Row]:
    found = [
        check_present(
            data, Row(video=str(v), dataset=NAME, identities=identities_of_name(v.stem) or [f"unlabelled_{v.stem}"])
        )
        for v in scan.videos_under(data)
    ]
    if not found:
        raise UserError("no videos in this folder", file=data, hint="name the folder of your videos with --data DIR")
    return found
