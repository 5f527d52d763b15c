"""Dense face landmarks: 468 points of a face, for fakes that are made along its real outline (`blending.blend`).

    mesh = FaceMesh()
    points, score = mesh(crop)  # (468, 2) parts of width and height of the crop, and how sure it is of a face

The network is MediaPipe's face landmark model (Kartynnik et al., "Real-time Facial Surface Geometry from Monocular
Video on Mobile GPUs", 2019; Apache-2.0), run by TensorFlow's own TFLite interpreter: 2 ms a face on one core. Only
training needs it.
"""

from __future__ import annotations

import warnings

import numpy as np

from .detectors import DATA

MODEL = DATA / "face_landmark.tflite"
POINTS = 468

#: Side of the network's input, and how much around the crop it is shown, as parts of the crop: the network was made for
#: whole heads, the crops end at the brows. What is not there is mirrored; on such crops the points lie on eyes, nose
#: and mouth all the same.
SIDE = 192
AROUND = {"left": 0.25, "right": 0.25, "above": 0.45, "below": 0.25}
NOTHING_AROUND = dict.fromkeys(AROUND, 0.0)

#: From this score (a logit) on there is a face: of the real training faces 98.5 % have more, noise has less than 0.
LEAST_SCORE = 5.0

# Numbers of the model's points. Left and right are the viewer's.
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
JAW = OVAL[7:30]  # from ear to ear, below the brows
BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
RIGHT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
NOSE = (168, 6, 195, 4, 1, 2, 98, 327, 48, 278)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)

#: Every second point of the outline, and enough of eyes, nose and mouth to bend one face onto another.
CONTROL = tuple(sorted({*OVAL[::2], *BROWS[::2], *LEFT_EYE[::4], *RIGHT_EYE[::4], *NOSE, *LIPS[::2], *INNER_LIPS[::3]}))


class FaceMesh:
    """Finds the 468 points in tight face crops. One instance a process."""

    def __init__(self):
        import tensorflow as tf

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TFLite is moving to a package of its own
            self._network = tf.lite.Interpreter(str(MODEL), num_threads=1)
        self._network.allocate_tensors()
        self._input = self._network.get_input_details()[0]["index"]
        self._points, self._score = (
            d["index"] for d in sorted(self._network.get_output_details(), key=lambda d: -np.prod(d["shape"]))
        )

    def __call__(self, crop: np.ndarray, around: dict = AROUND) -> tuple[np.ndarray, float]:
        """The points of the face in a crop and the score that it is one.

        Args:
            crop: uint8 RGB (H, W, 3), from the brows to the chin, or wider.
            around: how much is shown around it, parts of its width and height.

        Returns:
            ((468, 2) float32, x and y as parts of width and height, NaN throughout where no face is seen; the score, a
            logit).
        """
        import cv2

        height, width = crop.shape[:2]
        across, down = 1 + around["left"] + around["right"], 1 + around["above"] + around["below"]
        scale = np.array([SIDE / across, SIDE / down])  # px of the input for one crop
        shift = np.array([around["left"], around["above"]]) * scale
        matrix = np.array([[scale[0] / width, 0, shift[0]], [0, scale[1] / height, shift[1]]])
        shown = cv2.warpAffine(crop, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        self._network.set_tensor(self._input, shown[None].astype(np.float32) / 255)
        self._network.invoke()
        score = float(self._network.get_tensor(self._score).ravel()[0])
        if score < LEAST_SCORE:
            return np.full((POINTS, 2), np.nan, np.float32), score
        points = self._network.get_tensor(self._points).reshape(POINTS, 3)[:, :2]
        return ((points - shift) / scale).astype(np.float32), score


def five(points: np.ndarray) -> np.ndarray:
    """Eyes, nose and corners of the mouth, (5, 2), of the 468 points (468, 2)."""
    eyes = [points[list(eye)].mean(0) for eye in (LEFT_EYE, RIGHT_EYE)]
    return np.stack([*eyes, points[1], points[61], points[291]])
