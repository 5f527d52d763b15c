"""All faces that a detector learns from, cut once into one array, from any number of sources through one index.

    faces = prepare(Path("index.csv"), Path("build/faces"), yunet=Path("face_detection_yunet_2023mar.onnx"))
    faces.table, faces.images, faces.meshes

The index is a CSV with a row a file (`COLUMNS`). `window` says what the file shows: `wide`, a picture or video in which
the face is found and cut with `MARGIN` around its box, or `tight`, a crop that already ends at the brows and the chin
(the DFDC crops do) and can never be widened. Groups never stand on two sides of a split: `check` refuses it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Collection, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..files import atomic_path, read_json, sha256, write_csv, write_json
from ..labels import CLASS_FOLDERS

if TYPE_CHECKING:
    import pandas

    from .finder import FaceFinder

#: What a row of the index says. `file`: absolute, or relative to the index. `label`: real or fake. `group`: who or what
#: must not be split. `split`: train, val, or unseen (read for choosing only, never trained on). `original`: the `file`
#: of the untouched video that a fake was made from, where it is known. `frames`: of a video, how many are cut.
COLUMNS = ("file", "label", "source", "manipulation", "group", "split", "window", "original", "frames")
SPLITS, WINDOWS = ("train", "val", "unseen"), ("wide", "tight")
#: The split of a training face that is also, almost unchanged, in another split: it is neither trained on nor judged.
TWIN = "twin"

#: Cut around a box, as part of its width and height on every side: more than a network sees, so that training can move.
MARGIN = 0.32

#: Side of the cut faces.
SIDE = 256

#: In the folder of the cut faces.
LEFT_OUT = "left_out.csv"

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
POINTS = tuple(f"{p}_{a}" for p in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right") for a in "xy")


@dataclass(frozen=True)
class Faces:
    """Cut faces.

    Attributes:
        table: one row a face: the index's columns, `time_s`, the detected box as parts of the cut picture (BOX; NaN for
            tight crops), its place in the frame (`frame_x0` ..., parts of the frame) and the five points (POINTS, parts
            of the picture; NaN where none were found).
        images: uint8 (N, SIDE, SIDE, 3), RGB, memory-mapped.
        meshes: float16 (N, 468, 2), parts of the picture, of real faces of the training split; NaN elsewhere.
    """

    table: pandas.DataFrame
    images: np.ndarray
    meshes: np.ndarray

    def rows(self, **where) -> np.ndarray:
        """Row numbers where every named column has the given value, or one of the given values."""
        keep = np.ones(len(self.table), bool)
        for column, value in where.items():
            keep &= self.table[column].isin([value] if isinstance(value, (str, int)) else list(value)).to_numpy()
        return np.flatnonzero(keep)


def read_index(path: Path):
    """The index as a table.

    Raises:
        UserError: a column or a file is missing, a value is unknown, or a group stands in two splits.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as e:
        raise UserError(
            f"this index cannot be read ({getattr(e, 'strerror', None) or e})",
            file=path,
            hint="it is a CSV file with a row a file",
        ) from None
    if missing := [c for c in COLUMNS if c not in table]:
        raise UserError(f"the index lacks {', '.join(missing)}", file=path, hint=f"its columns: {', '.join(COLUMNS)}")
    for column, known in (("label", CLASS_FOLDERS), ("split", SPLITS), ("window", WINDOWS)):
        if other := set(table[column]) - set(known):
            raise UserError(
                f"the index has {column} {sorted(other)[0]!r}", file=path, hint=f"one of {', '.join(known)}"
            )
    if not len(table):
        raise UserError("the index has no row", file=path, hint="it is a CSV file with a row a file")
    if odd := [f for f in table.frames if f and not (f.isdecimal() and int(f))]:
        raise UserError(f"the index has frames {odd[0]!r}", file=path, hint="how many of a video are cut, 1 or more")
    table["file"] = [str(path.parent / f) for f in table.file]
    table["original"] = [str(path.parent / f) if f else "" for f in table.original]
    sides = table.groupby("group").split.nunique()
    if len(torn := sides[sides > 1]):
        raise UserError(f"group {torn.index[0]!r} stands in two splits", file=path, hint="a group belongs to one split")
    return table


def prepare(
    index: Path, work: Path, yunet: Path, *, workers: int = 2, least_sharpness: Mapping[str, float] | None = None
) -> Faces:
    """Cuts the faces of the index into `<work>/faces.npy`, `faces.csv` and `meshes.npy`, or opens them if they stand.

    Files without a face, or not readable, are named in `<work>/left_out.csv` (`left_out_note`); training faces that are
    also among those of another split (`duplicates`) in `<work>/twins.csv`, and are not trained on.

    Args:
        least_sharpness: source -> the least variance of the Laplacian of a face at 128 x 160 px; softer ones are left
            out.
    """
    import pandas as pd
    from tqdm import tqdm

    table = read_index(index)
    settings = {
        "index": sha256(index),
        "margin": MARGIN,
        "side": SIDE,
        "detector": sha256(yunet),
        "sharp": dict(least_sharpness or {}),
    }
    stamp = work / "faces.json"
    if read_json(stamp) != settings:
        work.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)  # what follows is not of that one any more, even if this run is killed
        jobs = [
            row._asdict() | {"least_sharpness": settings["sharp"].get(row.source, 0.0)}
            for row in table.itertuples(index=False)
        ]
        rows, left_out = [], []
        # Spawned, not forked: OpenCV's threads do not live on in a forked process, and it then waits for them for ever.
        with (
            atomic_path(work / "faces.npy") as partial,
            open(partial, "wb") as out,
            ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (str(yunet),)) as pool,
        ):
            for job, made in tqdm(
                zip(jobs, pool.map(_cut, jobs, chunksize=16)), total=len(jobs), desc="cutting faces", disable=None
            ):
                if not made:
                    left_out.append({"file": job["file"]})
                for row, image in made:
                    rows.append(row)
                    out.write(image.tobytes())
        write_csv(work / LEFT_OUT, pd.DataFrame(left_out, columns=["file"]))
        if not rows:
            raise UserError("no file of the index shows a face that is found", file=index, hint="give other files")
        write_csv(work / "faces.csv", pd.DataFrame(rows))
        write_json(stamp, settings)
    made = _as_cut(work)
    meshes = _meshes(made, work, sha256(stamp))
    _find_twins(made, work, sha256(stamp))
    return Faces(opened(work).table, made.images, meshes)


def left_out_note(index: Path, work: Path, without: Collection[str] = ()) -> str:
    """How many files of the index gave no face, in a line; "" where all did.

    Args:
        without: sources that nobody asks for.

    Raises:
        UserError: not one file of a source did.
    """
    import pandas as pd

    table, lost = read_index(index), set(pd.read_csv(work / LEFT_OUT, dtype=str, keep_default_na=False).file)
    gave = ~table.file.isin(lost)
    if empty := sorted(set(table.source) - set(table.source[gave]) - set(without)):
        raise UserError(
            f"no file of the source {empty[0]} shows a face that is found",
            file=work / LEFT_OUT,
            hint=f"give other files, or --without {empty[0]}",
        )
    if gave.all():
        return ""
    return f"{(~gave).sum()} of {len(table)} files show no face that is found, or cannot be read: {work / LEFT_OUT}"


def opened(work: Path) -> Faces:
    """The faces that `prepare` left in `work`, without looking at what they were made from."""
    import pandas as pd

    faces = _as_cut(work)
    if (work / "twins.csv").is_file():
        faces.table.loc[pd.read_csv(work / "twins.csv").row, "split"] = TWIN
    return faces


def _as_cut(work: Path) -> Faces:
    """All of them, those that `_find_twins` found with the split of the index."""
    import pandas as pd

    faces = pd.read_csv(work / "faces.csv", dtype={"group": str, "manipulation": str, "original": str})
    for column in ("manipulation", "original"):
        faces[column] = faces[column].fillna("")
    images = np.memmap(work / "faces.npy", np.uint8, "r", shape=(len(faces), SIDE, SIDE, 3))
    meshes = work / "meshes.npy"
    return Faces(faces, images, np.load(meshes) if meshes.is_file() else np.zeros(0))


def _find_twins(faces: Faces, work: Path, made_from: str) -> None:
    """Writes `<work>/twins.csv` unless it stands."""
    from . import duplicates

    settings = {"faces": made_from, "bits": duplicates.BITS, "alike": duplicates.ALIKE}
    stamp = work / "twins.json"
    if read_json(stamp) != settings:
        stamp.unlink(missing_ok=True)
        write_csv(work / "twins.csv", duplicates.across_splits(faces))
        write_json(stamp, settings)


def _meshes(faces: Faces, work: Path, made_from: str) -> np.ndarray:
    """The meshes of the real training faces, found once and kept."""
    from tqdm import tqdm

    from ..faces import mesh

    settings = {"faces": made_from, "model": sha256(mesh.MODEL), "around": mesh.AROUND, "least_score": mesh.LEAST_SCORE}
    stamp = work / "meshes.json"
    if read_json(stamp) != settings:
        find, found = mesh.FaceMesh(), np.full((len(faces.table), mesh.POINTS, 2), np.nan, np.float16)
        tight = faces.table.window.eq("tight").to_numpy()
        for row in tqdm(
            faces.rows(split=("train", "val"), label="real"), desc="face meshes", unit="face", disable=None
        ):
            # The network was made for whole heads: only a tight crop needs something around it.
            found[row], _ = find(faces.images[row], **({} if tight[row] else {"around": mesh.NOTHING_AROUND}))
        stamp.unlink(missing_ok=True)
        with atomic_path(work / "meshes.npy") as partial, open(partial, "wb") as f:
            np.save(f, found)
        write_json(stamp, settings)
    return np.load(work / "meshes.npy")


_finder: FaceFinder  # of a process of `prepare`


def _start(yunet: str) -> None:
    import cv2

    from .finder import FaceFinder

    global _finder
    cv2.setNumThreads(1)
    _finder = FaceFinder(yunet)


def _cut(job: dict) -> list[tuple[dict, np.ndarray]]:
    """The faces of one file of the index: (row, image) each."""
    from ..faces import pictures

    if Path(job["file"]).suffix.lower() in VIDEOS:
        return [
            made
            for time_s, frame in _frames(job["file"], int(job["frames"] or 24))
            if (made := _cut_frame(job, time_s, frame))
        ]
    image = pictures.read(job["file"])
    if image is None:
        return []
    if job["window"] == "tight":
        points = _finder.points_in_crop(image) if job["label"] == "real" else np.full((5, 2), np.nan)
        return [_row(job, 0.0, image, points)]
    return [made] if (made := _cut_frame(job, 0.0, image)) else []


def _frames(path: str, count: int):
    """(time in s, BGR frame) of `count` frames spread evenly over a video.

    Not by `video.decode`, which has its own choice of frames and gives large pictures their colours as players do: the
    shipped detectors learnt from these.
    """
    import av

    from ..video.picture import orientation, upright

    # A file that breaks off gives what decodes.
    with contextlib.suppress(av.FFmpegError, IndexError), av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        total = stream.frames or sum(1 for p in container.demux(stream) if p.size)
        container.seek(0)
        wanted = set(np.linspace(0, max(0, total - 1), count).round().astype(int).tolist())
        rate = float(stream.average_rate or 25)
        turn = (0, False)
        for number, frame in enumerate(container.decode(stream)):
            turn = orientation(frame) or turn
            if number in wanted:
                yield number / rate, upright(frame.to_ndarray(format="bgr24"), *turn)


def _cut_frame(job: dict, time_s: float, frame: np.ndarray):
    import cv2

    from ..faces.crops import crop_face, widen

    found = _finder.biggest(frame)
    if found is None:
        return None
    height, width = frame.shape[:2]
    (x, y, w, h), points = found
    if limit := job["least_sharpness"]:
        face = crop_face(frame, found[0], 0.0)
        grey = cv2.resize(cv2.cvtColor(face, cv2.COLOR_BGR2GRAY), (128, 160), interpolation=cv2.INTER_AREA)
        if cv2.Laplacian(grey, cv2.CV_64F).var() < limit:
            return None
    x0, y0, x1, y1 = widen(found[0], MARGIN, width, height)
    origin, size = np.array([x0, y0]), np.array([x1 - x0, y1 - y0])
    box = np.concatenate([(np.array([x, y]) - origin) / size, (np.array([x + w, y + h]) - origin) / size])
    place = np.array([x0, y0, x1, y1]) / [width, height, width, height]
    return _row(job, time_s, crop_face(frame, found[0], MARGIN), (points - origin) / size, box, place, float(w))


def _row(
    job: dict, time_s: float, crop_bgr: np.ndarray, points, box=(np.nan,) * 4, place=(np.nan,) * 4, face_px=np.nan
):
    import cv2

    from ..faces.crops import network_input

    row = {k: job[k] for k in COLUMNS if k != "frames"} | {"time_s": round(time_s, 3), "face_px": round(face_px, 1)}
    row |= dict(zip(POINTS, np.round(points, 4).ravel().tolist())) | dict(zip(BOX, np.round(box, 5).tolist()))
    row |= dict(zip(("frame_x0", "frame_y0", "frame_x1", "frame_y1"), np.round(place, 5).tolist()))
    return row, network_input(cv2.cvtColor(crop_bgr, cv2.COLOR_BGR2RGB), SIDE)
