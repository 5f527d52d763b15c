"""What stage 04 says of its videos: mapreduce_res.txt."""

from __future__ import annotations

from pathlib import Path

from ..labels import VERDICT_FAKE, VERDICT_NO_FACE, VERDICT_REAL, counted
from ..metrics.bootstrap import MIN_GROUPS
from ..reports.text import heading, metric, one_line, percent, table
from ..stage_report import ERROR, NO_FACE

#: What stands in place of a verdict, by what became of the video; ERROR as predict.py prints it.
WITHOUT_SCORE = {NO_FACE: VERDICT_NO_FACE, ERROR: "ERROR"}


def text(
    videos, metrics: dict, preds: str, threshold: float, resamples: int, people: int | None = None, more=()
) -> str:
    """The text of stage 04.

    Args:
        videos: the table of video_predictions.csv.
        metrics: of `metrics.evaluate`.
        preds: the score file.
        people: number of groups, where they are known.
        more: further lines, before the list of videos.
    """
    scored = videos[videos["frames"] > 0]
    judged = scored[scored["label"] != ""]
    faces = scored["frames"]
    lines = [
        heading("Video predictions from face scores", "="),
        "",
        f"Scores   {one_line(Path(preds).name)}",
        f"Videos   {len(videos):,}: {(videos['label'] == VERDICT_REAL).sum():,} real, "
        f"{(videos['label'] == VERDICT_FAKE).sum():,} fake"
        + (f", {(videos['label'] == '').sum():,} without a label" if (videos["label"] == "").any() else "")
        + "".join(
            f"; {count:,} {what}"
            for status, what in ((NO_FACE, "without a face"), (ERROR, "failed"))
            if (count := (videos["verdict"] == WITHOUT_SCORE[status]).sum())
        ),
        f"Faces    {faces.sum():,}" + (f" ({faces.min():,} to {faces.max():,} a video)" if len(scored) else ""),
        "Score    p_real = P(real), the mean over a video's faces; 1 is real, 0 is fake",
        f"Rule     p_real >= {threshold:g} is REAL",
        "",
    ]
    lines += [*_by_class(judged), "", heading("Metrics"), *_metrics(metrics, resamples, people), *more]
    wrong = judged[judged["correct"] == 0]
    if len(wrong):
        lines += ["", heading(f"Called wrongly: {len(wrong):,}"), _rows(wrong)]
    lines += ["", heading(f"All videos: {len(videos):,}"), _rows(videos)]
    return "\n".join(lines) + "\n"


def _by_class(judged) -> list[str]:
    """How many of each class are right, their mean, and the confusion."""
    classes = {word: judged[judged["label"] == word] for word in (VERDICT_REAL, VERDICT_FAKE)}
    lines = [heading("Accuracy"), f"overall  {percent(int((judged['correct'] == 1).sum()), len(judged))}"]
    lines += [
        f"{word.lower():<8} {percent(int((rows['correct'] == 1).sum()), len(rows))}" for word, rows in classes.items()
    ]
    lines += ["", heading("Mean prediction (mean p_real over the videos of a class)")]
    lines += [
        f"{word.lower():<8} {rows['p_real'].mean():.4f}" if len(rows) else f"{word.lower():<8} no video"
        for word, rows in classes.items()
    ]
    lines += [
        "",
        heading("Confusion"),
        table(
            [
                [f"truth {word}", *(f"{(rows['verdict'] == verdict).sum():,}" for verdict in classes)]
                for word, rows in classes.items()
            ],
            ["", "called REAL", "called FAKE"],
            "lrr",
        ),
    ]
    return lines


def _metrics(metrics: dict, resamples: int, people: int | None) -> list[str]:
    lines = [f"AUC       {metric(metrics['auc'])}", f"log loss  {metric(metrics['log_loss'])}"]
    if warning := metrics["auc"].get("warning"):
        lines += [f"warning: {warning}"]
    if any("low" in metrics[name] for name in ("auc", "log_loss")):
        of = f"the {people} groups of people."
        if not people:
            of = "the videos. Videos of one person are not independent:\n"
            of += "with known groups, evaluate.py gives the honest (wider) interval."
        lines.append(
            f"In brackets the 95 % interval from {resamples:,} resamples of {of} A log loss of 0.693 is guessing."
        )
    elif people and people < MIN_GROUPS:
        lines += [
            f"No interval: {counted(people, 'group')} of people are too few for one. A log loss of 0.693 is guessing."
        ]
    return lines


def _rows(videos) -> str:
    return table(
        [
            [
                one_line(v),
                label or "-",
                f"{p:.4f}" if frames else "-",
                verdict,
                {1: "yes", 0: "NO", "": "-"}[correct],
                f"{frames:,}",
            ]
            for v, label, p, verdict, correct, frames in videos.itertuples(index=False)
        ],
        ["video", "truth", "mean p_real", "verdict", "correct", "faces"],
        "llrllr",
    )
