"""Own labels: a CSV with the columns path and label, beside the videos as labels.csv or named with --labels.

    path,label,person,original,split,manipulation
    interviews/anna.mp4,real,Anna,,train,
    interviews/anna_swap.mp4,deepfake,Anna,anna.mp4,train,faceswap

Only path and label are needed. A path is relative to the data folder, or a name that only one video in it has. Videos
that are not listed are unlabelled. Rows with the same person (or group), and a fake and its original, are one group.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

from ...errors import UserError
from .. import scan
from . import Row, check_present, folders
from .dfdc import folded, missing, unsafe

NAME = "labels"
EXPECTS = "labels.csv with path and label beside the videos"
FILE = "labels.csv"
_HINT = "expected a line path,label and then a line a video, e.g. clips/anna.mp4,real"
#: Column: the names it may have, compared in lower case.
_COLUMNS = {
    "path": ("path", "video", "file", "filename", "file_name", "video_path", "name"),
    "label": ("label", "class", "truth"),
    "person": ("person", "identity", "subject", "actor"),
    "group": ("group",),
    "original": ("original", "source"),
    "split": ("split", "set", "subset"),
    "manipulation": ("manipulation", "method", "type"),
}
_LARGEST = 256 << 20


def matches(data: Path) -> bool:
    """Whether labels.csv begins with path and label: other data sets have files of that name too."""
    try:
        with open(data / FILE, "rb") as file:
            return {"path", "label"} <= set(_columns(_first_line(_text(file.read(10_000), "replace")[0])))
    except OSError:
        return False


def rows(data: Path, file: Path | None = None) -> list[Row]:
    """A row for every line of the list and for every video that it does not name.

    Raises:
        UserError: the list cannot be read, or is none.
    """
    file = file or data / FILE
    videos = {str(v): Row(video=str(v), dataset=NAME) for v in scan.videos_under(data)}
    find = _Finder(data, videos)
    lines = _read(file)
    paths = [find(cells["path"]) for _, cells in lines]
    numbers = defaultdict(list)
    for (number, _), path in zip(lines, paths):
        numbers[path].append(number)
    found = dict(videos)
    for (number, cells), path in zip(lines, paths):
        if not path or unsafe(path):
            why = (
                "no path"
                if not cells["path"]
                else f"no path inside the data folder, or several videos have this name: {cells['path'][:80]!r}"
            )
            found[f"line {number}"] = Row(
                video="",
                name=cells["path"] or f"line {number}",
                dataset=NAME,
                error=f"{file.name} line {number}: {why}",
            )
            continue
        row = found.setdefault(path, Row(video=path, dataset=NAME))
        if len(numbers[path]) > 1:
            row.error = f"listed more than once in {file.name} (lines {', '.join(map(str, numbers[path][:5]))})"
            continue
        _fill(row, cells, f"{file.name} line {number}")
    listed = {path: cells for (_, cells), path in zip(lines, paths) if path in found}
    _tie(found, listed, find)
    return [check_present(data, row) for row in found.values()]


def _read(file: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, its cells by our names of the columns) of every line that is not empty."""
    try:
        if file.stat().st_size > _LARGEST:
            raise UserError("this is no list of labels (more than 256 MiB)", file=file, hint=_HINT)
        text, before = _text(file.read_bytes())
    except OSError as e:
        raise UserError(
            f"cannot read the labels ({e.strerror})", file=file, hint="name a CSV file with --labels FILE"
        ) from None
    except UnicodeDecodeError as e:
        raise UserError(
            f"the labels are not {e.encoding.upper()} text (byte {e.start})",
            file=file,
            hint="save the table as CSV, UTF-8",
        ) from None
    first = _first_line(text)
    columns = _columns(first)
    if lacking := [name for name in ("path", "label") if name not in columns]:
        raise UserError(f"the labels have no column {' and '.join(lacking)}", file=file, hint=_HINT)
    found = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(first), strict=True)
        next(reader)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((before + reader.line_num, {name: _cell(name, cells, i) for name, i in columns.items()}))
    except csv.Error as e:
        raise UserError(
            f"the labels are not a CSV table (line {before + reader.line_num}: {e})", file=file, hint=_HINT
        ) from None
    if not found:
        raise UserError("the labels list no video", file=file, hint=_HINT)
    return [(number, {name: cells.get(name, "") for name in _COLUMNS}) for number, cells in found]


def _text(raw: bytes, errors: str = "strict") -> tuple[str, int]:
    """The table from its header on, and how many lines come before it: blank ones, and the `sep=;` of spreadsheets."""
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = raw.decode("utf-16" if wide else "utf-8-sig", errors)
    header = re.sub(r'\A(?:[ \t]*(?:"?sep=."?)?[ \t]*(?:\r\n|\r|\n))*', "", text, flags=re.IGNORECASE)
    return header, len(re.findall(r"\r\n|\r|\n", text[: len(text) - len(header)]))


def _first_line(text: str) -> str:
    return re.split(r"[\r\n]", text, maxsplit=1)[0]


def _cell(name: str, cells: list[str], place: int) -> str:
    """A cell's text; only a path may be called what tables write for nothing."""
    text = cells[place].strip() if place < len(cells) else ""
    return "" if name != "path" and missing(text) else text


def _delimiter(first: str) -> str:
    """What separates the cells: spreadsheets of some countries write semicolons or tabs."""
    return max(",;\t", key=first.count)


def _columns(first: str) -> dict[str, int]:
    """Our name of each known column: its place. The first of two columns that mean the same counts."""
    given = [c.strip().strip('"').strip().lower() for c in first.strip().split(_delimiter(first))]
    return {
        name: next(given.index(a) for a in also if a in given)
        for name, also in _COLUMNS.items()
        if any(a in given for a in also)
    }


class _Finder:
    """Which video of the data folder a path in the list means."""

    def __init__(self, data: Path, videos: dict):
        self._data, self._videos = data.resolve(), videos
        self._by_name, self._folded = defaultdict(list), defaultdict(list)
        for video in videos:
            for name in {PurePosixPath(video).name, PurePosixPath(video).stem}:
                self._by_name[name].append(video)
            for name in {folded(n) for n in (video, PurePosixPath(video).name, PurePosixPath(video).stem)}:
                self._folded[name].append(video)

    def __call__(self, text: str) -> str:
        """The relative path; as given where no such video is there; empty where it is none or several."""
        path = text.replace("\\", "/")
        if PurePosixPath(path).is_absolute():
            # The folder may be reached through a link, the video may be one.
            folder, name = os.path.split(path)
            try:
                path = str((Path(os.path.realpath(folder)) / name).relative_to(self._data))
            except ValueError:
                return ""
        path = str(PurePosixPath(path)) if path else ""
        if path in self._videos or not path:
            return path
        same = self._by_name.get(path, []) if "/" not in path else []
        same = same or self._folded.get(folded(path), [])
        return same[0] if len(same) == 1 else "" if same else path


def _fill(row: Row, cells: dict[str, str], where: str) -> None:
    """What a line says of its video."""
    row.label = folders.label_of(cells["label"])
    if cells["label"] and not row.label:
        row.error = f"{where}: unknown label {cells['label'][:40]!r}, write real or fake"
    row.manipulation = cells["manipulation"] or ("fake" if row.label == "FAKE" else "")
    row.split = folders.SPLITS.get(cells["split"].lower(), "")
    if cells["split"] and not row.split:
        row.error = row.error or f"{where}: unknown split {cells['split'][:40]!r}, write train, val or test"


def _tie(found: dict[str, Row], listed: dict[str, dict[str, str]], find: _Finder) -> None:
    """Groups: by person or group, by original, and where the list says neither by name as in real/ and fake/."""
    folders.tie([row for row in found.values() if row.video])
    for path, cells in listed.items():
        row = found[path]
        if cells["original"]:
            original = find(cells["original"]) or cells["original"]
            row.original = original
            own = [f"labels_{PurePosixPath(original).stem}"]
            row.identities = found[original].identities if original in found else own
            row.links = [*row.links, f"video {original}"]
        row.links = [*row.links, f"video {path}"]
        named = ((kind, name.strip()) for kind in ("person", "group") for name in cells[kind].split("|"))
        named = [(kind, name) for kind, name in named if name]
        row.links = [*row.links, *(f"{kind} {folded(name)}" for kind, name in named)]  # Anna is anna
        if people := [f"{kind}_{name}" for kind, name in named]:
            row.links, row.identities = [*row.links, *(row.identities if cells["original"] else [])], people
