"""The scores of a training as tables: `scores.csv` (a row a face) and `video_scores.csv` (a row a video)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .. import files, labels, scores
from ..reports import video_rules
from . import sequences

#: One row a face, as `evaluate.py` reads it.
FACES = "scores.csv"
_WORDS = {labels.REAL: labels.VERDICT_REAL, labels.FAKE: labels.VERDICT_FAKE, -1: ""}


def face_table(faces, p_real, known, *, frames: Path | None = None, sets=None):
    """A DataFrame with the columns of `scores.COLUMNS` and `file`, `set`.

    Args:
        faces: `face_list.Faces` or sequences: names, y, titles, groups.
        p_real: (N,) P(real).
        known: of `known.known_videos`.
        frames: folder of stage 01a's results, for times and people.
        sets: (N,) what `set` says, or one word for all.
    """
    import pandas as pd

    table = pd.DataFrame(
        {
            "video": faces.titles,
            "label": [_WORDS[int(v)] for v in faces.y],
            "group": faces.groups,
            "person": "",
            "time_s": float("nan"),
            "p_real": p_real,
            "file": faces.names,
            "set": sets if sets is not None else "",
        }
    )
    for name in ("dataset", "manipulation", "compression"):
        table[name] = table["video"].map(known[name].to_dict()).fillna("")
    for title, boxes in sequences.box_tables(faces, frames).items():
        rows = table.index[table["video"] == title]
        own = boxes.reindex([Path(f).name for f in table.loc[rows, "file"]])
        table.loc[rows, "person"] = own["person"].fillna("").to_numpy()
        table.loc[rows, "time_s"] = own["time_s"].to_numpy()
    return table[[*scores.COLUMNS, "file", "set"]]


def write_faces(path: Path, table) -> None:
    """Writes `face_table`'s table; ten decimals of a score are kept, as the published file does."""
    shown = table.assign(
        p_real=table["p_real"].map("{:.10g}".format), time_s=table["time_s"].map("{:g}".format).replace("nan", "")
    )
    for name in ("video", "group", "dataset", "manipulation", "compression"):
        shown[name] = shown[name].map(files.csv_name)
    files.write_csv(path, shown)


def video_table(table, *, thresholds=None, shipped=None, shipped_thresholds=None, without_face=()):
    """A row a video with the columns of `video_rules.COLUMNS`: the mean over its faces, as stage 04 has it.

    Args:
        table: of `face_table`.
        thresholds: called with (y, p, sets) of the labelled videos, gives (N,) thresholds; none if None.
        shipped: (faces,) calibrated P(real) of the shipped detector, or None.
        shipped_thresholds: `aggregation.Thresholds` of the shipped detector.
        without_face: (video, label) of videos in which no face was found, or none that can be read; also several times.
    """
    import pandas as pd

    first = {c: "first" for c in ("label", "group", "dataset", "manipulation", "compression", "set")}
    own = table.assign(faces=1, shipped_p_real=np.nan if shipped is None else np.asarray(shipped, np.float64))
    videos = (
        own.groupby("video").agg({**first, "faces": "sum", "p_real": "mean", "shipped_p_real": "mean"}).reset_index()
    )
    videos["threshold"], videos["shipped_verdict"] = np.nan, ""
    labelled = (videos["label"] != "").to_numpy()
    if thresholds is not None and labelled.any():
        y = scores.label_numbers(videos.loc[labelled, "label"])
        videos.loc[labelled, "threshold"] = thresholds(
            y, videos.loc[labelled, "p_real"].to_numpy(), videos.loc[labelled, "set"].to_numpy()
        )
    if shipped is not None:
        videos["shipped_verdict"] = [shipped_thresholds.verdict(p) for p in videos["shipped_p_real"]]
    unseen = pd.DataFrame(
        [(v, label, v, 0) for v, label in dict.fromkeys(without_face)], columns=["video", "label", "group", "faces"]
    )
    videos = pd.concat([videos, unseen[~unseen["video"].isin(videos["video"])]], ignore_index=True)
    text = ["dataset", "manipulation", "compression", "set", "shipped_verdict"]
    videos[text] = videos[text].fillna("")
    return videos[list(video_rules.COLUMNS)].sort_values("video", kind="stable", ignore_index=True)


def write_videos(out: Path, videos) -> None:
    """Writes `<out>/video_scores.csv`."""
    shown = videos.copy()
    for name in ("p_real", "threshold", "shipped_p_real"):
        shown[name] = ["" if v != v else f"{v:.10g}" for v in videos[name]]
    for name in ("video", "group", "dataset", "manipulation", "compression"):
        shown[name] = shown[name].map(files.csv_name)
    files.write_csv(out / video_rules.FILE, shown)


def videos_without_face(out: Path) -> list[tuple[str, str]]:
    """(title, label) of the labelled videos without a face, from stage 02's account; empty without one."""
    import pandas as pd

    try:
        account = pd.read_csv(Path(out) / "stage_reports" / "02_videos.csv", dtype=str, keep_default_na=False)
        rows = account[(account["status"] == "no face") & (account["label"] != "")]
        return list(zip(rows["title"], rows["label"]))
    except (OSError, ValueError, KeyError):
        return []
