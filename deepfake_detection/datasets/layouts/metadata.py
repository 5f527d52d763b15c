"""metadata.json in each form that it comes in, as one table: the video's key, and its entry.

{"a.mp4": {"label": "FAKE"}}         as DFDC has it; by columns, {"label": {"a.mp4": "FAKE"}}, as pandas writes it
[{"file": "a.mp4", "label": "FAKE"}] records, also one a line, and in an object ({"videos": [...]}, {"data": [...]})
{"columns": ["file", "label"], "index": [0], "data": [["a.mp4", "FAKE"]]}
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path, PurePosixPath

from ...errors import UserError

FILE = "metadata.json"
_FORMAT_HINT = 'expected {"name.mp4": {"label": "FAKE", "original": "source.mp4"}, ...}'
#: What the file's name may be called in a record, the surest first; any case.
_NAMES = (
    *("file", "filename", "file_name", "video", "videoname", "video_name", "path", "filepath", "file_path"),
    *("video_path", "name", "index"),
)


class Table(dict):
    """A JSON object that remembers which of its keys came more than once (`repeated`)."""

    def __init__(self, pairs=()):
        super().__init__(pairs)
        seen, repeated = set(), {}
        for key, _ in pairs:
            if key in seen:
                repeated[key] = True
            seen.add(key)
        self.repeated = list(repeated)


def read_metadata(path: Path) -> tuple[Table, str]:
    """The entries of a metadata.json by video, and its text. A record that names no file has its number as its key.

    Raises:
        UserError: not readable, not UTF-8, not JSON (with the position), or of none of the forms.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        content = _parsed(text)
    except OSError as e:
        raise UserError(f"cannot read {FILE} ({e.strerror})", file=path, hint="check its permissions") from None
    except UnicodeDecodeError as e:
        raise UserError(
            f"{FILE} is not UTF-8 text (byte {e.start})", file=path, hint="copy or download it again"
        ) from None
    except json.JSONDecodeError as e:
        raise UserError(
            f"{FILE} is not valid JSON (line {e.lineno}, column {e.colno}: {e.msg})",
            file=path,
            hint="correct it there, or download it again",
        ) from None
    except RecursionError:
        raise UserError(f"{FILE} is nested too deep", file=path, hint=_FORMAT_HINT) from None
    except ValueError:  # Python reads no integer of more than 4300 digits
        raise UserError(f"{FILE} holds a number with thousands of digits", file=path, hint=_FORMAT_HINT) from None
    records = _records(content)
    if records is not None:
        return _by_name(records), text
    if not isinstance(content, Table):
        raise UserError(f"{FILE} holds a {type(content).__name__}, not an object", file=path, hint=_FORMAT_HINT)
    return _by_video(content), text


def _parsed(text: str):
    try:
        return json.loads(text, object_pairs_hook=Table)
    except json.JSONDecodeError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2 or not all(line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines):
            raise
        return [json.loads(line, object_pairs_hook=Table) for line in lines]


def _records(content) -> list | None:
    """The records of a list of them, wherever it lies; None where it is of another form."""
    if (
        isinstance(content, Table)
        and isinstance(content.get("columns"), list)
        and isinstance(content.get("data"), list)
    ):
        columns, index = content["columns"], content.get("index")
        rows = [r if isinstance(r, list) and len(r) == len(columns) else None for r in content["data"]]
        ids = index if isinstance(index, list) and len(index) == len(rows) else range(len(rows))
        named = [[("index", i)] if isinstance(i, str) and "index" not in columns else [] for i in ids]
        return [r if r is None else Table([*n, *zip(map(str, columns), r)]) for n, r in zip(named, rows)]
    lists = [content] if isinstance(content, list) else list(content.values()) if isinstance(content, Table) else []
    found = [v for v in lists if isinstance(v, list) and any(isinstance(record, Table) for record in v)]
    # Several lists, or entries beside one, are of a form that nobody knows: entries are read, each with its error.
    return found[0] if len(found) == 1 and not any(_is_entry(v) for v in lists) else None


def _is_entry(value) -> bool:
    return isinstance(value, Table) and bool({"label", "is_fake"} & {str(key).lower() for key in value})


def _by_name(records: list) -> Table:
    pairs = [(_name_of(record) or f"record {number}", record) for number, record in enumerate(records, 1)]
    table = Table((key, record if _name_of(record) else None) for key, record in pairs)
    table.repeated = [key for key, n in Counter(key for key, _ in pairs).items() if n > 1]
    return table


def _name_of(record) -> str:
    """The file that a record is about, without the folders of the machine that it was written on; "" if it is none."""
    if not isinstance(record, Table):
        return ""
    given = {key.lower(): value for key, value in record.items()}
    name = next((given[n] for n in _NAMES if isinstance(given.get(n), str) and given[n].strip()), "")
    path = name.replace("\\", "/").removeprefix("./")
    return PurePosixPath(path).name if path.startswith("/") or path[1:3] == ":/" else path


def _by_video(content: Table) -> Table:
    """The entries by video, also of a table by columns as pandas writes it: {"label": {"a.mp4": "FAKE"}, ...}."""
    columns = {key for key, value in content.items() if isinstance(value, dict)}
    if (
        not columns & {"label", "is_fake"}
        or len(columns) != len(content)
        or any(isinstance(v, dict) for c in content.values() for v in c.values())
    ):
        return content
    table = Table()
    table.repeated = [key for column in content.values() for key in column.repeated]
    for column, values in content.items():
        for key, value in values.items():
            if key not in table:
                table[key] = Table()
            table[key][column] = value
    name = next((c for c in ("file", "filename", "name", "video", "index") if c in columns), None)
    if name is not None:  # numbered rows, with the file's name in a column
        named = Table((str(entry.get(name, key)), entry) for key, entry in table.items())
        named.repeated = [key for key, n in Counter(str(e.get(name)) for e in table.values()).items() if n > 1]
        return named
    return table
