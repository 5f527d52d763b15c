"""The fakes: a face is lifted into an aligned patch, changed there, and blended back, frame by frame.

The steps are those of the face-swap programs: alignment by face points, a network of low resolution (here: resampling),
colour transfer, a soft mask. Colour transfer: Reinhard et al. 2001, "Color Transfer between Images". Self-blending:
Shiohara and Yamasaki 2022, "Detecting Deepfakes with Self-Blended Images". No generative model is involved.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

SIDE = 224  # pixels of the aligned patch
# Mean face (ArcFace's five points on 112 x 112), set into the patch with room for forehead and chin.
_MEAN = np.array([(38.29, 51.70), (73.53, 51.50), (56.03, 71.74), (41.55, 92.37), (70.73, 92.20)], np.float32)
MEAN_POINTS = ((_MEAN - (56, 74)) * 1.5 + SIDE / 2).astype(np.float32)


def align(points: np.ndarray) -> np.ndarray:
    """Least-squares similarity (2, 3) that takes five points (5, 2) of a frame to the patch."""
    rows, right = [], []
    for (x, y), (u, v) in zip(points, MEAN_POINTS):
        rows += [(x, -y, 1, 0), (y, x, 0, 1)]
        right += [u, v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows, float), np.array(right, float), rcond=None)[0]
    return np.array([(a, -b, tx), (b, a, ty)])


def lift(frame: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE, 3) float32 patch of a frame."""
    return cv2.warpAffine(frame, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101).astype(
        np.float32
    )


def to_patch(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def pull(patch: np.ndarray, at: np.ndarray, by: np.ndarray, reach: float = 26.0) -> np.ndarray:
    """Moves what is at the points `at` (N, 2) by `by` (N, 2) pixels; Gaussian fall-off, so that the picture does not
    fold."""
    line = np.arange(SIDE, dtype=np.float32)
    # A Gaussian in two dimensions is the product of two in one.
    fall_x = np.exp(-((line[None] - at[:, :1]) ** 2) / (2 * reach**2)).astype(np.float32)
    fall_y = np.exp(-((line[None] - at[:, 1:]) ** 2) / (2 * reach**2)).astype(np.float32)
    whole = np.maximum(fall_y.T @ fall_x, 1)  # where reaches overlap the pulls are averaged, not added
    map_x = line[None, :] - (fall_y.T @ (fall_x * by[:, :1].astype(np.float32))) / whole
    map_y = line[:, None] - (fall_y.T @ (fall_x * by[:, 1:].astype(np.float32))) / whole
    return cv2.remap(
        patch, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )


def face_mask(rng: np.random.Generator, feather: float, grow: float = 1.0) -> np.ndarray:
    """(SIDE, SIDE, 1) in 0..1: an oval from brows to chin with an uneven edge, feathered by `feather` pixels."""
    centre = MEAN_POINTS.mean(axis=0) + (0, 5)
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    uneven = 1 + 0.045 * gaussian_filter1d(rng.standard_normal(90), 7, mode="wrap") * 5
    oval = np.stack([np.cos(angle) * 50 * grow * uneven, np.sin(angle) * 62 * grow * uneven], axis=1) + centre
    mask = np.zeros((SIDE, SIDE), np.float32)
    cv2.fillPoly(mask, [np.round(oval).astype(np.int32)], 1.0)
    return cv2.GaussianBlur(mask, (0, 0), feather)[..., None]


def match_colour(patch: np.ndarray, like: np.ndarray, mask: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Mean and spread of L, a, b inside the mask made equal to those of `like` (Reinhard et al. 2001)."""
    inside = mask[..., 0] > 0.5
    lab = cv2.cvtColor(np.clip(patch, 0, 255) / np.float32(255), cv2.COLOR_BGR2LAB)
    target = cv2.cvtColor(np.clip(like, 0, 255) / np.float32(255), cv2.COLOR_BGR2LAB)
    mean, spread = lab[inside].mean(0), lab[inside].std(0) + 1e-3
    moved = (lab - mean) * np.clip(target[inside].std(0) / spread, 0.6, 1.6) + target[inside].mean(0)
    return cv2.cvtColor((lab + strength * (moved - lab)).astype(np.float32), cv2.COLOR_LAB2BGR) * 255


def through_network(patch: np.ndarray, side: int, crispness: float = 0.5) -> np.ndarray:
    """What a generator of `side` pixels leaves: detail lost, then sharpened back."""
    small = cv2.resize(patch, (side, side), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return large + crispness * (large - cv2.GaussianBlur(large, (0, 0), 3))


class Fake:
    """One manipulation over one clip. Call it with a frame, its face points, and the frame's number in the clip.

    Args:
        method: `swap` (another face or another moment of the same person), `mirror` (the face's mirror image put on),
            `self-blend`, `lip-sync` (mouth and jaw of the still are made to speak), `reshape` (other proportions),
            `resynth` (the face is passed through a network of low resolution).
        frames, fps: of the clip.
        donor: for `swap`: clip frame number -> (frame, its five points).
        network: side of the generator in pixels; what face-swap networks of the time had was 64 to 128.
    """

    METHODS = ("swap", "mirror", "self-blend", "lip-sync", "reshape", "resynth")

    def __init__(
        self,
        method: str,
        frames: int,
        fps: float,
        rng: np.random.Generator,
        *,
        donor: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None,
        network: int = 96,
        feather: float = 5.0,
        grow: float = 1.0,
    ):
        if method not in self.METHODS or (method == "swap") != (donor is not None):
            raise ValueError(f"method {method!r} with donor {donor!r}")
        self.method, self.donor, self.network = method, donor, network
        self.mask = face_mask(rng, feather, grow)
        # Alignment trembles and colour flickers a little from frame to frame, as in every face swap made frame by
        # frame.
        self.tremble = gaussian_filter1d(rng.standard_normal((frames, 2)), 1.5, axis=0) * 1.1
        self.flicker = gaussian_filter1d(rng.standard_normal((frames, 1)), 1.0, axis=0) * 1.2
        self.flicker = self.flicker.astype(np.float32)  # all patches stay float32: OpenCV warps no float64
        # Self-blending: the parameters stay for the clip, as a real swap program's would.
        self.shift = rng.uniform(2.5, 4.5, 2) * rng.choice([-1, 1], 2)
        self.zoom = 1 + rng.uniform(0.025, 0.05) * rng.choice([-1, 1])
        self.cast = (rng.uniform(3, 6, 3) * rng.choice([-1, 1], 3)).astype(np.float32)
        self.sharpen = rng.choice([True, False])
        # Speech: opening of the mouth, syllables of 3 to 5 Hz with pauses between words.
        t = np.arange(frames) / fps
        words = gaussian_filter1d((np.sin(2 * np.pi * 0.55 * t + rng.uniform(0, 6)) > -0.5).astype(float), fps * 0.1)
        self.mouth = words * np.abs(np.sin(np.pi * 3.4 * t + 1.5 * np.sin(2 * np.pi * 0.8 * t)))
        self.proportions = (
            np.array([(-3, -1), (3, -1), (0, 3), (-5, -3), (5, -3)]) * rng.choice([-1, 1]) * rng.uniform(0.9, 1.3)
        )

    def __call__(self, frame: np.ndarray, points: np.ndarray, k: int) -> np.ndarray:
        matrix = align(points)
        target = lift(frame, matrix)
        patch, mask = getattr(self, "_" + self.method.replace("-", "_"))(target, to_patch(points, matrix), k)
        patch = patch + self.flicker[k]
        back = cv2.invertAffineTransform(matrix)
        # Only the part of the frame that the patch covers is touched.
        corners = np.array([(0, 0), (SIDE, 0), (0, SIDE), (SIDE, SIDE)]) @ back[:, :2].T + back[:, 2]
        x0, y0 = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(corners.max(axis=0)).astype(int), (frame.shape[1], frame.shape[0]))
        back[:, 2] -= (x0, y0)
        size = (int(x1 - x0), int(y1 - y0))
        new = cv2.warpAffine(patch, back, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(mask, back, size, flags=cv2.INTER_LINEAR)[..., None]
        changed = frame.copy()
        old = frame[y0:y1, x0:x1]
        changed[y0:y1, x0:x1] = np.clip(old + alpha * (new - old), 0, 255).astype(np.uint8)
        return changed

    def _move(self, patch: np.ndarray, k: int, shift=(0.0, 0.0), zoom: float = 1.0) -> np.ndarray:
        matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 0, zoom)
        matrix[:, 2] += np.asarray(shift) + self.tremble[k]
        return cv2.warpAffine(patch, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)

    def _put_on(self, other: np.ndarray, other_points: np.ndarray, target: np.ndarray, points: np.ndarray, k: int):
        other = pull(other, other_points, points - other_points)  # its features come to lie on the target's
        other = match_colour(self._move(through_network(other, self.network), k), target, self.mask, 0.9)
        return other, self.mask

    def _swap(self, target, points, k):
        frame, donor_points = self.donor(k)
        matrix = align(donor_points)
        return self._put_on(lift(frame, matrix), to_patch(donor_points, matrix), target, points, k)

    def _mirror(self, target, points, k):
        mirrored = points[[1, 0, 2, 4, 3]] * (-1, 1) + (SIDE - 1, 0)
        return self._put_on(target[:, ::-1], mirrored, target, points, k)

    def _self_blend(self, target, points, k):
        patch = self._move(target, k, self.shift, self.zoom) + self.cast
        soft = cv2.GaussianBlur(patch, (0, 0), 1.2)
        return (patch + 0.7 * (patch - soft) if self.sharpen else soft), self.mask

    def _lip_sync(self, target, points, k):
        opening = self.mouth[k] * 11
        middle = points[3:].mean(axis=0)
        at = np.array([middle + (0, 10), middle + (0, 30), points[3], points[4], middle + (0, -7)])
        by = np.array(
            [
                (0, opening * 1.3),
                (0, opening),
                (opening * 0.25, opening * 0.3),
                (-opening * 0.25, opening * 0.3),
                (0, -opening * 0.15),
            ]
        )
        patch = pull(target, at, by, reach=13)
        lower = self.mask * np.clip((np.arange(SIDE)[:, None, None] - points[2, 1]) / 12, 0, 1).astype(np.float32)
        return self._move(through_network(patch, self.network), k), lower

    def _reshape(self, target, points, k):
        patch = pull(target, points, self.proportions)
        return self._move(through_network(patch, self.network), k), self.mask

    def _resynth(self, target, points, k):
        patch = self._move(through_network(target, self.network, 0.9), k, self.shift * 0.4)
        return match_colour(patch + self.cast, target, self.mask, 0.5), self.mask
