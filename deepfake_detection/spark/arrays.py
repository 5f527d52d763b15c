"""Faces in Parquet files to NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import labels
from ..errors import UserError
from ..files import atomic_path, write_csv
from ..stage_report import OK


def to_numpy(
    folder: Path, out: Path, *, dimension: int = 100, samples: int = 5, minority_ratio: int = 9, minority: str = "REAL"
) -> dict:
    """Writes `<out>/X.npy`, `<out>/y.npy` and `<out>/X_rows.csv` from the Parquet files.

    X is float32 (N, dimension, dimension, 3), RGB, 0..1, written through a memory map, so memory does not grow with N;
    y is int64 (N,), 1 real, 0 fake; X_rows.csv tells title, group, label and frame of each, without which no leak-free
    split can be made. Of a video `samples` faces are taken, evenly over its time, and of one of the minority class
    `samples * minority_ratio`: all it has if it has fewer. Method and defaults: github.com/trebua/Deepfake-Detection,
    spark_preprocess.py.

    Args:
        folder: holds part-*.parquet.
        dimension: side, px.
        minority: the label that gets more samples.

    Returns:
        faces of each label, and `short`: videos that had fewer faces than asked.

    Raises:
        UserError: no faces with a label.
    """
    import cv2
    from tqdm import tqdm

    from ..faces.crops import network_input

    parts = sorted(Path(folder).glob("part-*.parquet"))
    if not parts:
        raise UserError(
            "no faces in this folder", file=folder, hint="run spark_preprocess.py without --only-to-numpy first"
        )
    rows, chosen, short = _chosen(parts, samples, minority_ratio, minority)
    if rows.empty:
        raise UserError(
            "no faces with a label here", file=folder, hint="the account in stage_reports says why for each video"
        )
    y = rows["label"].map(labels.label_of).to_numpy(np.int64)
    out = Path(out)
    with atomic_path(out / "X.npy") as partial:
        x = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(len(rows), dimension, dimension, 3))
        faces = tqdm(_pictures(chosen), total=len(rows), desc="X.npy", unit="face", disable=None)
        for number, image in enumerate(faces):
            face = network_input(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dimension)
            x[number] = face.astype(np.float32) / 255
        x.flush()
        del x
    with atomic_path(out / "y.npy") as partial:
        np.save(partial, y)
    write_csv(out / "X_rows.csv", rows[["title", "group", "label", "frame", "face"]])
    return {"REAL": int((y == 1).sum()), "FAKE": int((y == 0).sum()), "short": short}


def _chosen(parts: list[Path], samples: int, minority_ratio: int, minority: str):
    """(rows of the faces that are taken, of each part the numbers of its rows that are, videos with too few)."""
    import pandas as pd
    import pyarrow.parquet as pq

    from ..video.sampling import thin

    chosen: dict[Path, set[int]] = {}
    tables, short = [], 0
    for part in parts:
        table = pq.read_table(part, columns=["title", "group", "label", "status", "frame", "face"]).to_pandas()
        table["at"] = range(len(table))
        table = table[(table["status"] == OK) & table["label"].isin(["REAL", "FAKE"])]
        keep = []
        for _, faces in table.groupby("title", sort=False):
            wanted = samples * (minority_ratio if faces["label"].iloc[0] == minority else 1)
            short += len(faces) < wanted
            keep += thin(faces["at"], wanted)
        chosen[part] = set(keep)
        tables.append(table[table["at"].isin(chosen[part])])
    rows = pd.concat(tables, ignore_index=True).drop(columns=["at", "status"])
    return rows.astype({"frame": "int64", "face": "int64"}), chosen, short


def _pictures(chosen: dict[Path, set[int]]) -> Iterator[np.ndarray]:
    """The faces of these rows, BGR, a few hundred in memory at a time."""
    import pyarrow.parquet as pq

    from ..faces import pictures

    for part, wanted in chosen.items():
        at = 0
        for batch in pq.ParquetFile(part).iter_batches(batch_size=256, columns=["image"]):
            for value in batch.column(0):
                if at in wanted:
                    image = pictures.decode(value.as_py())
                    if image is None:
                        raise UserError(
                            "a face in this table is no picture that can be decoded",
                            file=part,
                            hint="run spark_preprocess.py again with --force",
                        )
                    yield image
                at += 1
