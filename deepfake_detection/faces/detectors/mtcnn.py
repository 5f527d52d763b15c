"""The `mtcnn` package as it is published (Zhang et al. 2016, "Joint Face Detection and Alignment using Multitask
Cascaded Convolutional Networks"), run over a batch of frames. The reference for mtcnn_fast. Imports TensorFlow (5
s)."""

from __future__ import annotations

import cv2
import numpy as np

from ... import unheard
from ..boxes import Face
from ..settings import PUBLISHED_CONFIDENCE
from . import by_confidence, in_frame
from .batching import BySize
from .pyramid import scales


class MtcnnDetector(BySize):
    """See `detectors.Detector`.

    The package's `detect_faces` answers "no face" to any error of TensorFlow, so its stages are called here one by one,
    and an error is an error.
    """

    name = "mtcnn"
    confidence = PUBLISHED_CONFIDENCE

    def __init__(self, *, min_face_px: float, threads: int):
        unheard.tensorflow()
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError:
            pass  # TensorFlow is already in use in this process
        from mtcnn.stages import StageONet, StageRNet

        self._tf, self._min_face_px = tf, min_face_px
        self._proposals, self._refine, self._output = _guarded_pnet()(), StageRNet(), StageONet()

    def _detect_same_size(self, frames: list[np.ndarray], min_face_px: float) -> list[list[Face]]:
        from mtcnn.utils.images import standarize_batch

        height, width = frames[0].shape[:2]
        found: list[list[Face]] = [[] for _ in frames]
        pyramid = scales(width, height, min_face_px)
        if not pyramid:
            return found
        with self._tf.device("CPU:0"):
            images, shapes, _ = standarize_batch([cv2.cvtColor(f, cv2.COLOR_BGR2RGB) for f in frames], normalize=True)
            boxes = self._proposals(images_normalized=images, pyramid=pyramid)
            for stage in (self._refine, self._output):
                if len(boxes):
                    boxes = stage(bboxes_batch=boxes, images_normalized=images, images_oshapes=shapes)
        if not len(boxes) or boxes.shape[1] < 16:
            return found
        for line in boxes:
            face = in_frame(*line[1:5], line[5], zip(line[6:11], line[11:16]), width, height)
            if face is not None:
                found[int(line[0])].append(face)
        return [by_confidence(faces) for faces in found]


def _guarded_pnet():
    """StagePNet of the package with the pyramid given from outside; the rest is the package's, step by step."""
    from mtcnn.stages import StagePNet
    from mtcnn.utils.bboxes import generate_bounding_box, resize_to_square, smart_nms_from_bboxes, upscale_bboxes
    from mtcnn.utils.images import scale_images

    class GuardedPNet(StagePNet):
        def __call__(self, images_normalized, pyramid, threshold_pnet=0.6, nms_pnet1=0.5, nms_pnet2=0.7):
            kept = []
            for scale in pyramid:
                regression, classes = self._model(scale_images(images_normalized, scale))
                boxes = generate_bounding_box(regression, classes, threshold_pnet)
                boxes = upscale_bboxes(boxes, np.full(len(images_normalized), scale))
                kept.append(smart_nms_from_bboxes(boxes, threshold=nms_pnet1, method="union", initial_sort=False))
            boxes = np.concatenate(kept, axis=0)
            boxes = smart_nms_from_bboxes(boxes, threshold=nms_pnet2, method="union", initial_sort=True)
            return resize_to_square(boxes)

    return GuardedPNet


DETECTOR = MtcnnDetector
