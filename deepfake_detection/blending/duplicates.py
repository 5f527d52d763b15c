"""Training faces that are also, almost unchanged, among the faces that a detector is chosen or judged by.

    found = across_splits(faces)        # a row a training face to leave out

One clip is often in several collections under other names, so groups alone do not keep the splits apart. A perceptual
hash (the signs of a picture's low frequencies: Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010) names candidates. Faces cut alike are alike in their low frequencies, so a pair counts only where the
small pictures themselves agree too.
"""

from __future__ import annotations

import cv2
import numpy as np

from .faces import Faces

#: Bits of 64 in which the hashes of one picture may differ, and the least correlation of the pictures (grey, THUMB px).
BITS, ALIKE = 10, 0.985
THUMB = 32
BLOCK = 2048


def thumbnails(images) -> np.ndarray:
    """uint8 RGB (N, H, W, 3) -> float32 (N, THUMB, THUMB), grey."""
    return np.stack(
        [
            cv2.resize(
                cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY), (THUMB, THUMB), interpolation=cv2.INTER_AREA
            )
            for image in images
        ]
    ).astype(np.float32)


def hashes(thumbs: np.ndarray) -> np.ndarray:
    """float32 (N, THUMB, THUMB) -> uint64 (N,): which of the 64 lowest frequencies lie above their median."""
    low = np.stack([cv2.dct(thumb)[:8, :8].ravel() for thumb in thumbs])
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def across_splits(faces: Faces):
    """Training faces whose twin of another group stands in another split.

    Returns:
        pandas DataFrame: row (of `faces`), file, twin (its file), twin_split, alike (correlation).
    """
    import pandas as pd
    from tqdm import tqdm

    split = faces.table.split.to_numpy()
    order = [np.flatnonzero(split == "train"), np.flatnonzero(np.isin(split, ("val", "unseen")))]
    blocks = [rows[k : k + BLOCK] for rows in order for k in range(0, len(rows), BLOCK)]
    thumbs = np.concatenate(
        [thumbnails(faces.images[rows]) for rows in tqdm(blocks, desc="near-duplicates", unit="block", disable=None)]
        or [np.zeros((0, THUMB, THUMB), np.float32)]
    )
    marks = hashes(thumbs) if len(thumbs) else np.zeros(0, np.uint64)
    flat = thumbs.reshape(len(thumbs), -1)
    flat = flat - flat.mean(1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    rows, count = np.concatenate(order), len(order[0])
    files, groups = faces.table.file.to_numpy(), faces.table["group"].to_numpy()
    found = []
    for first in range(0, count, BLOCK):
        here = slice(first, min(first + BLOCK, count))
        near = np.bitwise_count(marks[here, None] ^ marks[None, count:]) <= BITS
        mine, theirs = np.nonzero(near)
        agree = np.einsum("nf,nf->n", flat[here][mine], flat[count:][theirs])
        for i, j, value in zip(mine, theirs, agree, strict=True):
            row, twin = rows[first + i], rows[count + j]
            if value >= ALIKE and groups[row] != groups[twin]:
                found.append((row, files[row], files[twin], split[twin], round(float(value), 4)))
    table = pd.DataFrame(found, columns=["row", "file", "twin", "twin_split", "alike"])
    return table.sort_values("alike", ascending=False).drop_duplicates("row").sort_values("row", ignore_index=True)
