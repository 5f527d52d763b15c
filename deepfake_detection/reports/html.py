"""The HTML report of one video: one file without scripts or links to elsewhere, for screen, phone and paper, light and
dark.

`video_report(data)` takes plain values (`detector.explain.report_data`) and returns the page. The page carries its own
Content-Security-Policy: nothing can be loaded or run even if a file name tried to.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path

from .. import labels
from ..aggregation import word_of
from .people import person_name

TEMPLATES = Path(__file__).parent / "templates"

#: What the four words say, in a sentence; never more than the detector knows.
HEADLINES = {
    labels.VERDICT_FAKE: "A face in this video was probably altered.",
    labels.VERDICT_REAL: "No trace of an altered face was found.",
    labels.VERDICT_UNSURE: "The detector cannot tell whether a face was altered.",
    labels.VERDICT_NO_FACE: "No face was found, so there is nothing to judge.",
}

#: What is told of the file where it is known; its data may be of another version, or lack what could not be found out.
FILE_FIELDS = ("width", "height", "codec", "fps", "bitrate", "duration_s", "bytes", "sha256", "still")

#: What counts for a person beside the faces' own pixels, by its name in the data; it is named from so much of the logit
#: on.
SIGNS = {
    "rim": "The rim of the face, held against what surrounds it,",
    "flicker": "How the face changes from one frame to the next",
}
SIGN_NAMED = 0.3

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


def bitrate(value: float) -> str:
    """Bits a second for people: 1.4 Mbit/s."""
    return f"{value / 1e6:.1f}\u00a0Mbit/s" if value >= 1e6 else f"{value / 1e3:.0f}\u00a0kbit/s"


def size(count: int) -> str:
    """Bytes for people: 3.4 MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def timeline(faces: list[dict], duration: float, thresholds: dict, label: str, *, decided: bool = True) -> str:
    """Inline SVG of the fake probability (0 at the bottom, 1 at the top) over time; stretches to the width it is given.

    Coordinates are thousandths of the width and height; strokes do not scale, so a point (a stroke of no length with
    round ends) stays round at any width.

    Args:
        faces: of one person in time order: "time_s", "p_real", "votes".
        duration: seconds that the width stands for.
        label: what a screen reader says.
        decided: points take the colour of their zone; without, where the whole is UNSURE whatever single frames say,
            none.
    """
    duration = max(duration, faces[-1]["time_s"], 1e-9)
    # p_fake = 1 - p_real, and y grows down.
    spots = [(1000 * f["time_s"] / duration, 1000 * f["p_real"], f) for f in faces]
    fake_top, real_top = 1000 * thresholds["fake_below"], 1000 * thresholds["real_above"]
    # A line is drawn only where the face was seen without a gap.
    steps = sorted(b["time_s"] - a["time_s"] for a, b in zip(faces, faces[1:]))
    gap = 3 * steps[len(steps) // 2] if steps else 0
    line, last = [], None
    for x, y, face in spots:
        line.append(f"{'L' if last is not None and face['time_s'] - last <= gap else 'M'}{x:.1f} {y:.1f}")
        last = face["time_s"]
    dots = "".join(
        f'<path class="dot {_zone(f["p_real"], thresholds) if decided and f.get("votes", True) else "no-face"}" '
        f'd="M{x:.1f} {y:.1f}h0">'
        f"<title>{clock(f['time_s'])}: "
        f"{percent(1 - f['p_real'])}{'' if f.get('votes', True) else ', not counted'}</title></path>"
        for x, y, f in spots
    )
    marks = "".join(
        f'<rect class="stretch" x="{1000 * a / duration:.1f}" y="970" '
        f'width="{max(1000 * (b - a) / duration, 4):.1f}" height="30"/>'
        for a, b in stretches(faces, thresholds)
    )
    return (
        '<svg class="plot" viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" '
        f'aria-label="{_escape(label)}">'
        f'<rect class="zone-fake" x="0" y="0" width="1000" height="{fake_top:.1f}"/>'
        f'<rect class="zone-unsure" x="0" y="{fake_top:.1f}" width="1000" height="{real_top - fake_top:.1f}"/>'
        f'<rect class="zone-real" x="0" y="{real_top:.1f}" width="1000" height="{1000 - real_top:.1f}"/>'
        f'<path class="bound" d="M0 {fake_top:.1f}H1000M0 {real_top:.1f}H1000"/><path class="line" '
        f'd="{"".join(line)}"/>{marks}{dots}</svg>'
    )


def stretches(faces: list[dict], thresholds: dict) -> list[tuple[float, float]]:
    """(first, last second) of every run of two or more frames that count, one after the other, in the FAKE zone."""
    runs: list[list[float]] = []
    before = None
    for face in (f for f in faces if f.get("votes", True)):
        suspicious = face["p_real"] < thresholds["fake_below"]
        if suspicious and before:
            runs[-1].append(face["time_s"])
        elif suspicious:
            runs.append([face["time_s"]])
        before = suspicious
    return [(run[0], run[-1]) for run in runs if len(run) > 1]


def zone_names(thresholds: dict) -> str:
    """Inline SVG beside the chart (144 units high, as it): the zones' words and the probabilities between them."""
    fake, real = 144 * thresholds["fake_below"], 144 * thresholds["real_above"]
    words = "".join(
        f'<text class="word" x="54" y="{(top + bottom) / 2 + 3.5:.1f}">{word}</text>'
        for word, top, bottom in (
            (labels.VERDICT_FAKE, 0, fake),
            (labels.VERDICT_UNSURE, fake, real),
            (labels.VERDICT_REAL, real, 144),
        )
        if bottom - top > 24
    )
    bounds = "".join(
        f'<text x="54" y="{y + 3.5:.1f}">{100 * (1 - share):.0f} %</text>'
        for y, share in ((fake, thresholds["fake_below"]), (real, thresholds["real_above"]))
    )
    return f'<svg class="zones" viewBox="0 0 56 144" aria-hidden="true">{words}{bounds}</svg>'


def gauge(p_fake: float, interval, thresholds: dict) -> str:
    """Inline SVG: where the probability lies between REAL (left) and FAKE (right)."""
    fake, real = 1000 * (1 - thresholds["fake_below"]), 1000 * (1 - thresholds["real_above"])
    low, high = (1000 * v for v in interval) if interval else (1000 * p_fake, 1000 * p_fake)
    return (
        f'<svg class="gauge" viewBox="0 0 1000 40" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="zone-real" x="0" y="12" width="{real:.1f}" height="16"/>'
        f'<rect class="zone-unsure" x="{real:.1f}" y="12" width="{fake - real:.1f}" height="16"/>'
        f'<rect class="zone-fake" x="{fake:.1f}" y="12" width="{1000 - fake:.1f}" height="16"/>'
        f'<path class="span" d="M{low:.1f} 20H{high:.1f}"/><path class="needle" d="M{1000 * p_fake:.1f} 2v36"/></svg>'
    )


def _zone(p_real: float, thresholds: dict) -> str:
    if p_real < thresholds["fake_below"]:
        return "fake"
    return "real" if p_real >= thresholds["real_above"] else "unsure"


def _escape(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))


@lru_cache(maxsize=1)
def environment():
    """The templates, with the filters of this page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, span=span, clock=clock, size=size, bitrate=bitrate)
    return environment


@lru_cache(maxsize=1)
def style() -> tuple[str, str]:
    """The report's CSS and its hash as a Content-Security-Policy source."""
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return css, source_of(css)


def source_of(text: str) -> str:
    """A style or script as a Content-Security-Policy names it: its hash."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def policy() -> str:
    """The Content-Security-Policy of a report: its own style, pictures inside the file, nothing else."""
    return f"default-src 'none'; style-src {style()[1]}; img-src data:; base-uri 'none'; form-action 'none'"


#: How every page of ours begins, an index too, and hardly another's: with a policy that allows its own style only.
_BEGINNING = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; style-src &#39;sha256-"""


def is_page(path: Path) -> bool:
    """Whether a file is a report, or an index over them, of this version or an earlier one."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_BEGINNING)) == _BEGINNING
    except OSError:
        return False


#: Words for where a map was not drawn or how its check came out; the rest is `checked`.
_METHODS = {
    "occlusion": "each part of a face is blurred in turn and the change of the score is noted (occlusion)",
    "gradcam": "Grad-CAM",
    "lime": "LIME on superpixels",
}


def checked(check: dict) -> tuple[str, str]:
    """(word, sentence) for a face's caption: what the check of its map says, without statistics."""
    if check["word"] == "confirmed":
        colour = "orange" if check["sign"] == labels.VERDICT_FAKE else "blue"
        move = "falls" if check["marked"] < check["p_fake"] else "rises"
        return "Heat map: confirmed", (
            f"When the {colour} part is blurred, the fake probability {move} from {percent(check['p_fake'])} to "
            f"{percent(check['marked'])}. "
            f"When as much is blurred in other, random places it is {percent(check['elsewhere'])} on average."
        )
    if check["word"] == "unconfirmed":
        return "Heat map: unconfirmed", (
            "Blurring what the network seemed to look at most changed the score no more than blurring random other "
            "places, so no map is drawn."
        )
    return (
        "No place stands out",
        f"No single part of this face speaks for {check['sign']}: blurring any of them changes the score little, so "
        "no map is drawn.",
    )


def people_of(data: dict, duration: float) -> list[dict]:
    """What the report says of each person, in the order of the data (the one who decides first)."""
    from markupsafe import Markup

    thresholds, out = data["thresholds"], []
    for person in data["people"]:
        own = [f for f in data["faces"] if f["person"] == person["id"]]
        name = person_name(person["id"])
        shots = [e for e in data["evidence"] if e["person"] == person["id"]]
        runs = stretches(own, thresholds)
        low, high = min(1 - f["p_real"] for f in own), max(1 - f["p_real"] for f in own)
        label = (
            f"Fake probability of {name} over time: {labels.counted(len(own), 'frame')} from "
            f"{clock(own[0]['time_s'])} to {clock(own[-1]['time_s'])}, "
            f"single frames between {percent(low)} and {percent(high)}"
            + ("; suspicious " + ", ".join(f"{clock(a)} to {clock(b)}" for a, b in runs) if runs else "")
        )
        by_reason = person["verdict"] == labels.VERDICT_UNSURE and _zone(person["p_real"], thresholds) != "unsure"
        sizes = sorted(f["size_px"] for f in own if f.get("size_px"))
        out.append(
            {
                **person,
                "name": name,
                "picture": shots[0]["face"] if shots else None,
                "p_fake": 1 - person["p_real"],
                "seen": person["frames"],
                "reason": person.get("reason", ""),
                "range": person.get("frame_range") or person["interval"],
                "single": bool(person.get("frame_range")),
                "plot": Markup(timeline(own, duration, thresholds, label, decided=not by_reason)),
                "runs": [] if by_reason else runs,
                "signs": _signs(person),
                "sizes": (round(sizes[0]), round(sizes[-1])) if sizes else None,
                "faces": own,
                "evidence": [{**e, "told": checked(e["check"]) if e["check"] else None} for e in shots],
            }
        )
    return out


def _signs(person: dict) -> list[tuple[str, str]]:
    """SIGNS, each with the verdict that it speaks for, without those that hardly speak."""
    added = [(said, person.get(name) or 0.0) for name, said in SIGNS.items()]
    return [
        (said, labels.VERDICT_REAL if logit > 0 else labels.VERDICT_FAKE)
        for said, logit in added
        if abs(logit) >= SIGN_NAMED
    ]


def video_report(data: dict) -> str:
    """The page.

    Args:
        data: see `detector.explain.report_data`.

    Returns:
        HTML text; the same data give the same text.
    """
    from markupsafe import Markup

    data = {**data, "file": {**dict.fromkeys(FILE_FIELDS), **(data.get("file") or {})}}
    verdict, thresholds = data["verdict"], data["thresholds"]
    medium = "picture" if data["file"]["still"] else "video"
    duration = max([data["file"]["duration_s"] or 0.0, *(f["time_s"] for f in data["faces"])], default=0.0)
    people = people_of(data, duration)
    css, _ = style()
    checks = [e["check"] for e in data["evidence"] if e["check"]]
    method = data["evidence"][0]["method"] if data["evidence"] else "none"
    shown = [p for p in people if p["well_seen"] and p["evidence"]] or people[:1]
    return (
        environment()
        .get_template("report.html")
        .render(
            data=data,
            verdict=verdict,
            headline=HEADLINES[verdict].replace("video", medium),
            medium=medium,
            word=word_of(data.get("rule") or "mean"),
            people=shown,
            others=[p for p in people if p not in shown],
            css=Markup(css),
            policy=policy(),
            duration=duration,
            gauge=Markup(gauge(data["p_fake"], data.get("frame_range") or data["interval"], thresholds))
            if data["p_fake"] is not None
            else "",
            zones=Markup(zone_names(thresholds)),
            priors=[(prior, at_prior(data["p_fake"], prior)) for prior in PRIORS] if data["p_fake"] is not None else [],
            confirmed=sum(c["word"] == "confirmed" for c in checks),
            checked=len(checks),
            method=_METHODS.get(method),
            labels=labels,
        )
    )
