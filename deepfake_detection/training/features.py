"""Features of a frozen network: every face goes through it once, and the result is kept on the disk."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from .. import files
from .face_list import Faces

#: Faces of one file of features: what a run that is interrupted loses at most.
FEATURE_BLOCK = 512


def face_features(
    get: Callable,
    faces: Faces,
    used,
    extractor,
    folder: Path,
    *,
    batch_size: int = 32,
    progress: str | None = None,
    variant: str = "",
):
    """The features of faces, from `folder` where they are there already.

    They are kept by the hash of the network's weights and of the faces, in blocks, so an interrupted run goes on with
    the next block.

    Args:
        get: positions (B,) -> uint8 (B, S, S, 3), e.g. `FaceStore.get`.
        faces: the list that the positions are of.
        used: positions to compute, ascending.
        extractor: Keras model (N, S, S, 3) -> (N, F).
        variant: tells apart what `get` does with the same files (a part of them, their mirror image).

    Returns:
        float32 (len(faces), F); zeros where not in `used`.
    """
    import numpy as np
    from tqdm import tqdm

    width = extractor.output_shape[-1]
    table = np.zeros((len(faces), width), np.float32)
    folder = folder / f"{extractor.name}-{network_key(extractor)}{variant}"
    paths = faces.paths()
    with tqdm(
        total=len(used), desc=progress or "", unit="face", disable=None if progress else True, file=sys.stderr
    ) as bar:
        for start in range(0, len(used), FEATURE_BLOCK):
            block = used[start : start + FEATURE_BLOCK]
            digest = hashlib.sha256()
            for i in block:
                digest.update(f"{faces.names[i]}\0{files.sha256(paths[i])}\0".encode())
            path = folder / f"{digest.hexdigest()[:24]}.npy"
            values = _cached(path, (len(block), width))
            if values is None:
                values = np.concatenate(
                    [
                        np.asarray(extractor.predict_on_batch(get(block[k : k + batch_size])), np.float32)
                        for k in range(0, len(block), batch_size)
                    ]
                )
                with files.atomic_path(path) as partial, open(partial, "wb") as f:
                    np.save(f, values)
            table[block] = values
            bar.update(len(block))
    return table


def _cached(path: Path, shape: tuple):
    import numpy as np

    try:
        values = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return values if values.shape == shape else None


def network_key(network) -> str:
    """A hash of a Keras model's input shape and weights."""
    digest = hashlib.sha256(str(network.input_shape).encode())
    for weight in network.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()[:16]
