"""A verdict as a line of text."""

from __future__ import annotations

from ..aggregation import word_of
from ..labels import counted


def line_of(result: dict) -> str:
    """The line that a person reads: name, verdict, probability, reason, faces, frames used, warnings."""
    name = shown(result["video"])
    if result["error"]:
        return f"{name}  ERROR  {result['error']}"
    frames = f"{result['frames_with_face']} of {counted(result['frames_decoded'], 'frame')} with a face"
    warned = "".join(f"  ({w})" for w in result.get("warnings") or ())
    if result["p_fake"] is None:
        return f"{name}  {result['verdict']}  {frames}{warned}"
    text = f"{name}  {result['verdict']}  fake probability {result['p_fake']:.3f}"
    single = result.get("frame_range")
    if single:
        text += f" ({word_of(result.get('rule') or 'mean')}; single frames {single[0]:.3f} to {single[1]:.3f})"
    if result.get("reason"):
        text += f"  {result['reason']}"
    people = result["people"]
    text += f"  {counted(len(people), 'face')}  {frames}"
    if len(people) > 1:
        text += "  [" + ", ".join(f"{p['id']} {p['verdict']} {1 - p['p_real']:.3f}" for p in people) + "]"
    if result.get("note"):
        text += f"  ({result['note']})"
    return text + warned


def shown(name: str) -> str:
    """A file name on one line, whatever is in it."""
    return name if name.isprintable() else repr(name)
