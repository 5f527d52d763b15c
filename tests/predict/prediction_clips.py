"""Small clips with known answers for the tiny model: a real photograph of a face (NASA's portrait of Eileen Collins,
public domain, from scikit-image), tinted red for REAL and blue for FAKE, moving slowly over a plain ground."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

WIDTH, HEIGHT, FPS, FRAMES = 320, 200, 10, 24
REAL_TINT, FAKE_TINT = (0.6, 0.9, 1.25), (1.35, 0.9, 0.55)  # factors of blue, green, red


def portrait() -> np.ndarray:
    """uint8 BGR (140, 120, 3) around the face."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image for a picture of a face")
    return cv2.cvtColor(data.astronaut()[20:230, 130:310], cv2.COLOR_RGB2BGR)


def tinted(image: np.ndarray, factors) -> np.ndarray:
    return np.clip(image * np.float32(factors), 0, 255).astype(np.uint8)


def write(
    path: Path, people: list[tuple[int, tuple]], frames: int = FRAMES, altered: tuple[float, float] = (0, 0)
) -> Path:
    """A clip with a face at each x (pixels) in its tint; from the first to the second time of `altered`, in seconds, in
    that of FAKE."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    assert writer.isOpened()
    face = cv2.resize(portrait(), (120, 140), interpolation=cv2.INTER_AREA)
    for number in range(frames):
        frame = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        for x, tint in people:
            at = x + number // 4 % 80
            in_stretch = altered[0] * FPS <= number < altered[1] * FPS
            frame[30:170, at : at + 120] = tinted(face, FAKE_TINT if in_stretch else tint)
        writer.write(frame)
    writer.release()
    return path


def photo(path: Path, tint) -> Path:
    """A picture of one face, 480 x 400, in the format of the path's suffix."""
    image = np.full((400, 480, 3), 120, np.uint8)
    image[60:340, 120:360] = tinted(cv2.resize(portrait(), (240, 280)), tint)
    assert cv2.imwrite(str(path), image)
    return path


def make_all(folder: Path) -> dict[str, Path]:
    """real, fake, two (left person REAL, right person FAKE), no_face, broken, cut."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "real": write(folder / "real.mp4", [(100, REAL_TINT)]),
        "fake": write(folder / "fake.mp4", [(100, FAKE_TINT)]),
        "two": write(folder / "two.mp4", [(20, REAL_TINT), (170, FAKE_TINT)]),
        "no_face": write(folder / "no_face.mp4", []),
    }
    broken = folder / "broken.mp4"
    broken.write_bytes(b"\x00\x00\x00\x18ftypmp42" + hashlib.sha256(b"x").digest() * 40)
    return {**made, "broken": broken}
