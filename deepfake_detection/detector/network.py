"""The shipped detector at work: face crops in, calibrated P(real) out, through ONNX Runtime. No TensorFlow, SciPy or
pandas.

    model = DetectorModel.load("models")
    p_real = model.predict(crops)         # uint8 RGB crops of any size, cut with model.config["margin"]; 1 real, 0 fake

`models/detector.json` says how a crop becomes the network's input: the margin it must be cut with, the windows of it
that are looked at (`views`: the whole outline of the face, and from the brows to the chin), and the input size. The
same file holds the calibration.

Beside it may lie `models/rim.onnx`: it looks at the rim of a face against what surrounds it, in a window that the first
network does not see whole. What it finds holds for a person, not for a face (`training.rim`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import onnx_session
from ..aggregation import logit
from ..errors import UserError
from ..faces.crops import network_input
from ..files import sha256
from .config import read_config

ONNX, KERAS, RIM = "detector.onnx", "detector.keras", "rim.onnx"

#: Files of the network that are read; the largest here is 14 MB.
LARGEST = 1 << 30

#: Faces in one run of the network: bounds memory (about 50 MB at 176 px).
BATCH = 4


def trim(crop: np.ndarray, cut: dict) -> np.ndarray:
    """A face crop (H, W, 3), or the numbers of its rows (H,), without its outer parts: a view, at least one row and
    column.

    Args:
        cut: {"top": part, "bottom": part} of the crop's height; "left" and "right", parts of its width, may be there.
    """
    rows = _kept(crop.shape[0], cut["top"], cut["bottom"])
    if crop.ndim == 1 or not (cut.get("left") or cut.get("right")):
        return crop[rows]
    return crop[rows, _kept(crop.shape[1], cut["left"], cut["right"])]


def _kept(side: int, before: float, after: float) -> slice:
    start, end = round(side * before), side - round(side * after)
    return slice(min(start, side - 1), max(end, start + 1))


def views_of(config: dict) -> list[dict]:
    """The windows of a crop that are looked at, each a cut for `trim`: `views` of detector.json, or its `trim`."""
    return config.get("views") or [config["trim"]]


class DetectorModel:
    """The detector's network with its configuration.

    Attributes:
        config: detector.json as a dict.
    """

    def __init__(self, session, config: dict, rim=None):
        self._session, self.config, self._rim = session, config, rim
        self._temperature, self._bias = config["calibration"]["temperature"], config["calibration"]["bias"]

    @classmethod
    def load(cls, folder: str | Path = "models", *, threads: int = 1) -> DetectorModel:
        """Loads `<folder>/detector.onnx` and `<folder>/detector.json`, and `<folder>/rim.onnx` where that says so.

        Args:
            threads: of one prediction.

        Raises:
            UserError: a file is missing, broken, or not the one that detector.json was written for.
        """
        folder = Path(folder)
        config = read_config(folder)
        session = _opened(folder / ONNX, config["input_size"], config, threads)
        rim = config.get("rim")
        return cls(session, config, rim and _opened(folder / RIM, rim["input_size"], config, threads))

    def predict(self, crops: Sequence[np.ndarray], *, trimmed: bool = False, flip: bool | None = None) -> np.ndarray:
        """Calibrated P(real) of face crops, each judged alone: neither order nor number changes a score.

        Args:
            crops: uint8 RGB (H, W, 3) of any size, cut with the margin of `config`.
            trimmed: the crops are already tight (brows to chin), as those of the DFDC crops are, and are looked at
                whole.
            flip: look at the mirrored face too, with one view; None: as `config` says, which is what a verdict is made
                of.

        Returns:
            float32 (N,).
        """
        raw = logit(self.predict_raw(crops, trimmed=trimmed, flip=flip))
        return (1 / (1 + np.exp(-(raw / self._temperature + self._bias)))).astype(np.float32)

    def predict_raw(
        self, crops: Sequence[np.ndarray], *, trimmed: bool = False, flip: bool | None = None
    ) -> np.ndarray:
        """P(real) before calibration, float32 (N,): of one view the mean with its mirrored look, if `config` wants
        that; of several views the mean of their logits. Arguments as `predict`."""
        size, views = self.config["input_size"], views_of(self.config)
        scores = [np.zeros(0, np.float32)]
        for start in range(0, len(crops), BATCH):
            some = [_checked(c) for c in crops[start : start + BATCH]]
            if trimmed or len(views) == 1:
                faces = np.stack([network_input(c if trimmed else trim(c, views[0]), size) for c in some])
                score = self._run(faces)
                if self.config["flip"] if flip is None else flip:
                    score = (score + self._run(np.ascontiguousarray(faces[:, :, ::-1]))) / 2
            else:
                looks = [self._run(np.stack([network_input(trim(c, view), size) for c in some])) for view in views]
                mean = np.mean([logit(s) for s in looks], axis=0)
                score = (1 / (1 + np.exp(-mean))).astype(np.float32)
            scores.append(score)
        return np.concatenate(scores)

    def predict_rim(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        """What the rims of faces add to the logit of their calibrated P(real), float64 (N,); below 0 speaks for FAKE.

        Args:
            windows: uint8 RGB (H, W, 3), cut with the margin of `rim` in `config` (`faces.crops.padded_crop`).
        """
        size, shifts = self.config["rim"]["input_size"], [np.zeros(0)]
        for start in range(0, len(windows), BATCH):
            some = [network_input(_checked(window), size) for window in windows[start : start + BATCH]]
            shifts.append(logit(self._run(np.stack(some), self._rim)) / self._temperature)
        return np.concatenate(shifts)

    def _run(self, faces: np.ndarray, session=None) -> np.ndarray:
        session = session or self._session
        scores = session.run(None, {session.get_inputs()[0].name: faces})[0][:, 0]
        if not ((scores >= 0) & (scores <= 1)).all():  # NaN as well
            raise UserError(
                "the detector's network gives no probability for a face", hint="use the model that the repository ships"
            )
        return scores


def moved(p_real: float, shift: float) -> float:
    """P(real) whose logit is larger by `shift`."""
    return float(1 / (1 + np.exp(-(logit(p_real) + shift)))) if shift else p_real


def _opened(network: Path, size: int, config: dict, threads: int):
    """The session of a detector's network, that of detector.json, which takes faces of this side."""
    hint = f"restore all files of {network.parent} from one version of the repository, or run train_detector.py"
    if not network.is_file():
        raise UserError("the detector's network is missing", file=network, hint=hint)
    try:
        if network.stat().st_size > LARGEST:
            raise UserError("this is no detector's network (more than 1 GiB)", file=network, hint=hint)
        digest = sha256(network)
    except OSError as e:
        raise UserError(f"the detector's network cannot be read ({e.strerror})", file=network, hint=hint) from None
    if digest != config["files"].get(network.name):
        raise UserError("the detector's network is not the one in detector.json", file=network, hint=hint)
    try:
        session = onnx_session.opened(network, threads=threads)
        _check(session, size)
    except MemoryError:
        raise
    except Exception as e:  # the runtime raises its own kinds (InvalidGraph, Fail, ...), which have no common one
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:160]
        raise UserError(f"the detector's network cannot be used ({reason})", file=network, hint=hint) from None
    return session


def _check(session, size: int) -> None:
    """Raises ValueError for another network than detector.json says: judges a grey picture alone and as three."""
    given, made = session.get_inputs(), session.get_outputs()
    if (
        len(given) != 1
        or given[0].type != "tensor(uint8)"
        or list(given[0].shape[1:]) != [size, size, 3]
        or isinstance(given[0].shape[0], int)
    ):
        raise ValueError(f"it takes {[(g.type, g.shape) for g in given]}, not uint8 faces (N, {size}, {size}, 3)")
    if len(made) != 1:
        raise ValueError(f"it gives {len(made)} results, not one")
    for number in (1, 3):
        scores = session.run(None, {given[0].name: np.full((number, size, size, 3), 127, np.uint8)})[0]
        if (
            getattr(scores, "shape", None) != (number, 1)
            or scores.dtype != np.float32
            or not ((scores >= 0) & (scores <= 1)).all()
        ):
            raise ValueError(
                f"it does not give one probability a face, but {getattr(scores, 'shape', type(scores))} "
                f"{np.ravel(scores)[:3]}"
            )


def _checked(crop: np.ndarray) -> np.ndarray:
    if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or not crop.size:
        raise ValueError(f"a face crop is uint8 (H, W, 3), not {crop.dtype} {crop.shape}")
    return crop
