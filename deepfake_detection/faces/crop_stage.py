"""Stage 01a: the faces of every video, from stage 00's frames or, with `direct`, from the video itself."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from ..errors import UserError
from ..files import atomic_dir, folder_lock, read_json, remove_partials, remove_whole
from ..names import face_name, frame_name
from ..stage_report import ERROR, NO_FACE, NO_FRAMES, OK, Account, write_left_out
from ..video import workers
from ..video.containers import MOST_PIXELS
from ..video.decode import Frame, FrameReader
from ..video.frames import (
    FACES,
    LOCK,
    RECORD,
    is_same_video,
    must_be_no_link,
    read_frames_table,
    read_record,
    stamp_after,
    video_stamp,
)
from ..video.frames import settings_of as frame_settings
from ..video.resize import PUBLISHED, scale_for
from ..video.sampling import Sampling
from . import boxes, detectors, pictures
from .crops import SETTINGS_FILE, widen
from .extract import CarryOver, FrameFaces, faces_of_frames, turned_note
from .landmarks import drop_marks
from .settings import PUBLISHED_MARGIN, PUBLISHED_MIN_FACE_PX


@dataclass(frozen=True)
class FaceSettings:
    """What decides the faces of a video, beside its frames. See `extract.iter_faces_of_video`; `min_face_px` in pixels
    of the resized frame, `min_face_source_px` in pixels of the source instead."""

    detector: str = "mtcnn"
    min_face_px: float = PUBLISHED_MIN_FACE_PX
    margin: float = PUBLISHED_MARGIN
    confidence: float | None = None
    carry_over: CarryOver | None = None
    min_face_source_px: float | None = None

    def as_json(self) -> dict:
        carry = None if self.carry_over is None else [self.carry_over.mean_of, self.carry_over.most_frames]
        return {**asdict(self), "carry_over": carry, "looked_turned": True}


@dataclass(frozen=True)
class _Task:
    title: str
    folder: Path
    video: Path | None  # set: the fused path, from the video itself
    sampling: Sampling | None
    scale: str | float
    force: bool


def crop_faces(
    manifest,
    data: Path,
    frames: Path,
    settings: FaceSettings,
    *,
    direct: bool = False,
    sampling: Sampling | None = None,
    scale: str | float = PUBLISHED,
    worker_count: int = 1,
    force: bool = False,
    lock: str = LOCK,
) -> Account:
    """Stage 01a: writes `<frames>/<title>/faces/` for every video; skips those that stand. Shows progress.

    Args:
        manifest: DataFrame of `datasets.manifest`; data: the folder its paths are relative to.
        frames: where stage 00 wrote.
        direct: take the videos themselves (fused path) instead of stage 00's frames; needs `sampling`.
        lock: what keeps two runs apart. Runs over different videos may share `frames` under different names.

    Raises:
        UserError: the folder cannot be written, or there are no frames at all.
    """
    from tqdm import tqdm

    account = Account(manifest, ("frames", "frames_with_face", "faces"))
    # From the videos themselves there is no stage 00 that left any of them out, whatever an earlier one did.
    left_out = frozenset() if direct else account.leave_out(frames)
    tasks = []
    for line in manifest[manifest["error"] == ""].itertuples():
        video = Path(data) / line.video if direct else None
        task = _Task(line.title, Path(frames) / line.title, video, sampling if direct else None, scale, force)
        if line.title in left_out:
            continue
        if direct or os.path.isfile(task.folder / RECORD):  # Path.is_file() raises where the folder may not be entered
            tasks.append(task)
        else:
            account.add(line.title, NO_FRAMES, detail="stage 00 left no frames of this video")
    if not tasks and left_out == set(manifest.loc[manifest["error"] == "", "title"]) != set():
        return account  # a shard of nothing else
    if not tasks:
        raise UserError(
            "there are no frames of these videos",
            file=frames,
            hint="run 00_convert_video_to_image.py first, name its folder with --frames-dir, or use --direct",
        )
    with folder_lock(frames, lock):
        if direct:
            write_left_out(frames, ())
        made = workers.for_account(
            account, _crop_one, tasks, min(worker_count, len(tasks)), _Lazy, (settings,), memory_bytes=_memory(settings)
        )
        for task, result in tqdm(made, total=len(tasks), unit="video", desc="faces", smoothing=0.05, disable=None):
            _count(account, task, result, settings)
        for task in tasks:
            if os.path.isdir(task.folder) and not task.folder.is_symlink():
                remove_partials(task.folder)
    return account


def _count(account: Account, task: _Task, result, settings: FaceSettings) -> None:
    """The row of a video: what `_crop_one` gave, or what stopped it."""
    if isinstance(result, Exception):
        _discard(task, settings)
        account.add(task.title, ERROR, detail=getattr(result, "what", str(result)))
        return
    status = OK if result["faces"] else NO_FACE if result["frames"] else NO_FRAMES
    counts = {k: result[k] for k in ("frames", "frames_with_face", "faces")}
    account.add(task.title, status, detail=result["note"], **counts)


def _memory(settings: FaceSettings) -> int | None:
    """Address space of a worker; none for TensorFlow on a GPU, as CUDA reserves more than any bomb takes."""
    return None if settings.detector == "mtcnn" and os.path.exists("/dev/nvidiactl") else workers.MEMORY_BYTES


class _Lazy:
    """The detector of a worker, made when the first video needs it: a run that finds all done loads no network."""

    def __init__(self, settings: FaceSettings):
        self.settings, self._detector = settings, None

    @property
    def detector(self):
        if self._detector is None:
            self._detector = detectors.create(self.settings.detector, min_face_px=self.settings.min_face_px)
        return self._detector


def _crop_one(lazy: _Lazy, task: _Task) -> dict:
    settings = lazy.settings
    must_be_no_link(task.folder)
    target = task.folder / FACES
    must_be_no_link(target)
    made = {"settings": settings.as_json(), "source": _source_of(task)}
    before = video_stamp(task.video) if task.video is not None else None
    record = _read_record(target)
    if not task.force and record is not None and _stands(task, target, record, made):
        return record
    if task.folder.is_dir():
        remove_partials(task.folder)
    if target.exists() and record is None and not (target.is_dir() and not os.listdir(target)):
        raise UserError(
            "this folder was not written by stage 01a, so it is left alone",
            file=target,
            hint="move it away, or choose another folder with --frames-dir",
        )
    with atomic_dir(target) as partial:
        frames: FrameReader | Iterator[Frame]
        if task.video is None:
            stored, frames = _frames_record(task.folder), _stored_frames(task.folder, task.title)
            scale = scale_for(stored["settings"]["scale"], stored["width"])
        else:
            frames = FrameReader(task.video, task.sampling, scale=task.scale)
            scale = scale_for(task.scale, frames.info.width)
        smallest = settings.min_face_source_px
        found = faces_of_frames(
            frames,
            lazy.detector,
            margin=settings.margin,
            confidence=settings.confidence,
            carry_over=settings.carry_over,
            min_face_px=None if smallest is None else smallest * scale,
        )
        rows, counts = _write_faces(partial, task.title, found, settings.margin)
        note = frames.note if isinstance(frames, FrameReader) else stored["note"]  # known when all frames are read
        if before is not None:
            made["source"]["video"]["source"] = stamp_after(task.video, before)
        note = "; ".join(filter(None, [note, turned_note(row["turned"] for row in rows)]))
        record = {**made, **counts, "note": note}
        drop_marks(task.folder)  # before the new faces stand: stage 02 would take those of the old ones for theirs
        (partial / SETTINGS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def _write_faces(folder: Path, title: str, found: Iterable[FrameFaces], margin: float) -> tuple[list[dict], dict]:
    """Writes crops and their table; returns the table's rows and how many frames and faces there were."""
    rows, counts = [], {"frames": 0, "frames_with_face": 0, "faces": 0}
    for frame in found:
        counts["frames"] += 1
        counts["frames_with_face"] += any(f.source == boxes.DETECTED for f in frame.faces)
        for number, (face, crop) in enumerate(zip(frame.faces, frame.crops)):
            name = face_name(title, frame.frame, number)
            if not cv2.imwrite(str(folder / name), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)):
                raise UserError("cannot write a face", file=folder / name, hint="is the disk full?")
            rows.append(
                boxes.row(
                    face,
                    frame=frame.frame,
                    time_s=frame.time_s,
                    number=number,
                    file=name,
                    crop=widen(face, margin, *frame.size),
                )
            )
            counts["faces"] += 1
    boxes.write_boxes(folder / boxes.FILE_NAME, rows)
    return rows, counts


def _stands(task: _Task, target: Path, record: dict, made: dict) -> bool:
    """Whether the faces in `target` are those that the task would make."""
    return (
        record["settings"] == made["settings"]
        and _whole(target, record)
        and _same_source(task, made["source"], record.get("source"))
    )


def _discard(task: _Task, settings: FaceSettings) -> None:
    """After a failure: removes faces of other frames or settings, which would be taken for this run's."""
    target = task.folder / FACES
    record = _read_record(target)
    if record is None or task.folder.is_symlink() or target.is_symlink():
        return
    with contextlib.suppress(UserError):
        if _stands(task, target, record, {"settings": settings.as_json(), "source": _source_of(task)}):
            return
    with contextlib.suppress(OSError):
        remove_whole(target)
    drop_marks(task.folder)


def _source_of(task: _Task) -> dict:
    """What the faces are made from: the table and sampling of the frames on disk, or the video and its sampling."""
    if task.video is None:
        stored = _frames_record(task.folder)
        return {"frames": {k: stored.get(k) for k in ("settings", "source")}}
    return {"video": {"settings": frame_settings(task.sampling, task.scale)}}


def _frames_record(folder: Path) -> dict:
    hint = "run 00_convert_video_to_image.py with --force"
    try:
        (folder / RECORD).read_bytes()
    except OSError as e:
        what = f"cannot read the record of the frames ({e.strerror})"
        raise UserError(what, file=folder / RECORD, hint=hint) from None
    record = read_record(folder)
    if record is None:
        raise UserError("the record of the frames is broken", file=folder / RECORD, hint=hint)
    return record


def _same_source(task: _Task, now: dict, recorded) -> bool:
    """Whether the faces were made from what is there now; of a video its content counts."""
    if task.video is None:
        return recorded == now
    video = recorded.get("video") if isinstance(recorded, dict) else None
    return (
        isinstance(video, dict)
        and video.get("settings") == now["video"]["settings"]
        and is_same_video(task.video, video.get("source"))
    )


def _stored_frames(folder: Path, title: str) -> Iterator[Frame]:
    for line in read_frames_table(folder).itertuples():
        path = folder / frame_name(title, int(line.frame))
        image = pictures.read(path, most_pixels=MOST_PIXELS)
        if image is None:
            raise UserError("cannot read a frame", file=path, hint="run 00_convert_video_to_image.py with --force")
        yield Frame(int(line.frame), int(line.index), float(line.time_s), image)


def _whole(folder: Path, record: dict) -> bool:
    try:
        pictures = sum(n.endswith(".png") for n in os.listdir(folder))
        return pictures == record["faces"] and (folder / boxes.FILE_NAME).is_file()
    except (OSError, KeyError):
        return False


def _read_record(folder: Path) -> dict | None:
    """faces.json of a folder of faces; None when there is none of ours that can be read."""
    record = read_json(folder / SETTINGS_FILE)
    kinds = {"settings": dict, "frames": int, "frames_with_face": int, "faces": int, "note": str}
    known = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in kinds.items())
    return record if known else None
