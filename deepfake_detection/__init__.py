"""Deepfake detection: videos in, verdicts with evidence out. See docs/design.md for the rooms and what each may import.

from deepfake_detection import Detector
Detector().predict("clip.mp4").verdict
"""

__version__ = "2.5.0"


def __getattr__(name: str):
    # On first use only: a stage that needs no detector must not pay for its imports.
    if name == "Detector":
        from .detector.predictor import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), "Detector"})
