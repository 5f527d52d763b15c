"""YuNet (Wu, Peng, Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector") through OpenCV, the lightest."""

from __future__ import annotations

import cv2
import numpy as np

from ..boxes import Face
from ..settings import YUNET_CONFIDENCE
from . import DATA, by_confidence, in_frame

MODEL = DATA / "face_detection_yunet_2023mar.onnx"
#: OpenCV's defaults for this model.
SCORE_THRESHOLD, NMS_THRESHOLD, TOP_K = 0.6, 0.3, 5000
#: The smallest face that the network was made for, in pixels of its input.
NATIVE_MIN_FACE_PX = 10


class YunetDetector:
    """See `detectors.Detector`. Its speed comes from shrinking frames as far as the smallest face allows."""

    name = "yunet"
    confidence = YUNET_CONFIDENCE

    def __init__(self, *, min_face_px: float, threads: int):
        if not hasattr(cv2, "FaceDetectorYN"):
            raise RuntimeError("this OpenCV has no FaceDetectorYN")
        # OpenCV 5 warns of a setting that it makes itself.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        self._network = cv2.FaceDetectorYN.create(str(MODEL), "", (320, 320), SCORE_THRESHOLD, NMS_THRESHOLD, TOP_K)
        self._min_face_px = min_face_px

    def detect(self, frames: list[np.ndarray], min_face_px: float | None = None) -> list[list[Face]]:
        smallest = min_face_px or self._min_face_px
        return [self._detect(frame, smallest) for frame in frames]

    def _detect(self, frame: np.ndarray, min_face_px: float) -> list[Face]:
        height, width = frame.shape[:2]
        scale = min(1.0, NATIVE_MIN_FACE_PX / min_face_px)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if min(size) < NATIVE_MIN_FACE_PX:
            return []
        picture = frame if size == (width, height) else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        self._network.setInputSize(size)
        _, rows = self._network.detect(picture)
        faces = []
        for row in rows if rows is not None else ():
            x, y, w, h, *points = (float(v) / (size[i % 2] / (width, height)[i % 2]) for i, v in enumerate(row[:14]))
            if max(w, h) < min_face_px:
                continue
            face = in_frame(x, y, x + w, y + h, row[14], zip(points[::2], points[1::2]), width, height)
            if face is not None:
                faces.append(face)
        return by_confidence(faces)


DETECTOR = YunetDetector
