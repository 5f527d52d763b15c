"""Plain text for people: aligned tables and numbers with intervals."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[object]], header: Sequence[str], align: str) -> str:
    """An aligned text table.

    Args:
        rows: cells, shown with str().
        header: column names.
        align: one letter a column, "l" or "r".
    """
    cells = [[str(c) for c in header], *([str(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(c.ljust(w) if a == "l" else c.rjust(w) for c, w, a in zip(row, widths, align)).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def heading(text: str, underline: str = "-") -> str:
    """A heading with its underline."""
    return f"{text}\n{underline * len(text)}"


def percent(part: int, whole: int) -> str:
    """ "19 of 20   95.0 %", or "none" when there is nothing to count."""
    return f"{part:,} of {whole:,}".rjust(16) + f"{part / whole:9.1%}".replace("%", " %") if whole else "none".rjust(16)


def metric(result: dict) -> str:
    """One entry of `metrics.evaluate` in words: "0.995  (0.974 to 1.000)", or why there is no value or no interval."""
    if "refused" in result:
        return f"not computed: {result['refused']}"
    if "no_interval" in result:
        return f"{result['value']:.3f}  (no interval: {result['no_interval']})"
    return "{}  ({} to {})".format(*numbers(result))


def numbers(result: dict) -> list[str]:
    """Value, low and high of an interval, with three decimals or as many as it takes to tell low from high."""
    values = [result["value"], result["low"], result["high"]]
    for digits in (3, 4, 5, 6):
        shown = [f"{v:.{digits}f}" for v in values]
        if shown[1] != shown[2]:
            break
    return shown


def one_line(text: str) -> str:
    """A file name as it may stand in a line of text: control characters and line ends are shown as escapes."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
