"""The tables of `detector_tables.py` as Markdown."""

from __future__ import annotations

SHOWN = ("auc", "average_precision", "eer", "log_loss", "brier", "ece", "balanced_accuracy", "tpr_at_fpr")


def cell(value: dict | None, sign: str = "") -> str:
    """A metric of `metrics.evaluate` as text: value [low, high]; `sign` "+" for a difference."""
    if value is None:
        return ""
    if "refused" in value:
        return "-"
    text = f"{value['value']:{sign}.3f}"
    return text + (f" [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]" if "low" in value else "")


def table_text(header: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines]) + "\n"


def as_text(results: dict) -> str:
    """All tables as Markdown."""
    out = [
        "# Tables of the detector\n",
        "Made by `python benchmarks/detector_tables.py`. Brackets: 95 % intervals, resampling groups; none where there "
        "are too few groups for one. Positive class of AP and TPR: fake.\n",
    ]
    if r := results.get("validation"):
        out += _validation(r)
    if r := results.get("robustness"):
        out += _robustness(r)
    if r := results.get("leave-one-out"):
        out += _models("Leave one data set out (short runs)", r)
        steps = (f"{k}: {v.get('steps', v.get('step'))} steps of 64 faces" for k, v in r["runs"].items())
        out += ["Budgets: " + "; ".join(steps) + ".\n"]
    if r := results.get("peers"):
        out += _models("Peers on the same faces (8 a clip, mean)", r)
    return "\n".join(out)


def _validation(r: dict) -> list[str]:
    return [
        f"## Validation ({r['detector']}, {r['frames']} frames a video)\n",
        table_text(
            ["what", "real", "fake", *SHOWN],
            [[k, str(v["real"]), str(v["fake"]), *(cell(v.get(m)) for m in SHOWN)] for k, v in r["rows"].items()],
        ),
        f"Clips without a face: {r['clips_without_face']}.\n",
        "AUC, resampling single clips: "
        + ", ".join(f"{k} {cell(v)}" for k, v in r["by_clip"].items())
        + ". Clips of one group are alike, so the truth is wider.\n",
        "### Aggregation rules (AUC / log loss)\n",
        table_text(
            ["rule", *next(iter(r["rules"].values()))],
            [[k, *(f"{x['auc']:.3f} / {x['log_loss']:.3f}" for x in v.values())] for k, v in r["rules"].items()],
        ),
        "### Verdicts (share of videos)\n",
        table_text(
            ["material", "who", "REAL", "UNSURE", "FAKE"],
            [[k, who, *(f"{x:.3f}" for x in w.values())] for k, v in r["verdicts"].items() for who, w in v.items()],
        ),
    ]


def _robustness(r: dict) -> list[str]:
    return [
        f"## Robustness: FF++ c23 validation clips, {r['frames']} frames a video\n",
        table_text(
            ["change", "AUC", "log loss", "without face"],
            [[k, cell(v["auc"]), cell(v["log_loss"]), str(v["without face"])] for k, v in r["videos"].items()],
        ),
        "### The same for DFDC validation crops (every third)\n",
        table_text(
            ["change", "AUC", "log loss"], [[k, cell(v["auc"]), cell(v["log_loss"])] for k, v in r["crops"].items()]
        ),
    ]


def _models(title: str, r: dict) -> list[str]:
    columns = list(next(iter(r["rows"].values())))
    lines = [[k, *(cell(v[c]["auc"]) for c in columns)] for k, v in r["rows"].items()]
    return [f"## {title}\n", table_text(["model", *(f"{c} AUC" for c in columns)], lines)]
