"""The shipped detector: its runtime without TensorFlow, and video -> verdict.

`Detector` and its result types are imported on first use, so that `import deepfake_detection` stays light.
"""

from __future__ import annotations

_PREDICTOR = {"Detector", "Settings", "Prediction", "Person", "FaceScore", "Stretch"}


def __getattr__(name: str):
    if name in _PREDICTOR:
        from . import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_PREDICTOR})
