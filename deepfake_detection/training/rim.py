"""Fits the network that looks at a face's rim against what surrounds it, from the early blocks of a trained detector.

    feed = pairs.Feed(work, rim.batches_of(settings, faces))
    rim.fit(Path("model.keras"), "efficientnet_lite0", feed, 240, Path("rim.keras"))

A swap made live is sharp inside and soft where it is laid in; its camera, light and codec are those of the picture
around it. So an early block's means over the rim are held against those over what lies outside, which takes the
picture's own quality out, and a linear discriminant (see `head`) of this difference, of few numbers, is fitted to pairs
of an untouched face and its fake. What it says of a person changes little from frame to frame: the detector adds its
mean over some of a person's faces to the logits of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..aggregation import logit
from ..blending.faces import Faces
from ..blending.sampler import Settings
from ..errors import UserError
from ..files import atomic_path
from ..models import registry
from .head import discriminant, within
from .judge import WIDE_MARGIN

#: From where to where the rim goes, in half sides of the detected box from its middle; outside of it are surroundings.
RIM = (0.75, 1.1)


def batches_of(settings: Settings, faces: Faces) -> Settings:
    """The settings of the batches it is fitted on: fakes beside their originals, with what surrounds them.

    Args:
        settings: of the training, with the shares in force.
        faces: whose sources they are.

    Raises:
        UserError: no source of fakes shows what surrounds a face.
    """
    wide = set(faces.table.source[faces.table.window.ne("tight")])
    given = [(kind, {s: n for s, n in sources.items() if s in wide}, n) for kind, sources, n in settings.shares]
    shares = tuple(share for share in given if share[0] == "given" and share[1])
    if not shares:
        raise UserError("no source of fakes shows what surrounds a face", hint="leave --rim out")
    return replace(settings, copies=0, wide=1.0, shares=shares)


def against_surroundings(side: int, margin: float = WIDE_MARGIN) -> np.ndarray:
    """Weights (side, side) whose sum with a map of a window is its mean over the rim less that over the surroundings.

    Args:
        margin: of the window around the detected box.

    Raises:
        UserError: the map has too few cells for it.
    """
    across = ((np.arange(side) + 0.5) / side * 2 - 1) * (1 + 2 * margin)
    away = np.hypot(across[:, None], across[None])
    rim, outside = (away >= RIM[0]) & (away < RIM[1]), away >= RIM[1]
    if not (rim.any() and outside.any()):
        raise UserError("faces are too small to tell their rim from what surrounds it", hint="a larger --size")
    return rim / rim.sum() - outside / outside.sum()


def seen_in(architecture: str) -> tuple[str, float]:
    """The layer of an architecture that the rim is seen in, and what it counts.

    Raises:
        UserError: it names none.
    """
    rim_of = getattr(registry.module(architecture), "RIM_OF", None)
    if rim_of is None:
        raise UserError(f"{architecture} names no block that the rim is seen in", hint="leave --rim out")
    return rim_of


def fit(path: Path, architecture: str, feed, count: int, out: Path) -> Path:
    """Writes a network from windows (N, S, S, 3) to (N, 1), the sigmoid of what the rim adds to the detector's logit;
    returns `out`.

    Args:
        path: the detector's `.keras` file, which is not changed.
        feed: of `batches_of`.
        count: of batches.

    Raises:
        UserError: see `seen_in`.
    """
    rim_of = seen_in(architecture)
    model = fitted(
        registry.build(architecture, input_size=feed.shape[1], weights=path), feed.batches(0, count), *rim_of
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as partial:
        model.save(partial)
    return out


def fitted(detector, batches: Iterable[np.ndarray], block: str, counts: float):
    """The Keras model of `fit`.

    Args:
        detector: Keras model from faces to P(real).
        batches: uint8 (2 P, S, S, 3): untouched faces and fakes in turn, in the wide window.
        block: the layer whose map is looked at.
        counts: its spread within a class, in units of that of the detector's own logit.
    """
    import keras

    network = keras.Model(detector.input, [detector.get_layer(block).output, detector.output])
    weights = against_surroundings(network.output[0].shape[1])
    differences, own = [], []
    for batch in batches:
        maps, p_real = (np.asarray(y, np.float64) for y in network.predict_on_batch(batch.astype(np.float32)))
        differences.append(np.einsum("nhwc,hw->nc", maps, weights))
        own.append(p_real[:, 0])
    rims, logits = np.concatenate(differences), logit(np.concatenate(own))
    kernel = discriminant(rims[0::2], rims[1::2])
    kernel *= counts * within(logits[0::2], logits[1::2]) / within(rims[0::2] @ kernel, rims[1::2] @ kernel)
    middle = (rims[0::2].mean(0) + rims[1::2].mean(0)) @ kernel / 2
    return _model(detector, block, weights, kernel, middle)


def _model(detector, block: str, weights: np.ndarray, kernel: np.ndarray, middle):
    import keras
    from keras import layers

    x = detector.get_layer(block).output
    depthwise = layers.DepthwiseConv2D(weights.shape, use_bias=False, name="against_surroundings")
    dense = layers.Dense(1, activation="sigmoid", dtype="float32", name="rim")
    model = keras.Model(detector.input, dense(layers.Flatten(name="differences")(depthwise(x))), name="rim")
    depthwise.set_weights([np.repeat(weights[:, :, None, None], x.shape[-1], 2).astype(np.float32)])
    dense.set_weights([kernel[:, None].astype(np.float32), np.array([-middle], np.float32)])
    return model
