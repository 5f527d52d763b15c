"""How a face flickers from one frame to the next: a swap is made anew for every frame, the picture around it is not.

    measure([window, ...])    # consecutive frames of one face -> COUNT numbers

Each frame is held against the one before and the one after it, both moved onto it by optical flow (Kroeger et al., "Fast
optical flow using dense inverse search", ECCV 2016). What remains on either side is alike only where the middle frame is
the odd one out: that is the correlation taken here, in a coarse and a fine band of brightness and of both colours, for
the middle of the face, the mouth and the rim. Compression and noise do the same to all three, so a line through these
numbers (`training.flicker`) sees what only the inside does.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .crops import network_input

#: Part of the box that a window shows on every side; its side in px.
MARGIN, SIDE = 0.6, 128
#: Frames that follow the first one in a run, and how many frames there must be at all.
FOLLOWING, LEAST = 4, 3
#: Where the fine band ends, px of a window.
_BAND = 1.7
#: Below this variance nothing has moved or changed, in squared levels of 8 bits; from here on a correlation says all.
_STILL, _MOST = 0.02, 0.98

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
    """What NAMES say of a run of frames, float64 (COUNT,): Fisher's z of each correlation, 0 where nothing changes.

    Args:
        windows: uint8 RGB (H, W, 3), LEAST or more consecutive frames, all cut at one box with MARGIN
            (`crops.padded_crop`).
    """
    planes = [cv2.cvtColor(network_input(w, SIDE), cv2.COLOR_RGB2YCrCb) for w in windows]
    sums = np.zeros((COUNT, 3))
    for before, now, after in zip(planes, planes[1:], planes[2:]):
        sums += _shared(_remains(before, now), _remains(after, now))
    shared, first, second = sums.T
    loud = np.sqrt(first * second)
    r = np.divide(shared, loud, out=np.zeros(COUNT), where=loud > _STILL * (len(planes) - 2))
    return np.arctanh(np.clip(r, -_MOST, _MOST))


def _remains(other: np.ndarray, now: np.ndarray) -> np.ndarray:
    """What is left of a frame, moved onto another, less that other: float32 (SIDE, SIDE, 3)."""
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = search.calc(np.ascontiguousarray(now[..., 0]), np.ascontiguousarray(other[..., 0]), None)
    at = flow + np.stack(np.meshgrid(*[np.arange(SIDE, dtype=np.float32)] * 2), axis=-1)
    moved = cv2.remap(other.astype(np.float32), at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved - now


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
