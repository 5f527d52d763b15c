"""The HTML report of one video: one file without scripts or links to elsewhere, for screen, phone and paper, light and dark.

`video_report(data)` takes plain values (`detector.explain.report_data`) and returns the page. The page carries its own
Content-Security-Policy: nothing can be loaded or run even if a file name tried to.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path

from .. import labels

TEMPLATES = Path(__file__).parent / "templates"

#: What the four words say, in a sentence; never more than the detector knows.
HEADLINES = {
    labels.VERDICT_FAKE: "A face in this video was probably altered.",
    labels.VERDICT_REAL: "No trace of an altered face was found.",
    labels.VERDICT_UNSURE: "The detector cannot tell whether a face was altered.",
    labels.VERDICT_NO_FACE: "No face was found, so there is nothing to judge.",
}

#: Shares of fakes among the videos somebody checks, for which the probability is restated.
PRIORS = (0.5, 0.1, 0.01)


def at_prior(p_fake: float, prior: float) -> float:
    """The fake probability where a share `prior` of the videos is fake, from one stated for a half (Bayes' rule)."""
    p = min(max(p_fake, 1e-7), 1 - 1e-7)
    odds = p / (1 - p) * prior / (1 - prior)
    return odds / (1 + odds)


def percent(value: float) -> str:
    """0.934 -> "93 %" with a space that does not break; never 0 % or 100 %, which no detector can mean."""
    if value < 0.01:
        return "under 1\u00a0%"
    return "over 99\u00a0%" if value > 0.99 else f"{value * 100:.0f}\u00a0%"


def span(interval) -> str:
    """(0.84, 0.91) -> "84 % to 91 %"; one number where both ends read the same."""
    low, high = (percent(v) for v in interval)
    return low if low == high else f"{low} to {high}"


def clock(seconds: float) -> str:
    """75.25 -> "1:15.2"; tenths, because frames of the same second differ."""
    minutes, rest = divmod(int(seconds * 10 + 1e-6), 600)
    return f"{minutes}:{rest // 10:02d}.{rest % 10}"


def size(count: int) -> str:
    """Bytes for people: 3.4 MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def timeline(points: list[tuple[float, float]], duration: float, thresholds: dict, label: str) -> str:
    """Inline SVG of p_fake (0 at the bottom, 1 at the top) over time; stretches to the width it is given.

    Coordinates are thousandths of the width and height; strokes do not scale, so a point (a stroke of no length with round ends)
    stays round at any width.

    Args:
        points: (time in s, p_fake) in time order.
        duration: seconds that the width stands for.
        label: what a screen reader says.
    """
    duration = max(duration, points[-1][0], 1e-9)
    spots = [(1000 * t / duration, 1000 * (1 - p), t, p) for t, p in points]
    fake_top, real_top = 1000 * thresholds["fake_below"], 1000 * thresholds["real_above"]   # p_fake = 1 - p_real, and y grows down
    # A line is drawn only where the face was seen without a gap.
    steps = sorted(b[0] - a[0] for a, b in zip(points, points[1:]))
    gap = 3 * steps[len(steps) // 2] if steps else 0
    line, last = [], None
    for x, y, t, _ in spots:
        line.append(f"{'L' if last is not None and t - last <= gap else 'M'}{x:.1f} {y:.1f}")
        last = t
    dots = "".join(f'<path class="dot {_zone(1 - p, thresholds)}" d="M{x:.1f} {y:.1f}h0"><title>{clock(t)}: {percent(p)}</title></path>'
                   for x, y, t, p in spots)
    return (f'<svg class="plot" viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{_escape(label)}">'
            f'<rect class="zone-fake" x="0" y="0" width="1000" height="{fake_top:.1f}"/>'
            f'<rect class="zone-unsure" x="0" y="{fake_top:.1f}" width="1000" height="{real_top - fake_top:.1f}"/>'
            f'<rect class="zone-real" x="0" y="{real_top:.1f}" width="1000" height="{1000 - real_top:.1f}"/>'
            f'<path class="line" d="{"".join(line)}"/>{dots}</svg>')


def gauge(p_fake: float, interval, thresholds: dict) -> str:
    """Inline SVG: where the probability lies between REAL (left) and FAKE (right)."""
    fake, real = 1000 * (1 - thresholds["fake_below"]), 1000 * (1 - thresholds["real_above"])
    low, high = (1000 * v for v in interval) if interval else (1000 * p_fake, 1000 * p_fake)
    return (f'<svg class="gauge" viewBox="0 0 1000 40" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect class="zone-real" x="0" y="12" width="{real:.1f}" height="16"/>'
            f'<rect class="zone-unsure" x="{real:.1f}" y="12" width="{fake - real:.1f}" height="16"/>'
            f'<rect class="zone-fake" x="{fake:.1f}" y="12" width="{1000 - fake:.1f}" height="16"/>'
            f'<path class="span" d="M{low:.1f} 20H{high:.1f}"/><path class="needle" d="M{1000 * p_fake:.1f} 2v36"/></svg>')


def _zone(p_real: float, thresholds: dict) -> str:
    if p_real < thresholds["fake_below"]:
        return "fake"
    return "real" if p_real >= thresholds["real_above"] else "unsure"


def _escape(text: str) -> str:
    from markupsafe import escape
    return str(escape(text))


@lru_cache(maxsize=1)
def _environment():
    import jinja2
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, span=span, clock=clock, size=size)
    return environment


@lru_cache(maxsize=1)
def style() -> tuple[str, str]:
    """The report's CSS and its hash as a Content-Security-Policy source."""
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return css, "'sha256-" + base64.b64encode(hashlib.sha256(css.encode()).digest()).decode() + "'"


def policy() -> str:
    """The Content-Security-Policy of a report: its own style, pictures inside the file, nothing else."""
    return f"default-src 'none'; style-src {style()[1]}; img-src data:; base-uri 'none'; form-action 'none'"


def video_report(data: dict) -> str:
    """The page.

    Args:
        data: see `detector.explain.report_data`.

    Returns:
        HTML text; the same data give the same text.
    """
    from markupsafe import Markup
    verdict, thresholds = data["verdict"], data["thresholds"]
    duration = max([data["file"]["duration_s"] or 0.0, *(f["time_s"] for f in data["faces"])], default=0.0)
    people = []
    for number, person in enumerate(data["people"], 1):
        own = [f for f in data["faces"] if f["person"] == person["id"]]
        name = f"Person {number}" if len(data["people"]) > 1 else "The person"
        picture = next((e["face"] for e in data["evidence"] if e["person"] == person["id"]), None)
        label = (f"Fake probability of {name.lower()} over time: {len(own)} frames from {clock(own[0]['time_s'])} to {clock(own[-1]['time_s'])}, "
                 f"between {percent(min(1 - f['p_real'] for f in own))} and {percent(max(1 - f['p_real'] for f in own))}")
        people.append({**person, "name": name, "picture": picture, "p_fake": 1 - person["p_real"], "seen": len(own),
                       "plot": Markup(timeline([(f["time_s"], 1 - f["p_real"]) for f in own], duration, thresholds, label)),
                       "evidence": [e for e in data["evidence"] if e["person"] == person["id"]], "faces": own})
    css, _ = style()
    checked = [e["check"] for e in data["evidence"] if e["check"]]
    return _environment().get_template("report.html").render(
        data=data, verdict=verdict, headline=HEADLINES[verdict], people=people, css=Markup(css), policy=policy(), duration=duration,
        gauge=Markup(gauge(data["p_fake"], data["interval"], thresholds)) if data["p_fake"] is not None else "",
        priors=[(prior, at_prior(data["p_fake"], prior)) for prior in PRIORS] if data["p_fake"] is not None else [],
        confirmed=sum(c["confirmed"] for c in checked), checked=len(checked), method=data["evidence"][0]["method"] if data["evidence"] else "none",
        labels=labels)
