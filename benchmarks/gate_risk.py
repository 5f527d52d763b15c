"""What bounds of the face-quality gate come to: who has a say, how these are judged, with intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from gate_clips import Video

from deepfake_detection import labels
from deepfake_detection.aggregation import Thresholds
from deepfake_detection.detector import people
from deepfake_detection.detector.verdict import FaceScore
from deepfake_detection.faces.quality import Bounds, Quality
from deepfake_detection.metrics import METRICS, MetricError, auc, bootstrap_groups
from deepfake_detection.reports.verdicts import share

#: Bounds that keep nobody out.
OFF = Bounds(
    min_size_px=0,
    min_inside=0,
    max_yaw=180,
    max_pitch=180,
    max_roll=180,
    min_sharpness=0,
    min_brightness=0,
    min_contrast=0,
    max_blown_out=1,
    min_confidence=0,
)
#: Values of each bound that are tried, the loosest, which is off, first.
TRIED: dict[str, tuple[float, ...]] = {
    "min_size_px": (0, 20, 24, 28, 32, 36, 40, 48, 56, 80, 120),
    "min_inside": (0, 0.5, 0.6, 0.75, 0.9, 1),
    "max_yaw": (180, 70, 60, 50, 40, 30, 20),
    "max_pitch": (180, 50, 40, 30, 20, 12),
    "max_roll": (180, 60, 45, 30, 15),
    "min_sharpness": (0, 0.05, 0.06, 0.07, 0.08, 0.1, 0.11, 0.12, 0.13, 0.15, 0.17),
    "min_brightness": (0, 10, 15, 20, 25, 30, 40, 60),
    "min_contrast": (0, 4, 6, 8, 10, 15, 20),
    "max_blown_out": (1, 0.35, 0.2, 0.1, 0.02),
    "min_confidence": (0, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9),
}
#: Which degraded copies a bound is measured on beside the clips as they are.
DEGRADED_FOR = {"min_size_px": "small", "min_sharpness": "soft", "min_brightness": "dark", "min_contrast": "dark"}
RESAMPLES = 1000
WORDS = (labels.VERDICT_REAL, labels.VERDICT_UNSURE, labels.VERDICT_FAKE)


@dataclass(frozen=True)
class Judge:
    """What turns faces into a verdict, beside the bounds."""

    thresholds: Thresholds
    decision: people.Decision
    rule: str
    _known: dict = field(default_factory=dict, repr=False)

    def __call__(self, video: Video, faces: list[FaceScore]) -> people.Verdict:
        """The verdict on a video with the votes of `faces`; most bounds change few of them, so it is kept."""
        key = video.name, video.variant, *(face.votes for face in faces)
        if key not in self._known:
            self._known[key] = people.judge(
                faces, self.thresholds, self.decision, self.rule, frames=video.frames, intervals=False
            )
        return self._known[key]


@dataclass(frozen=True)
class Outcome:
    """What videos come to with some bounds, an entry a video: whether it has a say, 1 untouched or 0 altered, p_real,
    verdict, group, whether it is a clip as it is; and the share of the faces that vote."""

    say: np.ndarray
    y: np.ndarray
    p: np.ndarray
    said: np.ndarray
    groups: np.ndarray
    plain: np.ndarray
    vote: float

    @property
    def auc(self) -> float | None:
        """Of the videos with a say."""
        try:
            return float(auc(self.y[self.say], self.p[self.say]))
        except MetricError:
            return None

    def wrong(self, label: int) -> np.ndarray:
        """Which videos are of this label, have a say and are called the other thing."""
        other = labels.VERDICT_FAKE if label == labels.REAL else labels.VERDICT_REAL
        return self.say & (self.y == label) & (self.said == other)

    def rate(self, label: int) -> float | None:
        """Share of the videos of this label with a say that are called the other thing."""
        some = self.say & (self.y == label)
        return float(self.wrong(label).sum() / some.sum()) if some.any() else None


def gated(faces: Iterable[FaceScore], bounds: Bounds) -> list[FaceScore]:
    """The same faces with the votes that they have under these bounds."""
    faults = ((face, bounds.fault(Quality(**face.quality))) for face in faces)
    return [replace(face, votes=not fault, fault=fault) for face, fault in faults]


def outcome(videos: list[Video], bounds: Bounds, judge: Judge) -> Outcome:
    """The videos judged with these bounds."""
    say, p, said, vote = [], [], [], []
    for video in videos:
        faces = gated(video.faces, bounds)
        found = judge(video, faces)
        vote += [face.votes for face in faces]
        say.append(people.enough(faces, judge.decision, video.frames))
        p.append(found.p_real)
        said.append(found.verdict)
    y = np.array([labels.label_of(video.label) for video in videos])
    groups = np.array([video.group or video.name for video in videos])
    plain = np.array([not video.variant for video in videos])
    return Outcome(np.array(say), y, np.array(p, float), np.array(said), groups, plain, sum(vote) / len(vote))


def share_cell(hit: np.ndarray, among: np.ndarray, groups: np.ndarray) -> str:
    """ "12 % [5, 20]": the share of `among` that is `hit`, with its 95 % interval (`verdicts.share`)."""
    if not among.any():
        return ""
    found = share(hit[among], groups[among], RESAMPLES)
    interval = f" [{100 * found['low']:.0f}, {100 * found['high']:.0f}]" if "low" in found else ""
    return f"{found['value']:.0%}{interval}"


def auc_cell(found: Outcome) -> str:
    """ "0.912 [0.871, 0.950]" of the videos with a say; without an interval where the groups are too few."""
    if found.auc is None:
        return ""
    y, p, groups = found.y[found.say], found.p[found.say], found.groups[found.say]
    try:
        value, low, high = bootstrap_groups(METRICS["auc"], y, p, groups, n=RESAMPLES)
    except MetricError:
        return f"{found.auc:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


#: Columns of `cells`.
HEAD = ("clips with a say", "AUC of these", "untouched called FAKE", "altered called REAL")


def cells(found: Outcome) -> list[str]:
    """The columns of a table; errors are shares of the videos with a say."""
    wrong = [
        share_cell(found.wrong(label), found.say & (found.y == label), found.groups)
        for label in (labels.REAL, labels.FAKE)
    ]
    return [share_cell(found.say, np.ones_like(found.say), found.groups), auc_cell(found), *wrong]


def lost_cells(looser: Outcome, tighter: Outcome) -> list[str]:
    """Of the untouched and of the altered videos that lose their say by the tighter bound: how many the looser one
    calls REAL / UNSURE / FAKE."""
    lost = looser.say & ~tighter.say
    out = []
    for label in (labels.REAL, labels.FAKE):
        some = looser.said[lost & (looser.y == label)]
        out.append(" / ".join(str((some == word).sum()) for word in WORDS) if len(some) else "")
    return out
