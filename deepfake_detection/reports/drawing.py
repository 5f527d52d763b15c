"""What all figures share: size, style and colours, the title, and the file, written whole or not at all.

Drawn with matplotlib's object interface, not pyplot, so they need no display, keep no state and may be drawn in any
thread. Blue is REAL and orange is FAKE everywhere (Okabe & Ito's palette, told apart with every kind of colour
blindness). The same data gives the same bytes.
"""

from __future__ import annotations

import typing
from pathlib import Path

import numpy as np

from ..files import atomic_path
from ..labels import FAKE, REAL

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


def draw(path: str | Path, size: tuple[float, float], paint) -> Path:
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


def titled(axes, title: str, note: str = "") -> None:
    """The title, and under it in grey what the picture is made of."""
    axes.set_title(title, pad=24 if note else 14)
    if note:
        axes.text(0, 1.012, note, transform=axes.transAxes, ha="left", va="bottom", fontsize=9.5, color=NEUTRAL)


def of_classes(y, unit: str) -> str:
    """How many there are, in words."""
    y = np.asarray(y)
    return f"{len(y):,} {unit}: {int((y == REAL).sum()):,} real, {int((y == FAKE).sum()):,} fake"
