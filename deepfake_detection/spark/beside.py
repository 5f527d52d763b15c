"""What lies beside the scores that stage 04 reads: other ways to judge the same videos, and videos without a face."""

from __future__ import annotations

from pathlib import Path

from ..reports import video_rules
from ..stage_report import NO_FACE

#: Scores are the same where they differ by less: the score file keeps ten decimals.
_SAME = 1e-6


def of_these_scores(out: Path, videos):
    """`video_scores.csv` in `out` as `video_rules.read` gives it, where it is about these very scores; else None.

    Args:
        videos: DataFrame with `video` and `p_real` (NaN without a face), as `video_predictions.video_table` makes it.
    """
    table = video_rules.read(out)
    if table is None:
        return None
    own = videos.dropna(subset="p_real").set_index("video")["p_real"]
    theirs = table.dropna(subset="p_real").set_index("video")["p_real"]
    if not len(own) or set(own.index) != set(theirs.index) or not theirs.index.is_unique:
        return None
    return table if (own - theirs.reindex(own.index)).abs().max() < _SAME else None


def with_faceless(videos, beside):
    """`videos` and a row for each video of `beside` in which no face was found, sorted by name."""
    import pandas as pd

    lacking = beside[beside["p_real"].isna() & ~beside["video"].isin(videos["video"])]
    rows = pd.DataFrame(
        {"video": lacking["video"], "label": lacking["label"], "p_real": float("nan"), "frames": 0, "status": NO_FACE},
        columns=videos.columns,
    )
    return pd.concat([videos, rows.astype(videos.dtypes)]).sort_values("video", ignore_index=True)


def folds(beside) -> bool:
    """Whether the scores are out of fold."""
    return beside is not None and beside["set"].str.startswith("fold ").any()


def lines(beside, *, seed: int, resamples: int) -> list[str]:
    """The table of rules with its heading, as lines; none where no video can be judged."""
    from ..reports.text import heading

    rows = video_rules.rows(beside, seed, resamples)
    if not rows:
        return []
    said = ["", heading("The same videos by other rules"), video_rules.text(rows)]
    if any("threshold chosen" in row["name"] for row in rows):
        said.append("A chosen threshold has the best balanced accuracy on videos other than those it judges.")
    return said
