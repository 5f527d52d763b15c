"""MTCNN with the `mtcnn` package's weights and steps, on ONNX Runtime and OpenCV: the same faces without TensorFlow.

What remains of a difference is float rounding. On real clips the boxes agree with the package's to a mean IoU of 0.998,
none missed and none more (tests/faces).
"""

from __future__ import annotations

import cv2
import numpy as np

from ... import onnx_session
from ..boxes import Face
from ..settings import PUBLISHED_CONFIDENCE
from . import DATA, by_confidence, in_frame
from .batching import BySize
from .pyramid import scales

# The package's defaults.
PNET_THRESHOLD, RNET_THRESHOLD, ONET_THRESHOLD = 0.6, 0.7, 0.8
PNET_NMS_SCALE, PNET_NMS_ALL, RNET_NMS, ONET_NMS = 0.5, 0.7, 0.7, 0.7
STRIDE, CELL = 2, 12
#: What lies outside a frame: 0 after (x - 127.5) / 128.
OUTSIDE = 127.5
#: Candidates that go through a network at once; bounds memory on crowded frames.
BATCH = 512


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


class MtcnnFastDetector(BySize):
    """See `detectors.Detector`."""

    name = "mtcnn_fast"
    confidence = PUBLISHED_CONFIDENCE

    def __init__(self, *, min_face_px: float, threads: int):
        # Every frame size and number of candidates is a new shape.
        self._pnet, self._rnet, self._onet = (
            onnx_session.opened(DATA / f"mtcnn_{net}.onnx", threads=threads, one_shape=False)
            for net in ("pnet", "rnet", "onet")
        )
        self._min_face_px = min_face_px

    def _detect_same_size(self, frames: list[np.ndarray], min_face_px: float) -> list[list[Face]]:
        height, width = frames[0].shape[:2]
        # Floats, as in the package: pictures of the pyramid rounded to 8 bits would move boxes by a pixel.
        frames = [f.astype(np.float32) for f in frames]
        boxes = self._propose(frames, scales(width, height, min_face_px))
        boxes = self._refine(frames, boxes)
        found: list[list[Face]] = [[] for _ in frames]
        for image, x0, y0, x1, y1, confidence, *points in self._finish(frames, boxes):
            face = in_frame(x0, y0, x1, y1, confidence, zip(points[:5], points[5:]), width, height)
            if face is not None:
                found[int(image)].append(face)
        return [by_confidence(faces) for faces in found]

    # Candidates are rows of float64: image, x0, y0, x1, y1, score.
    def _propose(self, frames: list[np.ndarray], pyramid: list[float]) -> np.ndarray:
        kept = []
        height, width = frames[0].shape[:2]
        for scale in pyramid:
            size = (int(width * scale), int(height * scale))
            interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            batch = np.empty((len(frames), size[1], size[0], 3), np.float32)
            for frame, picture in zip(frames, batch):
                cv2.resize(frame, size, dst=picture, interpolation=interpolation)
            maps = self._pnet.run(None, {"images": batch})[0]  # (N, 5, h, w)
            image, y, x = np.nonzero(maps[:, 0] > _logit(PNET_THRESHOLD))
            if not len(image):
                continue
            values = maps[image, :, y, x].astype(np.float64)  # (n, 5)
            boxes = np.empty((len(image), 6))
            boxes[:, 0] = image
            boxes[:, 1] = (x * STRIDE + 1 + values[:, 1] * (CELL - 1)) / scale
            boxes[:, 2] = (y * STRIDE + 1 + values[:, 2] * (CELL - 1)) / scale
            boxes[:, 3] = (x * STRIDE + CELL + values[:, 3] * (CELL - 1)) / scale
            boxes[:, 4] = (y * STRIDE + CELL + values[:, 4] * (CELL - 1)) / scale
            boxes[:, 5] = values[:, 0]  # the logit orders as the probability does
            kept.append(_suppress(boxes, PNET_NMS_SCALE))
        if not kept:
            return np.empty((0, 6))
        return _square(_suppress(np.concatenate(kept), PNET_NMS_ALL))

    def _refine(self, frames, boxes: np.ndarray) -> np.ndarray:
        if not len(boxes):
            return boxes
        logits, offsets = _in_batches(self._rnet, ["logit", "box"], _patches(frames, boxes, 24))
        boxes = _adjust(boxes, offsets, logits[:, 0])
        return _square(_suppress(boxes[boxes[:, 5] > _logit(RNET_THRESHOLD)], RNET_NMS))

    def _finish(self, frames, boxes: np.ndarray) -> np.ndarray:
        if not len(boxes):
            return np.empty((0, 16))
        logits, offsets, points = _in_batches(self._onet, ["logit", "box", "points"], _patches(frames, boxes, 48))
        sides = boxes[:, 3:5] - boxes[:, 1:3] + 1
        points = np.concatenate(
            [points[:, :5] * sides[:, :1] + boxes[:, 1:2] - 1, points[:, 5:] * sides[:, 1:] + boxes[:, 2:3] - 1], 1
        )
        boxes = np.concatenate([_adjust(boxes, offsets, logits[:, 0]), points], 1)
        boxes = _suppress(boxes[boxes[:, 5] > _logit(ONET_THRESHOLD)], ONET_NMS, of_smaller=True)
        boxes[:, 5] = 1 / (1 + np.exp(-boxes[:, 5]))
        return boxes


def _in_batches(network, outputs: list[str], patches: np.ndarray) -> list[np.ndarray]:
    parts = [network.run(outputs, {"images": patches[i : i + BATCH]}) for i in range(0, len(patches), BATCH)]
    return [np.concatenate(p).astype(np.float64) for p in zip(*parts)]


def _adjust(boxes: np.ndarray, offsets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Moves the corners by offsets in units of the box's size (the package counts sizes with + 1)."""
    boxes = boxes.copy()
    sides = boxes[:, 3:5] - boxes[:, 1:3] + 1
    boxes[:, 1:5] += offsets * np.concatenate([sides, sides], 1)
    boxes[:, 5] = scores
    return boxes


def _square(boxes: np.ndarray) -> np.ndarray:
    """The square around the same centre with the longer side."""
    boxes = boxes.copy()
    sides = boxes[:, 3:5] - boxes[:, 1:3]
    longest = sides.max(1, keepdims=True)
    boxes[:, 1:3] += (sides - longest) * 0.5
    boxes[:, 3:5] = boxes[:, 1:3] + longest
    return boxes


def _suppress(boxes: np.ndarray, threshold: float, of_smaller: bool = False) -> np.ndarray:
    """The package's suppression: a box goes if it overlaps any better one of its image, also one that itself goes.

    Args:
        boxes: rows of image, x0, y0, x1, y1, score, ...
        threshold: of the intersection over union (or over the smaller box's area).

    Returns:
        The rows that stay, by image and descending score.
    """
    boxes = boxes[np.lexsort((-boxes[:, 5], boxes[:, 0]))]
    images, starts = np.unique(boxes[:, 0], return_index=True)
    stays = np.ones(len(boxes), bool)
    for start, end in zip(starts, [*starts[1:], len(boxes)]):
        if end - start < 2:
            continue
        x0, y0, x1, y1 = np.ascontiguousarray(boxes[start:end, 1:5].T, np.float32)
        area = (x1 - x0) * (y1 - y0)
        inner = np.minimum(x1[:, None], x1) - np.maximum(x0[:, None], x0)
        np.maximum(inner, 0, out=inner)
        tall = np.minimum(y1[:, None], y1) - np.maximum(y0[:, None], y0)
        np.maximum(tall, 0, out=tall)
        inner *= tall
        if of_smaller:
            limit = np.minimum(area[:, None], area) * np.float32(threshold)
        else:  # i / (a + b - i) > t  is  i (1 + t) > t (a + b)
            limit = (area[:, None] + area) * np.float32(threshold / (1 + threshold))
        overlaps = np.triu(inner > limit, k=1)
        stays[start:end] = ~overlaps.any(0)
    return boxes[stays]


def _patches(frames: list[np.ndarray], boxes: np.ndarray, size: int) -> np.ndarray:
    """Cuts and resizes candidates as TensorFlow's crop_and_resize does: bilinear between the corner pixels, no
    antialiasing.

    Returns:
        float32 (n, size, size, 3), BGR, in the order of `boxes`.
    """
    patches = np.empty((len(boxes), size, size, 3), np.float32)
    height, width = frames[0].shape[:2]
    steps = np.arange(size) / (size - 1)
    rows = max(1, 32000 // size)  # OpenCV maps at most 32767 rows at once
    for image in np.unique(boxes[:, 0]).astype(int):
        of_image = np.flatnonzero(boxes[:, 0] == image)
        for part in (of_image[i : i + rows] for i in range(0, len(of_image), rows)):
            b = boxes[part]
            xs = (b[:, 1:2] + (b[:, 3:4] - b[:, 1:2]) * steps) * ((width - 1) / width)
            ys = (b[:, 2:3] + (b[:, 4:5] - b[:, 2:3]) * steps) * ((height - 1) / height)
            # A sample outside the frame is "outside" as a whole, not mixed with the border.
            xs[(xs < 0) | (xs > width - 1)] = -9
            ys[(ys < 0) | (ys > height - 1)] = -9
            shape = (len(part), size, size)
            map_x = np.broadcast_to(xs[:, None, :], shape).astype(np.float32).reshape(-1, size)
            map_y = np.broadcast_to(ys[:, :, None], shape).astype(np.float32).reshape(-1, size)
            patches[part] = cv2.remap(
                frames[image],
                map_x,
                map_y,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=(OUTSIDE,) * 3,
            ).reshape(*shape, 3)
    return patches


DETECTOR = MtcnnFastDetector
