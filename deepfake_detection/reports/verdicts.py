"""The words of predict.py (REAL, FAKE, UNSURE), by a detector's own thresholds, held against labels."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np

from ..errors import UserError
from ..labels import VERDICT_FAKE, VERDICT_REAL, VERDICT_UNSURE
from ..metrics.bootstrap import MIN_GROUPS

WORDS = (VERDICT_REAL, VERDICT_UNSURE, VERDICT_FAKE)


def named_as(manifest, names, data):
    """The manifest of a data folder, its videos named as predict.py was given them: `a.mp4` may be `some/where/a.mp4`.

    Args:
        manifest: DataFrame with `video` (path below `data`), title, label, error.
        names: of the videos in the score file: paths, or titles.
        data: the folder, for the message.

    Raises:
        UserError: none of the names is of this folder.
    """
    known, found = set(manifest["video"]) - {""}, {}
    for name in names:
        parts = PurePath(name).parts
        for i in range(len(parts)):  # the longest path first
            if (path := "/".join(parts[i:])) in known:
                found.setdefault(path, name)
                break
    if not found and not set(manifest["title"]) & set(names):
        raise UserError(
            "none of the scored videos is in this folder", file=data, hint="name the folder that predict.py was given"
        )
    renamed = manifest["video"].map(lambda v: found.get(v, v))
    return manifest.assign(video=renamed, status=np.where(manifest["error"] != "", "error", ""))


def rows(videos, verdicts, slices, *, resamples: int = 1000, seed: int = 1) -> list[dict]:
    """One entry a slice: how many untouched and altered videos got which word, and the share of each that is wrong.

    Args:
        videos: table of `scored_videos.video_table`, labelled videos with a face.
        verdicts: video -> REAL, FAKE or UNSURE.
        slices: of `scored_videos.slices(videos)`.

    Returns:
        {dataset, manipulation, real, fake}; `real` and `fake` are {videos, groups, REAL, UNSURE, FAKE, wrong}, `wrong`
        a share with its interval as `share` gives it, None without videos.
    """
    words = videos["video"].map(verdicts).to_numpy()
    result = []
    for s in slices:
        entry = {"dataset": s.dataset, "manipulation": s.manipulation}
        for key, label, wrong in (("real", VERDICT_REAL, VERDICT_FAKE), ("fake", VERDICT_FAKE, VERDICT_REAL)):
            those = s.rows & (videos["label"] == label).to_numpy()
            groups = videos["group"].to_numpy()[those]
            entry[key] = {
                "videos": int(those.sum()),
                "groups": len(set(groups)),
                **{word: int((words[those] == word).sum()) for word in WORDS},
                "wrong": share(words[those] == wrong, groups, resamples, seed) if those.any() else None,
            }
        result.append(entry)
    return result


def share(hits, groups, resamples: int = 1000, seed: int = 1) -> dict:
    """{value, low, high}: a share with its 95 % interval, from resampling groups; where it is 0 or 1, which no resample
    changes, the exact binomial (Clopper-Pearson) of as many independent trials as there are groups. Without bounds, and
    with the reason in `no_interval`, below MIN_GROUPS groups.

    Args:
        hits: (N,) bool, N > 0. groups: (N,) names.
    """
    names, codes = np.unique(np.asarray(groups, str), return_inverse=True)
    hits = np.asarray(hits, float)
    value, count = float(hits.mean()), len(names)
    if count < MIN_GROUPS:
        return {"value": value, "no_interval": f"an interval needs at least {MIN_GROUPS} groups, here {count}"}
    if value in (0.0, 1.0):
        bound = 0.025 ** (1 / count)
        return {"value": value, "low": 0.0 if value == 0 else bound, "high": 1 - bound if value == 0 else 1.0}
    of_group, sizes = np.bincount(codes, hits), np.bincount(codes)
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    low, high = np.quantile(of_group[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high)}


def text(entries: list[dict], model: str) -> str:
    """The entries as a table for people."""
    from .text import heading, table

    def wrong(entry):
        found = entry["wrong"]
        if found is None:
            return "-"
        span = f" ({found['low']:.1%} to {found['high']:.1%})" if "low" in found else ""
        return f"{found['value']:.1%}{span}"

    body = [
        [
            e["dataset"],
            e["manipulation"],
            *(e["real"][k] for k in ("videos", *WORDS)),
            wrong(e["real"]),
            *(e["fake"][k] for k in ("videos", *WORDS)),
            wrong(e["fake"]),
        ]
        for e in entries
    ]
    columns = ["dataset", "manipulation", "untouched", *WORDS, "called FAKE", "altered", *WORDS, "called REAL"]
    return "\n".join(
        [heading(f"Verdicts of {model}, by its own thresholds"), table(body, columns, "ll" + "rrrrr" * 2)]
        + sorted(
            {
                f"no interval: {e[k]['wrong']['no_interval']}"
                for e in entries
                for k in ("real", "fake")
                if e[k]["wrong"] and "no_interval" in e[k]["wrong"]
            }
        )
    )
