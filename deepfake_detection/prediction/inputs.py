"""The videos that a command line names: files, and what lies in folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from .. import files
from ..errors import UserError
from ..labels import counted
from .lines import shown


def find_videos(paths: Iterable[str | Path], *, pictures: bool = False) -> list[str]:
    """The videos to judge, each once: a file is taken as it is given (also if its name says nothing), a folder is
    searched with its subfolders for files that are videos by name or content (`video.listing`), in alphabetical order.
    Hidden ones are left out (`files.walk` on links and folders that cannot be read), and a word on stderr counts those
    that are no videos.

    Args:
        pictures: take the still pictures of a folder too: not unasked, since folders of faces are full of them.

    Raises:
        UserError: when a path does not exist, a folder holds no video or cannot be read.
    """
    from ..detector.stills import is_picture_name
    from ..video import listing

    found: list[str] = []
    for given in paths:
        path = Path(given)
        if os.path.isdir(path):  # Path.is_dir() raises where a folder above may not be entered
            inside, others = [], []
            for folder, names in files.walk(path):
                for name in (os.path.join(folder, n) for n in names):
                    wanted = listing.is_video(name) or pictures and is_picture_name(name)
                    (inside if wanted else others).append(name)
            left = sum(map(is_picture_name, others))
            if not inside and left:
                raise UserError(
                    "no videos in this folder",
                    file=path,
                    hint=f"--pictures judges {counted(left, 'still picture')} in it",
                )
            if not inside:
                raise UserError(
                    "no videos in this folder", file=path, hint=listing.note(others) or "it is empty; name another"
                )
            if skipped := listing.note(others):
                print(f"note: {skipped}, left out: {shown(str(path))}", file=sys.stderr)
            found += sorted(inside)
        else:
            try:
                os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                raise UserError("no such file or folder", file=path, hint="check the path") from None
            except OSError:
                pass  # its folder is not to be entered, or the name is too long: its row says so
            found.append(str(given))
    return list(dict.fromkeys(found))
