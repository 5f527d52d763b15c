"""How often such a verdict is wrong, in words: from counts on labelled videos (`models/errors_by_material.json`), for
the kind of material that is nearest to the video at hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

from .. import labels

KEY, FILE = "errors_by_material", "errors_by_material.json"
#: With fewer videos than this no rate is stated, only the count.
FEW = 50
_OTHER = {labels.VERDICT_FAKE: ("untouched", "real"), labels.VERDICT_REAL: ("altered", "fake")}


def load(config: dict, folder: str | Path) -> dict | None:
    """The table in force: of detector.json (`config`), else of the folder; None where there is none that is sound."""
    table = config.get(KEY)
    if table is None:
        try:
            table = json.loads((Path(folder) / FILE).read_text(encoding="utf-8"))[KEY]
        except (OSError, ValueError, KeyError, TypeError):
            return None
    sound = isinstance(table, dict) and table.get("materials") and all(_sound(m) for m in table["materials"])
    return table if sound else None


def _sound(material) -> bool:
    try:
        return bool(material["name"]) and all(
            material[k]["videos"] == sum(material[k][w] for w in ("REAL", "UNSURE", "FAKE")) for k in ("real", "fake")
        )
    except (KeyError, TypeError):
        return False


def nearest(materials: list[dict], facts: dict) -> tuple[dict, float]:
    """(the kind of material that is most like a file, how far it is): doublings of picture height and of bits per pixel
    between them.

    Args:
        facts: width, height (px) and bits_per_pixel of the file; a missing one counts as no difference.
    """
    side = min(facts.get("width") or 0, facts.get("height") or 0)

    def away(material: dict) -> float:
        pairs = ((side, material.get("height")), (facts.get("bits_per_pixel"), material.get("bits_per_pixel")))
        return sum(abs(math.log2(a / b)) for a, b in pairs if a and b)

    found = min(materials, key=away)
    return found, away(found)


def of_hundred(count: int, videos: int) -> str:
    """ "6 of 100 (92 of 1,500)", or the bare count where it is of few."""
    return (
        f"{count} of only {videos}" if videos < FEW else f"{count / videos * 100:.0f} of 100 ({count:,} of {videos:,})"
    )


def wrong_among(material: dict, verdict: str, share_of_fakes: float) -> float | None:
    """Share of such verdicts that are wrong at this share of altered videos (Bayes' rule); None where there is none."""
    real, fake = (material[k][verdict] / max(material[k]["videos"], 1) for k in ("real", "fake"))
    wrong, right = (real * (1 - share_of_fakes), fake * share_of_fakes)
    if verdict == labels.VERDICT_REAL:
        wrong, right = right, wrong
    return wrong / (wrong + right) if wrong + right else None


def sentences(table: dict | None, verdict: str, facts: dict, model: str, thresholds: dict) -> list[str]:
    """What the report says beside the verdict; [] without a table or a face."""
    if verdict == labels.VERDICT_NO_FACE:
        return []
    out = []
    if verdict == labels.VERDICT_UNSURE:
        low, high = 100 * (1 - thresholds["real_above"]), 100 * (1 - thresholds["fake_below"])
        out.append(
            f"The detector says UNSURE where the fake probability is between {low:.0f} and {high:.0f} %, or where "
            "too little can be seen: there it would err too often."
        )
    if table is None:
        return out + (["How often such a verdict is wrong was not measured for this detector."] if not out else [])
    material, away = nearest(table["materials"], facts)
    name = material["name"]
    if verdict == labels.VERDICT_UNSURE:
        out.append(
            f"On the nearest kind of material that was measured ({name}), "
            f"{of_hundred(material['real'][verdict], material['real']['videos'])} untouched and "
            f"{of_hundred(material['fake'][verdict], material['fake']['videos'])} altered videos got UNSURE."
        )
    else:
        kind, key = _OTHER[verdict]
        out.append(
            f"On the nearest kind of material that was measured ({name}), "
            f"{of_hundred(material[key][verdict], material[key]['videos'])} {kind} videos were called {verdict} too."
        )
        rates = [
            (words, rate)
            for words, share in (("every second", 0.5), ("one in ten", 0.1))
            if (rate := wrong_among(material, verdict, share)) is not None
        ]
        if len(rates) == 2 and min(material[k]["videos"] for k in ("real", "fake")) >= FEW:
            out.append(
                f"Where {rates[0][0]} video is altered, about {max(rates[0][1] * 100, 1):.0f} of 100 {verdict} "
                "verdicts are wrong; "
                f"where {rates[1][0]} is, about {max(rates[1][1] * 100, 1):.0f}."
            )
    if facts.get("still"):
        out.append("That was measured on videos: a single picture tells less, expect more errors.")
    elif away > 2:
        out.append("This file is not much like it: expect more errors.")
    if table.get("model") and table["model"] != model:
        out.append(f"Measured with another version of the detector ({table['model']}).")
    return out
