"""From face scores to the score of a person, of a video, and a word: rules, calibration, thresholds."""

from .calibration import Calibration, CalibrationError, Thresholds, fit_temperature, logit
from .rules import RULES, PersonScore, aggregate, person_scores, video_score, word_of

__all__ = [
    "Calibration", "CalibrationError", "PersonScore", "RULES", "Thresholds", "aggregate", "fit_temperature", "logit",
    "person_scores", "video_score", "word_of",
]  # fmt: skip
