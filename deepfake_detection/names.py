"""What files and videos are called, both ways: every name of a frame or a face is made and read here.

A frame is `<title>-NNN.png`, a face `<title>-NNN-FF.png`. The title may hold dashes: NNN (the frame) and FF (the face
in the frame) are the last two parts.
"""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path
from typing import NamedTuple

#: `[folder/]<title>-NNN-FF.<ext>`; for single names and, as Java reads it too, for whole columns.
FACE_NAME = r"^(?:.*/)?([^/]+)-([0-9]{1,18})-([0-9]{1,18})\.(?:[pP][nN][gG]|[jJ][pP][eE]?[gG])$"
#: The folder that a face lies in, when it is `real` or `fake`: its label.
LABEL_FOLDER = r"^(?:.*/)?([rR][eE][aA][lL]|[fF][aA][kK][eE])/[^/]+$"

_FACE_STEM = re.compile(r"(.+)-([0-9]{1,18})-([0-9]{1,18})", re.DOTALL)


class FaceName(NamedTuple):
    """What the name of a face file says. `label` is "REAL", "FAKE" or "" (no such folder)."""

    label: str
    title: str
    frame: int
    face: int


def frame_name(title: str, number: int) -> str:
    """`<title>-NNN.png`; more digits when there are more than 1000 frames."""
    return f"{title}-{number:03d}.png"


def is_frame(name: str, title: str) -> bool:
    """Whether a file is a frame of the video of this title."""
    return re.fullmatch(re.escape(title) + r"-\d{3,}\.png", name) is not None


def face_name(title: str, frame: int, face: int) -> str:
    """`<title>-NNN-FF.png`."""
    return f"{title}-{frame:03d}-{face:02d}.png"


def parse_face_name(name: str) -> FaceName:
    """`real/my-clip-004-01.png` -> FaceName("REAL", "my-clip", 4, 1).

    Raises:
        ValueError: when it is not of that form.
    """
    name = name.replace("\\", "/")
    match = re.match(FACE_NAME, name)
    if not match:
        raise ValueError(f"not the name of a face (real/<title>-NNN-FF.png): {name!r}")
    folder = re.match(LABEL_FOLDER, name)
    return FaceName(folder.group(1).upper() if folder else "", match.group(1), int(match.group(2)), int(match.group(3)))


def parts_of_face(name: str) -> tuple[str, int, int]:
    """(title, frame, face) of a face's name, whatever its suffix; of any other name (stem, 0, 0)."""
    stem = Path(name).stem
    match = _FACE_STEM.fullmatch(stem)
    return (match[1], int(match[2]), int(match[3])) if match else (stem, 0, 0)


def title_of(name: str) -> str:
    """The video's title from a face's file name: `real/my-clip-004-01.png` -> `my-clip`; else the name's stem."""
    return parts_of_face(name)[0]


def file_name(name: str) -> str:
    """What a video is called before others: its file's name without the folders of this machine, or its address without
    what may be secret in it (user, password, query)."""
    if "://" in name:
        parts = urllib.parse.urlsplit(name)
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return Path(name).name or name
