"""What files and videos are called."""

from __future__ import annotations

import urllib.parse
from pathlib import Path


def file_name(name: str) -> str:
    """What a video is called before others: its file's name without the folders of this machine, or its address without
    what may be secret in it (user, password, query)."""
    if "://" in name:
        parts = urllib.parse.urlsplit(name)
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return Path(name).name or name
