"""PNG figures: training history, confusion matrix, ROC curve, reliability diagram, score histogram.

Drawn with matplotlib's object interface, not pyplot, so they need no display, keep no state and may be drawn in any
thread. Blue is REAL and orange is FAKE everywhere (Okabe & Ito's palette, told apart with every kind of colour
blindness). Files are written whole or not at all, and the same data gives the same bytes.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..files import atomic_path
from ..labels import FAKE, REAL, TIE_THRESHOLD, counted
from ..metrics import MetricError, auc, ece, log_loss, reliability_bins
from .text import numbers

REAL_COLOUR, FAKE_COLOUR, NEUTRAL, GRID = "#0072B2", "#D55E00", "#4d4d4d", "#d9d9d9"
DPI = 150

_STYLE: typing.Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.labelsize": 11.5,
    "legend.fontsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": NEUTRAL,
    "axes.linewidth": 0.9,
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
}


def _draw(path: str | Path, size: tuple[float, float], paint) -> Path:
    """Calls `paint(axes)` on an empty figure of `size` inches and writes it atomically. Returns the path."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    path = Path(path)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        typing.cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(w_pad=0.12, h_pad=0.12)
        paint(figure.add_subplot())
        with atomic_path(path) as partial:
            figure.savefig(partial, format="png", metadata={"Software": None})
    return path


def _note(axes, text: str) -> None:
    """A line under the title, in grey: what the picture is made of."""
    axes.text(0, 1.012, text, transform=axes.transAxes, ha="left", va="bottom", fontsize=9.5, color=NEUTRAL)


def _title(axes, title: str, note: str) -> None:
    axes.set_title(title, pad=24 if note else 14)
    if note:
        _note(axes, note)


def _counts(y, unit: str) -> str:
    y = np.asarray(y)
    return f"{len(y):,} {unit}: {int((y == REAL).sum()):,} real, {int((y == FAKE).sum()):,} fake"


# --- training ---------------------------------------------------------------------------------------------------------


def plot_history(history, out_dir: str | Path, x: str = "epoch") -> list[Path]:
    """`Loss.png` and `Accuracy.png` of a training.

    Args:
        history: mapping or DataFrame with `loss`, `val_loss`, `accuracy`, `val_accuracy`, one value an epoch
            (`history.csv`, or Keras' `History.history`); `epoch`, counted from 0, where the first row is not epoch 0. A
            curve that is missing is left out.
        out_dir: folder of the pictures.
        x: `epoch`, or `strength` of a classifier's regularisation (column `strength`, drawn on a logarithmic axis).

    Returns:
        The paths written. A picture without any curve is not written.
    """
    columns = {
        str(name): np.asarray(history[name], dtype=float)
        for name in (history.keys() if isinstance(history, Mapping) else history.columns)
    }
    written = []
    for key, name, label, best in (
        ("loss", "Loss.png", "Loss (binary cross-entropy)", np.nanargmin),
        ("accuracy", "Accuracy.png", "Accuracy (share of faces)", np.nanargmax),
    ):
        curves = [
            (k, word, colour, style)
            for k, word, colour, style in (
                (key, "training", REAL_COLOUR, "-"),
                (f"val_{key}", "validation", FAKE_COLOUR, "--"),
            )
            if k in columns and len(columns[k]) and not np.isnan(columns[k]).all()
        ]
        if not curves:
            continue

        def paint(axes, curves=curves, key=key, label=label, best=best):
            from matplotlib.ticker import MaxNLocator, PercentFormatter

            note = ""
            for k, word, colour, style in curves:
                values = columns[k]
                epochs = (
                    columns[x]
                    if x == "strength"
                    else columns["epoch"] + 1
                    if "epoch" in columns
                    else np.arange(1, len(values) + 1)
                )
                axes.plot(
                    epochs,
                    values,
                    style,
                    color=colour,
                    linewidth=2,
                    marker="o",
                    markersize=4 if len(values) < 40 else 0,
                    label=word,
                )
                if k.startswith("val_"):
                    at = int(best(values))
                    shown = f"{values[at]:.1%}" if key == "accuracy" else f"{values[at]:.3f}"
                    where = (
                        f"at C = {epochs[at]:g}, classifier on frozen features"
                        if x == "strength"
                        else f"in epoch {int(epochs[at])} of {int(epochs[-1])}"
                    )
                    note = f"best validation {key}: {shown} {where}"
                    axes.plot(
                        epochs[at],
                        values[at],
                        "o",
                        markersize=11,
                        markerfacecolor="none",
                        markeredgecolor=colour,
                        markeredgewidth=1.8,
                    )
            axes.set_xlabel("Inverse strength of the regularisation, C" if x == "strength" else "Epoch")
            axes.set_ylabel(label)
            if x == "strength":
                axes.set_xscale("log")
            else:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.margins(x=0.04, y=0.12)
            if key == "accuracy":
                axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
                low, high = axes.get_ylim()
                if high - low < 0.1:  # a flat curve should look flat
                    low, high = (low + high) / 2 - 0.05, (low + high) / 2 + 0.05
                axes.set_ylim(max(low, -0.02), min(high, 1.02))
            else:
                axes.set_ylim(0, 1.12 * max(float(np.nanmax(columns[k])) for k, *_ in curves))
            axes.legend(loc="best")
            _title(axes, "Training " + key, note)

        written.append(_draw(Path(out_dir) / name, (7, 4.6), paint))
    return written


# --- one set of scores ------------------------------------------------------------------------------------------------


def plot_confusion(
    y,
    p,
    path: str | Path,
    title: str = "Confusion matrix",
    threshold: float = TIE_THRESHOLD,
    unit: str = "videos",
    without_face: int = 0,
) -> Path:
    """Confusion matrix: rows are the truth, columns the verdict; count and share of the row in each cell.

    Args:
        y, p: (N,) labels (1 real, 0 fake) and P(real).
        path: PNG to write.
        threshold: p_real >= threshold is REAL.
        unit: what is counted, e.g. "videos" or "faces".
        without_face: how many more there are that have no face and so no verdict; said under the title.

    Raises:
        MetricError: no scores, NaN, or not in 0..1.
    """
    from ..metrics.scalar import checked

    y, p = checked(y, p)
    called_real = p >= threshold
    counts = np.array(
        [[((y == truth) & (called_real == verdict)).sum() for verdict in (True, False)] for truth in (REAL, FAKE)]
    )

    def paint(axes):
        import seaborn

        totals = counts.sum(axis=1, keepdims=True)
        share = np.divide(counts, totals, out=np.zeros((2, 2)), where=totals > 0)
        words = [[f"{share[row, column]:.1%}" if totals[row, 0] else "none" for column in range(2)] for row in range(2)]
        cells = np.array(
            [[f"{counts[row, column]:,}\n{words[row][column]}" for column in range(2)] for row in range(2)]
        )
        seaborn.heatmap(
            share,
            annot=cells,
            fmt="",
            cmap="Blues",
            vmin=0,
            vmax=1.15,
            square=True,
            cbar=False,
            linewidths=4,
            linecolor="white",
            annot_kws={"fontsize": 20, "linespacing": 1.5},
            xticklabels=["REAL", "FAKE"],  # 1.15: text on the darkest cell stays readable
            yticklabels=[f"REAL\n({totals[0, 0]:,})", f"FAKE\n({totals[1, 0]:,})"],
            ax=axes,
        )
        axes.tick_params(length=0, labelrotation=0)
        axes.set_xlabel("Verdict")
        axes.set_ylabel("Truth")
        axes.grid(False)
        right = int(np.trace(counts))
        _title(
            axes,
            title,
            f"{right:,} of {len(y):,} {unit} right ({right / len(y):.1%}); REAL when p_real ≥ {threshold:g}"
            + (f"; {without_face:,} without a face" if without_face else ""),
        )

    return _draw(path, (5.9, 5.6), paint)


def plot_roc(
    y, p, path: str | Path, title: str = "ROC curve", interval=None, unit: str = "videos", people: int | None = None
) -> Path:
    """ROC curve of finding fakes, with the AUC, its interval and the equal error rate.

    Args:
        y, p: (N,) labels (1 real, 0 fake) and P(real).
        path: PNG to write.
        interval: (value, low, high) of the AUC, as `metrics.bootstrap_groups` returns; drawn as text.
        unit: what is counted.
        people: number of identity groups they are of, where it is known; said under the title.

    Raises:
        MetricError: one class only, NaN, or scores outside 0..1.
    """
    from sklearn.metrics import roc_curve

    from ..metrics import eer

    value, crossing = auc(y, p), eer(y, p)
    false_alarms, found, _ = roc_curve(np.asarray(y) == FAKE, -np.asarray(p, dtype=float), drop_intermediate=False)

    def paint(axes):
        from matplotlib.ticker import PercentFormatter

        text = f"AUC {value:.3f}"
        if interval is not None:
            text = "AUC {}  (95 % interval {} to {})".format(*numbers(dict(zip(("value", "low", "high"), interval))))
        axes.plot([0, 1], [0, 1], ":", color=NEUTRAL, linewidth=1.3, label="guessing")
        axes.plot(false_alarms, found, color=REAL_COLOUR, linewidth=2.4, label=text, clip_on=False, zorder=3)
        axes.fill_between(false_alarms, found, color=REAL_COLOUR, alpha=0.08, linewidth=0)
        axes.plot(
            crossing,
            1 - crossing,
            "o",
            color=FAKE_COLOUR,
            markersize=8,
            label=f"equal error rate {crossing:.1%}",
            zorder=4,
            clip_on=False,
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel("REAL wrongly called FAKE (false positive rate)")
        axes.set_ylabel("FAKE found (true positive rate)")
        handles, words = axes.get_legend_handles_labels()
        axes.legend([handles[1], handles[2], handles[0]], [words[1], words[2], words[0]], loc="lower right")
        of = "" if people is None else f", of {counted(people, 'group')} of people"
        _title(axes, title, _counts(y, unit) + of)

    return _draw(path, (6.4, 6.4), paint)


def plot_reliability(y, p, path: str | Path, title: str = "Reliability", bins: int = 10, unit: str = "videos") -> Path:
    """Reliability diagram: how often a score of p_real is a real, with the number in each bin under it.

    Bars of the count stand below the curve's axis range; bins are equal-width. The ECE in the note uses `metrics.ece`'s
    own bins.

    Raises:
        MetricError: no scores, NaN, or scores outside 0..1.
    """
    rows = [r for r in reliability_bins(y, p, bins) if r["count"]]

    def paint(axes):
        from matplotlib.ticker import PercentFormatter
        from scipy.stats import beta

        x = np.array([r["mean_p_real"] for r in rows])
        share = np.array([r["share_real"] for r in rows])
        count = np.array([r["count"] for r in rows])
        reals = np.round(share * count)
        # Clopper-Pearson 95 %: honest for bins with a handful of videos.
        low = np.where(reals > 0, beta.ppf(0.025, np.maximum(reals, 1e-9), count - reals + 1), 0)
        high = np.where(reals < count, beta.ppf(0.975, reals + 1, np.maximum(count - reals, 1e-9)), 1)
        axes.plot([0, 1], [0, 1], ":", color=NEUTRAL, linewidth=1.3, label="a score that means what it says")
        # A line through bins of one or two videos would draw a trend that is not there.
        axes.errorbar(
            x,
            share,
            yerr=[share - low, high - share],
            fmt="o-" if count.min() >= 10 else "o",
            color=REAL_COLOUR,
            ecolor=REAL_COLOUR,
            elinewidth=1.2,
            capsize=3,
            linewidth=2,
            markersize=6,
            label="this detector (95 % interval)",
            zorder=3,
        )
        height = 0.14
        axes.bar(
            [(r["low"] + r["high"]) / 2 for r in rows],
            height * count / count.max(),
            width=0.92 / bins,
            bottom=-0.22,
            color="#bdbdbd",
            label="count",
            zorder=2,
        )
        for r in rows:
            axes.text(
                (r["low"] + r["high"]) / 2,
                -0.22 + height * r["count"] / count.max() + 0.008,
                f"{r['count']:,}",
                ha="center",
                va="bottom",
                fontsize=8.5,
                color=NEUTRAL,
            )
        axes.axhline(-0.03, color=GRID, linewidth=0.8)
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.22, 1.03)
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel("Score p_real   (0 = surely FAKE, 1 = surely REAL)")
        axes.set_ylabel("Share that is REAL")
        handles, words = axes.get_legend_handles_labels()
        order = [words.index(w) for w in ("this detector (95 % interval)", "a score that means what it says")]
        axes.legend(
            [handles[i] for i in order],
            [words[i] for i in order],
            loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
            ncols=2,
        )
        _title(axes, title, f"{_counts(y, unit)};  ECE {ece(y, p):.3f}, log loss {log_loss(y, p):.3f}")

    return _draw(path, (6.4, 6.2), paint)


def plot_score_histogram(
    y, p, path: str | Path, title: str = "Scores", bins: int = 20, thresholds=None, unit: str = "videos"
) -> Path:
    """Histogram of p_real: reals above the axis, fakes below it.

    Args:
        y, p: (N,) labels (1 real, 0 fake) and P(real).
        thresholds: (fake_below, real_above) to draw; else the published 0.5.

    Raises:
        MetricError: no scores, NaN, or scores outside 0..1.
    """
    from ..metrics.scalar import checked

    y, p = checked(y, p)
    below, above = thresholds if thresholds is not None else (TIE_THRESHOLD, TIE_THRESHOLD)

    def paint(axes):
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        edges = np.linspace(0, 1, bins + 1)
        counts = {}
        for label, sign, colour, word in ((REAL, 1, REAL_COLOUR, "REAL"), (FAKE, -1, FAKE_COLOUR, "FAKE")):
            counts[label], _ = np.histogram(p[y == label], edges)
            axes.bar(
                edges[:-1],
                sign * counts[label],
                width=1 / bins,
                align="edge",
                color=colour,
                edgecolor="white",
                linewidth=0.8,
                label=f"{word} ({(y == label).sum():,})",
                hatch="" if label == REAL else "///",
            )
        axes.axhline(0, color=NEUTRAL, linewidth=1)
        for at in dict.fromkeys((below, above)):
            axes.axvline(at, color="#1a1a1a", linestyle="--", linewidth=1.2)
        tallest = max(c.max() for c in counts.values())
        axes.set_xlim(0, 1)
        axes.set_ylim(-1.18 * max(counts[FAKE].max(), 0.15 * tallest), 1.18 * max(counts[REAL].max(), 0.15 * tallest))
        edge = axes.get_ylim()[1]
        axes.text(below - 0.008, edge, "called FAKE", ha="right", va="top", fontsize=9.5, color="#1a1a1a")
        axes.text(above + 0.008, edge, "called REAL", ha="left", va="top", fontsize=9.5, color="#1a1a1a")
        if above - below > 0.12:
            axes.text((below + above) / 2, edge, "UNSURE", ha="center", va="top", fontsize=9.5, color="#1a1a1a")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):,.0f}"))
        axes.set_xlabel("Score p_real   (0 = surely FAKE, 1 = surely REAL)")
        axes.set_ylabel(f"Number of {unit}")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
        _title(axes, title, _counts(y, unit))

    return _draw(path, (7, 5), paint)


__all__ = ["MetricError", "plot_confusion", "plot_history", "plot_reliability", "plot_roc", "plot_score_histogram"]
