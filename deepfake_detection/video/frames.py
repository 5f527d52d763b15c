"""Stage 00: the wanted frames of every video as `<frames>/<title>/<title>-NNN.png`, and frames.csv."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError
from ..files import (
    atomic_dir,
    folder_lock,
    link_or_copy,
    read_json,
    remove_partials,
    remove_whole,
    same_source,
    source_stamp,
    stamp_since,
    write_json,
)
from ..names import frame_name, is_frame
from ..stage_report import ERROR, LEFT_OUT, NO_FRAMES, OK, Account, write_left_out
from . import workers
from .decode import FrameReader
from .resize import PUBLISHED
from .sampling import Sampling

TABLE, RECORD = "frames.csv", "frames.json"
FACES, MARKED_FACES = "faces", "marked_faces"
#: Held while a stage writes below the frames folder, so that 00, 01a and 01b of two runs never meet.
LOCK = "frames"


@dataclass(frozen=True)
class _Task:
    title: str
    video: Path
    folder: Path
    sampling: Sampling
    scale: str | float
    force: bool


def convert(
    manifest,
    data: Path,
    frames: Path,
    *,
    sampling: Sampling,
    scale: str | float = PUBLISHED,
    max_videos: int | None = None,
    seed: int = 1,
    worker_count: int = 1,
    force: bool = False,
) -> Account:
    """Writes the frames of every video of the manifest; skips those that stand. Shows progress.

    Args:
        manifest: DataFrame of `datasets.manifest`.
        data: folder that the manifest's paths are relative to; read only (unless it is also `frames`).
        frames: folder that gets one folder a title.
        max_videos: at most so many videos, spread evenly over the labels; the choice depends on `seed` only.

    Raises:
        UserError: the folder cannot be written, or no video at all could be read.
    """
    from tqdm import tqdm

    account = Account(manifest, ("frames",))
    usable = manifest[manifest["error"] == ""]
    chosen = balanced_titles(usable, max_videos, seed)
    with folder_lock(frames, LOCK):
        remove_partials(frames)
        tasks = []
        for line in usable.itertuples():
            if line.title in chosen:
                video, folder = Path(data) / line.video, Path(frames) / line.title
                tasks.append(_Task(line.title, video, folder, sampling, scale, force))
            else:
                account.add(line.title, LEFT_OUT, detail="left out by --max-videos")
        write_left_out(frames, set(usable["title"]) - chosen)
        with tqdm(total=len(tasks), unit="video", desc="frames", smoothing=0.05, disable=None) as bar:
            for task, result in workers.for_account(
                account, _convert_one, tasks, min(worker_count, max(1, len(tasks)))
            ):
                if isinstance(result, Exception) or not result["frames"]:
                    _discard(task.folder, task.title)
                if isinstance(result, Exception):
                    account.add(task.title, ERROR, detail=getattr(result, "what", str(result)))
                else:
                    account.add(
                        task.title,
                        OK if result["frames"] else NO_FRAMES,
                        frames=result["frames"],
                        detail=result["note"],
                    )
                bar.update()
        remove_partials(frames)
    return account


def balanced_titles(manifest, most: int | None, seed: int) -> set[str]:
    """Titles of at most `most` videos, of each label as many as far as there are enough; all if None."""
    if most is None or len(manifest) <= most:
        return set(manifest["title"])
    generator = np.random.default_rng(seed)
    queues = []
    for _, part in sorted(manifest.groupby("label"), key=lambda kv: kv[0]):
        queues.append([part["title"].iloc[i] for i in generator.permutation(len(part))])
    chosen: list[str] = []
    while len(chosen) < most:
        for queue in queues:
            if queue and len(chosen) < most:
                chosen.append(queue.pop())
    return set(chosen)


def settings_of(sampling: Sampling, scale: str | float) -> dict:
    """What decides a video's frames, as it is written into frames.json."""
    return {**sampling.settings(), "scale": scale}


def read_record(folder: Path) -> dict | None:
    """frames.json of a title's folder, None when there is none (or none of ours that can be read)."""
    record = read_json(folder / RECORD)
    kinds = {"settings": dict, "frames": int, "width": int, "note": str}
    known = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in kinds.items())
    return record if known and "scale" in record["settings"] else None


def read_frames_table(folder: Path):
    """frames.csv of a title's folder: frame (NNN), index, time_s.

    Raises:
        UserError: it is missing or broken.
    """
    import pandas as pd
    from pandas.api.types import is_numeric_dtype

    path = folder / TABLE
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError):
        table = None
    columns = ["frame", "index", "time_s"]
    if (
        table is None
        or not set(columns) <= set(table.columns)
        or not all(is_numeric_dtype(table[c]) and np.isfinite(table[c]).all() for c in columns)
    ):
        raise UserError(
            "no table of frames", file=path, hint="run 00_convert_video_to_image.py for this folder, with --force"
        )
    return table


def _convert_one(task: _Task) -> dict:
    """The record of a video's frames, made or standing."""
    before = video_stamp(task.video)
    _must_be_ours(task.folder, task.title)
    old = read_record(task.folder)
    if (
        not task.force
        and old is not None
        and old["settings"] == settings_of(task.sampling, task.scale)
        and len(_pictures(task.folder, task.title)) == old["frames"]
        and is_same_video(task.video, old.get("source"))
    ):
        return old
    try:
        with atomic_dir(task.folder) as partial:
            record = _write(partial, task, before)
            if not record["frames"]:
                raise _Nothing
            if old is None:
                _keep_faces(task.folder, partial)  # made by 01a --direct, before there were frames
            elif _same_frames(partial, task.folder, task.title):
                raise _Unchanged
    except _Nothing:
        pass
    except _Unchanged:
        # Faces that were cut from these very frames stay; only the record of how the frames came about may be newer.
        write_json(task.folder / RECORD, record)
    return record


def _write(folder: Path, task: _Task, before: dict) -> dict:
    """Frames, table and record of a video into `folder`; returns the record. `before`: the video's stamp."""
    reader = FrameReader(task.video, task.sampling, scale=task.scale)
    lines = ["frame,index,time_s"]
    for frame in reader:
        name = folder / frame_name(task.title, frame.number)
        if not cv2.imwrite(str(name), frame.image):
            raise UserError("cannot write a frame", file=name, hint="is the disk full?")
        lines.append(f"{frame.number},{frame.index},{frame.time_s:.3f}")
    info = reader.info
    record = {
        "settings": settings_of(task.sampling, task.scale),
        **({"source": stamp_after(task.video, before)} if reader.yielded else {}),
        "frames": reader.yielded,
        "fps": info.fps,
        "width": info.width,
        "height": info.height,
        "frame_count": info.frame_count,
        "duration_s": info.duration_s,
        "note": reader.note,
    }
    (folder / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


class _Nothing(Exception):
    """Not one frame could be decoded: leave no folder."""


class _Unchanged(Exception):
    """The frames are those that stand."""


def video_stamp(video: Path) -> dict:
    """`files.source_stamp` of a video, without its content; UserError when it cannot be read."""
    try:
        return source_stamp(video, content=False)
    except OSError as e:
        raise _unreadable(video, e) from None


def is_same_video(video: Path, stamp: dict | None) -> bool:
    """`files.same_source` of a video; UserError when it cannot be read."""
    try:
        return same_source(video, stamp)
    except OSError as e:
        raise _unreadable(video, e) from None


def stamp_after(video: Path, before: dict) -> dict:
    """The stamp of a video that has been decoded, for the record: of the file whose `video_stamp` was `before`.

    Raises:
        UserError: it cannot be read, or became another one meanwhile.
    """
    try:
        stamp = stamp_since(video, before)
    except OSError as e:
        raise _unreadable(video, e) from None
    if stamp is None:
        raise UserError("the video changed while it was read", file=video, hint="run the stage again when it is whole")
    return stamp


def _unreadable(video: Path, error: OSError) -> UserError:
    return UserError(f"cannot read the video ({error.strerror})", file=video, hint="check the path and its permissions")


def _pictures(folder: Path, title: str) -> list[str]:
    return sorted(n for n in os.listdir(folder) if is_frame(n, title))


def _same_frames(new: Path, old: Path, title: str) -> bool:
    names = _pictures(new, title)
    if names != _pictures(old, title):
        return False
    return all((new / n).read_bytes() == (old / n).read_bytes() for n in [TABLE, *names] if (old / n).exists())


def _must_be_ours(folder: Path, title: str) -> None:
    """Refuses to replace a folder that holds anything but what stages 00 to 01b write: it is the user's."""
    must_be_no_link(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(
            "a file stands where the frames' folder should be",
            file=folder,
            hint="choose another folder with --frames-dir",
        )
    pictures = set(_pictures(folder, title))
    for name in os.listdir(folder):
        if name not in pictures and name not in (TABLE, RECORD, FACES, MARKED_FACES) and ".partial-" not in name:
            raise UserError(
                f"this folder holds {name!r}, which is none of our files, so it is left alone",
                file=folder,
                hint="choose another folder with --frames-dir",
            )


def _discard(folder: Path, title: str) -> None:
    """Removes what an earlier run left of a video that failed now: the next stages would take it for this run's."""
    if folder.is_symlink() or read_record(folder) is None and not (folder.is_dir() and _pictures(folder, title)):
        return  # not there, or the faces of 01a --direct, which needs no frames
    with contextlib.suppress(UserError, OSError):  # what is not ours is left alone, as the row says
        _must_be_ours(folder, title)
        remove_whole(folder)


def must_be_no_link(folder: Path) -> None:
    """Refuses a title's folder that is a link: a data set could lead us through it to any folder of the user."""
    if folder.is_symlink():
        raise UserError(
            "the folder of this title is a link, so it is left alone",
            file=folder,
            hint="remove the link, or choose another folder with --frames-dir",
        )


def _keep_faces(old: Path, new: Path) -> None:
    """Links faces and marked faces of `old` into `new`."""
    for part in (FACES, MARKED_FACES):
        if (old / part).is_dir():
            shutil.copytree(old / part, new / part, copy_function=link_or_copy)
