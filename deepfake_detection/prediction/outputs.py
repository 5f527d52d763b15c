"""Where the files about each video go: its report, its annotated copy; and the index page over a folder of reports."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

from .. import files
from ..errors import UserError
from ..names import file_name

#: In place of a file's name: standard output.
STDOUT = "-"
#: The page over all reports of a folder.
INDEX = "index.html"
#: Bytes of a report's name without suffix: file systems allow 255, and partial files and suffixes need some.
LONGEST_NAME = 160
#: Options that name a file; where a report or a copy cannot be written, its video says so and the others go on.
FILES = ("json", "csv")
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


def json_path(path: Path | None) -> Path | None:
    """The file of --json, whose folder is there; None where it goes to standard output.

    Raises:
        UserError: it cannot be written, which is said before the work: it is written once every video is judged.
    """
    if path is None or str(path) == STDOUT:
        return None
    make_folder(Path(path).parent, "this file", "json")
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # a name that is too long
        with contextlib.suppress(_Tried), files.atomic_path(path):
            raise _Tried
    except OSError as e:
        raise UserError(f"cannot write this file ({e.strerror})", file=path, hint="name another --json") from None
    return Path(path)


class _Tried(Exception):
    """A file can be made."""


def report_paths(folder: Path | None, names: Sequence[str]) -> list[Path | None]:
    """The report of each video, or Nones.

    Raises:
        UserError: the folder cannot be made.
    """
    if folder is None:
        return [None] * len(names)
    make_folder(folder, "reports", "report")
    return [folder / f"{n}.html" for n in report_names(names)]


def report_files(folder: Path | None, reports: Sequence[Path | None]) -> list[Path]:
    """All that is written for these reports: their pages, their data, and the index."""
    both = [path for report in reports if report for path in (report, report.with_suffix(".json"))]
    return both if folder is None else [*both, folder / INDEX]


def annotated_paths(
    target: Path | None, videos: Sequence[str], names: Sequence[str], searched: Sequence[str | Path] = ()
) -> Sequence[Path | None]:
    """The annotated copy of each video, or Nones: `target` itself for one video, else `<target>/<name>.mp4`.

    Args:
        target: a file with a suffix of VIDEO_SUFFIXES, or a folder.
        videos: paths of the sources; names: what they are called.
        searched: what the user named; nothing is written into a folder that was searched for videos.

    Raises:
        UserError: it is no video's name, one file for several videos, or in a searched folder.
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
    make_folder(targets[0].parent if targets else target, "annotated videos", "annotate")
    return targets


def refuse_overlaps(videos: Sequence[str], **files_of: Sequence[Path | None]) -> None:
    """Each output is a file of its own, and none is a video that is judged.

    Args:
        videos: paths of the sources.
        files_of: option -> what it writes; before anything is written.

    Raises:
        UserError: an output is a source, a folder, a device or a pipe, a file about a video that we did not write
            (clip.json beside clip.mp4, another clip.mp4, index.html of a site), or what another option writes.
    """
    sources = {_identity(video) for video in videos} - {None}
    taken: dict[str, str] = {}
    for option, paths in files_of.items():
        hint = f"name another --{option}"
        for path in filter(None, paths):
            if _identity(path) in sources:
                raise UserError("this is a video that is judged; it is never written to", file=path, hint=hint)
            if path.is_file() and not _may_be_replaced(option, path):
                raise UserError("this file is not ours, and would be written over", file=path, hint=hint)
            # One report that cannot be made costs no verdict; what is written last would cost them all.
            last = option in FILES or (option == "report" and path.name == INDEX)
            if last and os.path.exists(path) and not os.path.isfile(path):
                raise UserError(f"--{option} writes a file of this name, and this is none", file=path, hint=hint)
            place = os.path.join(os.path.realpath(path.parent), path.name)
            if place in taken:
                raise UserError(f"--{taken[place]} and --{option} would write the same file", file=path, hint=hint)
            taken[place] = option


def _may_be_replaced(option: str, path: Path) -> bool:
    """Whether an earlier run made this file, or one that may be replaced was named."""
    if option == "annotate":
        from ..detector.annotate import is_annotated

        return is_annotated(path)
    if option == "report":
        from ..reports import html

        return _read(path) is not None if path.suffix == ".json" else html.is_page(path)
    return True


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def make_folder(folder: Path, what: str, option: str) -> None:
    """Makes a folder for outputs, without what killed runs left there.

    Raises:
        UserError: it cannot be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_dead_partials(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as e:
        raise UserError(
            f"cannot write {what} here ({e.strerror})", file=folder, hint=f"name another --{option}"
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


def _read(path: Path) -> dict | None:
    """The data of a report; None for another file."""
    data = files.read_json(path)
    return data if isinstance(data, dict) and "evidence" in data else None


def _row_of(path: Path) -> dict | None:
    """What the index says of a report, from its JSON; None when it is none of ours or has no page."""
    page = path.with_suffix(".html")
    try:
        data = _read(path) if page.is_file() else None
        if data is None:
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
