"""Fits the classifier of a trained detector anew: beside its own logit stand discriminants of what lies below the top.

    feed = pairs.Feed(work, head.batches_of(settings, tight=True))
    head.refit(Path("model.keras"), "efficientnet_lite0", feed, 300, Path("head.keras"))

The top of a network that was trained long on a few data sets knows these too well. A linear discriminant (Fisher, "The
use of multiple measurements in taxonomic problems", 1936) of an early block's means or of a late block's spread, fitted
on pairs of an untouched face and its fake, has fewer numbers to learn by heart, and finds on strangers' faces what the
top no longer does. Network and discriminants are added up in units of their own spread within a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..blending.sampler import Settings
from ..errors import UserError
from ..files import atomic_path
from ..models import registry

#: Part of the pooled covariance that is replaced by its mean variance (Friedman, "Regularized discriminant analysis",
#: 1989).
SHRINKAGE = 0.3


def batches_of(settings: Settings, *, tight: bool) -> Settings:
    """The settings of the batches it is fitted on: fakes beside their originals, as far as there are such, of all
    sources alike; blends teach that soft is fake.

    Args:
        settings: of the training, with the shares in force.
        tight: the detector looks through the tight window alone.
    """
    given = tuple(share for share in settings.shares if share[0] == "given")
    return replace(settings, copies=0, wide=0.0 if tight else settings.wide, shares=given or settings.shares)


def levels_of(architecture: str) -> Sequence[float]:
    """What each level of an architecture counts.

    Raises:
        UserError: it shows its classifier the last layer only.
    """
    counts = getattr(registry.module(architecture), "LEVELS", None)
    if counts is None:
        raise UserError(f"the classifier of {architecture} sees one level only", hint="leave --head out")
    return counts


def refit(path: Path, architecture: str, feed, count: int, out: Path) -> Path:
    """Writes the model of `path` with another classifier, fitted on `count` batches of the feed; returns `out`.

    Raises:
        UserError: see `levels_of`.
    """
    counts = levels_of(architecture)
    model = registry.build(architecture, input_size=feed.shape[1], weights=path)
    fit(model, feed.batches(0, count), counts)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as partial:
        model.save(partial)
    return out


def fit(model, batches: Iterable[np.ndarray], counts: Sequence[float]) -> None:
    """Gives the model a classifier of all its levels.

    Args:
        model: of an architecture whose last feature layer is a Concatenate, named `levels`, of the top and what lies
            below; its output a sigmoid of one Dense layer.
        batches: uint8 (2 P, S, S, 3): untouched faces and fakes in turn.
        counts: what each level counts.
    """
    network = registry.features(model)
    pairs = [np.asarray(network.predict_on_batch(batch.astype(np.float32))) for batch in batches]
    features = np.concatenate(pairs).astype(np.float64)
    widths = [tensor.shape[-1] for tensor in model.get_layer("levels").input]
    kernel, bias = model.layers[-1].get_weights()
    new, shift = classifier(features[0::2], features[1::2], kernel[:, 0].astype(np.float64), widths, counts)
    model.layers[-1].set_weights([new[:, None].astype(kernel.dtype), (bias + shift).astype(bias.dtype)])


def classifier(
    untouched: np.ndarray, fakes: np.ndarray, own: np.ndarray, widths: Sequence[int], counts: Sequence[float]
) -> tuple[np.ndarray, float]:
    """(weights (F,), what the bias changes by) of the logit that is the sum of the network's own and of a discriminant
    of each level but the first.

    Its spread within a class is that of the network's own logit, and so is its middle.

    Args:
        untouched, fakes: features (P, F), the levels side by side.
        own: the network's weights (F,), of which those of the first level count.
        widths, counts: of the levels.
    """
    weights, starts = np.zeros(len(own)), np.cumsum([0, *widths])
    top = np.where(np.arange(len(own)) < widths[0], own, 0.0)
    for level, (start, end, counted) in enumerate(zip(starts[:-1], starts[1:], counts, strict=True)):
        part = np.zeros(len(own))
        part[start:end] = own[start:end] if level == 0 else discriminant(untouched[:, start:end], fakes[:, start:end])
        if spread := within(untouched @ part, fakes @ part):
            weights += counted * part / spread
    weights *= within(untouched @ top, fakes @ top) / within(untouched @ weights, fakes @ weights)
    middle = [(untouched @ w).mean() + (fakes @ w).mean() for w in (top, weights)]
    return weights, float(middle[0] - middle[1]) / 2


def discriminant(untouched: np.ndarray, fakes: np.ndarray, shrinkage: float = SHRINKAGE) -> np.ndarray:
    """The direction (F,) that tells two sets of features (P, F) apart; larger is untouched."""
    spread = np.concatenate([untouched, fakes]).std(0) + 1e-6
    a, b = untouched / spread, fakes / spread
    pooled = (np.cov(a.T) + np.cov(b.T)) / 2
    mean = max(np.trace(pooled) / len(pooled), 1e-12)  # all 0 where the picture is a single cell up there
    pooled = (1 - shrinkage) * pooled + shrinkage * mean * np.eye(len(pooled))
    return np.linalg.solve(pooled, a.mean(0) - b.mean(0)) / spread


def within(untouched: np.ndarray, fakes: np.ndarray) -> float:
    """The spread of scores within a class."""
    return float(np.sqrt((untouched.var() + fakes.var()) / 2))
