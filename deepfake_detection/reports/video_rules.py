"""Several ways to judge the same videos, side by side: the published rule, a threshold chosen on other videos, the
shipped detector.

Stage 03 leaves `video_scores.csv`, one row a video; stages 03 and 04 print the table of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..labels import FAKE, REAL, TIE_THRESHOLD, VERDICT_FAKE, VERDICT_REAL, VERDICT_UNSURE, label_of
from ..metrics import evaluate

FILE = "video_scores.csv"
COLUMNS = (
    "video", "label", "group", "dataset", "manipulation", "compression", "set", "faces", "p_real", "threshold",
    "shipped_p_real", "shipped_verdict",
)  # fmt: skip


def choose_threshold(y, p) -> float:
    """The threshold with the best balanced accuracy on these videos (p_real >= threshold is REAL); of several the
    nearest to 0.5.

    Args:
        y, p: (N,) labels (1 real, 0 fake) and P(real). With one class only it is 0.5.
    """
    y, p = np.asarray(y), np.asarray(p, np.float64)
    if len(set(y)) < 2:
        return TIE_THRESHOLD
    values = np.unique(p)
    # Between two scores any threshold judges alike; the middle is the one least moved by a new video.
    cuts = np.unique([TIE_THRESHOLD, *((values[1:] + values[:-1]) / 2)])
    right = [((p[y == REAL] >= c).mean() + (p[y == FAKE] < c).mean()) / 2 for c in cuts]
    best = np.flatnonzero(np.array(right) >= max(right) - 1e-12)
    return float(cuts[best[np.abs(cuts[best] - TIE_THRESHOLD).argmin()]])


def thresholds_without(y, p, parts):
    """For each video the threshold chosen on the videos of all other parts: float64 (N,)."""
    y, p, parts = np.asarray(y), np.asarray(p), np.asarray(parts)
    result = np.empty(len(y))
    for part in np.unique(parts):
        result[parts == part] = choose_threshold(y[parts != part], p[parts != part])
    return result


def read(folder: Path):
    """`video_scores.csv` of a folder (text; numbers NaN where empty); None when none can be read."""
    import pandas as pd

    try:
        table = pd.read_csv(Path(folder) / FILE, dtype=str, keep_default_na=False)
        for name in ("p_real", "threshold", "shipped_p_real"):
            table[name] = pd.to_numeric(table[name].replace("", None)).astype(float)
        table["video"] = table["video"].str.removeprefix("./")  # of `files.csv_name`
        return table[list(COLUMNS)]
    except (OSError, ValueError, KeyError):
        return None


def rows(table, seed: int = 1, resamples: int = 1000) -> list[dict]:
    """A row a way to judge: name, real, real_right, fake, fake_right, unsure, auc (of `metrics.evaluate`, or None)."""
    judged = table[(table["label"] != "") & table["p_real"].notna()]
    if judged.empty:
        return []
    truth = judged["label"].to_numpy()
    y, groups = np.array([label_of(w) for w in truth]), judged["group"].to_numpy()

    def cut(p, threshold):
        return np.where(p >= threshold, VERDICT_REAL, VERDICT_FAKE)

    def area(p):
        return evaluate(y, p, groups, n=resamples, seed=seed, names=("auc",))["auc"]

    p, low, high = judged["p_real"].to_numpy(), judged["threshold"].min(), judged["threshold"].max()
    ways = [(f"this model, p_real >= {TIE_THRESHOLD:g}", cut(p, TIE_THRESHOLD), area(p))]
    if judged["threshold"].notna().all():
        span = f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
        where = "validation" if set(judged["set"]) <= {"test"} else "the other folds"
        ways.append((f"this model, threshold chosen on {where} ({span})", cut(p, judged["threshold"].to_numpy()), None))
    if judged["shipped_p_real"].notna().all():
        q = judged["shipped_p_real"].to_numpy()
        ways += [
            (f"shipped detector, not trained on these, p_real >= {TIE_THRESHOLD:g}", cut(q, TIE_THRESHOLD), area(q)),
            ("shipped detector, its own thresholds", judged["shipped_verdict"].to_numpy(), None),
        ]
    return [
        {
            "name": name,
            "real": int((truth == VERDICT_REAL).sum()),
            "real_right": int(((truth == VERDICT_REAL) & (v == VERDICT_REAL)).sum()),
            "fake": int((truth == VERDICT_FAKE).sum()),
            "fake_right": int(((truth == VERDICT_FAKE) & (v == VERDICT_FAKE)).sum()),
            "unsure": int((v == VERDICT_UNSURE).sum()),
            "auc": auc,
        }
        for name, v, auc in ways
    ]


def text(rows: list[dict]) -> str:
    """The rows as a table."""
    from .text import numbers, table

    def auc(entry):
        if entry is None:
            return ""
        if "refused" in entry:
            return "-"
        return "{} ({} to {})".format(*numbers(entry)) if "low" in entry else f"{entry['value']:.3f}"

    body = [
        [
            r["name"],
            f"{r['real_right']} of {r['real']}",
            f"{r['fake_right']} of {r['fake']}",
            r["unsure"] or "-",
            auc(r["auc"]),
        ]
        for r in rows
    ]
    return table(body, ["", "real right", "fake right", "UNSURE", "AUC"], "lrrrl")
