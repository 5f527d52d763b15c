"""Stage 04: scores of faces to predictions of videos, as one Spark job.

The scores are read by Spark's own readers, split over the executors, and reduced to a row a video in one aggregation;
only these rows come to the driver. Everything that is written (text, CSV, picture) is made of them, so nothing is
computed twice, and the driver's memory grows with the number of videos, not of faces.

Two things make that possible:

- A JSON file that is one array on one line cannot be split by Spark's JSON reader. But its records end with "],", so
  the text reader, told that this is the line separator, splits it at any place, and each piece is one record.
- Sums of floating-point numbers depend on their order, and so on the partitions. Scores are summed as integers of
  2**-40, exactly, so any number of executors gives the same bytes. (2**-40 is 9e-13; the published files hold 1e-10.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..files import csv_name, write_csv, write_text
from ..labels import TIE_THRESHOLD, VERDICT_FAKE, VERDICT_NO_FACE, VERDICT_REAL, counted, label_of
from ..scores import LABEL_WORDS, NAME_COLUMNS, NUMBER, check_kinds
from . import beside

if TYPE_CHECKING:
    import pandas

STAGE = "04_mapreduce_video_preds"
RESULT, PREDICTIONS, CONFUSION = "mapreduce_res.txt", "video_predictions.csv", "ConfusionVideo.png"

#: Stage 02's table, from which the groups of people are known.
SPLIT = "split_manifest.csv"

_UNIT = 2**40  # at most 2**23 faces a video then fit into 64 bits
_FORM = 'the published form is [["real/<title>-NNN-FF.png", p_real], ...]'
_SUFFIXES = (".json", ".csv", ".parquet")
_JSON_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$"
_RAGGED = "_line_that_is_no_row"


@dataclass(frozen=True)
class Result:
    """What stage 04 found: `videos` is the table of video_predictions.csv; `metrics` as `metrics.evaluate` gives it."""

    videos: pandas.DataFrame
    metrics: dict
    text: str
    files: list[Path]


def run(
    preds: str | Path,
    out: str | Path,
    *,
    master: str | None = None,
    threshold: float = TIE_THRESHOLD,
    resamples: int = 1000,
    seed: int = 1,
) -> Result:
    """Runs stage 04.

    Args:
        preds: cnn_preds_values.json, a CSV or Parquet file of scores, or a folder of these; on a cluster any address
            that Spark reads (hdfs://...).
        out: local folder for mapreduce_res.txt, video_predictions.csv and ConfusionVideo.png.
        master: where Spark runs; None leaves it to spark-submit or Spark's configuration.
        threshold: p_real >= threshold is REAL.
        resamples, seed: of the intervals.

    Raises:
        UserError: no such file, rows that are no scores, a video that is both real and fake, no Java.
    """
    from .session import session

    preds = str(preds)
    if "://" not in preds and not Path(preds).exists():  # before 5 s of starting Spark
        raise UserError(
            "no such score file", file=preds, hint="run stage 03 or 03a first, or name the file with --preds"
        )
    _check_local(Path(preds))
    with session(STAGE, master) as spark:
        videos = video_table(spark, preds)
    return write(videos, preds, Path(out), threshold=threshold, resamples=resamples, seed=seed)


def _check_local(path: Path) -> None:
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


# --- Spark ------------------------------------------------------------------------------------------------------------


def video_table(spark, preds: str):
    """The scores reduced to videos.

    Args:
        spark: a session.
        preds: see `run`.

    Returns:
        pandas DataFrame sorted by `video`: video, label ("REAL", "FAKE" or ""), p_real (mean over faces, NaN without a
        face), frames (number of scores).

    Raises:
        UserError: see `run`.
    """
    from pyspark.sql import functions as F

    spark.conf.set("spark.sql.caseSensitive", "true")  # else `Video` beside `video` is ambiguous
    faces, files = read_faces(spark, preds)
    # One aggregation is one job of two stages. The adaptive planner would run them as two jobs, and gains nothing here.
    spark.conf.set("spark.sql.adaptive.enabled", "false")
    spark.conf.set("spark.sql.shuffle.partitions", str(max(1, spark.sparkContext.defaultParallelism)))
    # NaN is larger than every number for Spark, so it falls out of the range as it should.
    usable = F.col("p_real").isNull() | F.col("p_real").between(0.0, 1.0)
    bad = ~F.col("empty") & (F.col("video").isNull() | ~F.col("readable") | ~usable)
    scored = ~bad & F.col("p_real").isNotNull()
    # Numbers only: with a string among what is aggregated (the least label, an example) Spark sorts all rows instead of
    # hashing them.
    reduced = (
        faces.withColumn("video", F.when(bad, None).otherwise(F.col("video")))
        .groupBy("video")
        .agg(
            F.sum(F.when(scored, F.round(F.col("p_real") * float(_UNIT)).cast("long"))).alias("total"),
            F.count(F.when(scored, True)).alias("frames"),
            F.count(F.when(F.col("label") == VERDICT_REAL, True)).alias("real"),
            F.count(F.when(F.col("label") == VERDICT_FAKE, True)).alias("fake"),
            F.count(F.when(bad, True)).alias("bad"),
            F.count(F.when(F.col("last"), True)).alias("last"),
        )
    )
    table = _collect(spark, reduced, preds)

    wrong = table[table["video"].isna()]
    count = int(wrong["bad"].sum())
    if count:
        example = _collect(spark, faces.where(bad).agg(F.min(F.substring("raw", 1, 120)).alias("example")), preds)
        raise UserError(
            f"{count:,} rows are no scores, e.g. {str(example['example'].iloc[0])!r}",
            file=preds,
            hint=f"{_FORM}; a score is P(real), a number in 0..1",
        )
    ends = int(table["last"].sum())
    table = table[table["video"].notna()]
    if ends < files:
        raise UserError(
            "a JSON array does not end: the file is cut short", file=preds, hint="make it again, or copy it again"
        )
    if table.empty:
        raise UserError("there are no scores here", file=preds, hint=_FORM)
    table = table.sort_values("video", ignore_index=True)
    two = table[(table["real"] > 0) & (table["fake"] > 0)]
    if len(two):
        raise UserError(
            f"both real and fake: {counted(len(two), 'video')}, e.g. {two['video'].iloc[0]!r}",
            file=preds,
            hint="give every video one label and a title of its own",
        )
    import numpy as np

    frames = table["frames"].to_numpy(dtype=np.int64)
    total = table["total"].to_numpy(dtype=np.float64, na_value=np.nan) / _UNIT
    table["p_real"] = np.divide(total, frames, out=np.full(len(table), np.nan), where=frames > 0)
    table["frames"] = frames
    table["label"] = np.select([table["real"] > 0, table["fake"] > 0], [VERDICT_REAL, VERDICT_FAKE], "")
    return table[["video", "label", "p_real", "frames"]]


def _collect(spark, reduced, preds: str):
    """The aggregated rows as pandas, a long sum as nullable integer (a float64 holds 53 bits of it only)."""
    import pandas as pd
    import pyarrow as pa
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    from .session import run_job

    try:
        rows = run_job(spark, reduced.toArrow)
    except (PySparkException, Py4JJavaError) as e:
        raise _unreadable(e, preds) from None
    return rows.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def _unreadable(error: Exception, preds: str) -> UserError:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UserError(f"Spark cannot read these scores ({first[:160]})", file=preds, hint=_FORM)


def read_faces(spark, preds: str):
    """The scores as a Spark DataFrame, nothing computed yet.

    Returns:
        (faces, arrays): columns video (null: not readable), label ("REAL", "FAKE", ""), p_real (double, null: no face),
        readable, raw (for messages), last (this record ends a JSON array), empty (there is no record here: an empty
        array); and the number of JSON files, each of which must end.

    Raises:
        UserError: no such file or folder, or nothing readable in it.
    """
    from functools import reduce

    paths, by_suffix = _list(spark, preds), {}
    for path in paths:
        by_suffix.setdefault(next(s for s in _SUFFIXES if path.lower().endswith(s)), []).append(path)
    parts = [
        _from_json(spark, some) if suffix == ".json" else _from_table(spark, some, suffix, preds)
        for suffix, some in sorted(by_suffix.items())
    ]
    return reduce(lambda a, b: a.unionByName(b), parts), len(by_suffix.get(".json", ()))


def _list(spark, preds: str) -> list[str]:
    """The files to read, glob characters in their names made literal. Hadoop's own listing, so local and remote are
    alike."""
    from py4j.protocol import Py4JJavaError

    jvm = spark._jvm
    if "://" not in preds:
        preds_uri = Path(preds).resolve().as_uri()
    else:
        preds_uri = preds
    try:
        root = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(preds_uri))
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
        if (
            name.startswith((".", "_"))
            or not name.lower().endswith(_SUFFIXES)
            or (status.isFile() and not status.getLen())
        ):
            continue
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
        F.coalesce(readable, F.lit(False)).alias("readable"),
        "raw",
        "last",
        "empty",
    )


def _from_table(spark, paths: list[str], suffix: str, preds: str):
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    try:
        if suffix == ".csv":
            # enforceSchema would read a file whose columns stand in another order by position, and say nothing.
            rows = _csv(spark, paths)
        else:
            rows = spark.read.option("mergeSchema", "true").parquet(*paths)
    except (PySparkException, Py4JJavaError) as e:
        raise _unreadable(e, preds) from None
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
    word = F.lit("")
    if "label" in columns:
        word = F.upper(F.regexp_replace(F.coalesce(F.col("label").cast("string"), F.lit("")), r"^\s+|\s+$", ""))
    label = F.lit(None).cast("string")
    for meaning in (VERDICT_REAL, VERDICT_FAKE, ""):
        words = [w for w, m in LABEL_WORDS.items() if m == meaning]
        label = F.when(word.isin(words), meaning).otherwise(label)
    return rows.select(
        F.when(F.col("video").cast("string") != "", F.col("video").cast("string")).alias("video"),
        F.coalesce(label, F.lit("")).alias("label"),
        F.when(~empty, number).alias("p_real"),
        ((empty | number.isNotNull()) & label.isNotNull() & ~ragged).alias("readable"),
        raw.alias("raw"),
        F.lit(False).alias("last"),
        F.lit(False).alias("empty"),
    )


def _csv(spark, paths: list[str]):
    """The columns of CSV files as text, and `_RAGGED`: the line, where it has not as many cells as the header."""
    from pyspark.sql.types import StringType, StructField, StructType

    reader = spark.read.option("header", "true").option("escape", '"')
    # enforceSchema would read a file whose columns stand in another order by position, and say nothing.
    reader = reader.option("enforceSchema", "false").option("columnNameOfCorruptRecord", _RAGGED)
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


# --- results ----------------------------------------------------------------------------------------------------------


def write(
    table, preds: str, out: Path, *, threshold: float = TIE_THRESHOLD, resamples: int = 1000, seed: int = 1
) -> Result:
    """Writes the three results from the table of `video_table`. The picture needs labels; one of an earlier run is
    removed without."""
    from ..metrics import evaluate
    from ..reports.figures import plot_confusion
    from ..reports.text import one_line

    videos, others = table.copy(), beside.of_these_scores(out, table)
    if others is not None:
        videos = beside.with_faceless(videos, others)
    has_face = videos["frames"] > 0
    videos["verdict"] = [
        VERDICT_NO_FACE if not f else VERDICT_REAL if p >= threshold else VERDICT_FAKE
        for f, p in zip(has_face, videos["p_real"])
    ]
    judged = videos[has_face & (videos["label"] != "")]
    videos["correct"] = [
        "" if not f or not label else int(label == verdict)
        for f, label, verdict in zip(has_face, videos["label"], videos["verdict"])
    ]
    videos = videos[["video", "label", "p_real", "verdict", "correct", "frames"]]

    y, p = [label_of(w) for w in judged["label"]], judged["p_real"].to_numpy()
    # Groups are not known from face names; where stage 02 left its table beside the results they are, and people are
    # resampled.
    groups = _groups(out / SPLIT)
    known = bool(groups) and judged["video"].isin(groups).all()
    metrics = evaluate(
        y,
        p,
        (judged["video"].map(groups) if known else judged["video"]).to_numpy(),
        n=resamples,
        seed=seed,
        names=("auc", "log_loss"),
    )
    more = [] if others is None else beside.lines(others, seed=seed, resamples=resamples)
    people = judged["video"].map(groups).nunique() if known else None
    text = _text(videos, metrics, preds, threshold, resamples, people, more)

    write_csv(
        out / PREDICTIONS,
        videos.assign(
            video=[csv_name(one_line(v)) for v in videos["video"]],
            p_real=[f"{v:.10g}" if f else "" for v, f in zip(videos["p_real"], has_face)],
        ),
    )
    write_text(out / RESULT, text)
    files = [out / RESULT, out / PREDICTIONS]
    if len(judged):
        title = f"Confusion matrix of {counted(len(y), 'video')}" + (", out of fold" if beside.folds(others) else "")
        files.append(plot_confusion(y, p, out / CONFUSION, title=title, threshold=threshold))
    else:
        (out / CONFUSION).unlink(missing_ok=True)
    return Result(videos, metrics, text, files)


def _groups(path: Path) -> dict[str, str]:
    """Title -> group of stage 02's table; empty where it is not there or not readable."""
    from ..datasets.split_check import read_groups

    try:
        return read_groups(path) if path.is_file() else {}
    except UserError:
        return {}


def _text(
    videos, metrics: dict, preds: str, threshold: float, resamples: int, people: int | None = None, more=()
) -> str:
    from ..metrics.bootstrap import MIN_GROUPS
    from ..reports.text import heading, metric, one_line, percent, table

    scored = videos[videos["frames"] > 0]
    judged = scored[scored["label"] != ""]
    classes = {word: judged[judged["label"] == word] for word in (VERDICT_REAL, VERDICT_FAKE)}
    faces = scored["frames"]
    lines = [
        heading("Video predictions from face scores", "="),
        "",
        f"Scores   {one_line(Path(preds).name)}",
        f"Videos   {len(videos):,}: {(videos['label'] == VERDICT_REAL).sum():,} real, "
        f"{(videos['label'] == VERDICT_FAKE).sum():,} fake"
        + (f", {(videos['label'] == '').sum():,} without a label" if (videos["label"] == "").any() else "")
        + (f"; {len(videos) - len(scored):,} without a face" if len(scored) < len(videos) else ""),
        f"Faces    {faces.sum():,}" + (f" ({faces.min():,} to {faces.max():,} a video)" if len(scored) else ""),
        "Score    p_real = P(real), the mean over a video's faces; 1 is real, 0 is fake",
        f"Rule     p_real >= {threshold:g} is REAL",
        "",
    ]
    lines += [heading("Accuracy"), f"overall  {percent(int((judged['correct'] == 1).sum()), len(judged))}"]
    lines += [
        f"{word.lower():<8} {percent(int((rows['correct'] == 1).sum()), len(rows))}" for word, rows in classes.items()
    ]
    lines += ["", heading("Mean prediction (mean p_real over the videos of a class)")]
    lines += [
        f"{word.lower():<8} {rows['p_real'].mean():.4f}" if len(rows) else f"{word.lower():<8} no video"
        for word, rows in classes.items()
    ]
    lines += [
        "",
        heading("Confusion"),
        table(
            [
                [f"truth {word}", *(f"{(rows['verdict'] == verdict).sum():,}" for verdict in classes)]
                for word, rows in classes.items()
            ],
            ["", "called REAL", "called FAKE"],
            "lrr",
        ),
        "",
        heading("Metrics"),
        f"AUC       {metric(metrics['auc'])}",
        f"log loss  {metric(metrics['log_loss'])}",
    ]
    if warning := metrics["auc"].get("warning"):
        lines += [f"warning: {warning}"]
    if any("low" in metrics[name] for name in ("auc", "log_loss")):
        lines += [
            f"In brackets the 95 % interval from {resamples:,} resamples of "
            + (
                f"the {people} groups of people. A log loss of 0.693 is guessing."
                if people
                else "the videos. Videos of one person are not independent:\nwith known groups, evaluate.py gives "
                "the honest (wider) interval. "
                "A log loss of 0.693 is guessing."
            )
        ]
    elif people and people < MIN_GROUPS:
        lines += [
            f"No interval: {people} {'group' if people == 1 else 'groups'} of people are too few for one. A log loss "
            "of 0.693 is guessing."
        ]
    lines += more
    wrong = judged[judged["correct"] == 0]
    if len(wrong):
        lines += ["", heading(f"Called wrongly: {len(wrong):,}"), _rows(wrong)]
    lines += ["", heading(f"All videos: {len(videos):,}"), _rows(videos)]
    return "\n".join(lines) + "\n"


def _rows(videos) -> str:
    from ..reports.text import one_line, table

    return table(
        [
            [
                one_line(v),
                label or "-",
                f"{p:.4f}" if frames else "-",
                verdict,
                {1: "yes", 0: "NO", "": "-"}[correct],
                f"{frames:,}",
            ]
            for v, label, p, verdict, correct, frames in videos.itertuples(index=False)
        ],
        ["video", "truth", "mean p_real", "verdict", "correct", "faces"],
        "llrllr",
    )
