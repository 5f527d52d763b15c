"""Where the files about each video go: its report, its annotated copy; and the index page over a folder of reports."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from .. import files
from ..errors import UserError
from ..names import file_name

#: The page over all reports of a folder.
INDEX = "index.html"
#: Bytes of a report's name without suffix: file systems allow 255, and partial files and suffixes need some.
LONGEST_NAME = 160
#: What an annotated video may be written as.
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")


def report_names(videos: Sequence[str]) -> list[str]:
    """A report's file name (no suffix) for each video: its stem, or with the folders above where stems collide."""
    names: list[str] = []
    # Case is no difference on some file systems.
    taken: set[str] = {Path(INDEX).stem}
    for video in videos:
        parts = [
            re.sub(r"[^\w.+@ -]", "_", part).strip(". ")
            for part in Path(file_name(video) if "://" in video else video).with_suffix("").parts
        ]
        parts = [p for p in parts if p] or ["video"]
        longer = (_cut("-".join(parts[-n:])) for n in range(1, len(parts) + 1))
        name = next((c for c in longer if c.lower() not in taken), None)
        number = 2
        while name is None or name.lower() in taken:
            name, number = f"{_cut(parts[-1], LONGEST_NAME - 12)}-{number}", number + 1
        taken.add(name.lower())
        names.append(name)
    return names


def _cut(text: str, most: int = LONGEST_NAME) -> str:
    """The end of a text, at most so many bytes of UTF-8."""
    return text.encode("utf-8", "surrogateescape")[-most:].decode("utf-8", "ignore").strip(". ") or "video"


def report_paths(folder: Path | None, names: Sequence[str]) -> list[Path | None]:
    """The report of each video, or Nones.

    Raises:
        UserError: the folder cannot be made.
    """
    if folder is None:
        return [None] * len(names)
    _make(folder, "reports", "--report")
    return [folder / f"{n}.html" for n in report_names(names)]


def annotated_paths(
    target: Path | None, videos: Sequence[str], names: Sequence[str], searched: Sequence[str | Path] = ()
) -> Sequence[Path | None]:
    """The annotated copy of each video, or Nones: `target` itself for one video, else `<target>/<name>.mp4`.

    Args:
        target: a file with a suffix of VIDEO_SUFFIXES, or a folder.
        videos: paths of the sources; names: what they are called.
        searched: what the user named; nothing is written into a folder that was searched for videos.

    Raises:
        UserError: a source, a searched folder or a file that no earlier run of this made would be written over.
    """
    if target is None:
        return [None] * len(videos)
    if target.suffix.lower() in VIDEO_SUFFIXES and not target.is_dir():
        if len(videos) != 1:
            raise UserError(
                f"one file for the annotated copies of {len(videos)} videos",
                file=target,
                hint="name a folder: --annotate DIR",
            )
        targets = [target]
    elif target.suffix and not target.is_dir() and len(videos) == 1:
        raise UserError(
            f"an annotated video is {', '.join(VIDEO_SUFFIXES)}, not {target.suffix}",
            file=target,
            hint="--annotate out.mp4, or a folder",
        )
    else:
        if any(
            Path(s).is_dir() and Path(s).resolve() in (target.resolve(), *target.resolve().parents) for s in searched
        ):
            raise UserError(
                "the annotated videos would lie among the videos that are judged",
                file=target,
                hint="name a folder elsewhere",
            )
        targets = [target / f"{n}.mp4" for n in report_names(names)]
    _make(targets[0].parent if targets else target, "annotated videos", "--annotate")
    for path in targets:
        if any(path.exists() and os.path.exists(v) and os.path.samefile(path, v) for v in videos):
            raise UserError(
                "this is a video that is judged; it is never written to", file=path, hint="name another --annotate"
            )
    return targets


def _make(folder: Path, what: str, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_dead_partials(folder)
    except OSError as e:
        raise UserError(
            f"cannot write {what} here ({e.strerror})", file=folder, hint=f"name another {option}"
        ) from None


def write_index(folder: Path, failed: Sequence[dict] = ()) -> None:
    """Writes `<folder>/index.html`: a row for every report that lies there, and one for each of `failed`.

    Args:
        failed: result objects of videos without a verdict (`predictor.failed`).
    """
    from ..reports import index

    rows = [row for path in sorted(folder.glob("*.json")) if (row := _row_of(path)) is not None]
    rows += [
        {
            "video": file_name(r["video"]),
            "verdict": "ERROR",
            "reason": r["error"],
            "report": None,
            "p_fake": None,
            "people": None,
            "made": None,
            "duration_s": None,
        }
        for r in failed
    ]
    files.write_text(folder / INDEX, index.page(rows))


def _row_of(path: Path) -> dict | None:
    """What the index says of a report, from its JSON; None when it is none of ours or has no page."""
    page = path.with_suffix(".html")
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if page.is_file() else None
        if not isinstance(data, dict) or "evidence" not in data:
            return None
        return {
            "video": str(data["video"]),
            "verdict": str(data["verdict"]),
            "reason": str(data.get("reason") or data.get("note") or ""),
            "report": page.name,
            "p_fake": data["p_fake"],
            "people": len(data["people"]),
            "made": data.get("made"),
            "duration_s": (data.get("file") or {}).get("duration_s"),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None
