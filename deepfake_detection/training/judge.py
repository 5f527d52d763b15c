"""Judges a network in training on faces that it does not learn from: the validation split and the sources kept unseen.

row = numbers(clip_scores(network, faces, rows_to_judge(faces)))
"""

from __future__ import annotations

import cv2
import numpy as np

from ..blending.faces import BOX, Faces
from ..blending.sampler import TIGHT, around

#: Margin of the wide window when a face is judged: the middle of what training shows.
WIDE_MARGIN = 0.22
VIEWS = ("wide", "tight")


def in_crop(margin: float) -> dict:
    """The tight window as a cut of a crop with this margin: parts of its sides, for `detector.network.trim`."""
    return {edge: round((margin - part) / (1 + 2 * margin), 4) for edge, part in TIGHT.items()}


def rows_to_judge(faces: Faces, per_clip: int = 8, tight_every: int = 1) -> np.ndarray:
    """Rows of `val` and `unseen`: up to `per_clip` faces of a video, spread over it, and every so-many-th tight
    crop."""
    table = faces.table[faces.table.split.isin(("val", "unseen"))]
    number = table.groupby("file").cumcount()
    count = table.groupby("file").file.transform("size")
    step = np.maximum(1, count // per_clip)
    rows = table.index[(number % step == 0) & (number // step < per_clip)].to_numpy()
    tight = faces.table.window.to_numpy()[rows] == "tight"
    return np.sort(np.concatenate([rows[~tight], rows[tight][::tight_every]]))


def view(faces: Faces, row: int, name: str, size: int, boxes: np.ndarray) -> np.ndarray:
    """A face through one of VIEWS, uint8 (size, size, 3). A tight crop looks the same through both."""
    return seen_in(np.asarray(faces.images[row]), boxes[row], name, size)


def seen_in(image: np.ndarray, box: np.ndarray, name: str, size: int) -> np.ndarray:
    """`view` of a cut picture (S, S, 3) with the detected box in it (parts of the picture; NaN: a tight crop)."""
    side = image.shape[0]
    if np.isfinite(box).all():
        margins = TIGHT if name == "tight" else dict.fromkeys(TIGHT, WIDE_MARGIN)
        x0, y0, x1, y1 = (int(round(min(max(v, 0.0), 1.0) * side)) for v in around(box, **margins))
        image = image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    shrinks = image.shape[0] * image.shape[1] > size * size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def clip_scores(network, faces: Faces, rows: np.ndarray, *, batch: int = 64):
    """A table of the rows with the logit of each view and their mean, `z`; higher is more real.

    Args:
        network: gives logits, (N, 1), of float faces 0..255.
    """
    import tensorflow as tf

    size, boxes = network.input_shape[1], faces.table[list(BOX)].to_numpy(np.float64)
    call = tf.function(
        lambda x: network(x, training=False)[:, 0], input_signature=[tf.TensorSpec((None, size, size, 3), tf.float32)]
    )

    def logits(some: np.ndarray, name: str) -> np.ndarray:
        z = [np.zeros(0, np.float32)]
        for k in range(0, len(some), batch):
            shown = [view(faces, row, name, size, boxes) for row in some[k : k + batch]]
            z.append(call(np.stack(shown).astype(np.float32)).numpy())
        return np.concatenate(z)

    table = faces.table.loc[rows].copy()
    wide = table.window.ne("tight").to_numpy()
    table["z_tight"] = table["z_wide"] = logits(rows, "tight")  # a tight crop looks the same through both
    table.loc[wide, "z_wide"] = logits(rows[wide], "wide")
    table["z"] = (table.z_wide + table.z_tight) / 2
    return table


def numbers(table, column: str = "z") -> dict:
    """What a run is chosen by, over the clips of each split: AUC of all and of each source with both classes, log loss,
    fakes found where 5 % of the untouched are not believed, fakes that lie below the untouched of their group."""
    from sklearn.metrics import log_loss, roc_auc_score

    columns = {name: (name, "first") for name in ("label", "source", "group", "split")}
    clips = table.groupby("file").agg(z=(column, "mean"), **columns)
    clips["real"] = clips.label.eq("real").astype(int)
    result = {}
    for split, part in clips.groupby("split"):
        untouched, fakes = part[part.real == 1], part[part.real == 0]
        if len(untouched) and len(fakes):
            p = np.clip(1 / (1 + np.exp(-part.z)), 1e-6, 1 - 1e-6)
            result[f"{split}_auc"] = round(float(roc_auc_score(part.real, part.z)), 4)
            result[f"{split}_log_loss"] = round(float(log_loss(part.real, p)), 4)
            result[f"{split}_found_at_5"] = round(float((fakes.z < np.quantile(untouched.z, 0.05)).mean()), 3)
        own = fakes.group.map(untouched.groupby("group").z.mean())
        if own.notna().any():
            result[f"{split}_pairs"] = round(float((fakes.z < own)[own.notna()].mean()), 3)
        for source, some in part.groupby("source"):
            result[f"{split}_{source}_z"] = round(float(some.z[some.real == 1].mean()), 2)
            if some.real.nunique() == 2:
                result[f"{split}_{source}_auc"] = round(float(roc_auc_score(some.real, some.z)), 4)
    return result
