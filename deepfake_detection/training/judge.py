"""Judges a network in training on faces that it does not learn from: the validation split and the sources kept unseen.

row = numbers(clip_scores(network, faces, rows_to_judge(faces)))
"""

from __future__ import annotations

import cv2
import numpy as np

from ..blending.faces import BOX, Faces
from ..blending.sampler import TIGHT

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
    image, box = np.asarray(faces.images[row]), boxes[row]
    side = image.shape[0]
    if np.isfinite(box).all():
        margins = (
            {"left": WIDE_MARGIN, "right": WIDE_MARGIN, "top": WIDE_MARGIN, "bottom": WIDE_MARGIN}
            if name == "wide"
            else TIGHT
        )
        w, h = box[2] - box[0], box[3] - box[1]
        x0, y0 = box[0] - margins["left"] * w, box[1] - margins["top"] * h
        x1, y1 = box[2] + margins["right"] * w, box[3] + margins["bottom"] * h
        x0, y0, x1, y1 = (int(round(min(max(v, 0.0), 1.0) * side)) for v in (x0, y0, x1, y1))
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
    table = faces.table.loc[rows].copy()
    tight = table.window.eq("tight").to_numpy()
    for name in VIEWS:
        wanted = rows if name == "tight" else rows[~tight]
        z = [
            call(
                np.stack([view(faces, r, name, size, boxes) for r in wanted[k : k + batch]]).astype(np.float32)
            ).numpy()
            for k in range(0, len(wanted), batch)
        ]
        z = np.concatenate(z) if z else np.zeros(0, np.float32)
        if name == "tight":
            table["z_tight"] = z
        else:
            table["z_wide"] = table.get("z_tight", np.nan)
            table.loc[~tight, "z_wide"] = z
    table["z_wide"] = table.z_wide.where(~tight, table.z_tight)
    table["z"] = (table.z_wide + table.z_tight) / 2
    return table


def numbers(table, column: str = "z") -> dict:
    """What a run is chosen by: AUCs over clips, pairs of one person ordered rightly, fakes found where 5 % of the
    untouched are not believed."""
    from sklearn.metrics import log_loss, roc_auc_score

    clips = table.groupby("file").agg(
        z=(column, "mean"),
        label=("label", "first"),
        source=("source", "first"),
        group=("group", "first"),
        manipulation=("manipulation", "first"),
        split=("split", "first"),
    )
    clips["real"] = clips.label.eq("real").astype(int)
    result = {}

    def auc(part):
        return round(float(roc_auc_score(part.real, part.z)), 4) if part.real.nunique() == 2 else None

    live = clips[clips.source == "live_swaps"]
    if len(live):
        result["live_auc"] = auc(live)
        stems = live.index.str.replace(r"_(real|fake)\.\w+$", "", regex=True).str.rsplit("/", n=1).str[-1]
        both = live.assign(stem=stems).pivot_table(index="stem", columns="label", values="z").dropna()
        result["live_pairs"] = round(float((both["real"] > both["fake"]).mean()), 3)
        unseen = clips[clips.split == "unseen"]
        result["unseen_auc"] = auc(unseen)
        bound = np.quantile(unseen.z[unseen.real == 1], 0.05)
        result["live_found_at_5"] = round(float((live.z[live.real == 0] < bound).mean()), 3)
        for source in ("celebv", "lowrate"):
            result[f"{source}_z"] = round(float(unseen.z[unseen.source == source].mean()), 2)
        result["live_z"] = [round(float(live.z[live.real == r].mean()), 2) for r in (1, 0)]
    clips23 = clips[clips.source.isin(["ffpp", "dfd"]) & clips.manipulation.str.contains("c23")]
    clips40 = clips[clips.source.isin(["ffpp", "dfd"]) & clips.manipulation.str.contains("c40")]
    result |= {"c23_auc": auc(clips23) if len(clips23) else None, "c40_auc": auc(clips40) if len(clips40) else None}
    dfdc = clips[clips.source == "dfdc"]
    if len(dfdc):
        result["dfdc_auc"] = auc(dfdc)
        result["dfdc_log_loss"] = round(
            float(log_loss(dfdc.real, np.clip(1 / (1 + np.exp(-dfdc.z)), 1e-6, 1 - 1e-6))), 4
        )
    return result
