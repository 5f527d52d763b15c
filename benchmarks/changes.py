"""What happens to videos and pictures on their way, for `detector_tables.py`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

#: What happens to a video: ffmpeg filters and the CRF of the x264 encoding after them. CRF 18 is nearly without loss.
VIDEO_CHANGES = {
    "clean": None,
    "x264 CRF 23": ("", 23),
    "x264 CRF 28": ("", 28),
    "x264 CRF 35": ("", 35),
    "x264 CRF 40": ("", 40),
    "scaled to 0.5": ("scale=trunc(iw/4)*2:trunc(ih/4)*2", 18),
    "scaled to 0.25": ("scale=trunc(iw/8)*2:trunc(ih/8)*2", 18),
    "half the frames": ("fps=source_fps/2", 18),
    "blur, sigma 2 px": ("gblur=sigma=2", 18),
    "noise, sigma 10": ("noise=alls=17:allf=t", 18),
    "darker, x 0.4": ("lutyuv=y='(val-16)*0.4+16'", 18),
}


def picture_changes(seed: int) -> dict:
    """Name -> change of a uint8 RGB picture, for crops that have no video."""
    import cv2

    rng = np.random.default_rng(seed)

    def jpeg(quality):
        return lambda x: cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)

    def scaled(factor):
        return lambda x: cv2.resize(x, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)

    return {
        "clean": lambda x: x,
        "JPEG 50": jpeg(50),
        "JPEG 25": jpeg(25),
        "scaled to 0.5": scaled(0.5),
        "scaled to 0.25": scaled(0.25),
        "blur, sigma 2 px": lambda x: cv2.GaussianBlur(x, (0, 0), 2.0),
        "noise, sigma 10": lambda x: np.clip(x + rng.normal(0, 10, x.shape), 0, 255).astype(np.uint8),
        "darker, x 0.4": lambda x: (x * 0.4).astype(np.uint8),
    }


def reencoded(source: Path, target: Path, filters: str, crf: int) -> Path:
    """`source` through ffmpeg's filters and x264; `target` is overwritten."""
    import imageio_ffmpeg

    filtered = ["-vf", filters] if filters else []
    encoded = f"-c:v libx264 -preset veryfast -crf {crf} -pix_fmt yuv420p -an -threads 1".split()
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-y",
        "-i",
        str(source),
        *filtered,
        *encoded,
        str(target),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return target
