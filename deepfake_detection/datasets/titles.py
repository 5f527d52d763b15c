"""Titles: for each video a unique name that is safe as a folder's name on every common file system."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

# `<title>-NNN-FF.png` must fit into the 255 bytes of a file name, also when there are 100,000 frames, and the hidden
# names beside it.
_MAX_BYTES = 200
_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe(name: str) -> str:
    """`name` without what no folder's name may have: separators, control characters, a leading dot, more than 200
    bytes.

    Nor does a title begin with `-`, which programs take for an option, or with = + @, which a spreadsheet takes for a
    formula.
    """
    text = re.sub(r'[/\\:*?"<>|]', "_", "".join(c if c.isprintable() else "_" for c in name)).strip()
    text = text.rstrip(". ")
    if not text or text.startswith(".") or _WINDOWS.fullmatch(text):
        text = "_" + text.lstrip(".")
    if text[0] in "=+-@":
        text = "_" + text
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) > _MAX_BYTES:
        text = raw[: _MAX_BYTES - 9].decode("utf-8", "ignore") + "-" + hashlib.sha1(raw).hexdigest()[:8]
    return text


def assign(videos: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """The title of each video: its stem; where stems collide, the path parts that tell them apart, then the stem,
    joined by `-`.

    Names that differ only in case collide too (macOS, Windows). What still collides after that (`a.mp4` beside `a.avi`)
    gets its suffix, and at last a number.

    Args:
        videos: relative posix paths, each once.
        taken: names that no title may have, e.g. of the data set's own folders.
    """
    taken = {t.casefold() for t in taken}
    paths = [PurePosixPath(v) for v in videos]
    titles = [safe(p.stem) for p in paths]

    def colliding() -> list[list[int]]:
        by_name = defaultdict(list)
        for i, title in enumerate(titles):
            by_name[title.casefold()].append(i)
        return [items for name, items in by_name.items() if len(items) > 1 or name in taken]

    for items in colliding():
        if len(items) == 1:
            continue
        # Aligned from the file's name upwards, so that trees of different depth compare like with like.
        parents = [tuple(reversed(paths[i].parts[:-1])) for i in items]
        depth = max(map(len, parents))
        padded = [p + ("",) * (depth - len(p)) for p in parents]
        telling = [d for d in reversed(range(depth)) if len({p[d].casefold() for p in padded}) > 1]
        for i, parts in zip(items, padded, strict=True):
            titles[i] = safe("-".join([parts[d] for d in telling if parts[d]] + [paths[i].stem]))
    for items in colliding():
        for i in items:
            titles[i] = safe(f"{titles[i]}-{paths[i].suffix.lstrip('.') or 'video'}")
    used = set(taken)
    for i in sorted(range(len(titles)), key=lambda i: videos[i]):
        title, number = titles[i], 2
        while title.casefold() in used:
            title, number = f"{titles[i]}-{number}", number + 1
        used.add(title.casefold())
        titles[i] = title
    return titles
