"""High dynamic range and wide gamut to what a plain screen shows: BT.2100 (PQ, HLG) and BT.2020 or P3 colours to
BT.709.

The highlights are rolled off by the curve of ITU-R BT.2390 from the picture's own peak, as mpv does, to a white of 203
cd/m2 (the reference white of BT.2408): a picture that is nowhere brighter stays as it is, and of one that reaches 1000
cd/m2 all that is below 91. What files state of their peak is often wrong or missing. FFmpeg's own conversion cuts off
everything above white and takes five seconds to prepare; its `zscale` is not in PyAV.
"""

from __future__ import annotations

import functools

import numpy as np

#: AVColorTransferCharacteristic and AVColorPrimaries.
PQ, HLG = 16, 18
_BT2020, _P3_D65 = 9, 12

#: cd/m2: white of the screen; what HLG's brightest is shown at.
WHITE, _HLG_PEAK = 203.0, 1000.0
#: Share of the pixels that may be brighter than what counts as the peak: sparks and noise.
_BRIGHTER = 0.001

#: Linear RGB of these primaries -> of BT.709 (ITU-R BT.2087; SMPTE RP 431-2).
_TO_BT709 = {
    _BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    _P3_D65: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}
#: A plain screen's curve (BT.1886).
_GAMMA = 2.4


def is_needed(transfer: int, primaries: int) -> bool:
    """Whether a frame tagged so looks wrong on a plain screen."""
    return transfer in (PQ, HLG) or primaries in _TO_BT709


def to_sdr(image: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """uint16 (H, W, 3) BGR as coded, full range -> uint8 (H, W, 3) BGR for a plain screen."""
    light = _decoding(transfer)[image[..., ::-1]]
    if primaries in _TO_BT709:
        light = light @ np.array(_TO_BT709[primaries], np.float32).T
    light = np.maximum(light, 0)
    if transfer in (PQ, HLG):
        coded = np.round(_pq(np.minimum(light.max(axis=2) * WHITE, 10000)) * 4095).astype(np.uint16)
        light *= _factors(int(np.quantile(coded, 1 - _BRIGHTER, method="higher")))[coded][..., None]
    return _encoding()[np.minimum(light * 65535 + 0.5, 65535).astype(np.uint16)][..., ::-1].copy()


@functools.lru_cache(maxsize=4)
def _decoding(transfer: int) -> np.ndarray:
    """float32 (65536,): coded value -> light, 1 is the screen's white."""
    coded = np.arange(65536) / 65535
    if transfer == PQ:
        return (_pq_light(coded) / WHITE).astype(np.float32)
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
        return (_HLG_PEAK * scene**1.2 / WHITE).astype(np.float32)  # the screen's system gamma, on each channel
    return (coded**_GAMMA).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _encoding() -> np.ndarray:
    """uint8 (65536,): light -> coded value."""
    return np.round(255 * (np.arange(65536) / 65535) ** (1 / _GAMMA)).astype(np.uint8)


@functools.lru_cache(maxsize=256)
def _factors(peak: int) -> np.ndarray:
    """float32 (4096,): what light of that PQ value (of 4095) is multiplied by, BT.2390-11 section 5.4.1.

    Args:
        peak: of the picture, as such a PQ value.
    """
    coded = np.arange(4096) / 4095
    whole = max(peak / 4095, _pq(WHITE))
    e, most = np.minimum(coded / whole, 1), _pq(WHITE) / whole
    if most == 1:
        return np.ones(4096, np.float32)  # what is brighter is cut off
    knee = 1.5 * most - 0.5
    t = np.maximum(e - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    shown = _pq_light(np.where(e < knee, coded, spline * whole))
    return np.divide(shown, _pq_light(coded), out=np.ones(4096), where=coded > 0).astype(np.float32)


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128


def _pq(light):
    """cd/m2 -> coded value of SMPTE ST 2084, 0..1."""
    y = (light / 10000) ** _M1
    return ((_C1 + _C2 * y) / (1 + _C3 * y)) ** _M2


def _pq_light(coded):
    """Its inverse."""
    root = coded ** (1 / _M2)
    return 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
