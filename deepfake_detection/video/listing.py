"""Which files of a folder are videos: those whose name says so, and those whose first bytes do, whatever their name.

A file that is called a video has its row in any case: if it is none, the row says what it is instead. For all others
the content decides. Only a file's first bytes are read, of a file that is called sound also its end: folders with
many files stay fast, and FFmpeg, which would look further, is left to the sandboxed judging of a file.
"""

from __future__ import annotations

import functools
import os
import stat
from collections import Counter
from collections.abc import Iterable

from ..errors import printable
from . import containers, is_video_name

_HEAD, _FAR = 4096, 256 << 10
#: Files that may have a video's container and no picture in it.
_SOUND = frozenset(
    (".m4a", ".m4b", ".m4p", ".m4r", ".f4a", ".f4b", ".3ga", ".aac", ".mp3", ".ogg", ".oga", ".opus", ".wma")
    + (".mka", ".weba", ".ac3", ".sub")
)
#: What a track of pictures is called in a container, or in a chain of MPEG packets.
_PICTURES = {
    "mov": (b"vide",),
    "matroska": (b"V_",),
    "ogg": (b"theora", b"OVP80", b"BBCD", b"video"),
    "asf": (b"\xc0\xef\x19\xbc\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b",),
    "avi": (b"vids",),
    "mpeg": tuple(bytes((0, 0, 1, n)) for n in range(0xE0, 0xF0)),
}
#: What the metadata of data sets is called: nobody misses it among the videos.
_METADATA = frozenset(
    ("metadata.json", "labels.csv", "list_of_testing_videos.txt", "readme.md", "readme.txt", "license")
)


def is_video(path: str) -> bool:
    """Whether a file has to be judged: a video by name or content, neither hidden nor unreadable."""
    name = os.path.basename(path)
    if is_video_name(name):
        return True
    if name.startswith("."):
        return False
    try:
        info = os.stat(path)
        return stat.S_ISREG(info.st_mode) and _is_content(path, info.st_size, info.st_mtime_ns)  # a pipe would wait
    except (OSError, ValueError):
        return False


@functools.lru_cache(maxsize=1 << 18)  # a folder is listed several times until its layout is known
def _is_content(path: str, size: int, mtime_ns: int) -> bool:
    with open(path, "rb") as file:
        return _holds_pictures(file, size, os.path.splitext(path)[1].lower())


def _holds_pictures(file, size: int, suffix: str) -> bool:
    head = file.read(_HEAD)
    demuxer = containers.demuxer_of(head)
    if demuxer is None or demuxer == "gif":  # an animated picture
        return False
    if demuxer == containers.ANY:
        return _begins_late(head)
    if demuxer in _PICTURES and (suffix in _SOUND or head[8:11] in (b"M4A", b"M4B") or demuxer == "ogg"):
        far = head + file.read(_FAR - len(head))
        file.seek(max(_FAR, size - _FAR))
        far += file.read(_FAR)
        return any(mark in far for mark in _PICTURES[demuxer])
    return True


def _begins_late(head: bytes) -> bool:
    """Whether a file of no known first bytes is raw H.264 or H.265, or has a container's beginning behind something."""
    unit = head[1:] if head.startswith(b"\0\0\0\1") else head
    if unit.startswith(b"\0\0\1") and len(unit) > 4:  # Annex B: a start code, then the header of a NAL unit
        first, second = unit[3], unit[4]
        if first & 0x80 == 0 and (first & 0x1F in (5, 6, 7, 8, 9) and first & 0x60 or first in (6, 9)):
            return True
        if first & 0x81 == 0 and first >> 1 in (*range(16, 22), 32, 33, 34, 35, 39) and second == 1:
            return True
    at = head.find(b"ftyp")
    if at >= 4 and all(32 <= c < 127 for c in head[at + 4 : at + 8]):
        return True
    at = head.find(b"\x1aE\xdf\xa3")
    return at >= 0 and any(kind in head[at : at + 64] for kind in (b"matroska", b"webm"))


def note(paths: Iterable[str]) -> str:
    """A word: "3 files are no videos (2 .txt, 1 without a suffix)"; "" when there are none."""
    names = (path for path in paths if os.path.basename(path).lower() not in _METADATA)
    suffixes = Counter(os.path.splitext(name)[1].lower() for name in names)
    if not suffixes:
        return ""
    count = suffixes.total()
    kinds = [f"{n} {printable(suffix) or 'without a suffix'}" for suffix, n in suffixes.most_common(3)]
    kinds += ["..."] if len(suffixes) > 3 else []
    return f"{count} {'file is no video' if count == 1 else 'files are no videos'} ({', '.join(kinds)})"
