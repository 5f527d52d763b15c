"""Everything that can be said of one file of scores: metrics with intervals for each dataset and manipulation, every
aggregation rule side by side, coverage, pictures, and the paired comparison with a second file.

    python evaluate.py scores.csv --out results
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import scores as score_files
from ..aggregation import RULES, video_score
from ..errors import UserError
from ..files import csv_name, write_csv, write_json
from ..labels import TIE_THRESHOLD, VERDICT_FAKE, VERDICT_REAL, counted, label_of
from ..metrics import METRICS, MetricError, bootstrap_difference, bootstrap_groups, evaluate
from . import verdicts

JSON, CSV = "evaluation.json", "evaluation.csv"
ROC, RELIABILITY, HISTOGRAM = "ROC.png", "Reliability.png", "ScoreHistogram.png"
ALL = "all"

#: A compression in a manipulation's name, e.g. `Deepfakes/c40`: such fakes are held against the originals of that
#: compression.
_COMPRESSION = re.compile(r"(?:^|/)(c\d+|raw)$")


# --- videos -----------------------------------------------------------------------------------------------------------


def video_table(scores, manifest=None):
    """A row a video, with its score by every rule.

    Args:
        scores: table of `scores.read_scores`.
        manifest: optional table with `video` (or `title`) and any of label, group, dataset, manipulation, compression,
            status: what it says of a video goes before what the score file says, and its videos without a score are
            counted; with a column `set` (split_manifest.csv) only those of the sets that were scored at all: nobody
            scores the videos that were trained on.

    Returns:
        pandas DataFrame sorted by video: video, label, group, dataset, manipulation, compression, status (`ok`, `no
        face`, `error`, `no score`), faces, people, and one column of P(real) for each rule of `RULES` (NaN without a
        face).
    """
    import pandas as pd
    from tqdm import tqdm

    facts = ["label", "group", "dataset", "manipulation", "compression"]
    # "" sorts first, so the maximum is the known value where only some rows have one.
    table = scores.groupby("video")[facts].max()
    persons = score_files.by_person(scores)
    if "status" in scores:
        said = scores[scores["p_real"].isna()].groupby("video")["status"].first()
    else:
        said = pd.Series(dtype=str)
    table["status"] = ["ok" if v in persons else (said.get(v) or "no face") for v in table.index]
    if manifest is not None:
        key = (
            "video"
            if manifest.get("video", pd.Series(dtype=str)).isin(table.index).any() or "title" not in manifest
            else "title"
        )
        known = manifest.drop_duplicates(key).set_index(key)
        if "set" in known:
            known = known[
                known["set"].isin(set(known["set"].reindex(table.index).dropna())) | known.index.isin(table.index)
            ]
        table = table.reindex(table.index.union(known.index))
        for fact in facts:
            if fact in known:
                given = known[fact].reindex(table.index).replace("", None)
                table[fact] = given.where(given.notna(), table[fact])
        if "status" in known:
            table["status"] = table["status"].where(table["status"].notna(), known["status"].reindex(table.index))
        table["status"] = (
            table["status"]
            .where(~table["status"].isin(["", "ok"]) | table.index.isin(list(persons)), "no score")
            .fillna("no score")
        )
        table[facts] = table[facts].fillna("")
        table["group"] = table["group"].where(table["group"] != "", table.index.to_series())
    table["faces"] = [sum(len(p) for p in persons.get(v, {}).values()) for v in table.index]
    table["people"] = [len(persons.get(v, {})) for v in table.index]
    p = {rule: np.full(len(table), np.nan) for rule in RULES}
    for i, video in enumerate(tqdm(table.index, desc="videos", unit="video", disable=None)):
        if video in persons:
            for rule in RULES:
                p[rule][i] = video_score(persons[video], rule)
    return table.assign(**p).rename_axis("video").sort_index().reset_index()


def read_manifest(path: Path):
    """A CSV with `video` or `title` and what is known of each video.

    Raises:
        UserError: it cannot be read, has neither column, or a label other than REAL, FAKE and empty.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as e:
        raise UserError(
            f"this list of videos cannot be read ({str(e).splitlines()[0]})",
            file=path,
            hint="it should be a CSV with a column video or title",
        ) from None
    if not {"video", "title"} & set(table.columns):
        raise UserError(
            "this list has neither a column video nor title", file=path, hint="see the manifest in docs/design.md"
        )
    if "label" in table:
        table["label"] = table["label"].str.strip().str.upper()
        odd = ~table["label"].isin([VERDICT_REAL, VERDICT_FAKE, ""])
        if odd.any():
            raise UserError(
                f"row {int(odd.to_numpy().argmax()) + 1} has the label {table['label'][odd].iloc[0]!r}",
                file=path,
                hint="labels are REAL, FAKE or empty",
            )
    return table


# --- slices -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slice:
    """Some of the videos: `dataset` and `manipulation` name it ("all" for no choice), `rows` is a mask over the video
    table."""

    dataset: str
    manipulation: str
    rows: np.ndarray


def slices(videos) -> list[Slice]:
    """All videos, each dataset, each compression in it, and each manipulation.

    A manipulation alone has fakes only, so it is held against the originals of its dataset, those of the same
    compression where the names tell it: the usual protocol of FaceForensics++.
    """
    real = (videos["label"] == VERDICT_REAL).to_numpy()
    fake = (videos["label"] == VERDICT_FAKE).to_numpy()
    named = videos["manipulation"].map(lambda m: found.group(1) if (found := _COMPRESSION.search(m)) else "")
    compression = videos["compression"].where(videos["compression"] != "", named).to_numpy()
    result = [Slice(ALL, ALL, np.ones(len(videos), bool))]
    names = sorted(set(videos["dataset"]))
    for dataset in names:
        inside = (videos["dataset"] == dataset).to_numpy()
        if len(names) > 1 or dataset:
            result.append(Slice(dataset or "(no dataset)", ALL, inside))
        levels = sorted(set(compression[inside]) - {""})
        if len(levels) > 1:
            result += [Slice(dataset, level, inside & (compression == level)) for level in levels]
        for manipulation in sorted(set(videos["manipulation"][inside & fake]) - {""}):
            of_it = inside & fake & (videos["manipulation"] == manipulation).to_numpy()
            parts = sorted(set(compression[of_it]))
            for name, chosen in (
                (manipulation, parts),
                *(((f"{manipulation}/{part}", [part]) for part in parts) if len(parts) > 1 else ()),
            ):
                fakes, level = of_it & np.isin(compression, chosen), np.isin(compression, chosen)
                originals = inside & real & level if (inside & real & level).any() else inside & real
                result.append(Slice(dataset or "(no dataset)", name, fakes | originals))
    unique, seen = [], set()
    for s in result:  # one manipulation in a dataset says the same as the dataset
        if s.rows.tobytes() not in seen or s.manipulation == ALL:
            unique.append(s)
        seen.add(s.rows.tobytes())
    return unique


def coverage(videos) -> dict:
    """How many of the videos have a score, and what became of the others, over all and for each label."""

    def count(rows):
        return {
            "videos": len(rows),
            "scored": int((rows["faces"] > 0).sum()),
            **{s: int(n) for s, n in rows.loc[rows["faces"] == 0, "status"].value_counts().sort_index().items()},
        }

    return {
        "all": count(videos),
        **{word: count(rows) for word, rows in sorted(videos.groupby(videos["label"].replace("", "unlabelled")))},
    }


# --- the evaluation ---------------------------------------------------------------------------------------------------


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
        manifest: CSV with what is known of the videos, see `video_table`.
        known: the same as a function from the names of the scored videos to a table; instead of `manifest`.
        rule: the aggregation rule of the pictures, the comparison, and the main table.
        threshold: p_real >= threshold is REAL, for the balanced accuracy.
        resamples, seed: of the intervals.

    Raises:
        UserError: a file cannot be read, or an unknown rule.
    """
    from tqdm import tqdm

    path, out = Path(path), Path(out)
    if rule not in RULES:
        raise UserError(f"unknown aggregation rule {rule!r}", hint=f"choose one of {', '.join(RULES)}")
    table = verdicts.status(score_files.read_scores(path))
    if manifest is not None:
        known = read_manifest(Path(manifest))
    elif known is not None:
        known = known(table["video"].unique())
    videos = video_table(table, known)
    judged = videos[(videos["faces"] > 0) & (videos["label"] != "")].reset_index(drop=True)
    y = np.array([label_of(w) for w in judged["label"]], dtype=np.int64)
    groups = judged["group"].to_numpy()
    of_videos = slices(judged) if len(judged) else []
    # Where every video has one score, all rules say the same.
    rules = list(RULES) if (judged["faces"] > 1).any() else [rule]
    parts = [(s, r) for s in of_videos for r in rules]
    rows = []
    for s, name in tqdm(parts, desc="metrics", unit="row", disable=None):
        results = evaluate(
            y[s.rows], judged[name].to_numpy()[s.rows], groups[s.rows], n=resamples, seed=seed, threshold=threshold
        )
        rows.append(
            {
                "dataset": s.dataset,
                "manipulation": s.manipulation,
                "rule": name,
                "videos": int(s.rows.sum()),
                "real": int(y[s.rows].sum()),
                "fake": int((1 - y[s.rows]).sum()),
                "groups": len(set(groups[s.rows])),
                "faces": int(judged["faces"].to_numpy()[s.rows].sum()),
                "metrics": results,
            }
        )
    report = {
        "scores": path.name,
        "rule": rule,
        "threshold": threshold,
        "resamples": resamples,
        "seed": seed,
        "level": 0.95,
        "score": "p_real = P(real), 1 real, 0 fake; in metrics with a positive class it is FAKE",
        "groups_known": bool(len(judged)) and bool((judged["group"] != judged["video"]).any()),
        "coverage": coverage(videos),
        "rows": rows,
        "comparison": None
        if compare is None
        else comparison(videos, Path(compare), known, rule, path.name, resamples, seed),
    }
    if "verdict" in table:
        said = dict(zip(table["video"], table["verdict"]))
        report["model"] = ", ".join(sorted(set(table["model"]) - {""})) if "model" in table else ""
        report["verdicts"] = verdicts.rows(judged, said, of_videos, resamples=resamples, seed=seed)
    write_json(out / JSON, report)
    write_csv(out / CSV, flat(rows))
    report["pictures"] = pictures(judged, y, rule, out, resamples, seed)
    return report


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
    y = np.array([label_of(w) for w in both["label"]], dtype=np.int64)
    results: dict[str, dict] = {}
    for key, metric in METRICS.items():
        try:
            a, b = metric(y, both[rule].to_numpy()), metric(y, both[f"{rule}_b"].to_numpy())
        except MetricError as e:
            results[key] = {"refused": e.reason}
            continue
        results[key] = {"a": a, "b": b, "difference": a - b}
        try:
            interval = bootstrap_difference(
                metric,
                y,
                both[rule].to_numpy(),
                both[f"{rule}_b"].to_numpy(),
                both["group"].to_numpy(),
                n=resamples,
                seed=seed,
            )
            results[key] |= {"low": interval.low, "high": interval.high, "p_value": interval.p_value}
        except MetricError as e:
            results[key] |= {"no_interval": e.reason}
    return {
        "a": name,
        "b": other.name,
        "rule": rule,
        "videos": len(both),
        "groups": int(both["group"].nunique()),
        "only_in_a": int((videos["faces"] > 0).sum()) - len(both),
        "only_in_b": int((theirs["faces"] > 0).sum()) - len(both),
        "metrics": results,
    }


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


def pictures(judged, y, rule: str, out: Path, resamples: int, seed: int) -> list[str]:
    """Draws what the data allows and removes what an earlier run drew otherwise. Returns the names drawn."""
    from . import figures

    p, drawn = judged[rule].to_numpy(), []

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


# --- for people -------------------------------------------------------------------------------------------------------


def _cell(result: dict, short: bool = False) -> str:
    if "refused" in result:
        return "-"
    if short or "no_interval" in result:
        return f"{result['value']:.3f}"
    from .text import numbers

    return "{} ({}-{})".format(*numbers(result))


def text(report: dict) -> str:
    """The report as it is printed."""
    from .text import heading, table

    rule, lines = report["rule"], []
    counts = report["coverage"]
    states = sorted({k for c in counts.values() for k in c} - {"videos", "scored"})
    lines += [
        heading("Coverage"),
        table(
            [
                [
                    name,
                    *(f"{c.get(k, 0):,}" for k in ("videos", "scored", *states)),
                    f"{c['scored'] / c['videos']:.1%}" if c["videos"] else "-",
                ]
                for name, c in counts.items()
            ],
            ["", "videos", "scored", *states, "share scored"],
            "l" + "r" * (3 + len(states)),
        ),
        "",
    ]
    rows = report["rows"]
    main = [r for r in rows if r["rule"] == rule]
    if not main:
        return "\n".join(lines + ["No video has both a label and a score, so no metric can be computed."])
    if report.get("verdicts"):
        lines += [verdicts.text(report["verdicts"], report["model"] or "the detector"), ""]
    columns = list(METRICS)
    note = f"95 % intervals from {report['resamples']:,} resamples of " + (
        "the groups" if report["groups_known"] else "the videos (the file names no groups)"
    )
    for chosen in (columns[:4], columns[4:]):
        lines += [
            heading(f"Videos by dataset and manipulation, rule {rule}")
            if chosen is not columns[4:] and chosen[0] == columns[0]
            else "",
            table(
                [
                    [
                        r["dataset"],
                        r["manipulation"],
                        f"{r['real']:,}+{r['fake']:,}",
                        *(_cell(r["metrics"][m]) for m in chosen),
                    ]
                    for r in main
                ],
                ["dataset", "manipulation", "real+fake", *(METRICS[m].label for m in chosen)],
                "llr" + "r" * len(chosen),
            ),
        ]
    lines += [
        f"warning: {r['dataset']} / {r['manipulation']}: {r['metrics']['auc']['warning']}"
        for r in main
        if "warning" in r["metrics"]["auc"]
    ]
    lines += [note + "; FAKE is the positive class; p_real >= " + f"{report['threshold']:g} is REAL.", ""]
    whole = [r for r in rows if r["dataset"] == ALL]
    if len(whole) > 1:
        lines += [
            heading("Aggregation rules side by side, all videos"),
            table(
                [[r["rule"], *(_cell(r["metrics"][m], short=True) for m in columns)] for r in whole],
                ["rule", *(METRICS[m].label for m in columns)],
                "l" + "r" * len(columns),
            ),
            "",
        ]
    reasons: dict = {}
    for r in main:
        for name, result in r["metrics"].items():
            reason = result.get("refused") or result.get("no_interval")
            if reason:
                what = METRICS[name].label + ("" if "refused" in result else " interval")
                reasons.setdefault((r["dataset"], r["manipulation"], reason), []).append(what)
    if reasons:
        lines += [
            heading("Not computed"),
            *(f"{d} / {m}: {', '.join(what)}: {reason}" for (d, m, reason), what in reasons.items()),
            "",
        ]
    c = report["comparison"]
    if c:
        lines += [
            heading(f"Paired comparison, rule {c['rule']}: A = {c['a']}, B = {c['b']}"),
            f"{counted(c['videos'], 'video')} that both score, {counted(c['groups'], 'group')}; "
            f"only in A {c['only_in_a']:,}, only in B {c['only_in_b']:,}",
        ]
        body = []
        for name, r in c["metrics"].items():
            if "refused" in r:
                body.append([METRICS[name].label, "-", "-", "-", "-", "", r["refused"]])
                continue
            if "no_interval" in r:
                body.append(
                    [
                        METRICS[name].label,
                        f"{r['a']:.3f}",
                        f"{r['b']:.3f}",
                        f"{r['difference']:+.3f}",
                        "-",
                        "-",
                        r["no_interval"],
                    ]
                )
                continue
            sure = r["low"] > 0 or r["high"] < 0
            better = "A" if (r["difference"] > 0) == METRICS[name].higher_is_better else "B"
            body.append(
                [
                    METRICS[name].label,
                    f"{r['a']:.3f}",
                    f"{r['b']:.3f}",
                    f"{r['difference']:+.3f}",
                    f"{r['low']:+.3f} to {r['high']:+.3f}",
                    f"{r['p_value']:.3f}",
                    f"{better} is better" if sure else "no difference shown",
                ]
            )
        lines += [table(body, ["", "A", "B", "A - B", "95 % interval", "p", ""], "lrrrrrl"), ""]
    return "\n".join(lines).rstrip()
