"""A small training cache of drawn faces, with every data set, both labels and both splits, for tests without the shared data."""

import numpy as np
import pandas as pd

from deepfake_detection.detector.data import BOX, CACHE_SIZE, POINTS, Cache
from deepfake_detection.detector.self_blending import TYPICAL_POINTS


def face(rng) -> np.ndarray:
    """A noisy oval with eyes and a mouth, uint8 RGB."""
    import cv2

    image = rng.integers(60, 200, (CACHE_SIZE, CACHE_SIZE, 3)).astype(np.uint8)
    cv2.ellipse(image, (CACHE_SIZE // 2, CACHE_SIZE // 2), (60, 75), 0, 0, 360, [int(v) for v in rng.integers(90, 220, 3)], -1)
    for x, y in TYPICAL_POINTS * CACHE_SIZE:
        cv2.circle(image, (int(x), int(y)), 8, (20, 20, 20), -1)
    return image


def mesh(rng=None) -> np.ndarray:
    """The 468 points of a drawn face, (468, 2) parts of its sides: rings about eyes and mouth, an outline; with `rng` another expression."""
    from deepfake_detection.faces import mesh as m

    points = np.tile(np.float32([0.5, 0.5]), (m.POINTS, 1))
    left, right, nose, corner, other_corner = TYPICAL_POINTS
    mouth = (corner + other_corner) / 2

    def ring(numbers, centre, across, down, start=np.pi):
        angle = start - np.arange(len(numbers)) * 2 * np.pi / len(numbers)          # from the viewer's left, below first
        points[list(numbers)] = np.stack([centre[0] + across * np.cos(angle), centre[1] + down * np.sin(angle)], 1)

    opened = 0.0 if rng is None else rng.uniform(0, 0.06)
    ring(m.OVAL[::-1], (0.5, 0.5), 0.42, 0.47, start=-np.pi / 2)
    ring(m.LEFT_EYE, left, 0.08, 0.03)
    ring(m.RIGHT_EYE[::-1], right, 0.08, 0.03)
    ring(m.LIPS, mouth, (other_corner - corner)[0] / 2, 0.05 + opened)
    ring(m.INNER_LIPS, mouth, (other_corner - corner)[0] / 2.5, 0.01 + opened)
    points[list(m.BROWS)] = np.stack([np.linspace(0.18, 0.82, 10), np.full(10, 0.16)], 1)
    points[list(m.NOSE)] = nose + np.stack([np.linspace(-0.06, 0.06, 10), np.linspace(-0.2, 0.05, 10)], 1)
    return points if rng is None else (points + rng.normal(0, 0.004, points.shape)).astype(np.float32)


def cache(seed: int = 1, videos: int = 6, faces: int = 2) -> Cache:
    """`videos` videos of `faces` faces for every (data set, split, label) that the shared data has."""
    rng, rows, images = np.random.default_rng(seed), [], []
    for dataset in ("dfdc", "ffpp", "ffpp_faces", "stills"):
        for split in ("train", "val"):
            for label in (0, 1):
                if dataset == "stills" and (split == "val" or label == 0):
                    continue
                for video in range(videos):
                    for k in range(faces):
                        quality = "c23" if video // 2 % 2 else "c40"
                        rows.append({"dataset": dataset, "manipulation": quality if label else f"Deepfakes/{quality}", "label": label,
                                     "video": f"{dataset}-{split}-{label}-{video}", "group": f"{dataset}-{split}-{video}", "split": split,
                                     "time_s": k / 10, **dict(zip(POINTS, TYPICAL_POINTS.ravel().tolist()))})
                        rows[-1] |= dict(zip(BOX, (0.2, 0.1, 0.6, 0.7) if dataset == "ffpp" else (np.nan,) * 4))
                        images.append(face(rng))
    return Cache(pd.DataFrame(rows), np.stack(images))


def with_meshes(plain: Cache, seed: int = 2) -> Cache:
    """The cache with a mesh for every real face of the training split, as `data.prepare` gives it."""
    rng = np.random.default_rng(seed)
    meshes = np.full((len(plain.table), 468, 2), np.nan, np.float16)
    for row in plain.rows(split="train", label=1):
        meshes[row] = mesh(rng)
    return Cache(plain.table, plain.images, meshes)
