"""Stage 01b: the five points that stage 01a stored, drawn in red on the face crops."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError
from ..files import atomic_dir, folder_lock, read_json, remove_partials, remove_whole
from ..stage_report import ERROR, NO_FACE, NO_FRAMES, OK, Account
from ..video import workers
from ..video.frames import FACES, LOCK, MARKED_FACES, must_be_no_link
from ..video.picture import turned_by
from . import boxes, pictures
from .boxes import Face
from .crops import SETTINGS_FILE

RED_BGR = (0, 0, 255)
RECORD = "marked.json"


def mark(crop: np.ndarray, face: Face, corner: tuple[int, int], *, radius: int | None = None) -> np.ndarray:
    """A copy of the crop with a filled circle on each of the five points; points outside the crop are not drawn.

    Args:
        crop: uint8 (H, W, 3) BGR, upright.
        face: its points are in pixels of the frame.
        corner: (x0, y0) of the crop in the frame.
        radius: px; None: 1 for every 60 px of the crop's shorter side, at least 1.
    """
    marked = turned_by(crop, (360 - face.turned) % 360).copy()  # as it lies in the frame
    height, width = marked.shape[:2]
    if radius is None:
        radius = max(1, round(min(height, width) / 60))
    for x, y in face.points:
        cv2.circle(marked, (round(x) - corner[0], round(y) - corner[1]), radius, RED_BGR, thickness=cv2.FILLED)
    return turned_by(marked, face.turned)


@dataclass(frozen=True)
class _Task:
    title: str
    folder: Path
    radius: int | None
    force: bool


def mark_faces(
    manifest, frames: Path, *, radius: int | None = None, worker_count: int = 1, force: bool = False
) -> Account:
    """Writes `<frames>/<title>/marked_faces/` for every video with faces: the same names and sizes as in `faces/`.

    Raises:
        UserError: there are no faces at all, or the folder cannot be written.
    """
    from tqdm import tqdm

    account = Account(manifest, ("faces",))
    tasks = []
    left_out = account.leave_out(frames)
    for line in manifest[manifest["error"] == ""].itertuples():
        if line.title in left_out:
            continue
        folder = Path(frames) / line.title
        if os.path.isfile(folder / FACES / SETTINGS_FILE):
            tasks.append(_Task(line.title, folder, radius, force))
        else:
            account.add(line.title, NO_FRAMES, detail="stage 01a left no faces of this video")
    if not tasks:
        raise UserError(
            "there are no faces of these videos",
            file=frames,
            hint="run 01a_crop_faces_mtcnn.py first, or name its folder with --frames-dir",
        )
    with folder_lock(frames, LOCK):
        with tqdm(total=len(tasks), unit="video", desc="marked faces", smoothing=0.05, disable=None) as bar:
            for task, result in workers.for_account(account, _mark_one, tasks, min(worker_count, len(tasks))):
                if isinstance(result, Exception):
                    _discard(task)
                    account.add(task.title, ERROR, detail=getattr(result, "what", str(result)))
                else:
                    account.add(task.title, OK if result else NO_FACE, faces=result)
                bar.update()
        for task in tasks:
            if not task.folder.is_symlink():
                remove_partials(task.folder)
    return account


def _discard(task: _Task) -> None:
    """After a failure: removes the marked faces of an earlier run, which stage 02 would take for this one's."""
    if not task.folder.is_symlink():
        drop_marks(task.folder)


def drop_marks(folder: Path) -> None:
    """Removes the marked faces of a video's folder, as when its faces are replaced or gone; what is not ours stays."""
    target = folder / MARKED_FACES
    if not target.is_symlink() and read_json(target / RECORD) is not None:
        with contextlib.suppress(OSError):
            remove_whole(target)


def _mark_one(task: _Task) -> int:
    source, target = task.folder / FACES, task.folder / MARKED_FACES
    for folder in (task.folder, target):
        must_be_no_link(folder)
    try:
        made = {"faces": json.loads((source / SETTINGS_FILE).read_text(encoding="utf-8")), "radius": task.radius}
        count = int(made["faces"]["faces"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(
            "the record of the faces is broken",
            file=source / SETTINGS_FILE,
            hint="run 01a_crop_faces_mtcnn.py again with --force",
        ) from None
    if (
        not task.force
        and read_json(target / RECORD) == made
        and sum(n.endswith(".png") for n in os.listdir(target)) == count
    ):
        return count
    if target.exists() and read_json(target / RECORD) is None:
        raise UserError(
            "this folder was not written by stage 01b, so it is left alone",
            file=target,
            hint="move it away, or choose another folder with --frames-dir",
        )
    with atomic_dir(target) as partial:
        for line in boxes.read_boxes(source / boxes.FILE_NAME).to_dict("records"):
            crop = pictures.read(source / line["file"])
            if crop is None:
                raise UserError(
                    "cannot read a face",
                    file=source / line["file"],
                    hint="run 01a_crop_faces_mtcnn.py again with --force",
                )
            marked = mark(crop, boxes.face_of(line), (int(line["crop_x0"]), int(line["crop_y0"])), radius=task.radius)
            if not cv2.imwrite(str(partial / line["file"]), marked):
                raise UserError("cannot write a marked face", file=partial / line["file"], hint="is the disk full?")
        (partial / RECORD).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return count
