"""The face detector of the training data: the largest face of a frame, and the points of a face in a crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class FaceFinder:
    """YuNet on frames and on tight crops. One instance a process.

    Args:
        model: `face_detection_yunet_2023mar.onnx`.
        confidence: least score of a face.
    """

    #: Frames are detected at this width or height: faces of 40 px and more in 1080p are still found, at a tenth of the
    #: time.
    SIDE = 640

    def __init__(self, model: str | Path, confidence: float = 0.6):
        import cv2

        self._yunet = cv2.FaceDetectorYN.create(str(model), "", (320, 320), confidence, 0.3, 50)

    def biggest(self, frame: np.ndarray) -> tuple[tuple[float, float, float, float], np.ndarray] | None:
        """Box (x, y, width, height) and five points (5, 2) of a BGR frame's largest face in its pixels, or None."""
        import cv2

        scale = min(1.0, self.SIDE / max(frame.shape[:2]))
        small = frame if scale == 1 else cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._yunet.setInputSize((small.shape[1], small.shape[0]))
        found = self._yunet.detect(small)[1]
        if found is None:
            return None
        best = max(found, key=lambda f: f[2] * f[3]) / scale
        x, y, width, height = (float(v) for v in best[:4])
        return (x, y, width, height), best[4:14].reshape(5, 2)

    def points_in_crop(self, crop: np.ndarray) -> np.ndarray:
        """The five points of a tight face crop (BGR, uint8) as parts of its width and height, (5, 2); NaN where no face
        is seen.

        YuNet needs to see more than the face: the crop is set in a grey frame of twice its size.
        """
        import cv2

        side = 96
        square = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        framed = cv2.copyMakeBorder(
            square, side // 2, side // 2, side // 2, side // 2, cv2.BORDER_CONSTANT, value=(127, 127, 127)
        )
        self._yunet.setInputSize((2 * side, 2 * side))
        found = self._yunet.detect(framed)[1]
        if found is None:
            return np.full((5, 2), np.nan, np.float32)
        return ((max(found, key=lambda f: f[2] * f[3])[4:14].reshape(5, 2) - side / 2) / side).astype(np.float32)
