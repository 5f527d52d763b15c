"""PNG figures: training history, confusion matrix, ROC curve, reliability diagram, score histogram."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..labels import FAKE, REAL, TIE_THRESHOLD, counted
from ..metrics import auc, ece, eer, log_loss, reliability_bins
from ..metrics.scalar import checked
from .drawing import FAKE_COLOUR, GRID, NEUTRAL, REAL_COLOUR, draw, of_classes, titled
from .text import numbers

#: Of the reliability diagram; the histogram has twice as many.
BINS = 10
SCORE_AXIS = "Score p_real   (0 = surely FAKE, 1 = surely REAL)"


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
    columns = {str(name): np.asarray(history[name], dtype=float) for name in history.keys()}
    written = []
    for key, name, label in (
        ("loss", "Loss.png", "Loss (binary cross-entropy)"),
        ("accuracy", "Accuracy.png", "Accuracy (share of faces)"),
    ):
        curves = {k: columns[k] for k in (key, f"val_{key}") if k in columns and not np.isnan(columns[k]).all()}
        if not curves:
            continue
        at = columns.get("epoch", np.arange(len(next(iter(curves.values()))))) + 1 if x == "epoch" else columns[x]

        def paint(axes, curves=curves, key=key, label=label, at=at):
            note = _curves(axes, key, curves, at, x)
            axes.set_ylabel(label)
            _epochs_axis(axes, x)
            axes.margins(x=0.04, y=0.12)
            if key == "accuracy":
                _share_axis(axes)
            else:
                axes.set_ylim(0, 1.12 * max(float(np.nanmax(values)) for values in curves.values()))
            axes.legend(loc="best")
            titled(axes, "Training " + key, note)

        written.append(draw(Path(out_dir) / name, (7, 4.6), paint))
    return written


def _curves(axes, key: str, curves: dict, at, x: str) -> str:
    """Draws training and validation, and a ring about the best of the latter. Returns what is best, in words."""
    note = ""
    for name, values in curves.items():
        of_validation = name.startswith("val_")
        axes.plot(
            at,
            values,
            "--" if of_validation else "-",
            color=FAKE_COLOUR if of_validation else REAL_COLOUR,
            linewidth=2,
            marker="o",
            markersize=4 if len(values) < 40 else 0,
            label="validation" if of_validation else "training",
        )
        if not of_validation:
            continue
        best = int(np.nanargmax(values) if key == "accuracy" else np.nanargmin(values))
        shown = f"{values[best]:.1%}" if key == "accuracy" else f"{values[best]:.3f}"
        where = f"in epoch {int(at[best])} of {int(at[-1])}"
        if x == "strength":
            where = f"at C = {at[best]:g}, classifier on frozen features"
        note = f"best validation {key}: {shown} {where}"
        ring = {"markerfacecolor": "none", "markeredgecolor": FAKE_COLOUR, "markeredgewidth": 1.8}
        axes.plot(at[best], values[best], "o", markersize=11, **ring)
    return note


def _epochs_axis(axes, x: str) -> None:
    from matplotlib.ticker import MaxNLocator

    if x == "strength":
        axes.set_xlabel("Inverse strength of the regularisation, C")
        axes.set_xscale("log")
    else:
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _share_axis(axes) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    low, high = axes.get_ylim()
    if high - low < 0.1:  # a flat curve should look flat
        low, high = (low + high) / 2 - 0.05, (low + high) / 2 + 0.05
    axes.set_ylim(max(low, -0.02), min(high, 1.02))


# --- one set of scores ------------------------------------------------------------------------------------------------


def plot_confusion(
    y, p, path: str | Path, title: str = "Confusion matrix", threshold: float = TIE_THRESHOLD, unit: str = "videos"
) -> Path:
    """Confusion matrix: rows are the truth, columns the verdict; count and share of the row in each cell.

    Args:
        y, p: (N,) labels (1 real, 0 fake) and P(real).
        path: PNG to write.
        threshold: p_real >= threshold is REAL.
        unit: what is of_classes, e.g. "videos" or "faces".

    Raises:
        MetricError: no scores, NaN, or not in 0..1.
    """
    y, p = checked(y, p)
    called_real = p >= threshold
    verdicts = (called_real, ~called_real)
    counts = np.array([[((y == truth) & said).sum() for said in verdicts] for truth in (REAL, FAKE)])
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros((2, 2)), where=totals > 0)
    cells = [
        [f"{n:,}\n{part:.1%}" if total else f"{n:,}\nnone" for n, part in zip(row, parts)]
        for row, parts, (total,) in zip(counts, share, totals)
    ]

    def paint(axes):
        import seaborn

        seaborn.heatmap(
            share,
            annot=np.array(cells),
            fmt="",
            cmap="Blues",
            vmin=0,
            vmax=1.15,  # text on the darkest cell stays readable
            square=True,
            cbar=False,
            linewidths=4,
            linecolor="white",
            annot_kws={"fontsize": 20, "linespacing": 1.5},
            xticklabels=["REAL", "FAKE"],
            yticklabels=[f"REAL\n({totals[0, 0]:,})", f"FAKE\n({totals[1, 0]:,})"],
            ax=axes,
        )
        axes.tick_params(length=0, labelrotation=0)
        axes.set_xlabel("Verdict")
        axes.set_ylabel("Truth")
        axes.grid(False)
        right = int(np.trace(counts))
        said = f"{right:,} of {len(y):,} {unit} right ({right / len(y):.1%}); REAL when p_real ≥ {threshold:g}"
        titled(axes, title, said)

    return draw(path, (5.9, 5.6), paint)


def plot_roc(
    y, p, path: str | Path, title: str = "ROC curve", interval=None, unit: str = "videos", people: int | None = None
) -> Path:
    """ROC curve of finding fakes, with the AUC, its interval and the equal error rate.

    Args:
        y, p: (N,) labels (1 real, 0 fake) and P(real).
        path: PNG to write.
        interval: (value, low, high) of the AUC, as `metrics.bootstrap_groups` returns; drawn as text.
        unit: what is of_classes.
        people: number of identity groups they are of, where it is known; said under the title.

    Raises:
        MetricError: one class only, NaN, or scores outside 0..1.
    """
    from sklearn.metrics import roc_curve

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
        titled(axes, title, of_classes(y, unit) + of)

    return draw(path, (6.4, 6.4), paint)


def plot_reliability(y, p, path: str | Path, title: str = "Reliability") -> Path:
    """Reliability diagram: how often a score of p_real is a real, with the number in each bin under it.

    Bars of the count stand below the curve's axis range; bins are equal-width. The ECE in the note uses `metrics.ece`'s
    own bins.

    Raises:
        MetricError: no scores, NaN, or scores outside 0..1.
    """
    rows = [r for r in reliability_bins(y, p, BINS) if r["count"]]

    def paint(axes):
        from matplotlib.ticker import PercentFormatter

        axes.plot([0, 1], [0, 1], ":", color=NEUTRAL, linewidth=1.3, label=(meant := "a score that means what it says"))
        curve = _shares(axes, rows)
        _counts_below(axes, rows, 0.92 / BINS)
        axes.axhline(-0.03, color=GRID, linewidth=0.8)
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.22, 1.03)
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel(SCORE_AXIS)
        axes.set_ylabel("Share that is REAL")
        handles = dict(zip(*reversed(axes.get_legend_handles_labels())))
        order = [curve, meant]
        axes.legend([handles[w] for w in order], order, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
        titled(axes, title, f"{of_classes(y, 'videos')};  ECE {ece(y, p):.3f}, log loss {log_loss(y, p):.3f}")

    return draw(path, (6.4, 6.2), paint)


def _shares(axes, rows: list[dict]) -> str:
    """The curve of the reliability diagram; returns its name in the legend."""
    from scipy.stats import beta

    share = np.array([r["share_real"] for r in rows])
    count = np.array([r["count"] for r in rows])
    reals = np.round(share * count)
    # Clopper-Pearson 95 %: honest for bins with a handful of videos.
    low = np.where(reals > 0, beta.ppf(0.025, np.maximum(reals, 1e-9), count - reals + 1), 0)
    high = np.where(reals < count, beta.ppf(0.975, reals + 1, np.maximum(count - reals, 1e-9)), 1)
    axes.errorbar(
        [r["mean_p_real"] for r in rows],
        share,
        yerr=[share - low, high - share],
        # A line through bins of one or two videos would draw a trend that is not there.
        fmt="o-" if count.min() >= 10 else "o",
        color=REAL_COLOUR,
        elinewidth=1.2,
        capsize=3,
        linewidth=2,
        markersize=6,
        label=(name := "this detector (95 % interval)"),
        zorder=3,
    )
    return name


def _counts_below(axes, rows: list[dict], width: float) -> None:
    height, bottom = 0.14 / max(r["count"] for r in rows), -0.22
    for r in rows:
        middle, top = (r["low"] + r["high"]) / 2, height * r["count"]
        axes.bar(middle, top, width=width, bottom=bottom, color="#bdbdbd", zorder=2)
        text = {"ha": "center", "va": "bottom", "fontsize": 8.5, "color": NEUTRAL}
        axes.text(middle, bottom + top + 0.008, f"{r['count']:,}", **text)


def plot_score_histogram(y, p, path: str | Path, title: str = "Scores") -> Path:
    """Histogram of p_real: reals above the axis, fakes below it.

    Args:
        y, p: (N,) labels (1 real, 0 fake) and P(real).

    Raises:
        MetricError: no scores, NaN, or scores outside 0..1.
    """
    y, p = checked(y, p)

    def paint(axes):
        import seaborn
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        counts = {}
        for label, sign, colour, word in ((REAL, 1, REAL_COLOUR, "REAL"), (FAKE, -1, FAKE_COLOUR, "FAKE")):
            own = p[y == label]
            counts[label], _ = np.histogram(own, 2 * BINS, (0, 1))
            seaborn.histplot(
                x=own,
                bins=2 * BINS,
                binrange=(0, 1),
                weights=np.full(len(own), float(sign)),
                color=colour,
                alpha=1,
                edgecolor="white",
                linewidth=0.8,
                label=f"{word} ({len(own):,})",
                hatch="" if label == REAL else "///",
                ax=axes,
            )
        axes.axhline(0, color=NEUTRAL, linewidth=1)
        axes.axvline(TIE_THRESHOLD, color="#1a1a1a", linestyle="--", linewidth=1.2)
        tallest = max(c.max() for c in counts.values())
        axes.set_xlim(0, 1)
        axes.set_ylim(-1.18 * max(counts[FAKE].max(), 0.15 * tallest), 1.18 * max(counts[REAL].max(), 0.15 * tallest))
        for at, side, word in ((-0.008, "right", "called FAKE"), (0.008, "left", "called REAL")):
            text = {"ha": side, "va": "top", "fontsize": 9.5, "color": "#1a1a1a"}
            axes.text(TIE_THRESHOLD + at, axes.get_ylim()[1], word, **text)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):,.0f}"))
        axes.set_xlabel(SCORE_AXIS)
        axes.set_ylabel("Number of videos")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
        titled(axes, title, of_classes(y, "videos"))

    return draw(path, (7, 5), paint)
