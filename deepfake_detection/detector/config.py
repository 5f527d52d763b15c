"""`models/detector.json`: read, and every field that a verdict depends on checked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..aggregation import RULES
from ..errors import UserError
from ..faces import detectors, flicker
from ..places import hint_of_seeds
from ..video import sampling

CONFIG = "detector.json"

#: Bytes of the largest file that is read.
LARGEST = 1 << 20


def _number(low: float, high: float, *, open_low: bool = False) -> Callable[[Any], bool]:
    return lambda v: (
        isinstance(v, (int, float))
        and not isinstance(v, bool)
        and math.isfinite(v)
        and low <= v <= high
        and not (open_low and v == low)
    )


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _text(v) -> bool:
    return isinstance(v, str) and 0 < len(v) <= 80 and v.isprintable()


def _fields(**checks: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, dict) and all(name in v and check(v[name]) for name, check in checks.items())


def _trim(v) -> bool:
    return _fields(top=_number(0, 0.9), bottom=_number(0, 0.9))(v) and v["top"] + v["bottom"] <= 0.9


def _views(v) -> bool:
    side = lambda cut: all(name not in cut or _number(0, 0.45)(cut[name]) for name in ("left", "right"))
    both = lambda cut: ("left" in cut) == ("right" in cut)
    return isinstance(v, list) and 0 < len(v) <= 8 and all(_trim(cut) and side(cut) and both(cut) for cut in v)


def _numbers(v) -> bool:
    return isinstance(v, dict) and all(_number(0, 1e6)(number) for number in v.values())


def _weights(v) -> bool:
    return isinstance(v, list) and len(v) == flicker.COUNT and all(_number(-1000, 1000)(weight) for weight in v)


def _thresholds(v) -> bool:
    return _fields(fake_below=_number(0, 1), real_above=_number(0, 1))(v) and v["fake_below"] <= v["real_above"]


def _files(v) -> bool:
    return (
        isinstance(v, dict)
        and bool(v)
        and all(isinstance(h, str) and re.fullmatch("[0-9a-f]{64}", h) for h in v.values())
    )


#: Field -> (what it must be, for a person; the check). A temperature of 0 would divide by nothing, and every face be
#: REAL or FAKE for certain.
REQUIRED = {
    "name": ("a short text", _text),
    "version": ("a short text", _text),
    "input_size": ("a whole number, 16 to 1024", _whole(16, 1024)),
    "margin": ("a number, 0 to 2", _number(0, 2)),
    "trim": ("top and bottom, parts of the height that leave a tenth of it", _trim),
    "flip": ("true or false", lambda v: isinstance(v, bool)),
    "calibration": (
        "a temperature above 0 (to 1000) and a bias (-100 to 100)",
        _fields(temperature=_number(0, 1000, open_low=True), bias=_number(-100, 100)),
    ),
    "thresholds": ("fake_below and real_above, 0 to 1, in this order", _thresholds),
    "aggregation": ("one of " + ", ".join(RULES), lambda v: isinstance(v, str) and v in RULES),
    "files": ("the SHA-256 of each file, 64 digits", _files),
}

#: What may be left out.
OPTIONAL = {
    "detector": ("one of " + ", ".join(detectors.NAMES), lambda v: isinstance(v, str) and v in detectors.NAMES),
    "confidence": ("a number, 0 to 1", _number(0, 1)),
    "min_face_px": ("a number above 0 (to 10000)", _number(0, 10_000, open_low=True)),
    "sampling": ("one of " + ", ".join(sampling.NAMES), lambda v: isinstance(v, str) and v in sampling.NAMES),
    "frames": ("a whole number, 1 to 100000", _whole(1, 100_000)),
    "views": ("one to eight windows (top and bottom, left and right) that leave a tenth of the crop", _views),
    "rim": (
        "a margin (0.05 to 1), an input_size (16 to 1024) and every how many frames it is looked at (1 to 1000)",
        _fields(margin=_number(0.05, 1), input_size=_whole(16, 1024), every=_whole(1, 1000)),
    ),
    "flicker": (
        f"every how many frames it is measured (1 to 1000), {flicker.COUNT} weights and a bias (-1000 to 1000), and "
        "the most that it adds (0 to 100)",
        _fields(every=_whole(1, 1000), weights=_weights, bias=_number(-1000, 1000), most=_number(0, 100)),
    ),
    "quality": ("numbers by name, 0 or more", _numbers),
    "decision": ("numbers by name, 0 or more", _numbers),
    "scale": ("published or a factor above 0", lambda v: v == "published" or _number(0, 100, open_low=True)(v)),
}

#: What a caller may ask for instead (`predictor.Settings`); the rules and samplings are looked up by name.
SETTINGS = {
    **{name: OPTIONAL[name] for name in ("detector", "confidence", "min_face_px", "scale")},
    "frames": ("a whole number, 1 to 1000000000", _whole(1, 10**9)),
    "max_seconds": ("a number above 0", _number(0, 1e9, open_low=True)),
    "min_share": ("a number, 0 to 1", _number(0, 1)),
    "threads": ("a whole number, 1 or more", _whole(1, 10_000)),
    "seed": ("a whole number, 0 to 4294967295", _whole(0, 2**32 - 1)),
}


def check_settings(asked: dict[str, Any]) -> None:
    """Settings by name; None: as the model says.

    Raises:
        UserError: one that is not what it must be.
    """
    for name, (what, check) in SETTINGS.items():
        value = asked.get(name)
        plain = value.item() if isinstance(value, np.generic) else value
        if plain is not None and not check(plain):
            raise UserError(
                f"{name} must be {what}, not {value!r}"[:200], hint="leave it out: then it is as the model says"
            )


def read_config(folder: str | Path) -> dict:
    """`<folder>/detector.json`.

    Raises:
        UserError: no such folder or file, not JSON, or a field that is missing or not what it must be.
    """
    folder = Path(folder)
    path = folder / CONFIG
    restore = f"restore the folder {folder} from one version of the repository, or run train_detector.py"
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise UserError("this is no detector's description (more than 1 MiB)", file=path, hint=restore)
        config = json.loads(data.decode("utf-8-sig"))
    except OSError as e:
        why = (
            "no detector here"
            if isinstance(e, (FileNotFoundError, NotADirectoryError))
            else f"the detector's description cannot be read ({e.strerror})"
        )
        hint = hint_of_seeds(folder, "give the folder that holds detector.json, e.g. models")
        raise UserError(why, file=path, hint=hint) from None
    except (ValueError, RecursionError):  # also no UTF-8, a number of 5,000 digits
        raise UserError("this is not JSON", file=path, hint=restore) from None
    if not isinstance(config, dict):
        raise UserError("this is no detector's description (no JSON object)", file=path, hint=restore)
    missing = [name for name in REQUIRED if name not in config]
    if missing:
        raise UserError(f"detector.json lacks {', '.join(missing)}", file=path, hint=restore)
    for name, (what, check) in {**REQUIRED, **OPTIONAL}.items():
        if name in config and not (name in OPTIONAL and config[name] is None) and not check(config[name]):
            raise UserError(
                f"{name} in detector.json must be {what}, not {json.dumps(config[name])[:60]}", file=path, hint=restore
            )
    return config
