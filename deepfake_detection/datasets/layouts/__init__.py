"""The layouts in which data sets are handed out, one file each. A layout says whether a folder is one, and lists its
videos.

Each module has `NAME`, `EXPECTS` (what the folder must hold, for error messages), `matches(data) -> bool` and
`rows(data) -> list[Row]`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from ...errors import UserError, printable
from .. import scan


@dataclass
class Row:
    """One video, or one label whose video is missing.

    Attributes:
        video: path relative to the data folder, posix; empty when the name in a metadata file is not safe to touch.
        name: what the title is made of where `video` is empty.
        label: `REAL`, `FAKE` or empty.
        compression: as the data set names it (`raw`, `c23`, `c40`), where it comes in several.
        original: the relative path of the source video if it is known exactly; else the source's name.
        identities: names of the people or source videos that this video shows. Rows that share one are one group.
        links: further names that tie rows together without being a good name for the group.
        split: `train`, `val`, `test` or empty.
        error: why the row cannot be used, or empty.
    """

    video: str
    dataset: str
    label: str = ""
    manipulation: str = ""
    original: str = ""
    identities: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    split: str = ""
    error: str = ""
    name: str = ""
    compression: str = ""


MISSING = "missing file"


def check_present(data: Path, row: Row) -> Row:
    """Notes the error when the row's file is not there (also a link that leads nowhere)."""
    if not row.error and not (data / row.video).is_file():
        row.error = MISSING
    return row


def modules() -> dict[str, ModuleType]:
    """All layouts by name, the most telling first: recognition takes the first that matches."""
    from . import celebdf, dfdc, ffpp, folders, labels_file, timit, unlabelled

    return {m.NAME: m for m in (labels_file, ffpp, celebdf, timit, dfdc, folders, unlabelled)}


def recognise(data: Path) -> ModuleType:
    """The layout of a folder.

    Raises:
        UserError: when it is none, or when several data sets lie side by side in it.
    """
    from . import labels_file

    known = modules()
    chosen = next((m for m in known.values() if m.NAME != "unlabelled" and m.matches(data)), None)
    if chosen is not None and not (chosen.NAME == "dfdc" and not (data / "metadata.json").is_file()):
        return chosen
    # The folder itself bears no mark. If several data sets lie in it, to read one of them only (or to take all as
    # unlabelled) would silently lose the rest (or every label).
    inside = {}
    for name in scan.subfolders(data):
        layout = next(
            (m.NAME for m in known.values() if m.NAME not in ("unlabelled", "folders") and m.matches(data / name)), None
        )
        if layout is not None:
            inside[name] = layout
    if set(inside.values()) - {"dfdc"}:
        listed = ", ".join(f"{name} ({layout})" for name, layout in list(inside.items())[:5])
        raise UserError(
            "this folder holds data sets in subfolders, it is none itself",
            file=data,
            hint=f"give one of them as --data: {listed}; or take all as unlabelled with --layout unlabelled",
        )
    if chosen is not None:
        return chosen
    if known["unlabelled"].matches(data):
        if (data / labels_file.FILE).is_file():
            told = f"{labels_file.FILE} is not read, it does not begin with the columns path and label"
            print(f"note: {told}: {printable(str(data / labels_file.FILE))}", file=sys.stderr)
        return known["unlabelled"]
    raise UserError(
        "no videos found in this folder",
        file=data,
        hint="expected videos, or one of: " + "; ".join(f"{m.NAME}: {m.EXPECTS}" for m in known.values()),
    )
