"""The faces of a training as its model takes them: single faces, sequences of faces or of points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .. import labels
from ..errors import UserError
from . import sequences
from .input_pipeline import WHOLE, FaceStore
from .monitor import Bar


def store_for(
    model,
    faces,
    *,
    tables: dict | None = None,
    workers: int = 1,
    cache_mb: int | None = None,
    part: tuple = WHOLE,
    progress: str | None = None,
):
    """The store that feeds a model: of faces, of sequences of faces or of sequences of points, by the shape of its
    first input.

    Raises:
        UserError: when it is none of these.
    """
    shape = tuple(model.inputs[0].shape)[1:]
    if None in shape[:-1]:
        raise UserError(
            f"this model takes faces of no fixed size (its input is {tuple(t.shape for t in model.inputs)})",
            hint="build it for one size, e.g. (N, 128, 128, 3)",
        )
    options: dict[str, Any] = dict(
        workers=workers, cache_bytes=None if cache_mb is None else cache_mb << 20, part=part, progress=progress
    )
    if len(shape) == 3 and shape[0] == shape[1] and shape[2] == 3 and len(model.inputs) == 1:
        return FaceStore(faces, shape[0], **options)
    if len(model.inputs) == 2 and len(shape) == 4 and shape[1] == shape[2] and shape[3] == 3:
        return sequences.pixel_store(faces, shape[0], shape[1], tables=tables, **options)
    if len(model.inputs) == 2 and shape[1:] == (5, 2):
        return sequences.point_store(faces, shape[0], tables or {})
    raise UserError(
        f"this model does not take faces (its input is {tuple(t.shape for t in model.inputs)})",
        hint="a frame model has the input (N, S, S, 3), a sequence model (N, T, S, S, 3) and a mask (N, T)",
    )


def refuse_lost_class(store: FaceStore, faces) -> None:
    """Refuses a store without any face of a class, when those of `faces` could not be decoded.

    Raises:
        UserError: which class.
    """
    for word, label in labels.CLASS_FOLDERS.items():
        if not (store.faces.y == label).any():
            raise UserError(
                f"no face of the class {word!r} can be decoded",
                file=faces.root / word,
                hint="make the faces again with stages 01a and 02",
            )


def face_size(model) -> int | None:
    """Side in px of the faces that a frame or sequence model takes; None for a model of points."""
    shape = tuple(model.inputs[0].shape)
    return shape[-2] if shape[-1] == 3 else None


def prediction_batch(model, batch_size: int) -> int:
    """Rows a batch when predicting: a sequence counts as its faces, so that 32 do not fill the memory."""
    shape = tuple(model.inputs[0].shape)
    return max(1, batch_size // shape[1]) if len(shape) == 5 else batch_size


def card_of(path: str | Path) -> dict:
    """What the JSON file of the model's name beside it says (as `models/detector.json`): margin, trim, calibration, and
    whether the mirror image is looked at too (`flip`). Empty without one.

    Raises:
        UserError: when there is one that cannot be read.
    """
    card = Path(path).with_suffix(".json")
    if not card.is_file():
        return {}
    try:
        values = json.loads(card.read_text(encoding="utf-8"))
        views = values.get("views") or []
        return {
            "margin": float(values["margin"]),
            "trim": (views[0] if len(views) == 1 else values.get("trim")) or {},
            "calibration": values.get("calibration"),
            "flip": bool(values.get("flip")),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            "the model's description cannot be read",
            file=card,
            hint="it should hold margin, as models/detector.json does; or remove it",
        ) from None


def part_of(faces_margin: float, model_margin: float, trim: dict | None = None) -> tuple[float, float, float, float]:
    """The part of a crop, (left, top, right, bottom) in 0..1, that a model which wants a smaller margin sees.

    A crop of margin m holds one of margin m' in its central (1 + 2 m') / (1 + 2 m), of which the model trims parts at
    the top and bottom. The crop of a face at the frame's edge was clipped; its part is off by up to what was lost.
    """
    share = min(1.0, (1 + 2 * model_margin) / (1 + 2 * faces_margin))
    edge = (1 - share) / 2
    left, top, right, bottom = ((trim or {}).get(k, 0.0) * share for k in ("left", "top", "right", "bottom"))
    return edge + left, edge + top, 1 - edge - right, 1 - edge - bottom


def predict(model, store, batch_size: int, progress: str | None = None, flip: bool = False):
    """P(real) of every row of a store, float32 (N,); with `flip` the mean of each face and its mirror image."""
    import tensorflow as tf

    def views(x, *_):
        # Each face beside its mirror image, so that the faces are read once.
        return (tf.reshape(tf.stack([x, x[:, :, ::-1]], 1), (-1, *x.shape[1:])) if flip else x,)

    steps = -(-len(store.y) // batch_size)
    data = store.batches(np.arange(len(store.y)), batch_size)
    p = model.predict(data.map(views), verbose=0, callbacks=[Bar(progress, steps, "predict")] if progress else None)
    return np.asarray(p, np.float32).reshape(len(store.y), -1).mean(axis=1)
