"""Videos whose people are upside down or lie on their side without a tag that says so: they are read turned.

A face detector finds few of such faces, is unsure of them, and puts their points where those of an upright face would
be; the network then judges what it never saw. So where the faces of a chunk of frames are not surely upright, some of
them are looked at in all four directions, cut out, which costs next to nothing; only where these do not tell, a few
whole frames are. What is clearly better turned is read so from there on. Everything that is reported stays in the
frame's own pixels; crops are upright.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from ..video.picture import turned_by
from ..video.sampling import thin
from .boxes import Face
from .crops import crop_face, turned_rectangle
from .quality import pose

TURNS = (0, 90, 180, 270)

#: Evidence (`_evidence`) of a chunk, mean over its frames, from which its faces are surely upright: on the 21
#: untouched clips of the sample upright ones have 2.1 to 3 and turned ones 0 to 1.8 with MTCNN, 2.2 to 2.4 and 0 to
#: 2.1 with YuNet.
_SURE = 2.2
#: Mean over the faces found from which, where cut-out faces do not tell, they are taken for upright.
_LIKELY = 1.9
#: So much better, and so good, must a direction be among cut-out faces, and among whole frames.
_BETTER_FACE, _GOOD_FACE = 0.6, 1.2
_BETTER_FRAME, _GOOD_FRAME = 0.25, 1.5
#: How many faces and whole frames are looked at in a chunk.
_FACES, _FRAMES = 4, 3
#: Side of a cut-out face with what is around it, px, and how much of its box that is on every side.
_SIDE, _AROUND = 96, 0.6
#: A face that leans further than this is not upright, degrees.
_LEANS = 45.0


class Turner:
    """Detects faces, chunk after chunk of one video, in the direction in which its people are upright.

    Args:
        detector: of `detectors.create`; min_face_px: see `detectors.Detector.detect`.
        kept: which of a frame's faces count (`extract.keep`).
    """

    def __init__(self, detector, kept, min_face_px: float | None = None):
        self._detector, self._kept, self._min_face_px = detector, kept, min_face_px
        self._turn, self._settled, self._unsure = 0, False, 0

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces that count of each frame, uint8 (H, W, 3) BGR, in its own pixels, with `turned`."""
        found = self._at(images, self._turn)
        if images and sum(map(self._best, found)) / len(found) >= _SURE:
            self._settled = True
        elif images:
            turn = self._look(images, found)
            if turn != self._turn:
                self._turn, self._settled = turn, True
                found = self._at(images, turn)
        return found

    def _at(self, images: Sequence[np.ndarray], turn: int, min_face_px: float | None = None) -> list[list[Face]]:
        turned = [turned_by(image, turn) for image in images]
        found = self._detector.detect(turned, min_face_px or self._min_face_px)
        return [
            [turned_back(face, turn, image.shape[1], image.shape[0]) for face in self._kept(faces)]
            for image, faces in zip(images, found, strict=True)
        ]

    def _best(self, faces: Sequence[Face]) -> float:
        return max((self._evidence(face) for face in faces), default=0.0)

    def _evidence(self, face: Face) -> float:
        """How surely this is an upright face, 0..3: the detector's confidence on one scale for all detectors."""
        roll = pose(face.points)[2] + face.turned
        if abs((roll + 180) % 360 - 180) > _LEANS:
            return 0.0
        if self._detector.name == "yunet":  # never nearer to 1 than 0.96
            return max(0.0, (face.confidence - 0.6) * 6.9)
        return min(3.0, -math.log10(max(1 - face.confidence, 1e-3)))

    def _look(self, images: Sequence[np.ndarray], found: list[list[Face]]) -> int:
        """The direction for these frames, whose faces are not surely upright as they are read now."""
        seen = [i for i, faces in enumerate(found) if faces]
        turn, sure = self._by_faces([images[i] for i in seen], [found[i] for i in seen])
        if turn != self._turn or sure:
            self._settled = self._settled or sure
            return turn
        few = len(seen) < 0.5 * len(images)
        if not few and sum(self._best(found[i]) for i in seen) >= _LIKELY * len(seen):
            return self._turn
        self._unsure += not self._settled
        if self._settled or self._unsure & (self._unsure - 1):  # the 1st, 2nd, 4th, ... such chunk
            return self._turn
        without = [i for i in range(len(images)) if not found[i]]
        chosen = thin(without if few else range(len(images)), _FRAMES)
        return self._by_frames([images[i] for i in chosen], [found[i] for i in chosen])

    def _by_faces(self, images: Sequence[np.ndarray], found: Sequence[list[Face]]) -> tuple[int, bool]:
        """(direction, whether the faces tell it) from some faces, cut out and looked at in all directions."""
        chosen = thin(range(len(images)), _FACES)
        if not chosen:
            return self._turn, False
        totals = dict.fromkeys(TURNS, 0.0)
        for i in chosen:
            cut = _small(crop_face(images[i], max(found[i], key=lambda f: f.width * f.height), _AROUND))
            for turn in TURNS:
                totals[turn] += self._best(self._at([cut], turn, 20.0)[0]) / len(chosen)
        best, second = sorted(totals, key=lambda turn: totals[turn], reverse=True)[:2]
        if totals[best] < max(_GOOD_FACE, totals[second] + _BETTER_FACE):
            return self._turn, False
        if best != self._turn:  # whole frames must agree
            chosen = chosen[:_FRAMES]
            as_read = sum(self._best(found[i]) for i in chosen)
            if sum(map(self._best, self._at([images[i] for i in chosen], best))) <= as_read:
                return self._turn, False
        return best, True

    def _by_frames(self, images: Sequence[np.ndarray], found: Sequence[list[Face]]) -> int:
        means = {self._turn: sum(map(self._best, found)) / len(images)}
        for turn in TURNS:
            if turn != self._turn:
                means[turn] = sum(map(self._best, self._at(images, turn))) / len(images)
        best, second = sorted(means, key=lambda turn: means[turn], reverse=True)[:2]
        return best if means[best] >= max(_GOOD_FRAME, means[second] + _BETTER_FRAME) else self._turn


def _small(image: np.ndarray) -> np.ndarray:
    scale = _SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def turned_back(face: Face, turn: int, width: int, height: int) -> Face:
    """A face of the picture turned clockwise by `turn`, in pixels of the picture as it was (width x height)."""
    if not turn:
        return face

    def back(x0: float, y0: float, x1: float, y1: float) -> tuple:
        sides = (height, width) if turn in (90, 270) else (width, height)
        return turned_rectangle((x0, y0, x1, y1), 360 - turn, *sides)

    x0, y0, x1, y1 = back(face.x, face.y, face.x + face.width, face.y + face.height)
    points = tuple(back(*point, *point)[:2] for point in face.points)
    return replace(face, x=x0, y=y0, width=x1 - x0, height=y1 - y0, points=points, turned=(face.turned + turn) % 360)
