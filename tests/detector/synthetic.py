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
