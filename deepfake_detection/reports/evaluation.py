"""Everything that can be said of one file of scores: metrics with intervals for each dataset and manipulation, every
aggregation rule side by side, coverage, pictures, and the paired comparison with a second file.

    python evaluate.py scores.csv --out results
"""

from __future__ import annotations

from pathlib import Path

from .. import scores as score_files
from ..aggregation import RULES
from ..errors import UserError
from ..files import csv_name, write_csv, write_json
from ..labels import TIE_THRESHOLD, counted
from ..metrics import METRICS, MetricError, bootstrap_difference, bootstrap_groups, evaluate
from . import verdicts
from .scored_videos import Slice, coverage, read_manifest, slices, video_table

JSON, CSV = "evaluation.json", "evaluation.csv"
ROC, RELIABILITY, HISTOGRAM = "ROC.png", "Reliability.png", "ScoreHistogram.png"


def run(
    path: str | Path,
    out: str | Path,
    *,
    compare: str | Path | None = None,
    manifest: str | Path | None = None,
    known=None,
    rule: str = "mean",
    threshold: float = TIE_THRESHOLD,
    resamples: int = 1000,
    seed: int = 1,
) -> dict:
    """Writes evaluation.json, evaluation.csv and three pictures; returns what the JSON holds.

    Args:
        path: score file, see `scores.read_scores`.
        out: folder of the results.
        compare: second score file for the paired comparison.
        manifest: CSV with what is known of the videos, see `scored_videos.video_table`.
        known: the same as a function from the names of the scored videos to a table; instead of `manifest`.
        rule: the aggregation rule of the pictures, the comparison, and the main table.
        threshold: p_real >= threshold is REAL, for the balanced accuracy.
        resamples, seed: of the intervals.

    Raises:
        UserError: a file cannot be read, or an unknown rule.
    """
    path, out = Path(path), Path(out)
    if rule not in RULES:
        raise UserError(f"unknown aggregation rule {rule!r}", hint=f"choose one of {', '.join(RULES)}")
    table = score_files.read_scores(path)
    if manifest is not None:
        known = read_manifest(Path(manifest))
    elif known is not None:
        known = known(table["video"].unique())
    videos = video_table(table, known)
    judged = videos[(videos["faces"] > 0) & (videos["label"] != "")].reset_index(drop=True)
    of_videos = slices(judged) if len(judged) else []
    # Where every video has one score, all rules say the same.
    rules = list(RULES) if (judged["faces"] > 1).any() else [rule]
    rows = _rows(judged, of_videos, rules, n=resamples, seed=seed, threshold=threshold)
    report = {"scores": path.name, "rule": rule, "threshold": threshold, "resamples": resamples, "seed": seed}
    report |= {
        "level": 0.95,
        "score": "p_real = P(real), 1 real, 0 fake; in metrics with a positive class it is FAKE",
        "groups_known": bool(len(judged)) and bool((judged["group"] != judged["video"]).any()),
        "coverage": coverage(videos),
        "rows": rows,
        "comparison": compare and comparison(videos, Path(compare), known, rule, path.name, resamples, seed),
    }
    if "verdict" in table:
        said = dict(zip(table["video"], table["verdict"]))
        report["model"] = ", ".join(sorted(set(table["model"]) - {""})) if "model" in table else ""
        report["verdicts"] = verdicts.rows(judged, said, of_videos, resamples=resamples, seed=seed)
    write_json(out / JSON, report)
    write_csv(out / CSV, flat(rows))
    report["pictures"] = pictures(judged, rule, out, resamples, seed)
    return report


def _rows(judged, of_videos: list[Slice], rules: list[str], **settings) -> list[dict]:
    """The metrics of each slice by each rule."""
    from tqdm import tqdm

    y = score_files.label_numbers(judged["label"])
    groups, faces = judged["group"].to_numpy(), judged["faces"].to_numpy()
    parts = [(s, rule) for s in of_videos for rule in rules]
    return [
        {
            "dataset": s.dataset,
            "manipulation": s.manipulation,
            "rule": rule,
            "videos": int(s.rows.sum()),
            "real": int(y[s.rows].sum()),
            "fake": int((1 - y[s.rows]).sum()),
            "groups": len(set(groups[s.rows])),
            "faces": int(faces[s.rows].sum()),
            "metrics": evaluate(y[s.rows], judged[rule].to_numpy()[s.rows], groups[s.rows], **settings),
        }
        for s, rule in tqdm(parts, desc="metrics", unit="row", disable=None)
    ]


def comparison(videos, other: Path, manifest, rule: str, name: str, resamples: int, seed: int) -> dict:
    """The paired comparison of the videos that both files score: A is the first file, B the other, differences are A -
    B.

    Raises:
        UserError: they share no labelled video, or disagree about a label.
    """
    theirs = video_table(score_files.read_scores(other), manifest)
    both = videos.merge(theirs, on="video", suffixes=("", "_b"))
    both = both[(both["faces"] > 0) & (both["faces_b"] > 0)]
    odd = both[(both["label"] != "") & (both["label_b"] != "") & (both["label"] != both["label_b"])]
    if len(odd):
        raise UserError(
            f"the two files disagree about the label of {counted(len(odd), 'video')}, e.g. {odd['video'].iloc[0]!r}",
            file=other,
            hint="compare scores of the same videos",
        )
    both["label"] = both["label"].where(both["label"] != "", both["label_b"])
    both = both[both["label"] != ""]
    if both.empty:
        raise UserError(
            f"{name} and this file have no labelled video in common",
            file=other,
            hint="compare scores of the same videos",
        )
    return {
        "a": name,
        "b": other.name,
        "rule": rule,
        "videos": len(both),
        "groups": int(both["group"].nunique()),
        "only_in_a": int((videos["faces"] > 0).sum()) - len(both),
        "only_in_b": int((theirs["faces"] > 0).sum()) - len(both),
        "metrics": _differences(both, rule, resamples, seed),
    }


def _differences(both, rule: str, resamples: int, seed: int) -> dict[str, dict]:
    """Each metric of A and of B, their difference and its interval, or why there is none."""
    y, p, q = score_files.label_numbers(both["label"]), both[rule].to_numpy(), both[f"{rule}_b"].to_numpy()
    results: dict[str, dict] = {}
    for key, metric in METRICS.items():
        try:
            a, b = metric(y, p), metric(y, q)
        except MetricError as e:
            results[key] = {"refused": e.reason}
            continue
        results[key] = {"a": a, "b": b, "difference": a - b}
        try:
            interval = bootstrap_difference(metric, y, p, q, both["group"].to_numpy(), n=resamples, seed=seed)
            results[key] |= {"low": interval.low, "high": interval.high, "p_value": interval.p_value}
        except MetricError as e:
            results[key] |= {"no_interval": e.reason}
    return results


def flat(rows: list[dict]):
    """The rows as a table: <metric>, <metric>_low, <metric>_high, and `refused` with the reasons for what is empty."""
    import pandas as pd

    lines = []
    for row in rows:
        line = {k: v for k, v in row.items() if k != "metrics"}
        line["dataset"], line["manipulation"] = csv_name(line["dataset"]), csv_name(line["manipulation"])
        reasons = []
        for name, result in row["metrics"].items():
            line |= {name: result.get("value"), f"{name}_low": result.get("low"), f"{name}_high": result.get("high")}
            if "refused" in result:
                reasons.append(f"{name}: {result['refused']}")
            elif "no_interval" in result:
                reasons.append(f"{name} interval: {result['no_interval']}")
        lines.append(line | {"refused": "; ".join(reasons)})
    return pd.DataFrame(lines)


def pictures(judged, rule: str, out: Path, resamples: int, seed: int) -> list[str]:
    """Draws what the data allows and removes what an earlier run drew otherwise. Returns the names drawn."""
    from . import figures

    y, p, drawn = score_files.label_numbers(judged["label"]), judged[rule].to_numpy(), []

    def roc(path):
        try:
            interval = bootstrap_groups(METRICS["auc"], y, p, judged["group"].to_numpy(), n=resamples, seed=seed)
        except MetricError:
            interval = None  # the picture without its interval; refused altogether below where there is no AUC
        figures.plot_roc(y, p, path, title=f"ROC curve, videos ({rule})", interval=interval)

    for name, draw in (
        (ROC, roc),
        (RELIABILITY, lambda path: figures.plot_reliability(y, p, path, title=f"Reliability, videos ({rule})")),
        (HISTOGRAM, lambda path: figures.plot_score_histogram(y, p, path, title=f"Scores of videos ({rule})")),
    ):
        try:
            draw(out / name)
            drawn.append(name)
        except MetricError:
            (out / name).unlink(missing_ok=True)
    return drawn
