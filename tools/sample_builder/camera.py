"""A camera that looks at a picture: a window that pans, zooms and turns, a shaking hand, changing light, sensor
noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d


@dataclass(frozen=True)
class View:
    """Window on the picture: centre (x, y) and width in pixels of the picture, angle in degrees (counter-clockwise)."""

    x: float
    y: float
    width: float
    angle: float = 0.0


class Camera:
    """Moves smoothly from view to view over a clip.

    Args:
        path: views, evenly spaced in time; one view means only the hand moves.
        size: (width, height) of the clip.
        frames: how many frames.
        shake: amplitude of the hand in percent of the window's width.
        light: amplitude of the slow change of exposure, as a fraction.
        warmth: colour cast of this camera; > 0 is warm, in grey levels.
        noise: standard deviation of the sensor noise in grey levels.
        flip: a mirrored selfie camera.
    """

    def __init__(
        self,
        path: list[View],
        size: tuple[int, int],
        frames: int,
        rng: np.random.Generator,
        *,
        shake: float = 0.35,
        light: float = 0.04,
        warmth: float = 0.0,
        noise: float = 1.8,
        flip: bool = False,
    ):
        self.size, self.warmth, self.flip = size, warmth, flip
        keys = np.array([(v.x, v.y, v.width, v.angle) for v in path], float)
        t = np.linspace(0, len(path) - 1, frames)
        left = np.minimum(t.astype(int), max(len(path) - 2, 0))
        ease = 0.5 - 0.5 * np.cos(np.pi * np.clip(t - left, 0, 1))  # starts and stops like a hand, not like a motor
        right = np.minimum(left + 1, len(path) - 1)
        self.views = keys[left] + (keys[right] - keys[left]) * ease[:, None]
        wobble = gaussian_filter1d(rng.standard_normal((frames, 3)), 6, axis=0, mode="wrap") * 3.5
        self.views[:, 0] += wobble[:, 0] * self.views[:, 2] * shake / 100
        self.views[:, 1] += wobble[:, 1] * self.views[:, 2] * shake / 100
        self.views[:, 3] += wobble[:, 2] * shake
        phase = rng.uniform(0, 2 * np.pi)
        self.exposure = 1 + light * np.sin(np.linspace(0, 2 * np.pi * rng.uniform(0.6, 1.4), frames) + phase)
        # One large sheet of noise, seen through a moving hole: as good as fresh noise for each frame and much cheaper.
        self._noise = (rng.standard_normal((size[1] + 64, size[0] + 64)) * noise).round().astype(np.int16)
        self._noise = np.repeat(self._noise[..., None], 3, axis=2)
        self._holes = rng.integers(0, 64, (frames, 2))

    def shoot(self, picture: np.ndarray, k: int) -> np.ndarray:
        """Frame k of the clip: (H, W, 3) uint8 BGR of the camera's size."""
        x, y, width, angle = self.views[k]
        out_w, out_h = self.size
        scale = out_w / width
        half_w, half_h = width / 2, width / 2 * out_h / out_w
        x = np.clip(x, half_w, max(picture.shape[1] - half_w, half_w))  # the window stays on the picture
        y = np.clip(y, half_h, max(picture.shape[0] - half_h, half_h))
        matrix = cv2.getRotationMatrix2D((float(x), float(y)), float(angle), float(scale))
        matrix[:, 2] += (out_w / 2 - x, out_h / 2 - y)
        if scale < 1:  # warpAffine does not average: blur first, or fine texture would flicker
            picture = cv2.GaussianBlur(picture, (0, 0), 0.45 / scale)
        frame = cv2.warpAffine(picture, matrix, self.size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        # Exposure and colour cast through a table, noise added with saturation: whole numbers throughout, an eighth of
        # the time.
        ramp = np.arange(256)[:, None] * self.exposure[k] + (-self.warmth, 0, self.warmth)
        frame = cv2.LUT(frame, np.clip(np.rint(ramp), 0, 255).astype(np.uint8)[None])
        dy, dx = self._holes[k]
        frame = cv2.add(frame, self._noise[dy : dy + out_h, dx : dx + out_w], dtype=cv2.CV_8U)
        return frame[:, ::-1] if self.flip else frame
