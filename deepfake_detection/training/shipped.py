"""The shipped detector on the faces of a training, none of which it knows: what a result is held against."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..aggregation import Calibration, Thresholds
from ..models import model_file
from . import start, stores


def is_shipped(path: Path | None) -> bool:
    """Whether a model file is the shipped detector's own."""
    return (
        path is not None
        and Path(path).is_file()
        and start.SHIPPED_DETECTOR.is_file()
        and Path(path).samefile(start.SHIPPED_DETECTOR)
    )


def thresholds() -> Thresholds | None:
    """The shipped detector's two thresholds; None when it is not there."""
    try:
        return Thresholds.from_dict(
            json.loads(start.SHIPPED_DETECTOR.with_suffix(".json").read_text(encoding="utf-8"))["thresholds"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def from_features(model, views, card: dict):
    """Calibrated P(real) (N,) of the shipped network from its features (V, N, F), before its classifier is replaced."""
    from ..models import registry

    scores = []
    for view in views:
        x = np.asarray(view, np.float32)
        for layer in registry.classifier_layers(model):
            x = layer(x)
        scores.append(np.asarray(x, np.float64)[:, 0])
    return Calibration.from_dict(card["calibration"]).apply(np.mean(scores, axis=0))


def scores(faces, faces_margin: float, workers: int = 1):
    """Calibrated P(real) (N,) of decodable `Faces`; None when the shipped detector is not there."""
    if thresholds() is None or not start.SHIPPED_DETECTOR.is_file():
        return None
    card = stores.card_of(start.SHIPPED_DETECTOR)
    model = model_file.load(start.SHIPPED_DETECTOR)
    part = stores.part_of(faces_margin, card["margin"], card["trim"])
    store = stores.store_for(model, faces, workers=workers, part=part)
    raw = stores.predict(model, store, 32, "shipped detector", flip=card["flip"])
    return Calibration.from_dict(card["calibration"]).apply(raw)
