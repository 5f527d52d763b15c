"""Listing of a dataset's folders: sorted, without hidden entries, without what our own stages wrote, without symlink loops."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import UserError, printable
from ..video import is_video_name

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
    """Whether a folder was written by our stages: named as one of them, or a folder of frames (`<title>/frames.csv`)."""
    return os.path.basename(folder) in OUTPUT_FOLDERS or os.path.isfile(os.path.join(folder, "frames.csv"))


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, links to folders included, our own outputs and what cannot be read (`lost+found`) not."""
    # os.path, not the entry's own is_dir(): that one raises on a link that leads in a circle.
    return [
        e.name for e in entries(folder) if os.path.isdir(e.path) and not is_output(e.path) and _readable(Path(e.path))
    ]


def videos_in(folder: Path) -> list[str]:
    """Names of the video files in a folder, not below it. A link that leads nowhere counts: it is reported as missing later."""
    return [
        e.name
        for e in entries(folder)
        if is_video_name(e.name) and (os.path.isfile(e.path) or e.is_symlink() and not os.path.isdir(e.path))
    ]


def videos_under(data: Path, start: str = ".") -> Iterator[PurePosixPath]:
    """Paths, relative to `data`, of the videos in `data/start` and below it, in sorted order.

    Links to folders are followed (data sets often lie elsewhere), each real folder once, so loops end and nothing comes twice.
    """
    seen = set()
    pending = [PurePosixPath(start)]
    while pending:
        here = pending.pop()
        stat = os.stat(data / here)
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        for name in videos_in(data / here):
            yield here / name
        pending += [here / name for name in reversed(subfolders(data / here))]


def _readable(folder: Path) -> bool:
    try:
        os.scandir(folder).close()
        os.stat(folder / ".")  # listed, but not to be entered
    except OSError as e:
        _say_skipped(folder, e)
        return False
    return True


_told: set[str] = set()


def _say_skipped(folder: Path, error: OSError) -> None:
    """Once a run, on stderr: `lost+found`, or a folder of another user, is no reason to stop, and none to be silent."""
    if str(folder) not in _told:
        _told.add(str(folder))
        print(
            f"note: skipped, this folder cannot be read ({error.strerror}): {printable(str(folder))}", file=sys.stderr
        )


def has_video(data: Path, start: str = ".") -> bool:
    """Whether there is a video in `data/start` or below it."""
    return next(videos_under(data, start), None) is not None
