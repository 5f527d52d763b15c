"""Stage 04: scores of faces to predictions of videos, as one Spark job.

The scores are read by Spark's own readers, split over the executors, and reduced to a row a video in one aggregation;
only these rows come to the driver. Everything that is written (text, CSV, picture) is made of them, so nothing is
computed twice, and the driver's memory grows with the number of videos, not of faces.

Sums of floating-point numbers depend on their order, and so on the partitions. Scores are summed as integers of 2**-40,
exactly, so any number of executors gives the same bytes. (2**-40 is 9e-13; the published files hold 1e-10.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..files import csv_name, write_csv, write_text
from ..labels import TIE_THRESHOLD, VERDICT_FAKE, VERDICT_REAL, counted, label_of
from ..places import hint_of_seeds
from ..stage_report import ERROR, NO_FACE, OK
from . import beside
from .prediction_text import WITHOUT_SCORE, text
from .score_readers import FORM, check_local, read_faces, unreadable

if TYPE_CHECKING:
    import pandas

STAGE = "04_mapreduce_video_preds"
RESULT, PREDICTIONS, CONFUSION = "mapreduce_res.txt", "video_predictions.csv", "ConfusionVideo.png"

#: Stage 02's table, from which the groups of people are known.
SPLIT = "split_manifest.csv"

_UNIT = 2**40  # at most 2**23 faces a video then fit into 64 bits


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
        hint = hint_of_seeds(Path(preds), "run stage 03 or 03a first, or name it with --preds")
        raise UserError("no such score file", file=preds, hint=hint)
    check_local(Path(preds))
    with session(STAGE, master) as spark:
        videos = video_table(spark, preds)
    return write(videos, preds, Path(out), threshold=threshold, resamples=resamples, seed=seed)


def video_table(spark, preds: str, whole: bool = False):
    """The scores reduced to videos.

    Args:
        spark: a session.
        preds, whole: see `score_readers.read_faces`.

    Returns:
        pandas DataFrame sorted by `video`: video, label ("REAL", "FAKE" or ""), p_real (mean over faces, NaN without a
        face), frames (number of scores), status (`ok`, `no face`, `error`).

    Raises:
        UserError: see `run`.
    """
    from pyspark.sql import functions as F

    spark.conf.set("spark.sql.caseSensitive", "true")  # else `Video` beside `video` is ambiguous
    faces, files = read_faces(spark, preds, whole)
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
            F.count(F.when(F.col("failed"), True)).alias("failed"),
            F.count(F.when(bad, True)).alias("bad"),
            F.count(F.when(F.col("last"), True)).alias("last"),
        )
    )
    table = _collect(spark, reduced, preds)
    count = int(table["bad"].sum())
    if count and not whole:  # a cell that goes over several lines leaves no line of it whole
        return video_table(spark, preds, whole=True)
    if count:
        example = _collect(spark, faces.where(bad).agg(F.min(F.substring("raw", 1, 120)).alias("example")), preds)
        raise UserError(
            f"{counted(count, 'row')} cannot be read as scores, e.g. {str(example['example'].iloc[0])!r}",
            file=preds,
            hint=f"{FORM}; a score is P(real), a number in 0..1",
        )
    if int(table["last"].sum()) < files:
        raise UserError(
            "a JSON array does not end: the file is cut short", file=preds, hint="make it again, or copy it again"
        )
    return _means(table[table["video"].notna()], preds)


def _means(table, preds: str):
    """The sums of the videos as means, with one label each."""
    if table.empty:
        raise UserError("there are no scores here", file=preds, hint=FORM)
    table = table.sort_values("video", ignore_index=True)
    two = table[(table["real"] > 0) & (table["fake"] > 0)]
    if len(two):
        raise UserError(
            f"both real and fake: {counted(len(two), 'video')}, e.g. {two['video'].iloc[0]!r}",
            file=preds,
            hint="give every video one label and a title of its own",
        )
    frames = table["frames"].to_numpy(dtype=np.int64)
    total = table["total"].to_numpy(dtype=np.float64, na_value=np.nan) / _UNIT
    table["p_real"] = np.divide(total, frames, out=np.full(len(table), np.nan), where=frames > 0)
    table["frames"] = frames
    table["label"] = np.select([table["real"] > 0, table["fake"] > 0], [VERDICT_REAL, VERDICT_FAKE], "")
    table["status"] = np.select([frames > 0, table["failed"] > 0], [OK, ERROR], NO_FACE)
    return table[["video", "label", "p_real", "frames", "status"]]


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
        raise unreadable(e, preds) from None
    return rows.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def write(
    table, preds: str, out: Path, *, threshold: float = TIE_THRESHOLD, resamples: int = 1000, seed: int = 1
) -> Result:
    """Writes the three results of `video_table`'s table; without labels no picture, also no earlier one."""
    from ..metrics import evaluate
    from ..reports.figures import plot_confusion
    from ..reports.text import one_line

    videos, others = table.copy(), beside.of_these_scores(out, table)
    if others is not None:
        videos = beside.with_faceless(videos, others)
    has_face = videos["frames"] > 0
    videos["verdict"] = [
        WITHOUT_SCORE.get(s) or (VERDICT_REAL if p >= threshold else VERDICT_FAKE)
        for s, p in zip(videos["status"], videos["p_real"])
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
    said = text(videos, metrics, preds, threshold, resamples, people, more)

    write_csv(
        out / PREDICTIONS,
        videos.assign(
            video=[csv_name(one_line(v)) for v in videos["video"]],
            p_real=[f"{v:.10g}" if f else "" for v, f in zip(videos["p_real"], has_face)],
        ),
    )
    write_text(out / RESULT, said)
    files = [out / RESULT, out / PREDICTIONS]
    if len(judged):
        title = f"Confusion matrix of {counted(len(y), 'video')}" + (", out of fold" if beside.folds(others) else "")
        files.append(plot_confusion(y, p, out / CONFUSION, title=title, threshold=threshold))
    else:
        (out / CONFUSION).unlink(missing_ok=True)
    return Result(videos, metrics, said, files)


def _groups(path: Path) -> dict[str, str]:
    """Title -> group of stage 02's table; empty where it is not there or not readable."""
    from ..datasets.split_check import read_groups

    try:
        return read_groups(path) if path.is_file() else {}
    except UserError:
        return {}
