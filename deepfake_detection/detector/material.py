"""The file itself: what is stated of it beside the verdict, and how far it is from what the detector was checked on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..faces.quality import Stated
from . import stills


@dataclass(frozen=True)
class Validated(Stated):
    """The material on which the detector was validated; fields of detector.json's "validated_on".

    The defaults are the validation clips' (FaceForensics++ c23, DFDC and low-rate video calls) and a little: 0.025 to
    0.17 bits per pixel, 360 to 1080 px, faces from 74 px. FaceForensics++ c40 (0.003 to 0.01) was looked at too, but
    four untouched clips say too little, and the detector errs far more there (`models/README.md`): that is outside.

    Attributes:
        min_side_px, max_side_px: shorter side of the picture, px.
        min_bits_per_pixel, max_bits_per_pixel: as in `facts`; videos only.
        min_face_px: shorter side of a face's box in source pixels (median over the faces that count).
    """

    min_side_px: float = 360.0
    max_side_px: float = 1080.0
    min_bits_per_pixel: float = 0.02
    max_bits_per_pixel: float = 0.2
    min_face_px: float = 70.0


def turned(degrees: Iterable[int]) -> tuple[str, ...]:
    """A sentence where people were found upside down or on their side; () where all are upright.

    Args:
        degrees: by which each face was turned.
    """
    found = sorted(set(degrees) - {0})
    listed = " and ".join(map(str, found))
    return (f"People are not upright in this picture: it was read turned by {listed} degrees.",) if found else ()


def warnings(facts: dict, faces: Sequence, validated: Validated) -> tuple[str, ...]:
    """A plain sentence for each way in which a file is outside what the detector was validated on; () where it is
    inside.

    Args:
        facts: of `facts`; a missing value warns of nothing.
        faces: `FaceScore`s; those that vote are looked at, all of them where none does.
    """
    out = [stills.WARNING] if facts.get("still") else []
    side, bits = min(facts.get("width") or 0, facts.get("height") or 0), facts.get("bits_per_pixel")
    sides = f"{validated.min_side_px:g} to {validated.max_side_px:g}"
    if side and not validated.min_side_px <= side <= validated.max_side_px:
        kind = "small" if side < validated.min_side_px else "large"
        out.append(f"The picture is {kind} ({side} px on its shorter side): the detector was validated on {sides} px.")
    if bits and not validated.min_bits_per_pixel <= bits <= validated.max_bits_per_pixel:
        bound = validated.min_bits_per_pixel if bits < validated.min_bits_per_pixel else validated.max_bits_per_pixel
        kind = "strongly" if bits < bound else "hardly"
        out.append(
            f"The file is {kind} compressed ({_told(bits, bound, 2)} bits per pixel): "
            f"the detector was validated on {validated.min_bits_per_pixel:g} to {validated.max_bits_per_pixel:g}."
        )
    sizes = sorted(size for f in [f for f in faces if f.votes] or faces if (size := f.quality.get("size_px")))
    if sizes and (size := sizes[len(sizes) // 2]) < validated.min_face_px:
        out.append(
            f"The faces are small ({_told(size, validated.min_face_px, 2)} px): "
            f"the detector was validated on faces of {validated.min_face_px:g} px and more."
        )
    return tuple(out)


def _told(value: float, bound: float, digits: int) -> str:
    """A number with so many digits, or as many as it takes to be seen on its side of a bound."""
    while digits < 9 and np.sign(value - bound) != np.sign(float(f"{value:.{digits}g}") - bound):
        digits += 1
    return np.format_float_positional(float(f"{value:.{digits}g}"), trim="-")


def facts(path: Path, info) -> dict:
    """Plain values of a video or picture file.

    Args:
        info: `video.probe.VideoInfo`.

    Returns:
        width, height (px, as shown), codec, fps, duration_s, bytes, bitrate (bit/s of the whole file, sound included)
        and bits_per_pixel (bitrate over the pixels shown in a second); the last two None where the length is unknown.
        `still` is whether it is a picture: then fps and duration_s are 0 and the last two None.
    """
    size = path.stat().st_size
    bitrate = 8 * size / info.duration_s if info.duration_s > 0 else None
    pixels = info.width * info.height * info.fps
    return {
        "width": int(info.width),
        "height": int(info.height),
        "codec": info.codec,
        "fps": round(float(info.fps), 3),
        "duration_s": round(float(info.duration_s), 3),
        "bytes": size,
        "bitrate": None if bitrate is None else round(bitrate),
        "bits_per_pixel": None if bitrate is None or not pixels else round(bitrate / pixels, 5),
        "still": info.fps == 0,
    }
