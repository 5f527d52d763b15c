"""Score files: reading every form of them into one table, and writing the published one.

    cnn_preds_values.json   [["real/<title>-NNN-FF.png", p_real], ...], as stages 03 and 03a write it
    scores.csv              video, label, group, dataset, manipulation, compression, person, time_s, p_real: a face
    *.parquet               either of the two, by its columns
    a folder                of any of these

`<title>` may hold dashes: NNN (the frame) and FF (the face in the frame) are the last two parts of the name.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

from . import files, labels
from .errors import UserError, printable
from .names import FACE_NAME, LABEL_FOLDER, parse_face_name
from .places import hint_of_seeds
from .stage_report import ERROR, NO_FACE, OK

#: Columns of the table that `read_scores` returns, and of scores.csv.
COLUMNS = ("video", "label", "group", "dataset", "manipulation", "compression", "person", "time_s", "p_real")

#: In place of a face's number in rows that name a video only.
_UNNAMED = -1
_SUFFIXES = (".json", ".csv", ".parquet")

#: A score as text (JSON's own rules are stricter); Java alone would also take "0.5d" and hexadecimal numbers.
NUMBER = r"^\s*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*$"
#: What a cell of the column `label` may say, upper case; tables turn 1 and 0 into 1.0 and 0.0 where a cell is empty.
LABEL_WORDS = {"REAL": "REAL", "1": "REAL", "1.0": "REAL", "FAKE": "FAKE", "0": "FAKE", "0.0": "FAKE", "": ""}
#: Columns of face names, in the order of preference.
NAME_COLUMNS = ("file", "name", "image")
#: What the columns of a Parquet file may hold: text, whole numbers, numbers with a fraction, nothing at all.
COLUMN_KINDS = {
    **dict.fromkeys(NAME_COLUMNS, ("text",)),
    **dict.fromkeys(("video", "group", "person"), ("text", "whole")),
    **dict.fromkeys(("dataset", "manipulation", "compression"), ("text", "whole", "nothing")),
    # pandas writes a column of empty cells as numbers
    **dict.fromkeys(("label", "p_real", "time_s", "status", "error"), ("text", "whole", "number", "nothing")),
}


def check_kinds(kinds: dict[str, tuple[str, str]], path: str | Path) -> None:
    """Refuses a table whose columns hold what is no name, label or score: lists, structs, bytes, dates, truth values.

    Args:
        kinds: column -> (a kind of `COLUMN_KINDS` or another word, the type as the file calls it).

    Raises:
        UserError: naming the column.
    """
    for column, (kind, shown) in kinds.items():
        if kind not in COLUMN_KINDS.get(column, (kind,)):
            raise UserError(
                f"the column {column} holds {shown[:60]}, not text or numbers",
                file=path,
                hint="write names and labels as text, scores as numbers in 0..1",
            )


def read_scores(path: str | Path):
    """Reads a score file, or a folder of them.

    Args:
        path: .json in the published layout, .csv, .parquet, or a folder that holds any of these (not below it).

    Returns:
        pandas DataFrame with at least COLUMNS, rows of a video together and in time order. `label` is "REAL", "FAKE" or
        "" (not known); `group` is the video's own name where the file has none; `time_s` is NaN where the file has none
        (the published JSON: its rows are ordered by frame number). A row without a score (`p_real` NaN) is a video that
        was looked at without finding a face, or that failed; `status` says which: `ok` (it has a score), `no face`,
        else the word of the file's own column `status`, or `error` where its column `error` says anything.

    Raises:
        UserError: no such file, not one of these forms, a name, label or score that cannot be read, or a video with two
            labels.
    """
    import pandas as pd

    path = Path(path)
    if path.is_dir():
        table = pd.concat([_read_one(p) for p in _parts(path)], ignore_index=True)
    elif path.exists():
        table = _read_one(path)
    else:
        hint = hint_of_seeds(path, "stages 03 and 03a write cnn_preds_values.json")
        raise UserError("no such score file", file=path, hint=hint)
    if table.empty:
        raise UserError("this score file has no rows", file=path, hint="it should hold one row a face")
    _refuse_two_labels(table, path)
    _say_repeated(table, path)
    order = ["video", "_frame", "time_s", "_face"]
    return table.sort_values(order, kind="stable", ignore_index=True).drop(columns=["_frame", "_face"])


def write_cnn_preds(path: str | Path, names, p_real) -> None:
    """Writes `cnn_preds_values.json` exactly as published: `[["real\\/<title>-NNN-FF.png",0.9890621305],...]`.

    Args:
        names: N face names with their class folder.
        p_real: (N,) P(real). Ten decimals are kept, as pandas does.

    Raises:
        ValueError: different lengths, a name that is not one of a face, NaN, or a score outside 0..1.
    """
    import numpy as np
    import pandas as pd

    names, p = list(names), np.asarray(p_real, dtype=np.float64).reshape(-1)
    if len(names) != len(p):
        raise ValueError(f"{len(names)} names for {len(p)} scores")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("scores must be in 0..1")
    for name in names:
        parse_face_name(name)
    files.write_text(path, pd.DataFrame({"name": names, "p_real": p}).to_json(orient="values"))


def by_person(table) -> dict:
    """{video: {person: (N,) p_real in time order}} of the rows that have a score, videos sorted by name."""
    scored = table[table["p_real"].notna()]
    result: dict = {}
    for (video, person), rows in scored.groupby(["video", "person"], sort=True):
        result.setdefault(video, {})[person] = rows["p_real"].to_numpy()
    return result


# --- one file ---


def _parts(folder: Path) -> list[Path]:
    """The score files of a folder; those that are hidden or empty are none."""
    found = sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in _SUFFIXES and not p.name.startswith((".", "_")) and (p.is_dir() or p.stat().st_size)
    )
    if not found:
        raise UserError("no score file in this folder", file=folder, hint="it should hold .json, .csv or .parquet")
    return found


def _read_one(path: Path):
    import pandas as pd

    suffix = path.suffix.lower()
    if path.is_dir():  # as Spark writes one: scores.csv/part-00000.csv
        return pd.concat([_read_one(p) for p in _parts(path)], ignore_index=True)
    if suffix == ".json":
        return _from_names(*_json_rows(path), path)
    if suffix not in _SUFFIXES:
        raise UserError("not a score file", file=path, hint="give a .json, .csv or .parquet file, or a folder of these")
    try:
        table = _csv(path) if suffix == ".csv" else _parquet(path)
    except (OSError, ValueError, UnicodeDecodeError) as e:  # pandas and pyarrow parser errors are ValueErrors
        raise UserError(
            f"this score file cannot be read ({str(e).splitlines()[0]})",
            file=path,
            hint="it should be a table with columns video and p_real",
        ) from None
    if "video" in table and "p_real" in table:
        return _from_columns(table, path)
    for name in NAME_COLUMNS:
        if name in table and "p_real" in table:
            return _from_names(table[name], table["p_real"], path)
    raise UserError(
        f"columns video and p_real are not both there (found {', '.join(map(str, table.columns)) or 'none'})",
        file=path,
        hint="see scores.csv in docs/design.md",
    )


def _csv(path: Path):
    import pandas as pd

    # Text only: pandas' own reader would take a video named "007" or "NA" for a number or for missing, and fill or
    # cut rows that have not as many cells as the header.
    with open(path, encoding="utf-8-sig") as f:
        reader = csv.reader(f, strict=True)
        try:
            header, *rows = (row for row in reader if len(row) > 1 or "".join(row).strip())
        except csv.Error as e:
            raise ValueError(f"line {reader.line_num}: {e}") from None
    if repeated := [c for c in header if header.count(c) > 1 and c in COLUMN_KINDS]:
        raise ValueError(f"two columns are called {repeated[0]}")
    odd = next((i for i, row in enumerate(rows, 1) if len(row) != len(header)), 0)
    if odd:
        raise ValueError(f"row {odd} has {len(rows[odd - 1])} cells, the header {len(header)}")
    names = [i for i, c in enumerate(header) if c in ("video", *NAME_COLUMNS)]
    if odd := next((n for n, row in enumerate(rows, 1) if any("\ufffd" in row[i] for i in names)), 0):
        raise ValueError(f"row {odd} has a name that was not read as UTF-8 once")
    return pd.DataFrame(rows, columns=header, dtype=object)


def _parquet(path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    known = [name for name in dict.fromkeys(schema.names) if name in COLUMN_KINDS]
    if repeated := [name for name in known if len(schema.get_all_field_indices(name)) > 1]:
        raise ValueError(f"two columns are called {repeated[0]}")
    check_kinds({name: (_kind(schema.field(name).type), str(schema.field(name).type)) for name in known}, path)
    if not known:
        import pandas as pd

        return pd.DataFrame(columns=[str(name) for name in schema.names])
    table = pq.ParquetFile(path).read(columns=known)
    columns = {}
    for name in known:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        number = name in ("p_real", "time_s") and _kind(column.type) in ("whole", "number")
        # Through Arrow: pandas makes 7.0 of a video 7 where another cell is empty.
        columns[name] = column.cast(pa.float64() if number else pa.string())
    return pa.table(columns).to_pandas().astype({n: object for n, c in columns.items() if c.type == pa.string()})


def _kind(kind) -> str:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_integer(kind):
        return "whole"
    if types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    return "nothing" if types.is_null(kind) else str(kind)


def _json_rows(path: Path):
    hint = 'it should be [["real/<title>-NNN-FF.png", p_real], ...], as stage 03 writes it'
    try:
        with open(path, encoding="utf-8-sig") as f:
            rows = json.load(f)
    except OSError as e:
        raise UserError(
            f"this score file cannot be read ({e.strerror})", file=path, hint="check that you may read it"
        ) from None
    except RecursionError:
        raise UserError("this score file is nested too deep", file=path, hint=hint) from None
    except ValueError as e:  # broken JSON, not UTF-8, or a number with thousands of digits
        raise UserError(f"this score file is not valid JSON ({e})", file=path, hint=hint) from None
    first = rows[0] if isinstance(rows, list) and rows else rows
    if isinstance(first, dict) and "verdict" in first:
        raise UserError("these are verdicts, not scores", file=path, hint="give the table of predict.py --csv FILE")
    if not isinstance(rows, list):
        raise UserError("this score file is not a list", file=path, hint=hint)
    for i, row in enumerate(rows):
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)):
            raise UserError(f"row {i + 1} is not a pair of a name and a score", file=path, hint=hint)
        if isinstance(row[1], str):
            raise UserError(f"row {i + 1} has the score {row[1]!r}, which is text", file=path, hint=hint)
        try:
            row[0].encode("utf-8")
        except UnicodeEncodeError:  # JSON can hold half a character (a lone surrogate), no other format can
            raise UserError(f"row {i + 1} has a name that is not text", file=path, hint=hint) from None
    return [r[0] for r in rows], [r[1] for r in rows]


def _from_names(names, values, path: Path):
    import pandas as pd

    names = pd.Series(names, dtype=object).astype(str).str.replace("\\", "/", regex=False)
    parts = names.str.extract(FACE_NAME)
    if parts[0].isna().any():
        bad = int(parts[0].isna().to_numpy().argmax())
        raise UserError(
            f"row {bad + 1} does not name a face: {names.iloc[bad]!r}",
            file=path,
            hint="names should look like real/<title>-NNN-FF.png",
        )
    table = pd.DataFrame(
        {
            "video": parts[0],
            "label": names.str.extract(LABEL_FOLDER)[0].str.upper().fillna(""),
            "group": parts[0],
            "dataset": "",
            "manipulation": "",
            "compression": "",
            "person": "",
            "time_s": float("nan"),
            "p_real": _scores(pd.Series(list(values), dtype=object), path, empty_allowed=False),
        }
    )
    return table.assign(status=OK, _frame=parts[1].astype("int64"), _face=parts[2].astype("int64"))


def _from_columns(table, path: Path):
    import pandas as pd

    table = table.copy()
    for name in ("label", "group", "dataset", "manipulation", "compression", "person"):
        table[name] = table[name].fillna("").astype(str) if name in table else ""
    table["video"] = table["video"].fillna("").astype(str)
    if (table["video"] == "").any():
        raise UserError(
            f"row {int((table['video'] == '').to_numpy().argmax()) + 1} names no video",
            file=path,
            hint="fill the column video",
        )
    table["group"] = table["group"].where(table["group"] != "", table["video"])
    words = table["label"].str.strip().str.upper().map(LABEL_WORDS)
    bad = words.isna()
    if bad.any():
        at = int(bad.to_numpy().argmax())
        raise UserError(
            f"row {at + 1} has the label {table['label'].iloc[at]!r}", file=path, hint="labels are REAL, FAKE or empty"
        )
    table["label"] = words
    table["p_real"] = _scores(table["p_real"], path, empty_allowed=True)
    times = table["time_s"] if "time_s" in table else pd.Series(float("nan"), index=table.index)
    table["status"] = _status(table)
    table["time_s"] = pd.to_numeric(times.replace("", None), errors="coerce").astype(float)
    front = list(COLUMNS)
    return table[front + [c for c in table.columns if c not in front]].assign(_frame=0, _face=_UNNAMED)


def _status(table):
    """What became of each row, see `read_scores`; `spark.score_readers` has the same rule."""
    import pandas as pd

    empty = pd.Series("", index=table.index)
    word, error = (table.get(name, empty).fillna("").astype(str).str.strip() for name in ("status", "error"))
    word = word.str.lower().replace(OK, "")
    word = word.where((word != "") | (error == ""), ERROR).replace("", NO_FACE)
    return word.where(table["p_real"].isna(), OK)


def _scores(values, path: Path, *, empty_allowed: bool):
    """float64 scores; an empty cell is NaN where allowed; what else is no number in 0..1 is refused with its row."""
    import numpy as np
    import pandas as pd

    def of_each(test):
        return np.array([test(v) for v in values], dtype=bool)

    empty = values.isna() | of_each(lambda v: isinstance(v, str) and not v.strip())
    odd = of_each(lambda v: not re.match(NUMBER, v) if isinstance(v, str) else isinstance(v, bool)) & ~empty
    numbers = pd.to_numeric(values.where(~(empty | odd)), errors="coerce").astype(float)
    bad = ~numbers.between(0, 1) & ~empty
    if not empty_allowed:
        bad |= empty
    if bad.any():
        at = int(bad.to_numpy().argmax())
        raise UserError(
            f"row {at + 1} has the score {values.iloc[at]!r}", file=path, hint="a score is P(real), a number in 0..1"
        )
    return numbers


def _refuse_two_labels(table, path: Path) -> None:
    known = table[table["label"] != ""]
    several = known.groupby("video")["label"].nunique()
    several = several[several > 1]
    if len(several):
        raise UserError(
            f"both REAL and FAKE: {labels.counted(len(several), 'video')}, e.g. {several.index[0]!r}",
            file=path,
            hint="give every video one label and a title of its own",
        )


def _say_repeated(table, path: Path) -> None:
    # Stage 04 does not say it: to tell names apart, Spark would have to sort or shuffle every row.
    faces = table.loc[table["_face"] != _UNNAMED, ["video", "_frame", "_face"]]
    again = faces[faces.duplicated()]
    if len(again):
        video, frame, face = again.iloc[0]
        print(
            f"note: {labels.counted(len(again), 'row')} with the name of a face that was there before, e.g. "
            f"{printable(f'{video}-{frame:03d}-{face:02d}')}; each counts: {printable(str(path))}",
            file=sys.stderr,
        )


def label_numbers(words):
    """ "REAL" -> 1, "FAKE" -> 0 as an int array; refuse unlabelled rows before calling it.

    Raises:
        ValueError: for any other word.
    """
    import numpy as np

    return np.array([labels.label_of(w) for w in words], dtype=np.int64)
