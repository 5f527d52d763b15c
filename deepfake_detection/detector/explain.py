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

import base64
import contextlib
import datetime
import functools
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .. import files, labels
from ..errors import UserError

if TYPE_CHECKING:
    from .verdict import FaceScore

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
    p = np.clip(np.asarray(p_real, np.float64), 1e-7, 1 - 1e-7)
    return np.log1p(-p) - np.log(p)


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
    bells = np.exp(-((np.arange(size)[None] + 0.5 - centers[:, None]) ** 2) / (2 * sigma**2)).astype(
        np.float32
    )  # (grid, S)
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
        import keras

        from ..models import model_file

        model = model_file.load(path)
        layers = [layer for layer in model.layers if len(getattr(layer.output, "shape", ())) == 4]
        if not layers or not isinstance(model.layers[-1], keras.layers.Dense):
            raise UserError("no convolutional feature map in this model", file=path, hint="use --explain occlusion")
        self._model = keras.Model(model.inputs, [layers[-1].output, model.output])
        self.size = int(model.input_shape[1])

    def __call__(self, face: np.ndarray, score: Callable | None = None) -> np.ndarray:
        """The map of a square uint8 RGB face; positive parts speak for FAKE. The negative ones are kept: they speak for
        REAL."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            features, p_real = self._model([face[None].astype(np.float32)], training=False)
            p = tf.clip_by_value(tf.reshape(p_real, ()), 1e-6, 1 - 1e-6)
            fake = tf.math.log1p(-p) - tf.math.log(p)
        gradient = tape.gradient(fake, features)
        weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        cam = tf.reduce_sum(weights * features, axis=-1)[0].numpy()
        return _scaled(
            cv2.resize(cam.astype(np.float32), (face.shape[1], face.shape[0]), interpolation=cv2.INTER_CUBIC)
        )


def _scaled(values: np.ndarray) -> np.ndarray:
    largest = float(np.abs(values).max())
    return (values / largest if largest > 1e-12 else values).astype(np.float32)


def check(
    face: np.ndarray,
    values: np.ndarray,
    score: Callable,
    *,
    seed: int = 1,
    share: float = CHECKED_SHARE,
    controls: int = CONTROLS,
) -> Check:
    """Deletion check of a map: hides the part it marks most, and the same shape (turned, moved) in other places.

    For a face judged fake the part that speaks for FAKE is hidden, for one judged real the part that speaks for REAL.
    """
    blurred = _blurred(face)
    before = float(score([face])[0])
    sign, word = (1, labels.VERDICT_FAKE) if before < 0.5 else (-1, labels.VERDICT_REAL)
    signed = values * sign
    # At most that share of the pixels, exactly it also where many are equal, and only what is marked at all.
    marked = np.zeros(signed.size, np.float32)
    marked[np.argsort(-signed, axis=None, kind="stable")[: round(share * signed.size)]] = 1
    marked = marked.reshape(signed.shape) * (signed > LEAST_MARK)
    if not marked.any():
        return Check(1 - before, 1 - before, 1 - before, word, NOTHING)
    random = np.random.default_rng(seed)
    # Turned and moved copies have the same area and shape; those that cover the marked part least say most.
    moved = [
        np.roll(np.rot90(marked, random.integers(4)), tuple(random.integers(0, face.shape[0], 2)), (0, 1))
        for _ in range(4 * controls)
    ]
    moved.sort(key=lambda m: float((m * marked).sum()))
    masks = [marked, *moved[:controls]]
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


def chosen_faces(prediction, *, decider: int = 2, others: int = 1) -> list[tuple[str, FaceScore]]:
    """The faces that the report shows: ("suspicious" | "normal", FaceScore), the deciding person's first.

    The lowest and the highest p_real of each well-seen person among the faces that count: `decider` each of the one who
    decides, `others` each of two more people. Not next to each other in time while there are others.
    """
    out = []
    for place, person in enumerate([p for p in prediction.people if p.well_seen][:3] or prediction.people[:1]):
        own = [f for f in prediction.faces if f.person == person.id]
        own = [f for f in own if getattr(f, "votes", True)] or own
        most = decider if place == 0 else others
        gap = (own[-1].time_s - own[0].time_s) / (4 * most) if len(own) > 2 * most else 0.0
        low = _spread(sorted(own, key=lambda f: f.p_real), min(most, (len(own) + 1) // 2), gap)
        high = _spread(sorted((f for f in own if not any(f is t for t in low)), key=lambda f: -f.p_real), most, gap)
        out += [("suspicious", f) for f in low] + [("normal", f) for f in high]
    return out


def slim(prediction):
    """The prediction with the crops of `chosen_faces` only: what a report needs, of bounded memory."""
    shown = {id(face) for _, face in chosen_faces(prediction)}
    return replace(prediction, faces=tuple(f if id(f) in shown else replace(f, crop=None) for f in prediction.faces))


def _spread(faces: list, most: int, gap: float) -> list:
    taken: list = []
    for wanted in (gap, -1.0):
        for face in faces:
            if (
                len(taken) < most
                and not any(face is t for t in taken)
                and all(abs(face.time_s - t.time_s) > wanted for t in taken)
            ):
                taken.append(face)
    return taken


def evidence_of(
    prediction, detector, method: str = "auto", progress: Callable[[float, str], None] | None = None
) -> list[dict]:
    """What the report shows for each chosen face: plain values, and pictures as data URIs under "face" and "map" (None:
    not drawn).

    Raises:
        UserError: see `explainer`.
    """
    from ..faces.crops import network_input

    name, explain = explainer(method, detector)
    size = int(detector.config["input_size"])
    chosen = chosen_faces(prediction)

    def score(faces, flip=None):
        return detector.score_seen(faces, flip=flip)

    out = []
    for number, (kind, face) in enumerate(chosen):
        if progress:
            progress(number / len(chosen), "explaining")
        seen = detector.seen_part(face.crop)
        entry = {
            "kind": kind,
            "person": face.person,
            "time_s": face.time_s,
            "frame": face.frame,
            "index": face.index,
            "p_fake": 1 - face.p_real,
            "method": name,
            "face": data_uri(_shown(seen)),
            "map": None,
            "check": None,
        }
        if explain:
            square = network_input(seen, size)
            # A map is drawn with one look at each picture, not two (the mirrored one): half the work. Its check asks as
            # the verdict did.
            values = explain(square, functools.partial(score, flip=False))
            found = check(square, values, score, seed=detector.settings.seed)
            if found.confirmed:
                entry["map"] = data_uri(overlay(_shown(seen), values, found.sign))
            entry["check"] = {**asdict(found), "confirmed": found.confirmed}
        out.append(entry)
    return out


def _shown(crop: np.ndarray, side: int = 224) -> np.ndarray:
    """The crop at the size it is shown in, never a network's squashed square."""
    scale = side / max(crop.shape[:2])
    return cv2.resize(
        crop,
        (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale))),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
    )


def overlay(image: np.ndarray, values: np.ndarray, sign: str) -> np.ndarray:
    """What a map marks for `sign` over the picture in grey: orange speaks for FAKE, blue for REAL (told apart by
    colour-blind eyes), strength by opacity. What speaks for the other side is not drawn: only this side was checked."""
    values = np.clip(cv2.resize(values, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC), -1, 1)[
        ..., None
    ]
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32) * 0.85 + 20
    factor, colour = (1, [240, 90, 10]) if sign == labels.VERDICT_FAKE else (-1, [20, 110, 240])
    strength = np.clip(values * factor - LEAST_MARK, 0, 1) / (1 - LEAST_MARK) * 0.8
    return (grey * (1 - strength) + np.array(colour, np.float32) * strength).round().clip(0, 255).astype(np.uint8)


def data_uri(image: np.ndarray) -> str:
    """uint8 RGB (H, W, 3) -> a JPEG in a data URI."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not ok:
        raise RuntimeError("JPEG encoding failed")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def report_data(prediction, detector, *, name: str, method: str = "auto", progress=None) -> dict:
    """Everything the report says, as JSON values; pictures are data URIs in `evidence` and `frame`."""
    from .. import __version__
    from ..names import file_name
    from ..reports import track_record
    from .annotate import frame_picture

    source = Path(prediction.video)
    about = dict(prediction.file) or {"bytes": source.stat().st_size, "duration_s": prediction.duration_s}
    folder = Path(detector.settings.model)
    table = track_record.load(detector.config, folder if folder.is_dir() else folder.parent)
    return {
        **prediction.to_json(),
        "video": file_name(name),
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "file": {**about, "sha256": files.sha256(source)},
        "faces": [{**f.to_json(), "size_px": _size_px(f)} for f in prediction.faces],
        "thresholds": detector.thresholds.to_dict(),
        "settings": prediction.settings,
        "program": f"deepfake_detection {__version__}",
        "track_record": track_record.sentences(
            table, prediction.verdict, about, detector.model, detector.thresholds.to_dict()
        ),
        "frame": frame_picture(prediction, detector),
        "evidence": evidence_of(prediction, detector, method, progress),
    }


def _size_px(face) -> float:
    """Shorter side of a face in pixels of the source video; of the frame that was judged where the source's is not
    known."""
    return float(face.quality.get("size_px") or min(face.box[2:]))


def write_report(prediction, detector, path: str | Path, *, name: str, method: str = "auto", progress=None) -> None:
    """Writes the HTML report to `path` and its data, without pictures, beside it with the suffix .json."""
    from ..reports import html

    data = report_data(prediction, detector, name=name, method=method, progress=progress)
    path = Path(path)
    page = html.video_report(data)
    without = {
        **{k: v for k, v in data.items() if k != "frame"},
        "evidence": [{k: v for k, v in e.items() if k not in ("face", "map")} for e in data["evidence"]],
    }
    files.write_json(path.with_suffix(".json"), without)
    files.write_text(path, page)
