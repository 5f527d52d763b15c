"""An evaluation as it is printed: tables for people."""

from __future__ import annotations

from ..labels import counted
from ..metrics import METRICS
from . import verdicts
from .scored_videos import ALL
from .text import heading, numbers, table


def text(report: dict) -> str:
    """What `evaluation.run` gave, as it is printed."""
    rule, rows = report["rule"], report["rows"]
    parts = [_coverage(report["coverage"])]
    main = [r for r in rows if r["rule"] == rule]
    if not main:
        return "\n".join([*parts[0], "", "No video has both a label and a score, so no metric can be computed."])
    if report.get("verdicts"):
        parts.append([verdicts.text(report["verdicts"], report["model"] or "the detector")])
    parts.append([*_metrics(main, rule), _note(report)])
    whole = [r for r in rows if r["dataset"] == ALL]
    if len(whole) > 1:
        parts.append(
            [
                heading("Aggregation rules side by side, all videos"),
                table(
                    [[r["rule"], *(_cell(r["metrics"][m], short=True) for m in METRICS)] for r in whole],
                    ["rule", *(metric.label for metric in METRICS.values())],
                    "l" + "r" * len(METRICS),
                ),
            ]
        )
    parts.append(_not_computed(main))
    if report["comparison"]:
        parts.append(_comparison(report["comparison"]))
    return "\n\n".join("\n".join(part) for part in parts if part).rstrip()


def _coverage(counts: dict) -> list[str]:
    states = sorted({k for c in counts.values() for k in c} - {"videos", "scored"})
    body = [
        [
            name,
            *(f"{c.get(k, 0):,}" for k in ("videos", "scored", *states)),
            f"{c['scored'] / c['videos']:.1%}" if c["videos"] else "-",
        ]
        for name, c in counts.items()
    ]
    columns = ["", "videos", "scored", *states, "share scored"]
    return [heading("Coverage"), table(body, columns, "l" + "r" * (3 + len(states)))]


def _cell(result: dict, short: bool = False) -> str:
    if "refused" in result:
        return "-"
    if short or "no_interval" in result:
        return f"{result['value']:.3f}"
    return "{} ({}-{})".format(*numbers(result))


def _metrics(main: list[dict], rule: str) -> list[str]:
    """Two tables, since eight metrics side by side are too wide; and what warns of them."""
    lines, columns = [], list(METRICS)
    for title, chosen in (
        (heading(f"Videos by dataset and manipulation, rule {rule}"), columns[:4]),
        ("", columns[4:]),
    ):
        body = [
            [r["dataset"], r["manipulation"], f"{r['real']:,}+{r['fake']:,}", *(_cell(r["metrics"][m]) for m in chosen)]
            for r in main
        ]
        header = ["dataset", "manipulation", "real+fake", *(METRICS[m].label for m in chosen)]
        lines += [title, table(body, header, "llr" + "r" * len(chosen))]
    return lines + [
        f"warning: {r['dataset']} / {r['manipulation']}: {r['metrics']['auc']['warning']}"
        for r in main
        if "warning" in r["metrics"]["auc"]
    ]


def _note(report: dict) -> str:
    of = "the groups" if report["groups_known"] else "the videos (the file names no groups)"
    return (
        f"95 % intervals from {report['resamples']:,} resamples of {of}; FAKE is the positive class; "
        f"p_real >= {report['threshold']:g} is REAL."
    )


def _not_computed(main: list[dict]) -> list[str]:
    reasons: dict = {}
    for r in main:
        for name, result in r["metrics"].items():
            reason = result.get("refused") or result.get("no_interval")
            if reason:
                what = METRICS[name].label + ("" if "refused" in result else " interval")
                reasons.setdefault((r["dataset"], r["manipulation"], reason), []).append(what)
    if not reasons:
        return []
    return [heading("Not computed"), *(f"{d} / {m}: {', '.join(what)}: {why}" for (d, m, why), what in reasons.items())]


def _comparison(c: dict) -> list[str]:
    body = []
    for name, r in c["metrics"].items():
        metric = METRICS[name]
        if "refused" in r:
            body.append([metric.label, "-", "-", "-", "-", "", r["refused"]])
            continue
        row = [metric.label, f"{r['a']:.3f}", f"{r['b']:.3f}", f"{r['difference']:+.3f}"]
        if "no_interval" in r:
            body.append([*row, "-", "-", r["no_interval"]])
            continue
        better = "A" if (r["difference"] > 0) == metric.higher_is_better else "B"
        sure = r["low"] > 0 or r["high"] < 0
        said = f"{better} is better" if sure else "no difference shown"
        body.append([*row, f"{r['low']:+.3f} to {r['high']:+.3f}", f"{r['p_value']:.3f}", said])
    return [
        heading(f"Paired comparison, rule {c['rule']}: A = {c['a']}, B = {c['b']}"),
        f"{counted(c['videos'], 'video')} that both score, {counted(c['groups'], 'group')}; "
        f"only in A {c['only_in_a']:,}, only in B {c['only_in_b']:,}",
        table(body, ["", "A", "B", "A - B", "95 % interval", "p", ""], "lrrrrrl"),
    ]
