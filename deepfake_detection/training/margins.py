"""The margin that the faces of a split were cut with, as stage 01a recorded it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from ..faces.crops import SETTINGS_FILE
from ..faces.settings import PUBLISHED_MARGIN
from ..labels import counted
from .face_list import find_faces
from .settings import SPLITS

_HINT = "run 01a_crop_faces_mtcnn.py again, for all videos with one --margin, and then stage 02"


def recorded(frames: Path | None, titles: Iterable[str]) -> float | None:
    """The margin of the faces of these videos; None where stage 01a left no record of any of them.

    Args:
        frames: folder with `<title>/faces/faces.json`.

    Raises:
        UserError: a record that cannot be read, or faces of several margins.
    """
    if frames is None:
        return None
    found: Counter[float] = Counter()
    for title in sorted(set(titles)):
        path = Path(frames) / title / "faces" / SETTINGS_FILE
        try:
            found[float(json.loads(path.read_text(encoding="utf-8"))["settings"]["margin"])] += 1
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError("the record of the faces is broken", file=path, hint=_HINT) from None
    if len(found) > 1:
        said = ", ".join(f"{margin:g}: {counted(count, 'video')}" for margin, count in sorted(found.items()))
        raise UserError(f"these faces were cut with several margins ({said})", file=frames, hint=_HINT)
    return next(iter(found), None)


def of(titles: Iterable[str], frames: Path | None) -> float:
    """The margin of the faces of these videos: the recorded one, or, with a note, the published one where there is no
    record.

    Raises:
        UserError: see `recorded`.
    """
    margin = recorded(frames, titles)
    if margin is None:
        margin = PUBLISHED_MARGIN
        what = f"{frames} has no record of how these faces were cut: a margin of {margin:g} is assumed"
        print(f"note: {what}", file=sys.stderr)
    return margin


def of_split(dataset: Path, frames: Path | None) -> float:
    """`of` for train, val and test together.

    Raises:
        UserError: see `recorded` and `face_list.find_faces`.
    """
    return of((t for s in SPLITS for t in find_faces(dataset / s, both_classes=True).titles), frames)
