"""How a face flickers from one frame to the next: a swap is made anew for every frame, the picture around it is not.

    measure([window, ...])    # consecutive frames of one face -> COUNT numbers

Each frame is held against the one before and the one after it, both moved onto it by optical flow (Farneback,
"Two-frame motion estimation based on polynomial expansion", SCIA 2003). What remains on either side is alike only where
the middle frame is the odd one out: that is the correlation taken here, in a coarse and a fine band of brightness and
of both colours, for the middle of the face, the mouth and the rim. Compression and noise do the same to all three, so a
linear discriminant of these numbers (`training.flicker`) sees what only the inside does.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .crops import network_input

#: Part of the box that a window shows on every side, so that the flow finds what the rim moves with; its side in px.
MARGIN, SIDE = 0.3, 140
#: The flow is found in a picture so many times smaller: a quarter of the time, and a face moves smoothly.
_SMALLER = 2
#: Frames that follow the first one in a run, and how many frames there must be at all.
FOLLOWING, LEAST = 4, 4
#: Where the fine band ends, px of a window.
_BAND = 2.5
#: Below this variance a correlation says nothing, in squared levels of 8 bits; from here on it says all.
_STILL, _MOST = 0.02, 0.98
#: The first number's variance below which a face stands still, or is a still picture that moves: what remains is the
#: codec's.
_QUIET = 0.2
#: A change of brightness that is less than this part of the largest in the run: the same frame shown twice.
_SAME = 0.1
#: Frames with two neighbours of their own that a run must hold.
_LEAST_INNER = 2

_HERE = np.stack(np.meshgrid(*[np.arange(SIDE, dtype=np.float32)] * 2), axis=-1)  # x, y of each pixel of a window
_ACROSS = ((np.arange(SIDE) + 0.5) / SIDE * 2 - 1) * (1 + 2 * MARGIN)  # half sides of the box from its middle
_AWAY = np.hypot(_ACROSS[:, None], _ACROSS[None])
_PLACES = {
    "middle": (_AWAY >= 0.4) & (_AWAY < 0.75),
    "mouth": (np.abs(_ACROSS - 0.6) < 0.25)[:, None] & (np.abs(_ACROSS) < 0.45)[None],
    "rim": (_AWAY >= 0.75) & (_AWAY < 1.1),
}
NAMES = tuple(
    f"{plane} {band} {place}" for plane in ("light", "red", "blue") for band in ("coarse", "fine") for place in _PLACES
)
COUNT = len(NAMES)


def measure(windows: Sequence[np.ndarray]) -> np.ndarray:
    """What NAMES say of a run of frames, float64 (COUNT,): Fisher's z of each correlation, 0 where nothing changes; all
    NaN where the face stands still, or too few frames are not shown twice.

    Args:
        windows: uint8 RGB (H, W, 3), consecutive frames, all cut at one box with MARGIN (`crops.padded_crop`).
    """
    planes = [cv2.cvtColor(network_input(w, SIDE), cv2.COLOR_RGB2YCrCb) for w in windows]
    changes = [float(cv2.absdiff(a[..., 0], b[..., 0]).mean()) for a, b in zip(planes, planes[1:])]
    new = [change > _SAME * max(changes) for change in changes]
    inner = [i for i in range(1, len(planes) - 1) if new[i - 1] and new[i]]
    if len(inner) < _LEAST_INNER:
        return np.full(COUNT, np.nan)
    small = [network_input(np.ascontiguousarray(p[..., 0]), SIDE // _SMALLER) for p in planes]
    sums = np.zeros((COUNT, 3))
    for i in inner:
        sums += _shared(*[_remains(planes[i + k], planes[i], _flow(small[i], small[i + k])) for k in (-1, 1)])
    shared, first, second = sums.T
    loud = np.sqrt(first * second)
    if loud[0] < _QUIET * len(inner):
        return np.full(COUNT, np.nan)
    r = np.divide(shared, loud, out=np.zeros(COUNT), where=loud > _STILL * len(inner))
    return np.arctanh(np.clip(r, -_MOST, _MOST))


def _flow(now: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where each pixel of a frame lies in another, less where it is: float32 (SIDE, SIDE, 2)."""
    small = cv2.calcOpticalFlowFarneback(now, other, None, 0.5, 3, 13, 2, 5, 1.1, 0)  # type: ignore[call-overload]
    return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) * _SMALLER


def _remains(other: np.ndarray, now: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """What is left of a frame, moved onto another, less that other: float32 (SIDE, SIDE, 3)."""
    at = _HERE + flow
    return cv2.remap(other.astype(np.float32), at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) - now  # type: ignore[call-overload]


def _shared(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """(COUNT, 3): covariance and both variances of what remains on either side."""
    out = []
    coarse = [cv2.GaussianBlur(x, (0, 0), _BAND) for x in (one, two)]
    fine = [x - smooth for x, smooth in zip((one, two), coarse)]
    for plane in range(3):
        for a, b in (coarse, fine):
            for place in _PLACES.values():
                x, y = a[..., plane][place].astype(np.float64), b[..., plane][place].astype(np.float64)
                x, y = x - x.mean(), y - y.mean()
                out.append((x @ y / len(x), x @ x / len(x), y @ y / len(y)))
    return np.array(out)
