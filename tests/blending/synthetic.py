"""Drawn faces as `blending.faces.prepare` gives them, with every source, both labels and every split."""

import numpy as np
import pandas as pd

from deepfake_detection.blending.blend import TYPICAL_POINTS
from deepfake_detection.blending.faces import BOX, COLUMNS, POINTS, SIDE, Faces


def face(rng) -> np.ndarray:
    """A noisy oval with eyes and a mouth, uint8 RGB."""
    import cv2

    image = rng.integers(60, 200, (SIDE, SIDE, 3)).astype(np.uint8)
    cv2.ellipse(image, (SIDE // 2, SIDE // 2), (60, 75), 0, 0, 360, [int(v) for v in rng.integers(90, 220, 3)], -1)
    for x, y in TYPICAL_POINTS * SIDE:
        cv2.circle(image, (int(x), int(y)), 8, (20, 20, 20), -1)
    return image


def mesh(rng=None) -> np.ndarray:
    """The 468 points of a drawn face, (468, 2) parts of its sides: rings about eyes and mouth, an outline; with `rng`
    another expression."""
    from deepfake_detection.faces import mesh as m

    points = np.tile(np.float32([0.5, 0.5]), (m.POINTS, 1))
    left, right, nose, corner, other_corner = TYPICAL_POINTS
    mouth = (corner + other_corner) / 2

    def ring(numbers, centre, across, down, start=np.pi):
        angle = start - np.arange(len(numbers)) * 2 * np.pi / len(numbers)  # from the viewer's left, below first
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


#: source: window, and which (split, label) it has.
SOURCES = {
    "dfdc": ("tight", "train val", "real fake"),
    "dfdc_more": ("tight", "train", "fake"),
    "ffpp": ("wide", "train val", "real fake"),
    "ffpp_faces": ("tight", "train val", "real fake"),
    "live_swaps": ("wide", "unseen", "real fake"),
    "celebv": ("wide", "train unseen", "real"),
    **{
        name: ("wide", "train", "real")
        for name in ("utkface", "lfw", "ffhq", "ciplab", "stills", "styletalk", "driving", "dfd")
    },
}


def cut_faces(seed: int = 1, videos: int = 4, moments: int = 2) -> Faces:
    """`videos` files of `moments` faces for every source, split and label. A fake of `ffpp` has an original; everything
    wide has a mesh."""
    rng, rows, images = np.random.default_rng(seed), [], []
    for source, (window, splits, labels) in SOURCES.items():
        for split, label, video in ((s, c, v) for s in splits.split() for c in labels.split() for v in range(videos)):
            quality = "c23" if video % 2 else "c40"
            row = dict.fromkeys(COLUMNS[:-1], "") | {
                "file": f"{source}/{split}/{video}_{label}.mp4",
                "label": label,
                "source": source,
                "split": split,
                "window": window,
                "manipulation": quality if label == "real" else f"Deepfakes/{quality}",
                "group": f"{source}-{split}-{video}",
                "original": f"{source}/{split}/{video}_real.mp4" if label == "fake" else "",
            }
            wide = window == "wide"
            for k in range(moments):
                rows.append(
                    row
                    | {
                        "time_s": k / 10,
                        "face_px": 120.0,
                        **dict(zip(POINTS, TYPICAL_POINTS.ravel().tolist())),
                        **dict(zip(BOX, (0.2, 0.2, 0.8, 0.8) if wide else (np.nan,) * 4)),
                        **dict(
                            zip(
                                ("frame_x0", "frame_y0", "frame_x1", "frame_y1"),
                                (0.2, 0.1, 0.6, 0.7) if wide else (np.nan,) * 4,
                            )
                        ),
                    }
                )
                images.append(face(rng))
    table = pd.DataFrame(rows)
    meshes = np.full((len(table), 468, 2), np.nan, np.float16)
    for row in table.index[(table.label == "real") & (table.split == "train") & (table.window == "wide")]:
        meshes[row] = mesh(rng)
    return Faces(table, np.stack(images), meshes)
