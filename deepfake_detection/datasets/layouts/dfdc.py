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

NAME = "dfdc"
EXPECTS = "metadata.json beside the videos, or dfdc_train_part_N folders that have it"
_FILE = "metadata.json"
_MOST_SEARCHED = 20
_FORMAT_HINT = 'expected {"name.mp4": {"label": "FAKE", "original": "source.mp4"}, ...}'


def _parts(data: Path) -> list[str]:
    """Relative folders with a metadata.json: the folder itself, its subfolders, and theirs (the archives unpack twice
    nested)."""
    found = []
    if (data / _FILE).is_file():
        found.append(".")
    for name in scan.subfolders(data):
        if (data / name / _FILE).is_file():
            found.append(name)
        else:
            found += [
                f"{name}/{inner}" for inner in scan.subfolders(data / name) if (data / name / inner / _FILE).is_file()
            ]
    return found


def matches(data: Path) -> bool:
    return bool(_parts(data))


class _Object(dict):
    """A JSON object that remembers which of its keys came more than once."""

    def __init__(self, pairs=()):
        super().__init__(pairs)
        seen, repeated = set(), {}
        for key, _ in pairs:
            if key in seen:
                repeated[key] = True
            seen.add(key)
        self.repeated = list(repeated)


def read_metadata(path: Path) -> tuple[_Object, str]:
    """The content of a metadata.json and its text.

    Raises:
        UserError: not readable, not UTF-8, not JSON (with the position), or not an object.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        content = json.loads(text, object_pairs_hook=_Object)
    except OSError as e:
        raise UserError(f"cannot read {_FILE} ({e.strerror})", file=path, hint="check its permissions") from None
    except UnicodeDecodeError as e:
        raise UserError(
            f"{_FILE} is not UTF-8 text (byte {e.start})", file=path, hint="copy or download it again"
        ) from None
    except json.JSONDecodeError as e:
        raise UserError(
            f"{_FILE} is not valid JSON (line {e.lineno}, column {e.colno}: {e.msg})",
            file=path,
            hint="correct it there, or download it again",
        ) from None
    except RecursionError:
        raise UserError(f"{_FILE} is nested too deep", file=path, hint=_FORMAT_HINT) from None
    except ValueError:  # Python reads no integer of more than 4300 digits
        raise UserError(f"{_FILE} holds a number with thousands of digits", file=path, hint=_FORMAT_HINT) from None
    if not isinstance(content, _Object):
        raise UserError(f"{_FILE} holds a {type(content).__name__}, not an object", file=path, hint=_FORMAT_HINT)
    return content, text


def by_video(content: _Object) -> _Object:
    """The entries by video, of a table that was written by columns as pandas does: {"label": {"a.mp4": "FAKE"},
    "original": {...}}."""
    columns = {key for key, value in content.items() if isinstance(value, dict)}
    if (
        not columns & {"label", "is_fake"}
        or len(columns) != len(content)
        or any(isinstance(v, dict) for c in content.values() for v in c.values())
    ):
        return content
    table = _Object()
    table.repeated = [key for column in content.values() for key in column.repeated]
    for column, values in content.items():
        for key, value in values.items():
            if key not in table:
                table[key] = _Object()
            table[key][column] = value
    name = next((c for c in ("file", "filename", "name", "video", "index") if c in columns), None)
    if name is not None:  # numbered rows, with the file's name in a column
        named = _Object((str(entry.get(name, key)), entry) for key, entry in table.items())
        named.repeated = [key for key, n in Counter(str(e.get(name)) for e in table.values()).items() if n > 1]
        return named
    return table


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


def _stem(name: str) -> str:
    stem, dot, suffix = _folded(name).rpartition(".")
    return stem if dot and "." + suffix in SUFFIXES else _folded(name)


def _files_of(content: _Object, present: list[str]) -> _Object:
    """The entries under the names of the files there, where a key differs from the only file it can mean in case or
    suffix.

    Two keys for one file make it one that is listed more than once. Originals are named in the same way.
    """
    exact, by_name, by_stem = set(present), defaultdict(list), defaultdict(list)
    for name in present:
        by_name[_folded(name)].append(name)
        for stem in {_stem(name), PurePosixPath(_folded(name)).stem}:  # a video may have any suffix, or none
            by_stem[stem].append(name)

    def meant(name: str, *, free: bool) -> str:
        if name in exact or unsafe(name.strip()):
            return name
        for found in (by_name[_folded(name)], by_stem[_stem(name)]):
            found = [
                n for n in found if not (free and n in content)
            ]  # a file that has an entry of its own is not meant
            if found:
                return found[0] if len(found) == 1 else name
        return name

    names = {key: meant(key, free=True) for key in content}
    result = _Object()
    for key, entry in content.items():
        if isinstance(entry, _Object) and isinstance(entry.get("original"), str):
            entry["original"] = names.get(entry["original"]) or meant(entry["original"], free=False)
        result[names[key]] = entry
    several = [file for file, n in Counter(names.values()).items() if n > 1]
    result.repeated = [names[key] for key in content.repeated] + several
    return result


def rows(data: Path) -> list[Row]:
    parts = _parts(data)
    if not parts:
        raise UserError(f"there is no {_FILE}", file=data, hint=EXPECTS + "; or choose another --layout")
    found: list[Row] = []
    for part in parts:
        folder = PurePosixPath(part)
        try:
            content, text = read_metadata(data / folder / _FILE)
            broken = ""
        except UserError as e:
            if len(parts) == 1:
                raise
            content, text, broken = _Object(), "", f"{folder / _FILE}: {e.what}"  # the other parts are unharmed
        present = scan.videos_in(data / folder)
        content = _files_of(by_video(content), present)
        for key, entry in content.items():
            found.append(_row(data, folder, key, entry, content, text))
        for name in present:
            if name not in content:
                found.append(
                    check_present(
                        data,
                        Row(
                            video=str(folder / name),
                            dataset=NAME,
                            error=broken,
                            identities=[f"dfdc_{PurePosixPath(name).stem}"],
                        ),
                    )
                )
    return found


def _missing(value) -> bool:
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


def _row(data: Path, folder: PurePosixPath, key: str, entry, content: _Object, text: str) -> Row:
    if unsafe(key):
        return Row(video="", name=key, dataset=NAME, error=f"unsafe file name in {_FILE}: {key[:80]!r}")
    own = PurePosixPath(key).stem
    row = Row(video=str(folder / key), dataset=NAME, identities=[f"dfdc_{own}"])
    if key in content.repeated:
        # Each search reads the whole text: with thousands of them the line numbers are not worth the hours.
        lines = (
            []
            if len(content.repeated) > _MOST_SEARCHED
            else [
                text.count("\n", 0, m.start()) + 1 for m in re.finditer(re.escape(json.dumps(key)) + r"\s*:\s*\{", text)
            ]
        )
        row.error = f"listed more than once in {_FILE}" + (
            f" (lines {', '.join(map(str, lines))})" if len(lines) > 1 else ""
        )
        return row
    if not isinstance(entry, _Object):
        row.error = f"entry in {_FILE} is not an object"
        return row
    if entry.repeated:
        row.error = (
            f"{', '.join(k if k.isprintable() else repr(k) for k in entry.repeated[:5])} given more than "
            f"once in {_FILE}"
        )
        return row
    entry = {key: None if _missing(value) else value for key, value in entry.items()}
    label = entry.get("label")
    if label is None and entry.get("is_fake") in (0, 1):  # the public test set's form
        label = "FAKE" if entry["is_fake"] else "REAL"
    if isinstance(label, str) and label.strip().upper() in ("REAL", "FAKE"):
        row.label = label.strip().upper()
    elif label is not None:
        row.error = f"unknown label in {_FILE}: {str(label)[:40]!r}"
    split = entry.get("split")
    if isinstance(split, str):
        row.split = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}.get(
            split.strip().lower(), ""
        )
    original = entry.get("original")
    if original is not None and original != "":
        if not isinstance(original, str) or unsafe(original):
            row.error = row.error or f"unsafe name of the original in {_FILE}: {str(original)[:80]!r}"
        elif row.label == "FAKE":
            # Rows are tied by name over all parts: the siblings of an absent original stay together.
            row.original = str(folder / original)
            row.links, row.identities = row.identities, [f"dfdc_{PurePosixPath(original).stem}"]
    identity = entry.get("identity")
    if isinstance(identity, str) and identity.strip():
        row.links = [
            *row.links,
            f"identity {identity.strip()}",
        ]  # no file's stem can clash with it: those begin with dfdc_
    elif identity is not None and identity != "":
        row.error = row.error or f"identity in {_FILE} is not a name"
    return check_present(data, row)
