"""Listing a dataset's folders: sorted, without hidden entries, our own outputs and loops of links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..files import note_skipped, walk
from ..video import is_video_name, listing

#: What the stages write into a folder of results. A dataset may lie in the same folder (`--out` = `--data`).
OUTPUT_FOLDERS = frozenset(
    {"prepared_dataset", "split_dataset", "stage_reports", "tmp_checkpoint", "faces", "marked_faces"}
)


def entries(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder that are not hidden, sorted by name.

    Raises:
        UserError: when it cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted((e for e in found if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as e:
        raise UserError(
            f"cannot read this folder ({e.strerror})", file=folder, hint="check the path and its permissions"
        ) from None


def is_output(folder: str | Path) -> bool:
    """Whether our stages wrote a folder: named as one of theirs, or a folder of frames (`<title>/frames.csv`)."""
    return os.path.basename(folder) in OUTPUT_FOLDERS or os.path.isfile(os.path.join(folder, "frames.csv"))


def subfolders(folder: Path) -> list[str]:
    """Names of the folders (and links to such) in a folder, but for our outputs and what cannot be read."""
    # os.path, not the entry's own is_dir(): that one raises on a link that leads in a circle.
    inside = [Path(e.path) for e in entries(folder) if os.path.isdir(e.path)]
    return [path.name for path in inside if not is_output(path) and _readable(path)]


def videos_in(folder: Path) -> list[str]:
    """Names of the videos in a folder, not below it; also of links that lead nowhere, reported as missing later."""
    return [e.name for e in entries(folder) if _is_video(e.path)]


def _is_video(path: str) -> bool:
    if is_video_name(os.path.basename(path)):
        return os.path.isfile(path) or os.path.islink(path) and not os.path.isdir(path)
    return listing.is_video(path)


def no_videos(data: Path) -> str:
    """A word about the files in a data set that are no videos; "" when there are none."""
    return listing.note(
        path
        for here, names in walk(data, skip=is_output)
        for path in (os.path.join(here, name) for name in names)
        if not _is_video(path)
    )


def videos_under(data: Path, start: str = ".") -> Iterator[PurePosixPath]:
    """Paths, relative to `data`, of the videos in and below `data/start`, in the order of `files.walk`."""
    for here, names in walk(data / start, skip=is_output):
        below = PurePosixPath(os.path.relpath(here, data))
        yield from (below / name for name in names if _is_video(os.path.join(here, name)))


def _readable(folder: Path) -> bool:
    try:
        os.scandir(folder).close()
        os.stat(folder / ".")  # listed, but not to be entered
    except OSError as e:
        note_skipped(folder, e)
        return False
    return True


def has_video(data: Path, start: str = ".") -> bool:
    """Whether there is a video in `data/start` or below it."""
    return next(videos_under(data, start), None) is not None
