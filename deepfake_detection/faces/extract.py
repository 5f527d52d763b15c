"""Faces of a video: the fused path (no frames on disk) and stage 01a, which share every step."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError
from ..files import atomic_dir, folder_lock, remove_partials, remove_whole
from ..names import face_name, frame_name
from ..stage_report import ERROR, NO_FACE, NO_FRAMES, OK, Account, write_left_out
from ..video import workers
from ..video.containers import MOST_PIXELS
from ..video.decode import Frame, FrameReader
from ..video.frames import (
    FACES,
    LOCK,
    MARKED_FACES,
    RECORD,
    is_same_video,
    must_be_no_link,
    read_frames_table,
    read_record,
    stamp_after,
    video_stamp,
)
from ..video.frames import settings_of as frame_settings
from ..video.probe import VideoInfo
from ..video.resize import PUBLISHED, scale_for
from ..video.sampling import Sampling
from . import boxes, detectors, pictures, tracks, turns
from .boxes import Face
from .crops import SETTINGS_FILE, crop_face, turned_by, widen
from .settings import PUBLISHED_CONFIDENCE, PUBLISHED_MARGIN, PUBLISHED_MIN_FACE_PX

#: Frames are detected together up to this many pixels, so that memory does not grow with the length or size of a video.
CHUNK_PIXELS = 4_000_000
CHUNK_FRAMES = 32
#: People are told apart by crops of this margin, so that who is who does not depend on the crops asked for.
LOOK_MARGIN = PUBLISHED_MARGIN


@dataclass(frozen=True)
class CarryOver:
    """Fill a frame without a face from the past: mean box of the person's last `mean_of` faces, none older than
    `most_frames` frames."""

    mean_of: int = 3
    most_frames: int = 5


@dataclass(frozen=True)
class FrameFaces:
    """The kept faces of one frame.

    Attributes:
        frame, index, time_s: NNN, index in the video, seconds.
        faces: by descending confidence; pixels of the resized frame.
        crops: uint8 (H, W, 3) RGB of each face, upright, margin included.
        size: (width, height) of the resized frame.
        looks: `tracks.look` of each detected face; none for carried ones.
    """

    frame: int
    index: int
    time_s: float
    faces: list[Face]
    crops: list[np.ndarray]
    size: tuple[int, int]
    looks: list[np.ndarray] = field(default_factory=list)


@dataclass
class VideoFaces:
    """All kept faces of one video.

    Attributes:
        info: the video; frames: one entry a decoded frame, also without a face; frames_decoded: how many.
        error: "" or what was wrong with the file (it is cut off, ...) although frames could be read.
    """

    info: VideoInfo
    frames: list[FrameFaces] = field(default_factory=list)
    frames_decoded: int = 0
    error: str = ""

    @property
    def frames_with_face(self) -> int:
        return sum(bool(f.faces) for f in self.frames)


def keep(faces: list[Face], confidence: float = PUBLISHED_CONFIDENCE) -> list[Face]:
    """The published rule: the frame's only face, or those with a confidence over the bound. By descending
    confidence."""
    if len(faces) == 1:
        return list(faces)
    return [f for f in faces if f.confidence > confidence]


def faces_of_frames(
    frames: Iterable[Frame],
    detector,
    *,
    margin: float = PUBLISHED_MARGIN,
    confidence: float | None = None,
    carry_over: CarryOver | None = None,
    min_face_px: float | None = None,
) -> Iterator[FrameFaces]:
    """Detects (turned where people are not upright, `turns`), keeps, tells people apart, carries over and crops. Holds
    a bounded number of frames at a time, whatever their number.

    Args:
        frames: in time order.
        detector: of `detectors.create`.
        min_face_px: smallest face looked for, px of these frames, instead of the detector's own.
    """
    if confidence is None:
        confidence = detector.confidence
    linker, turner = tracks.Linker(), turns.Turner(detector, lambda faces: keep(faces, confidence), min_face_px)
    memory = None if carry_over is None else tracks.Memory(carry_over.mean_of, carry_over.most_frames)
    for chunk in _chunks(frames):
        for frame, faces in zip(chunk, turner.detect([f.image for f in chunk])):
            height, width = frame.image.shape[:2]
            looks = [tracks.look(_upright(frame.image, f, LOOK_MARGIN)) for f in faces]
            faces = linker.update(faces, looks)
            if memory is not None:
                faces = memory.fill(faces)
            crops = [_upright(frame.image, f, margin) for f in faces]
            yield FrameFaces(frame.number, frame.index, frame.time_s, faces, crops, (width, height), looks)


def _upright(image: np.ndarray, face: Face, margin: float) -> np.ndarray:
    """The crop of a face, uint8 (H, W, 3) RGB, turned so that the face is upright."""
    return turned_by(cv2.cvtColor(crop_face(image, face, margin), cv2.COLOR_BGR2RGB), face.turned)


def turned_note(turned: Iterable[int]) -> str:
    """A word about faces that were found turned, by the degrees; "" when none was."""
    degrees = sorted(set(turned) - {0})
    return f"read turned by {' and '.join(map(str, degrees))} degrees: its people are not upright" if degrees else ""


def _chunks(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    # The cut depends on the frames only, so a batch, and with it the last bit of a result, is the same on every path.
    chunk: list[Frame] = []
    pixels = 0
    for frame in frames:
        size = frame.image.shape[0] * frame.image.shape[1]
        if chunk and (pixels + size > CHUNK_PIXELS or len(chunk) == CHUNK_FRAMES):
            yield chunk
            chunk, pixels = [], 0
        chunk.append(frame)
        pixels += size
    if chunk:
        yield chunk


def iter_faces_of_video(
    path: str | Path,
    *,
    sampling: Sampling,
    detector,
    margin: float = PUBLISHED_MARGIN,
    confidence: float | None = None,
    scale: str | float = PUBLISHED,
    carry_over: CarryOver | None = None,
    min_face_source_px: float | None = None,
    threads: int = 1,
) -> tuple[FrameReader, Iterator[FrameFaces]]:
    """The fused path as a stream, for videos of any length: (reader, faces frame by frame). See `faces_of_video`."""
    reader = FrameReader(path, sampling, scale=scale, threads=threads)
    smallest = None if min_face_source_px is None else min_face_source_px * scale_for(scale, reader.info.width)
    return reader, faces_of_frames(
        reader, detector, margin=margin, confidence=confidence, carry_over=carry_over, min_face_px=smallest
    )


def faces_of_video(
    path: str | Path,
    *,
    sampling: Sampling,
    detector,
    margin: float = PUBLISHED_MARGIN,
    confidence: float | None = None,
    scale: str | float = PUBLISHED,
    carry_over: CarryOver | None = None,
    min_face_source_px: float | None = None,
    threads: int = 1,
) -> VideoFaces:
    """The fused path: video to face crops in one decoding pass, no frame on disk. The same crops as stages 00 and 01a.

    Args:
        path: the video.
        sampling: which frames.
        detector: of `detectors.create`, or its name.
        margin: part of the box added on every side of a crop.
        confidence: the bound of the published rule, see `keep`; None: the detector's own, 0.95 for MTCNN.
        scale: the resize rule, "published" or a factor.
        carry_over: fill frames without a face from past ones.
        min_face_source_px: the smallest face looked for, in pixels of the source video, instead of the detector's own
            (which is in pixels of the resized frame).
        threads: decoder threads, 0: as many as cores.

    Raises:
        UserError: the video cannot be read at all.
    """
    if isinstance(detector, str):
        detector = detectors.create(detector)
    reader, stream = iter_faces_of_video(
        path,
        sampling=sampling,
        detector=detector,
        margin=margin,
        confidence=confidence,
        scale=scale,
        carry_over=carry_over,
        min_face_source_px=min_face_source_px,
        threads=threads,
    )
    frames = list(stream)
    return VideoFaces(reader.info, frames, reader.yielded, reader.note)


# -- stage 01a ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class FaceSettings:
    """What decides the faces of a video, beside its frames. See `faces_of_video`; `min_face_px` in pixels of the
    resized frame, `min_face_source_px` in pixels of the source instead."""

    detector: str = "mtcnn"
    min_face_px: float = PUBLISHED_MIN_FACE_PX
    margin: float = PUBLISHED_MARGIN
    confidence: float | None = None
    carry_over: CarryOver | None = None
    min_face_source_px: float | None = None

    def as_json(self) -> dict:
        carry = None if self.carry_over is None else [self.carry_over.mean_of, self.carry_over.most_frames]
        return {
            "detector": self.detector,
            "min_face_px": self.min_face_px,
            "min_face_source_px": self.min_face_source_px,
            "margin": self.margin,
            "confidence": self.confidence,
            "carry_over": carry,
            "looked_turned": True,
        }


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
    tasks = []
    # From the videos themselves there is no stage 00 that left any of them out, whatever an earlier one did.
    left_out = frozenset() if direct else account.leave_out(frames)
    for line in manifest[manifest["error"] == ""].itertuples():
        folder = Path(frames) / line.title
        if line.title in left_out:
            continue
        if direct:
            tasks.append(_Task(line.title, folder, Path(data) / line.video, sampling, scale, force))
        elif os.path.isfile(folder / RECORD):  # Path.is_file() raises where the folder may not be entered
            tasks.append(_Task(line.title, folder, None, None, scale, force))
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
        with tqdm(total=len(tasks), unit="video", desc="faces", smoothing=0.05) as bar:
            for task, result in workers.for_account(
                account,
                _crop_one,
                tasks,
                min(worker_count, len(tasks)),
                _Lazy,
                (settings,),
                memory_bytes=_memory(settings),
            ):
                if isinstance(result, Exception):
                    _discard(task, settings)
                    account.add(task.title, ERROR, detail=getattr(result, "what", str(result)))
                else:
                    status = OK if result["faces"] else NO_FACE if result["frames"] else NO_FRAMES
                    account.add(
                        task.title,
                        status,
                        detail=result["note"],
                        **{k: result[k] for k in ("frames", "frames_with_face", "faces")},
                    )
                bar.update()
        for task in tasks:
            if os.path.isdir(task.folder) and not task.folder.is_symlink():
                remove_partials(task.folder)
    return account


def _memory(settings: FaceSettings) -> int | None:
    """Address space of a worker. CUDA alone reserves many times what a bomb would take, so TensorFlow on a GPU has no
    limit."""
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
    before = video_stamp(task.video, content=False) if task.video is not None else None
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
        if task.video is not None:
            reader = FrameReader(task.video, task.sampling, scale=task.scale)
            frames: Iterable[Frame] = reader
            scale = scale_for(task.scale, reader.info.width)
        else:
            reader, frames = None, _stored_frames(task.folder, task.title)
            stored = read_record(task.folder)
            scale = scale_for(stored["settings"]["scale"], stored["width"])
        smallest = None if settings.min_face_source_px is None else settings.min_face_source_px * scale
        rows, counts = [], {"frames": 0, "frames_with_face": 0, "faces": 0}
        for found in faces_of_frames(
            frames,
            lazy.detector,
            margin=settings.margin,
            confidence=settings.confidence,
            carry_over=settings.carry_over,
            min_face_px=smallest,
        ):
            counts["frames"] += 1
            counts["frames_with_face"] += any(f.source == boxes.DETECTED for f in found.faces)
            for number, (face, crop) in enumerate(zip(found.faces, found.crops)):
                name = face_name(task.title, found.frame, number)
                if not cv2.imwrite(str(partial / name), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)):
                    raise UserError("cannot write a face", file=partial / name, hint="is the disk full?")
                rows.append(
                    boxes.row(
                        face,
                        frame=found.frame,
                        time_s=found.time_s,
                        number=number,
                        file=name,
                        crop=widen(face, settings.margin, *found.size),
                    )
                )
                counts["faces"] += 1
        boxes.write_boxes(partial / boxes.FILE_NAME, rows)
        if before is not None:
            made["source"]["video"]["source"] = stamp_after(task.video, before)
        note = reader.note if reader is not None else (read_record(task.folder) or {}).get("note", "")
        note = "; ".join(filter(None, [note, turned_note(row["turned"] for row in rows)]))
        record = {**made, **counts, "note": note}
        (partial / SETTINGS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def _stands(task: _Task, target: Path, record: dict, made: dict) -> bool:
    """Whether the faces in `target` are those that the task would make."""
    return (
        record["settings"] == made["settings"]
        and _whole(target, record)
        and _same_source(task, made["source"], record.get("source"))
    )


def _discard(task: _Task, settings: FaceSettings) -> None:
    """After a failure: removes faces of other frames or other settings, which the next stages would take for this
    run's."""
    target = task.folder / FACES
    record = _read_record(target)
    if record is None or task.folder.is_symlink() or target.is_symlink():
        return
    with contextlib.suppress(UserError):
        if _stands(task, target, record, {"settings": settings.as_json(), "source": _source_of(task)}):
            return
    for folder in (target, task.folder / MARKED_FACES):
        with contextlib.suppress(OSError):
            remove_whole(folder)


def _source_of(task: _Task) -> dict:
    """What the faces are made from: the table and sampling of the frames on disk, or the video and its sampling."""
    if task.video is None:
        try:
            (task.folder / RECORD).read_bytes()
        except OSError as e:
            raise UserError(
                f"cannot read the record of the frames ({e.strerror})",
                file=task.folder / RECORD,
                hint="run 00_convert_video_to_image.py with --force",
            ) from None
        parsed = read_record(task.folder)
        if parsed is None:
            raise UserError(
                "the record of the frames is broken",
                file=task.folder / RECORD,
                hint="run 00_convert_video_to_image.py with --force",
            )
        return {"frames": {k: parsed.get(k) for k in ("settings", "source")}}
    return {"video": {"settings": frame_settings(task.sampling, task.scale)}}


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
            raise UserError(
                "cannot read a frame", file=path, hint="run 00_convert_video_to_image.py again with --force"
            )
        yield Frame(int(line.frame), int(line.index), float(line.time_s), image)


def _whole(folder: Path, record: dict) -> bool:
    try:
        return (
            sum(n.endswith(".png") for n in os.listdir(folder)) == record["faces"]
            and (folder / boxes.FILE_NAME).is_file()
        )
    except (OSError, KeyError):
        return False


def _read_record(folder: Path) -> dict | None:
    """faces.json of a folder of faces; None when there is none of ours that can be read."""
    try:
        record = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    kinds = {"settings": dict, "frames": int, "frames_with_face": int, "faces": int, "note": str}
    known = isinstance(record, dict) and all(isinstance(record.get(name), kind) for name, kind in kinds.items())
    return record if known else None
