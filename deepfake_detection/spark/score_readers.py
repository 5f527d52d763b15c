"""Spark's readers of score files: JSON, CSV and Parquet, all as the same columns.

A JSON file that is one array on one line cannot be split by Spark's JSON reader. But its records end with "],", so the
text reader, told that this is the line separator, splits it at any place, and each piece is one record.
"""

from __future__ import annotations

import csv
from pathlib import Path

from ..errors import UserError
from ..labels import VERDICT_FAKE, VERDICT_REAL
from ..scores import LABEL_WORDS, NAME_COLUMNS, NUMBER, check_kinds
from ..stage_report import NO_FACE, OK

FORM = 'the published form is [["real/<title>-NNN-FF.png", p_real], ...]'
_SUFFIXES = (".json", ".csv", ".parquet")
_JSON_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$"
_RAGGED = "_line_that_is_no_row"


def check_local(path: Path) -> None:
    """Finds what Spark would answer with a page of its own: an unreadable file, or Parquet that is none."""
    if path.is_dir():
        files = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith((".", "_"))]
    else:
        files = [path] if path.is_file() else []
    for file in files:
        if file.suffix.lower() not in _SUFFIXES or not file.stat().st_size:
            continue
        try:
            with open(file, "rb") as f:
                f.seek(-min(4, file.stat().st_size), 2)
                end = f.read()
        except OSError as e:
            raise UserError(
                f"this score file cannot be read ({e.strerror})", file=file, hint="check that you may read it"
            ) from None
        if file.suffix.lower() == ".parquet" and end != b"PAR1":
            raise UserError("this is no whole Parquet file", file=file, hint="make it again, or copy it again")


def unreadable(error: Exception, preds: str) -> UserError:
    """What Spark says of scores that it cannot read."""
    said = getattr(error, "java_exception", None)
    while said is not None and said.getCause() is not None:
        said = said.getCause()
    text = str(error if said is None else said.getMessage())
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return UserError(f"Spark cannot read these scores ({first[:160]})", file=preds, hint=FORM)


def read_faces(spark, preds: str, whole: bool = False):
    """The scores as a Spark DataFrame, nothing computed yet.

    Args:
        preds: see `video_predictions.run`.
        whole: read each CSV file as a whole; else a cell over several lines leaves rows that are not readable.

    Returns:
        (faces, arrays): columns video (null: not readable), label ("REAL", "FAKE", ""), p_real (double, null: no face),
        failed (no score, and not for want of a face), readable, raw (for messages), last (this record ends a JSON
        array), empty (there is no record here: an empty array); and the number of JSON files, each of which must end.

    Raises:
        UserError: no such file or folder, or nothing readable in it.
    """
    from functools import reduce

    paths, by_suffix = _list(spark, preds), {}
    for path in paths:
        by_suffix.setdefault(next(s for s in _SUFFIXES if path.lower().endswith(s)), []).append(path)
    parts = [
        _from_json(spark, some) if suffix == ".json" else _from_table(spark, some, suffix, preds, whole)
        for suffix, some in sorted(by_suffix.items())
    ]
    return reduce(lambda a, b: a.unionByName(b), parts), len(by_suffix.get(".json", ()))


def _list(spark, preds: str) -> list[str]:
    """The files to read, by Hadoop's own listing (local and remote alike), glob characters made literal."""
    from py4j.protocol import Py4JJavaError

    jvm = spark._jvm
    address = preds if "://" in preds else Path(preds).resolve().as_uri()
    try:
        root = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(address))
        system = root.getFileSystem(spark._jsc.hadoopConfiguration())
        statuses = [system.getFileStatus(root)]
        if statuses[0].isDirectory() and not preds.lower().rstrip("/").endswith(_SUFFIXES):
            statuses = list(system.listStatus(root))
    except Py4JJavaError as e:
        raise UserError(
            f"these scores cannot be reached ({str(e.java_exception).splitlines()[0][:160]})",
            file=preds,
            hint="check the address",
        ) from None
    found = []
    for status in statuses:
        path = status.getPath()
        name = path.getName()
        known = name.lower().endswith(_SUFFIXES) and not name.startswith((".", "_"))
        if known and not (status.isFile() and not status.getLen()):
            found.append(path.toString())
    if not found:
        raise UserError(
            "there is no score file here",
            file=preds,
            hint="give a .json, .csv or .parquet file that is not empty, or a folder of these",
        )
    return sorted("".join("\\" + c if c in "{}[]*?" else c for c in path) for path in found)


def _from_json(spark, paths: list[str]):
    from pyspark.sql import functions as F

    blank = " \n\r\t\ufeff"
    piece = spark.read.option("lineSep", "],").text(paths).withColumn("trimmed", F.trim("value", F.lit(blank)))
    # [["real\/a-000-00.png",0.98 | ["real\/a-001-00.png",0.97 | ... | ["real\/z-010-00.png",0.02]]
    inner = F.rtrim(F.ltrim("trimmed", F.lit(blank + "[")), F.lit(blank + "]"))
    piece = piece.select("trimmed", inner.alias("pair"))
    number = F.substring_index("pair", ",", -1)
    quoted = F.rtrim(F.expr("left(pair, length(pair) - length(substring_index(pair, ',', -1)) - 1)"), F.lit(blank))
    piece = piece.select("trimmed", "pair", F.trim(number, F.lit(blank)).alias("number"), quoted.alias("quoted"))
    body = F.expr("substring(quoted, 2, length(quoted) - 2)")
    plain = F.replace(body, F.lit("\\/"), F.lit("/"))
    # The full rules of JSON strings cost time, and only names with other escapes (quotes, \u00e9) need them. (from_json
    # would do too, but Spark makes no Java code of an expression with it, and then interprets this whole step.)
    escaped = F.get_json_object(F.concat(F.lit('{"name":'), F.col("quoted"), F.lit("}")), "$.name")
    whole = F.col("quoted").startswith('"') & F.col("quoted").endswith('"') & (F.length("quoted") > 2)
    name = (
        F.when(~whole, None)
        .when(plain.contains("\\"), F.replace(escaped, F.lit("\\"), F.lit("/")))
        .when(plain.contains('"'), None)
        .otherwise(plain)
    )
    ends = F.col("trimmed").endswith("]")
    faces = piece.select(
        name.alias("name"),
        F.when(F.col("number").rlike(_JSON_NUMBER), F.col("number").try_cast("double")).alias("p_real"),
        F.col("trimmed").alias("raw"),
        ends.alias("last"),
    )
    # An empty array is no bad row, it is none. A score is there in every record of this form: null means it was not a
    # number.
    empty = F.col("raw").isin("", "]") | ((F.length("raw") < 100) & F.col("raw").rlike(r"^\[\s*\]$"))
    return _by_name(faces.withColumn("empty", empty), F.col("p_real").isNotNull())


def _by_name(faces, readable):
    """video and label from the column `name`, `[folder/]<title>-NNN-FF.png`."""
    from pyspark.sql import functions as F

    # String functions instead of the regular expression of `scores`: they take a third of the time over millions of
    # rows.
    base = faces.select(
        "*",
        F.substring_index("name", "/", -1).alias("base"),
        F.lower(F.substring_index(F.substring_index("name", "/", -2), "/", 1)).alias("folder"),
    )
    base = base.withColumn("tail", F.substring_index("base", "-", -2))
    title = F.expr("left(base, length(base) - length(tail) - 1)")
    is_face = F.col("tail").rlike(r"^[0-9]{1,18}-[0-9]{1,18}\.(?:[pP][nN][gG]|[jJ][pP][eE]?[gG])$") & (
        F.length("base") > F.length("tail") + 1
    )
    return base.select(
        F.when(is_face, title).alias("video"),
        F.when(F.col("folder") == "real", VERDICT_REAL)
        .when(F.col("folder") == "fake", VERDICT_FAKE)
        .otherwise("")
        .alias("label"),
        "p_real",
        F.lit(False).alias("failed"),  # of this form, every record has a score
        F.coalesce(readable, F.lit(False)).alias("readable"),
        "raw",
        "last",
        "empty",
    )


def _from_table(spark, paths: list[str], suffix: str, preds: str, whole: bool):
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    try:
        rows = (
            _csv(spark, paths, whole) if suffix == ".csv" else spark.read.option("mergeSchema", "true").parquet(*paths)
        )
    except (PySparkException, Py4JJavaError) as e:
        raise unreadable(e, preds) from None
    if suffix == ".csv":  # Java puts U+FFFD in place of bytes that are no UTF-8
        names = [c for c in ("video", *NAME_COLUMNS) if c in rows.columns]
        rows = rows.withColumns({c: F.when(~F.col(c).contains("\ufffd"), F.col(c)) for c in names})
        if whole:  # ends of lines within names as Python reads them
            rows = rows.withColumns({c: F.regexp_replace(F.col(c), "\r\n?", "\n") for c in names})
    columns = rows.columns
    check_kinds({f.name: (_kind(f.dataType), f.dataType.simpleString()) for f in rows.schema.fields}, preds)
    name = next((c for c in NAME_COLUMNS if c in columns), None)
    if "p_real" not in columns or not ("video" in columns or name):
        raise UserError(
            f"columns video and p_real are not both there (found {', '.join(columns)})",
            file=preds,
            hint="see scores.csv in docs/design.md",
        )
    text = F.col("p_real").cast("string")
    number = F.col("p_real").try_cast("double")
    if rows.schema["p_real"].dataType.typeName() == "string":
        number = F.when(text.rlike(NUMBER), number)
        empty = F.col("p_real").isNull() | ~text.rlike(r"\S")
    else:
        empty = F.col("p_real").isNull() | F.isnan(number)  # pandas writes an empty cell as NaN
    ragged = F.col(_RAGGED).isNotNull() if _RAGGED in columns else F.lit(False)
    raw = F.concat_ws(
        ",",
        F.coalesce(F.col("video" if "video" in columns else name).cast("string"), F.lit("")),
        F.coalesce(text, F.lit("")),
    )
    if "video" not in columns:
        return _by_name(
            rows.select(
                F.replace(F.col(name), F.lit("\\"), F.lit("/")).alias("name"),
                F.when(~ragged, number).alias("p_real"),
                raw.alias("raw"),
                F.lit(False).alias("last"),
                F.lit(False).alias("empty"),
            ),
            F.col("p_real").isNotNull(),
        )
    label = _label(columns)
    return rows.select(
        F.when(F.col("video").cast("string") != "", F.col("video").cast("string")).alias("video"),
        F.coalesce(label, F.lit("")).alias("label"),
        F.when(~empty, number).alias("p_real"),
        (empty & _failed(columns)).alias("failed"),
        ((empty | number.isNotNull()) & label.isNotNull() & ~ragged).alias("readable"),
        raw.alias("raw"),
        F.lit(False).alias("last"),
        F.lit(False).alias("empty"),
    )


def _label(columns: list[str]):
    """REAL, FAKE or "" of the column `label`; null where it holds another word."""
    from pyspark.sql import functions as F

    word = F.upper(_stripped("label", columns))
    label = F.lit(None).cast("string")
    for meaning in (VERDICT_REAL, VERDICT_FAKE, ""):
        words = [w for w, m in LABEL_WORDS.items() if m == meaning]
        label = F.when(word.isin(words), meaning).otherwise(label)
    return label


def _failed(columns: list[str]):
    """Whether a row without a score is of a video that failed, as `scores.read_scores` has it."""
    from pyspark.sql import functions as F

    status = F.lower(_stripped("status", columns))
    return ~status.isin("", OK, NO_FACE) | (status.isin("", OK) & (_stripped("error", columns) != ""))


def _stripped(column: str, columns: list[str]):
    from pyspark.sql import functions as F

    if column not in columns:
        return F.lit("")
    return F.regexp_replace(F.coalesce(F.col(column).cast("string"), F.lit("")), r"^\s+|\s+$", "")


def _csv(spark, paths: list[str], whole: bool):
    """The columns of CSV files as text, and `_RAGGED`: the line, where it has not as many cells as the header."""
    from pyspark.sql.types import StringType, StructField, StructType

    reader = spark.read.option("header", "true").option("escape", '"').option("multiLine", str(whole).lower())
    # enforceSchema would read a file whose columns stand in another order by position, and say nothing; where columns
    # are pruned, the cells of a line are not counted.
    reader = reader.option("enforceSchema", "false").option("columnPruning", "false")
    reader = reader.option("columnNameOfCorruptRecord", _RAGGED).option("maxCharsPerColumn", csv.field_size_limit())
    reader = reader.option("unescapedQuoteHandling", "RAISE_ERROR")
    fields = [StructField(name, StringType()) for name in [*reader.csv(paths).columns, _RAGGED]]
    return reader.schema(StructType(fields)).csv(paths)


def _kind(kind) -> str:
    """The type of a column as `scores.COLUMN_KINDS` names it."""
    name = kind.typeName()
    for word, names in (
        ("text", ("string", "char", "varchar")),
        ("whole", ("byte", "short", "integer", "long", "tinyint", "smallint", "int", "bigint")),
        ("number", ("float", "double", "decimal")),
        ("nothing", ("void", "null")),
    ):
        if name in names:
            return word
    return name
