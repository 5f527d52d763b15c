"""The margin that the faces of a split were cut with, as stage 01a recorded it."""

from __future__ import annotations

import filecmp
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from ..faces.crops import SETTINGS_FILE
from ..faces.settings import PUBLISHED_MARGIN
from ..labels import counted
from ..video.frames import MARKED_FACES
from .face_list import FACES, Faces, find_faces
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


def refuse_others(faces: Faces, frames: Path | None) -> None:
    """Refuses faces that are not those which stage 01a left in `frames`: margin, people and points there are of others.

    Of each video that is recorded there, one face is compared, since 01a and 01b make all of a video's anew.

    Raises:
        UserError: naming how many videos, and the first.
    """
    if frames is None:
        return
    first: dict[str, Path] = {}
    for title, path in zip(faces.titles, faces.paths()):
        first.setdefault(title, path)
    others = [
        title
        for title, path in first.items()
        if Path(frames, title, FACES, SETTINGS_FILE).is_file()
        and any(Path(frames, title, FACES).glob("*.png"))
        and not any(_same(path, Path(frames, title, kind, path.name)) for kind in (FACES, MARKED_FACES))
    ]
    if others:
        raise UserError(
            f"the faces of {counted(len(others), 'video')} are not those in {frames} (the first: {others[0]})",
            file=faces.root,
            hint="run stage 02 again after 01a, or name the folder they came from with --frames-dir",
        )


def _same(one: Path, other: Path) -> bool:
    """Whether two files have one content; stage 02 makes links where it can."""
    try:
        return os.path.samefile(one, other) or filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


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
        UserError: see `recorded`, `refuse_others` and `face_list.find_faces`.
    """
    sets = [find_faces(dataset / s, both_classes=True) for s in SPLITS]
    for faces in sets:
        refuse_others(faces, frames)
    return of((title for faces in sets for title in faces.titles), frames)
