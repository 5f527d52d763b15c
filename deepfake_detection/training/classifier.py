"""The classifier of stage 03 in folds: a logistic regression on the features of a frozen network, and its grouped
folds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .. import labels
from ..errors import UserError
from ..models import registry

if TYPE_CHECKING:
    import numpy

#: Folds by which the strength is chosen, inside each training part.
INNER_FOLDS = 3
#: Inverse strengths of the regularisation that are tried (scikit-learn's C, on features of unit variance).
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def split(y, groups, k: int, seed: int):
    """Fold of each row, int64 (N,) 0..k-1: no group in two folds, both classes spread over them.

    Raises:
        UserError: fewer than two groups, or a fold that leaves a class without a row to train on.
    """
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    y, groups = np.asarray(y), np.asarray(groups)
    k = min(k, len(set(groups)))
    hint = "add videos of other people, or train on the split with --folds 0"
    if k < 2:
        raise UserError("cross-validation needs videos of two groups of people or more", hint=hint)
    k = min(k, *np.bincount(y, minlength=2))  # scikit-learn wants a row of each class for each fold
    fold = np.zeros(len(y), np.int64)
    if k >= 2:
        for number, (_, held) in enumerate(
            StratifiedGroupKFold(k, shuffle=True, random_state=seed & 0xFFFFFFFF).split(y, y, groups)
        ):
            fold[held] = number
    if k < 2 or any(len(set(y[fold != f])) < 2 for f in set(fold)):
        raise UserError("too few groups of people: a fold has real or fake faces only to learn from", hint=hint)
    return fold


def video_weights(y, titles):
    """Weights (N,) with mean 1: both classes count alike, and in a class every video."""
    import numpy as np

    _, which, count = np.unique(np.asarray(titles), return_inverse=True, return_counts=True)
    weight = 1.0 / count[which]
    for label in (labels.REAL, labels.FAKE):
        weight[y == label] *= 0.5 / weight[y == label].sum()
    return weight * len(y)


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a classifier is fitted on: views float64 (V, N, F) of the same faces, y (N,), titles and groups (N,)."""

    views: numpy.ndarray
    y: numpy.ndarray
    titles: numpy.ndarray
    groups: numpy.ndarray

    def take(self, keep) -> Rows:
        return Rows(self.views[:, keep], self.y[keep], self.titles[keep], self.groups[keep])

    @property
    def weights(self):
        return video_weights(self.y, self.titles)


def fit(rows: Rows, strength: float):
    """The classifier: weights (F,) and bias of a logistic regression on the mean of the views."""
    from sklearn.linear_model import LogisticRegression

    x = rows.views.mean(axis=0)
    centre = x.mean(axis=0)
    model = LogisticRegression(C=strength, max_iter=1000).fit(x - centre, rows.y, sample_weight=rows.weights)
    return model.coef_[0], float(model.intercept_[0] - model.coef_[0] @ centre)


def score(classifier, views):
    """P(real) (N,) of views (V, N, F): the mean over the views, as the detector looks at a face and its mirror
    image."""
    from scipy.special import expit

    weights, bias = classifier
    return expit(views @ weights + bias).mean(axis=0)


def choose_strength(rows: Rows, seed: int) -> tuple[float, list[dict]]:
    """The strength with the least validation loss in grouped folds of `rows`, and a history row for each that was
    tried."""
    import numpy as np

    from ..metrics import log_loss

    try:
        fold = split(rows.y, rows.groups, INNER_FOLDS, seed)
    except UserError:  # two groups of people: nothing to choose by
        return STRENGTHS[len(STRENGTHS) // 2], []
    history: list[dict] = []
    for strength in STRENGTHS:
        held, seen = np.zeros(len(rows.y)), []
        for number in sorted(set(fold)):
            part = rows.take(fold != number)
            classifier = fit(part, strength)
            held[fold == number] = score(classifier, rows.views[:, fold == number])
            seen.append((part, score(classifier, part.views)))
        weighted = lambda part, p: float(
            np.average(
                -np.where(part.y == labels.REAL, np.log(np.clip(p, 1e-7, 1)), np.log(np.clip(1 - p, 1e-7, 1))),
                weights=part.weights,
            )
        )
        accuracy = lambda y, p: float(np.mean((p >= labels.TIE_THRESHOLD) == (y == labels.REAL)))
        history.append(
            {
                "strength": strength,
                "loss": np.mean([log_loss(part.y, p) for part, p in seen]),
                "accuracy": np.mean([accuracy(part.y, p) for part, p in seen]),
                "val_loss": log_loss(rows.y, held),
                "val_accuracy": accuracy(rows.y, held),
                "chosen_by": weighted(rows, held),
            }
        )
    best = min(history, key=lambda row: row["chosen_by"])
    return best["strength"], history


def cross_validate(rows: Rows, fold, seed: int):
    """(P(real) of every face by the classifier of its fold (N,), the classifier fitted on all, history of the latter's
    choice)."""
    import numpy as np
    from threadpoolctl import threadpool_limits
    from tqdm import tqdm

    # A rotation into the faces' own span: at most N numbers a face instead of F, and exactly the same regression.
    scale = np.sqrt(((rows.views - rows.views.mean(axis=(0, 1))) ** 2).mean()) or 1.0
    _, _, axes = np.linalg.svd(rows.views.mean(axis=0) / scale, full_matrices=False)
    turned = dataclasses.replace(rows, views=rows.views / scale @ axes.T)
    p = np.zeros(len(rows.y))
    # One thread: the matrices are small, and threads that wait for each other would take most of the time.
    with threadpool_limits(1):
        for number in tqdm(sorted(set(fold)), desc="folds", unit="fold", disable=None):
            part = turned.take(fold != number)
            strength, _ = choose_strength(part, seed)
            p[fold == number] = score(fit(part, strength), turned.views[:, fold == number])
        strength, history = choose_strength(turned, seed)
        weights, bias = fit(turned, strength)
    return p, (weights @ axes / scale, bias), history


def with_classifier(model, classifier):
    """`model` with its classifier replaced by one Dense layer of these weights; its own, where that is one Dense
    layer."""
    import keras
    import numpy as np

    weights, bias = classifier
    values = [np.asarray(weights, np.float32)[:, None], np.array([bias], np.float32)]
    own = [layer for layer in registry.classifier_layers(model) if layer.weights]
    if len(own) == 1 and own[0].units == 1:
        own[0].set_weights(values)
        return model
    dense = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="p_real")
    made = keras.Model(model.inputs, dense(registry.feature_tensor(model)), name=model.name)
    dense.set_weights(values)
    return made
