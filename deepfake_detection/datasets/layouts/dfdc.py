"""DFDC (Dolhansky et al. 2020, arXiv:2006.07397): videos beside a metadata.json, in one folder or in many
`dfdc_train_part_N`.

metadata.json: {"abc.mp4": {"label": "FAKE", "split": "train", "original": "xyz.mp4"}, "xyz.mp4": {"label": "REAL",
...}}

One key is ours and optional, for sets in which several original videos show one person: "identity": "a name". Videos of
one identity are one group. DFDC itself does not publish who is in a video.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from ...errors import UserError
from ...video import SUFFIXES
from .. import scan
from . import Row, check_present
from .metadata import FILE, Table, read_metadata

NAME = "dfdc"
EXPECTS = "metadata.json beside the videos, or dfdc_train_part_N folders that have it"
_MOST_SEARCHED = 20


def _parts(data: Path) -> list[str]:
    """Relative folders with a metadata.json, at most two levels down (the archives unpack twice nested)."""
    found = []
    if (data / FILE).is_file():
        found.append(".")
    for name in scan.subfolders(data):
        if (data / name / FILE).is_file():
            found.append(name)
        else:
            inner = (f"{name}/{below}" for below in scan.subfolders(data / name))
            found += [path for path in inner if (data / path / FILE).is_file()]
    return found


def matches(data: Path) -> bool:
    return bool(_parts(data))


def folded(name: str) -> str:
    """A name without what differs between writers and systems: case, blanks around it, composed or split accents."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def _stem(name: str) -> str:
    stem, dot, suffix = folded(name).rpartition(".")
    return stem if dot and "." + suffix in SUFFIXES else folded(name)


def _files_of(content: Table, present: list[str]) -> Table:
    """The entries under the names of the files there, where a key differs from the only file it can mean in case or
    suffix.

    Two keys for one file make it one that is listed more than once. Originals are named in the same way.
    """
    exact, by_name, by_stem = set(present), defaultdict(list), defaultdict(list)
    for name in present:
        by_name[folded(name)].append(name)
        for stem in {_stem(name), PurePosixPath(folded(name)).stem}:  # a video may have any suffix, or none
            by_stem[stem].append(name)

    def meant(name: str, *, free: bool) -> str:
        if name in exact or unsafe(name.strip()):
            return name
        for found in (by_name[folded(name)], by_stem[_stem(name)]):
            found = [n for n in found if not (free and n in content)]  # not one that has an entry of its own
            if found:
                return found[0] if len(found) == 1 else name
        return name

    names = {key: meant(key, free=True) for key in content}
    result = Table()
    for key, entry in content.items():
        if isinstance(entry, Table) and isinstance(entry.get("original"), str):
            entry["original"] = names.get(entry["original"]) or meant(entry["original"], free=False)
        result[names[key]] = entry
    several = [file for file, n in Counter(names.values()).items() if n > 1]
    result.repeated = [names[key] for key in content.repeated] + several
    return result


def rows(data: Path) -> list[Row]:
    parts = _parts(data)
    if not parts:
        raise UserError(f"there is no {FILE}", file=data, hint=EXPECTS + "; or choose another --layout")
    found: list[Row] = []
    for part in parts:
        folder = PurePosixPath(part)
        try:
            content, text = read_metadata(data / folder / FILE)
            broken = ""
        except UserError as e:
            if len(parts) == 1:
                raise
            content, text, broken = Table(), "", f"{folder / FILE}: {e.what}"  # the other parts are unharmed
        present = scan.videos_in(data / folder)
        content = _files_of(content, present)
        for key, entry in content.items():
            found.append(_row(data, folder, key, entry, content, text))
        for name in present:
            if name not in content:
                own = [f"dfdc_{PurePosixPath(name).stem}"]
                row = Row(video=str(folder / name), dataset=NAME, error=broken, identities=own)
                found.append(check_present(data, row))
    return found


def missing(value) -> bool:
    """Whether a value says that there is none: null, or what pandas and spreadsheets write for it."""
    return (
        value is None
        or value != value
        or isinstance(value, str)
        and value.strip().lower() in ("", "nan", "none", "null", "<na>", "n/a", "na", "nat")
    )


def unsafe(name: str) -> bool:
    """Whether a file name from a metadata file leads out of its folder or cannot be a file's name at all."""
    path = PurePosixPath(name)
    return (
        not name
        or not name.isprintable()
        or "\\" in name
        or path.is_absolute()
        or re.match(r"[A-Za-z]:/", name) is not None
        or ".." in path.parts
        or path.name in ("", ".")
        or len(path.name.encode("utf-8", "replace")) > 255
        or name != str(path)
    )


def _row(data: Path, folder: PurePosixPath, key: str, entry, content: Table, text: str) -> Row:
    if unsafe(key):
        return Row(video="", name=key, dataset=NAME, error=f"unsafe file name in {FILE}: {key[:80]!r}")
    own = PurePosixPath(key).stem
    row = Row(video=str(folder / key), dataset=NAME, identities=[f"dfdc_{own}"])
    if key in content.repeated:
        # Each search reads the whole text: with thousands of them the line numbers are not worth the hours.
        few = len(content.repeated) <= _MOST_SEARCHED
        places = re.finditer(re.escape(json.dumps(key)) + r"\s*:\s*\{", text) if few else ()
        lines = [text.count("\n", 0, m.start()) + 1 for m in places]
        where = f" (lines {', '.join(map(str, lines))})" if len(lines) > 1 else ""
        row.error = f"listed more than once in {FILE}{where}"
        return row
    if not isinstance(entry, Table):
        row.error = f"entry in {FILE} is not an object"
        return row
    if entry.repeated:
        keys = ", ".join(k if k.isprintable() else repr(k) for k in entry.repeated[:5])
        row.error = f"{keys} given more than once in {FILE}"
        return row
    entry = {key.lower(): None if missing(value) else value for key, value in entry.items()}
    label = entry.get("label")
    if label is None and entry.get("is_fake") in (0, 1):  # the public test set's form
        label = "FAKE" if entry["is_fake"] else "REAL"
    if isinstance(label, str) and label.strip().upper() in ("REAL", "FAKE"):
        row.label = label.strip().upper()
    elif label is not None:
        row.error = f"unknown label in {FILE}: {str(label)[:40]!r}"
    split = entry.get("split")
    if isinstance(split, str):
        row.split = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}.get(
            split.strip().lower(), ""
        )
    original = entry.get("original")
    if original is not None and original != "":
        if not isinstance(original, str) or unsafe(original):
            row.error = row.error or f"unsafe name of the original in {FILE}: {str(original)[:80]!r}"
        elif row.label == "FAKE":
            # Rows are tied by name over all parts: the siblings of an absent original stay together.
            row.original = str(folder / original)
            row.links, row.identities = row.identities, [f"dfdc_{PurePosixPath(original).stem}"]
    identity = entry.get("identity")
    if isinstance(identity, str) and identity.strip():
        # No file's stem can clash with it: those begin with dfdc_.
        row.links = [*row.links, f"identity {identity.strip()}"]
    elif identity is not None and identity != "":
        row.error = row.error or f"identity in {FILE} is not a name"
    return check_present(data, row)
