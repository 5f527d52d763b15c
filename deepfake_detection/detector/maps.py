"""Why: which parts of a face speak for FAKE or for REAL, and a check whether that is so.

A map is a float32 array (H, W), positive where the part speaks for FAKE, negative for REAL, scaled so that the largest
|value| is 1.

- occlusion (default): every part of the face is blurred away in turn and the change of the logit is noted (Zeiler &
  Fergus 2014, with soft blurred patches instead of grey squares: a square's edges look like a forgery to a network that
  hunts for edges). It asks the very network that gave the verdict, through ONNX Runtime, and needs no gradients.
- gradcam: Selvaraju et al. 2017, from models/detector.keras; imports TensorFlow (about 5 s).
- lime: Ribeiro et al. 2016, with the LIME package on superpixels, as the published project did; the slowest.

Every map is checked by deletion (Petsiuk et al. 2018): the fifth of the face that it marks most for the face's own side
(FAKE, or REAL) is blurred away, and the change is compared with blurring the same shape in random places. A map that
marks nothing, changes little or does no better than chance is not drawn: then "no place stands out".
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .. import labels, unheard
from ..aggregation import logit
from ..errors import UserError

METHODS = ("auto", "occlusion", "gradcam", "lime", "none")

#: Patches on a side of the face; they overlap by half.
GRID = 9
#: Share of the face that the check blurs away, and in how many other places.
CHECKED_SHARE, CONTROLS = 0.2, 8
#: Value of a map below which a place is not marked.
LEAST_MARK = 0.15
#: Change of the logit below which a map is not confirmed whatever chance does: 0.2 is five points of a hundred around a
#: half.
LEAST_CHANGE = 0.2
#: LIME's samples of superpixels.
LIME_SAMPLES = 300


#: What the check finds, in a word. Only a confirmed map is drawn.
CONFIRMED, UNCONFIRMED, NOTHING = "confirmed", "unconfirmed", "nothing"


@dataclass(frozen=True)
class Check:
    """What blurring the marked part of the face does to p_fake, against blurring the same shape in random places.

    Attributes:
        p_fake: of the untouched face.
        marked: with the marked fifth blurred away.
        elsewhere: mean with the same shape moved to other places.
        sign: FAKE or REAL: the side that the face is on, for which the map was checked.
        word: CONFIRMED: the marked part changes the logit in the stated direction, by LEAST_CHANGE or more and more
            than every other place tried; NOTHING: nothing is marked, or hiding it changes less; UNCONFIRMED: other
            places change as much.
    """

    p_fake: float
    marked: float
    elsewhere: float
    sign: str
    word: str

    @property
    def confirmed(self) -> bool:
        return self.word == CONFIRMED


def logit_fake(p_real) -> np.ndarray:
    """log(p_fake / p_real), clipped as for the log loss."""
    return -logit(p_real)


def _blurred(face: np.ndarray) -> np.ndarray:
    """The face without its detail: what a hidden part is replaced with."""
    return cv2.GaussianBlur(face, (0, 0), face.shape[1] / 12)


def _hide(face: np.ndarray, blurred: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`face` with `blurred` where `mask` (H, W) in 0..1 is 1."""
    return (face + (blurred - face.astype(np.float32)) * mask[..., None]).round().astype(np.uint8)


def occlusion(face: np.ndarray, score: Callable, grid: int = GRID) -> np.ndarray:
    """The occlusion map of a square uint8 RGB face (S, S, 3).

    Args:
        score: from a list of such faces to their p_real.
    """
    size = face.shape[0]
    blurred = _blurred(face)
    centers = (np.arange(grid) + 0.5) * size / grid
    sigma = size / grid * 0.75
    away = np.arange(size)[None] + 0.5 - centers[:, None]  # (grid, S)
    bells = np.exp(-(away**2) / (2 * sigma**2)).astype(np.float32)
    masks = np.clip(1.5 * bells[:, None, :, None] * bells[None, :, None, :], 0, 1).reshape(-1, size, size)
    scores = score([face, *(_hide(face, blurred, m) for m in masks)])
    # Hiding a part that speaks for FAKE lowers the logit of FAKE.
    change = logit_fake(scores[0]) - logit_fake(scores[1:])
    weighted = np.einsum("n,nhw->hw", change.astype(np.float32), masks) / np.maximum(masks.sum(0), 1e-6)
    return _scaled(weighted)


def lime(face: np.ndarray, score: Callable, *, samples: int = LIME_SAMPLES, seed: int = 1) -> np.ndarray:
    """LIME's weight of each superpixel, as a map.

    Raises:
        UserError: when the LIME package is not installed.
    """
    try:
        from lime import lime_image
    except ImportError:
        raise UserError("--explain lime needs the LIME package", hint="pip install lime") from None

    def classes(images):
        p_real = np.asarray(score(list(images)))
        return np.stack([1 - p_real, p_real], axis=1)

    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off
        found = lime_image.LimeImageExplainer(random_state=seed).explain_instance(
            face,
            classes,
            labels=(0,),
            top_labels=None,
            hide_color=None,
            num_samples=samples,
            batch_size=32,
            random_seed=seed,
        )
    weights = np.zeros(found.segments.max() + 1, np.float32)
    for segment, weight in found.local_exp[0]:
        weights[segment] = weight
    return _scaled(weights[found.segments])


class GradCam:
    """Grad-CAM of the Keras model; imports TensorFlow.

    Args:
        path: the .keras file of the very network that the ONNX file was made from.

    Raises:
        UserError: when the file is missing, or has no convolutional feature map.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise UserError(
                "Grad-CAM needs the Keras model beside the ONNX file", file=path, hint="use --explain occlusion"
            )
        unheard.tensorflow()
        import keras

        from ..models import model_file

        model = model_file.load(path)
        layers = [layer for layer in model.layers if len(getattr(layer.output, "shape", ())) == 4]
        if not layers or not isinstance(model.layers[-1], keras.layers.Dense):
            raise UserError("no convolutional feature map in this model", file=path, hint="use --explain occlusion")
        self._model = keras.Model(model.inputs, [layers[-1].output, model.output])
        self.size = int(model.input_shape[1])

    def __call__(self, face: np.ndarray, score: Callable | None = None) -> np.ndarray:
        """The map of a square uint8 RGB face: positive parts speak for FAKE, negative ones for REAL."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            features, p_real = self._model([face[None].astype(np.float32)], training=False)
            p = tf.clip_by_value(tf.reshape(p_real, ()), 1e-6, 1 - 1e-6)
            fake = tf.math.log1p(-p) - tf.math.log(p)
        gradient = tape.gradient(fake, features)
        weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        cam = tf.reduce_sum(weights * features, axis=-1)[0].numpy()
        size = face.shape[1], face.shape[0]
        return _scaled(cv2.resize(cam.astype(np.float32), size, interpolation=cv2.INTER_CUBIC))


def _scaled(values: np.ndarray) -> np.ndarray:
    largest = float(np.abs(values).max())
    return (values / largest if largest > 1e-12 else values).astype(np.float32)


def check(face: np.ndarray, values: np.ndarray, score: Callable, *, seed: int = 1) -> Check:
    """Deletion check of a map: hides the part it marks most, and the same shape (turned, moved) in other places.

    For a face judged fake the part that speaks for FAKE is hidden, for one judged real the part that speaks for REAL.
    """
    blurred = _blurred(face)
    before = float(score([face])[0])
    sign, word = (1, labels.VERDICT_FAKE) if before < 0.5 else (-1, labels.VERDICT_REAL)
    signed = values * sign
    # At most that share of the pixels, exactly it also where many are equal, and only what is marked at all.
    marked = np.zeros(signed.size, np.float32)
    marked[np.argsort(-signed, axis=None, kind="stable")[: round(CHECKED_SHARE * signed.size)]] = 1
    marked = marked.reshape(signed.shape) * (signed > LEAST_MARK)
    if not marked.any():
        return Check(1 - before, 1 - before, 1 - before, word, NOTHING)
    random = np.random.default_rng(seed)
    # Turned and moved copies have the same area and shape; those that cover the marked part least say most.
    moved = [
        np.roll(np.rot90(marked, random.integers(4)), tuple(random.integers(0, face.shape[0], 2)), (0, 1))
        for _ in range(4 * CONTROLS)
    ]
    moved.sort(key=lambda m: float((m * marked).sum()))
    masks = [marked, *moved[:CONTROLS]]
    soft = [cv2.GaussianBlur(np.ascontiguousarray(m), (0, 0), face.shape[0] / 50) for m in masks]
    after = np.asarray(score([_hide(face, blurred, m) for m in soft]), np.float64)
    moves = sign * (logit_fake(before) - logit_fake(after))
    found = NOTHING if moves[0] < LEAST_CHANGE else CONFIRMED if moves[0] > moves[1:].max() else UNCONFIRMED
    return Check(1 - before, float(1 - after[0]), float(1 - after[1:].mean()), word, found)


def explainer(method: str, detector) -> tuple[str, Callable | None]:
    """(name, function from a face and a score function to a map) of a method's name; (none, None) for "none".

    Raises:
        UserError: unknown method, or what it needs is missing.
    """
    if method == "none":
        return "none", None
    if method in ("auto", "occlusion"):
        return "occlusion", occlusion
    if method == "lime":
        return "lime", lime
    if method == "gradcam":
        folder = Path(detector.settings.model)
        return "gradcam", GradCam((folder if folder.is_dir() else folder.parent) / "detector.keras")
    raise UserError(f"unknown explanation {method!r}", hint=f"choose one of {', '.join(METHODS)}")
