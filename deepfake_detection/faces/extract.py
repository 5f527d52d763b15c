"""Faces of a video, frame by frame: detected, told apart, cropped. The fused path, from the video itself (no frame on
disk); stage 01a (`crop_stage`) takes the same steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..video.decode import Frame, FrameReader
from ..video.picture import turned_by
from ..video.resize import PUBLISHED, scale_for
from ..video.sampling import Runs, Sampling
from . import flicker, tracks, turns
from .boxes import Face
from .crops import crop_face, padded_crop
from .settings import PUBLISHED_CONFIDENCE, PUBLISHED_MARGIN

#: Frames are detected together up to this many pixels, so that memory does not grow with the length or size of a video.
CHUNK_PIXELS = 4_000_000
CHUNK_FRAMES = 32
#: People are told apart by crops of this margin, so that who is who does not depend on the crops asked for.
LOOK_MARGIN = PUBLISHED_MARGIN


@dataclass(frozen=True)
class CarryOver:
    """Fills a frame without a face: mean box of the person's last `mean_of` faces, at most `most_frames` old."""

    mean_of: int = 3
    most_frames: int = 5


@dataclass(frozen=True)
class Windows:
    """Beside their crops, faces of every so-many-th frame are shown with more around them.

    Attributes:
        margin: as of a crop, but never cut off by the frame's edge (`crops.padded_crop`).
        every: of the frames in their order.
    """

    margin: float
    every: int = 1


@dataclass(frozen=True)
class FrameFaces:
    """The kept faces of one frame.

    Attributes:
        frame, index, time_s: NNN, index in the video, seconds.
        faces: by descending confidence; pixels of the resized frame.
        crops: uint8 (H, W, 3) RGB of each face, upright, margin included.
        size: (width, height) of the resized frame.
        looks: `tracks.look` of each detected face; none for carried ones.
        windows: of each face, like its crop, in frames where `Windows` asks for them.
        flickers: `flicker.measure` of each face (NaN: it says nothing), in frames that come with a run.
    """

    frame: int
    index: int
    time_s: float
    faces: list[Face]
    crops: list[np.ndarray]
    size: tuple[int, int]
    looks: list[np.ndarray] = field(default_factory=list)
    windows: list[np.ndarray] = field(default_factory=list)
    flickers: list[np.ndarray] = field(default_factory=list)


def keep(faces: list[Face], confidence: float = PUBLISHED_CONFIDENCE) -> list[Face]:
    """The published rule: the frame's only face, or those with a confidence over the bound."""
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
    ahead: bool = False,
    windows: Windows | None = None,
) -> Iterator[FrameFaces]:
    """Detects (turned where people are not upright, `turns`), keeps, tells people apart, carries over and crops. Holds
    a bounded number of frames at a time, whatever their number.

    Args:
        frames: in time order.
        detector: of `detectors.create`.
        min_face_px: smallest face looked for, px of these frames, instead of the detector's own.
        windows: which faces are also shown with more around them.
        ahead: read the next frames in a thread of their own meanwhile. The results are the same.
    """
    if confidence is None:
        confidence = detector.confidence
    linker, turner = tracks.Linker(), turns.Turner(detector, lambda faces: keep(faces, confidence), min_face_px)
    memory = None if carry_over is None else tracks.Memory(carry_over.mean_of, carry_over.most_frames)
    for chunk in _ahead(_chunks(frames)) if ahead else _chunks(frames):
        for frame, faces in zip(chunk, turner.detect([f.image for f in chunk])):
            height, width = frame.image.shape[:2]
            looks = [tracks.look(_upright(frame.image, f, LOOK_MARGIN)) for f in faces]
            faces = linker.update(faces, looks)
            if memory is not None:
                faces = memory.fill(faces)
            crops = [_upright(frame.image, f, margin) for f in faces]
            wide = []
            if windows is not None and frame.number % windows.every == 0:
                wide = [_upright(frame.image, f, windows.margin, padded_crop) for f in faces]
            flickers = [_flicker(frame, f) for f in faces] if len(frame.run) >= flicker.LEAST else []
            yield FrameFaces(
                frame.number, frame.index, frame.time_s, faces, crops, (width, height), looks, wide, flickers
            )


def _flicker(frame: Frame, face: Face) -> np.ndarray:
    return flicker.measure([_upright(image, face, flicker.MARGIN, padded_crop) for image in frame.run])


def _upright(image: np.ndarray, face: Face, margin: float, cut=crop_face) -> np.ndarray:
    """The crop of a face, uint8 (H, W, 3) RGB, turned so that the face is upright."""
    return turned_by(cv2.cvtColor(cut(image, face, margin), cv2.COLOR_BGR2RGB), face.turned)


def turned_note(turned: Iterable[int]) -> str:
    """A word about faces that were found turned, by the degrees; "" when none was."""
    degrees = sorted(set(turned) - {0})
    return f"read turned by {' and '.join(map(str, degrees))} degrees: its people are not upright" if degrees else ""


def _chunks(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    # The cut depends on the frames only, not on runs: a batch, its last bit, and which way up people are found to be
    # (`turns`) are the same on every path.
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


def _ahead(items: Iterator) -> Iterator:
    """The same items in the same order, each made while the one before is worked on. None of them is None."""
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = maker.submit(next, items, None)
            yield item


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
    windows: Windows | None = None,
    runs: Runs | None = None,
) -> tuple[FrameReader, Iterator[FrameFaces]]:
    """The fused path: (reader, faces frame by frame) in one decoding pass, no frame on disk, for videos of any length.
    The same crops as stages 00 and 01a.

    Args:
        path: the video.
        sampling: which frames.
        detector: of `detectors.create`.
        margin: part of the box added on every side of a crop.
        confidence: the bound of the published rule, see `keep`; None: the detector's own, 0.95 for MTCNN.
        scale: the resize rule, "published" or a factor.
        carry_over: fill frames without a face from past ones.
        min_face_source_px: the smallest face looked for, in pixels of the source video, instead of the detector's own
            (which is in pixels of the resized frame).
        threads: decoder threads, 0: as many as cores.
        windows: which faces are also shown with more around them.
        runs: in which frames is also measured how faces flicker.

    Raises:
        UserError: the video cannot be read at all.
    """
    reader = FrameReader(path, sampling, scale=scale, threads=threads, runs=runs)
    smallest = None if min_face_source_px is None else min_face_source_px * scale_for(scale, reader.info.width)
    return reader, faces_of_frames(
        reader,
        detector,
        margin=margin,
        confidence=confidence,
        carry_over=carry_over,
        min_face_px=smallest,
        ahead=threads > 1,
        windows=windows,
    )
