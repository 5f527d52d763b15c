"""Finds videos, identity groups and pictures that are on two sides of a split. Works on any split, not only on ours."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from .. import files
from ..errors import UserError
from ..labels import counted
from ..video import listing
from .groups import connected, identities_of_name
from .layouts.folders import SPLITS

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
_CLASSES = frozenset({"real", "fake", "original", "manipulated", "0", "1", "pristine", "genuine"})
_IGNORED_PARENTS = frozenset({"faces", "frames", "images", "crops", "marked_faces", "face", "frame"})

# What may follow a title, once: a separator, perhaps a word, a number. `-004`, `_frame12`, `.face_3`.
_NUMBER = r"[-_. ]+(?:frame|face|img|image|crop|person|fr|f|p)?[-_. ]?\d+"
_OURS = re.compile(r"(?P<title>.+)-\d{3,}-\d{2,}")
_ONE = re.compile(rf"(?P<title>.+?){_NUMBER}", re.IGNORECASE)
_TWO = re.compile(rf"(?P<title>.+?){_NUMBER}{_NUMBER}", re.IGNORECASE)
# Titles of FaceForensics++ and Celeb-DF end in numbers themselves.
_STATED = re.compile(
    rf"(?P<title>(?:.+-)?(?:\d{{3}}_\d{{3}}|id\d+(?:_id\d+)?_\d{{4}}))(?:{_NUMBER}){{0,2}}", re.IGNORECASE
)
_ONLY_NUMBER = re.compile(
    r"(?:frame|face|img|image|crop|f|p)?[-_. ]?\d+(?:[-_. ]+(?:face|f|p)?[-_. ]?\d+)?", re.IGNORECASE
)


@dataclass(frozen=True)
class Item:
    """A file of the split: its set, its class folder (or empty), its path below the split, its title."""

    set: str
    label: str
    path: PurePosixPath
    title: str = ""


@dataclass
class Leaks:
    """What `find` found.

    Attributes:
        sets: set -> number of files.
        videos: title -> {set: number of files}, for titles in two sets or more.
        groups: group -> {set: [titles]}, for groups in two sets or more that are not just one such video.
        pictures: [(file, file, ...)], the same bytes in two sets or more.
        titles: number of videos.
        reading: how names were read, for a person to check.
        grouped: by what videos were grouped, in words; empty when nothing told of groups.
    """

    sets: dict[str, int]
    videos: dict[str, dict[str, int]]
    groups: dict[str, dict[str, list[str]]]
    pictures: list[tuple[str, ...]]
    titles: int
    reading: str
    grouped: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.videos or self.groups or self.pictures)


def read_split(folder: Path) -> list[Item]:
    """The files of a split with their sets: the first folder of a path that is called train, val(id(ation)), test(ing)
    or training.

    Where no folder has such a name, the folders directly in `folder` are the sets.

    Raises:
        UserError: no such folder, no pictures, fewer than two sets.
    """
    if not folder.is_dir():
        raise UserError(
            "there is no such folder" if not folder.exists() else "this is a file, not a folder",
            file=folder,
            hint="give the folder that holds train, val and test",
        )
    paths = []
    for here, names in files.walk(folder):
        below = PurePosixPath(os.path.relpath(here, folder))
        paths += [
            below / n
            for n in names
            if PurePosixPath(n).suffix.lower() in PICTURES or listing.is_video(os.path.join(here, n))
        ]
    if not paths:
        raise UserError(
            "no pictures or videos in this folder", file=folder, hint="give the folder that holds train, val and test"
        )

    def set_of(path):
        return next((SPLITS[p.lower()] for p in path.parts[:-1] if p.lower() in SPLITS), None)

    if any(set_of(p) for p in paths):
        named = [(set_of(p), p) for p in paths]
    else:
        tops = {p.parts[0] for p in paths if len(p.parts) > 1}
        if {t.lower() for t in tops} <= _CLASSES:
            tops = set()
        named = [(p.parts[0] if p.parts[0] in tops else None, p) for p in paths]
    items = [Item(s, next((q.lower() for q in p.parts[:-1] if q.lower() in _CLASSES), ""), p) for s, p in named if s]
    found = sorted({i.set for i in items})
    if len(found) < 2:
        raise UserError(
            f"this is no split: found {'only the set ' + found[0] if found else 'no sets'}",
            file=folder,
            hint="give the folder that holds train, val and test",
        )
    return items


def read_titles(items: list[Item], known: Set[str] = frozenset(), pattern: str | None = None) -> tuple[list[Item], str]:
    """Gives each file the title of its video.

    In this order: the group `title` of `pattern`; our own `<title>-NNN-FF`; the longest known title that the name
    starts with; the folder, where files are only numbered; a title in the manner of FaceForensics++ or Celeb-DF; and
    else the end of the name that behaves as a frame's number over the whole split.

    Returns:
        the items, and how names were read.
    """
    if pattern is not None:
        return _by_pattern(items, pattern), f"by the pattern {pattern}"

    def parent_of(item):
        """The folder that may be named as the video; empty when it is a class or a set."""
        parent = next((p for p in reversed(item.path.parts[:-1]) if p.lower() not in _IGNORED_PARENTS), "")
        return "" if parent.lower() in _CLASSES or parent.lower() in SPLITS or parent == item.set else parent

    def in_title_folder(item):
        return bool(parent_of(item)) and _ONLY_NUMBER.fullmatch(item.path.stem) is not None

    chosen, reading = _scheme(
        [
            i
            for i in items
            if not in_title_folder(i) and not (_STATED.fullmatch(i.path.stem) and not _OURS.fullmatch(i.path.stem))
        ]
    )

    def title(item):
        stem = item.path.stem
        m = chosen.fullmatch(stem) if chosen else None
        if m and chosen is _OURS:
            return m["title"]
        for cut in sorted({len(stem), *(m.start() for m in re.finditer(r"[-_. ]", stem))}, reverse=True):
            if stem[:cut] in known:
                return stem[:cut]
        if parent_of(item) in known or in_title_folder(item):
            return parent_of(item)
        if stated := _STATED.fullmatch(stem):
            return stated["title"]
        return m["title"] if m else stem

    return [replace(i, title=title(i)) for i in items], reading


def _by_pattern(items: list[Item], pattern: str) -> list[Item]:
    hint = "e.g. '(?P<title>.+)_[0-9]+'"
    try:
        wanted = re.compile(pattern)
    except re.error as e:
        raise UserError(f"not a regular expression ({e})", file=pattern, hint=hint) from None
    if "title" not in wanted.groupindex:
        raise UserError("the pattern has no group called title", file=pattern, hint=hint)
    titles = [m["title"] if (m := wanted.fullmatch(i.path.stem)) else None for i in items]
    if unread := [i for i, title in zip(items, titles) if title is None]:
        raise UserError(
            f"{len(unread)} of {len(items)} names do not fit the pattern, e.g.",
            file=unread[0].path,
            hint="correct --pattern",
        )
    return [replace(i, title=title) for i, title in zip(items, titles)]


def _scheme(items: list[Item]) -> tuple[re.Pattern | None, str]:
    """Which end of the names is not the title. None: the whole name is."""

    def fits(regex):
        return [m["title"] if (m := regex.fullmatch(i.path.stem)) else None for i in items]

    def share(found):
        return sum(t is not None for t in found) / len(found)

    if not items:
        return None, "by folder or as stated by the data set"
    if share(fits(_OURS)) >= 0.95:
        return _OURS, "as <title>-frame-face"

    # A word that names files of both classes all over ("frame_12") is no title.
    def generic(found):
        seen = defaultdict(set)
        for t, i in zip(found, items):
            seen[t].add(i.label)
        frequent = Counter(t for t in found if t is not None)
        return any(len(seen[t]) > 1 and n > 0.5 * len(found) for t, n in frequent.items())

    one, two = fits(_ONE), fits(_TWO)
    if share(two) >= 0.95 and not generic(two):
        # Two numbers are frame and face if the last is small and the one before it tells files apart.
        last = Counter(int(m[1]) for i in items if (m := re.search(r"(\d+)$", i.path.stem)))
        if len(last) <= 20 and max(last) < 20 and len(items) / len(set(two)) >= 1.5:
            return _TWO, "as <title>, frame and face number"
    if (
        share(one) >= 0.5
        and not generic(one)
        and len(items) / len({t or i.path.stem for t, i in zip(one, items)}) >= 1.5
    ):
        return _ONE, "as <title> and frame number"
    return None, "as the title, one file a video"


def find(
    folder: str | Path, *, groups: Mapping[str, str] | None = None, pattern: str | None = None, pictures: bool = True
) -> Leaks:
    """Looks for everything of one video or one group that is in two sets.

    Args:
        folder: the split.
        groups: title -> group, where known (a manifest). Groups that names state (FaceForensics++, DFD, Celeb-DF) are
            added.
        pattern: regular expression with a group `title` for the whole file name without its suffix.
        pictures: also look for the same bytes on two sides, which reads files.

    Raises:
        UserError: when the folder is no split.
    """
    folder = Path(folder)
    items, reading = read_titles(read_split(folder), set(groups or ()), pattern)
    example = items[len(items) // 2]
    where: dict[str, Counter] = defaultdict(Counter)
    for item in items:
        where[item.title][item.set] += 1
    titles = sorted(where)
    names, by = _identities(titles, groups or {})
    component = connected([[f"title {t}", *names[t]] for t in titles])
    members: dict[int, list[str]] = defaultdict(list)
    for title, number in zip(titles, component, strict=True):
        members[number].append(title)
    split_groups = {}
    for inside in members.values():
        sets = sorted({s for t in inside for s in where[t]})
        if len(sets) > 1 and len(inside) > 1:
            name = min([n for t in inside for n in names[t]] or inside)
            split_groups[name.removeprefix("group ")] = {s: [t for t in inside if s in where[t]] for s in sets}
    return Leaks(
        sets=dict(sorted(Counter(i.set for i in items).items())),
        videos={t: dict(sorted(c.items())) for t, c in sorted(where.items()) if len(c) > 1},
        groups=dict(sorted(split_groups.items())),
        pictures=_same_pictures(folder, items) if pictures else [],
        titles=len(titles),
        reading=f"{reading}, e.g. {example.path.name} is of video {example.title}",
        grouped=by,
    )


def _identities(titles: list[str], groups: Mapping[str, str]) -> tuple[dict[str, list[str]], list[str]]:
    """The group and identities of each title, and in words where they come from."""

    def tail(title):
        # Our own titles put telling folders first where stems collide: `Deepfakes-c23-000_003`.
        return title.rsplit("-", 1)[-1]

    found: dict[str, list[str]] = {}
    pairs = any(re.fullmatch(r"\d{3}_\d{3}", tail(t)) for t in titles)
    from_table = from_names = 0
    for title in titles:
        found[title] = []
        if title in groups:
            found[title].append(f"group {groups[title]}")
            from_table += 1
        stated = identities_of_name(title) or identities_of_name(tail(title))
        if not stated and pairs and re.fullmatch(r"\d{3}", tail(title)):  # beside 000_003, a 000 is that video
            stated = identities_of_name(tail(title), dataset="ffpp")
        found[title] += stated
        from_names += bool(stated)
    by = []
    if from_table:
        by.append(f"a table of groups ({from_table} of {counted(len(titles), 'video')})")
    if from_names:
        by.append(f"names in the manner of FaceForensics++, DFD or Celeb-DF ({from_names})")
    return found, by


def _same_pictures(folder: Path, items: list[Item]) -> list[tuple[str, ...]]:
    """Files with the same bytes in two sets. Only files whose size is found in two sets are read."""
    sizes: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        path = folder / item.path
        if path.is_file():
            sizes[path.stat().st_size].append(item)
    candidates = [i for same in sizes.values() if len({i.set for i in same}) > 1 for i in same]
    contents: dict[str, list[Item]] = defaultdict(list)
    for item in tqdm(
        candidates, desc="comparing pictures", unit="file", disable=None if len(candidates) > 1000 else True
    ):
        contents[files.sha256(folder / item.path)].append(item)
    return sorted(tuple(str(i.path) for i in same) for same in contents.values() if len({i.set for i in same}) > 1)


def read_groups(path: Path) -> dict[str, str]:
    """Title -> group of a CSV with these two columns, e.g. split_manifest.csv.

    Raises:
        UserError: not such a file.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as e:
        raise UserError(
            f"cannot read this table ({type(e).__name__})", file=path, hint="a CSV with the columns title and group"
        ) from None
    if not {"title", "group"} <= set(table.columns):
        raise UserError(
            "this table has no columns title and group",
            file=path,
            hint=f"it has {', '.join(map(str, table.columns[:8]))}",
        )
    return {t: g for t, g in zip(table["title"], table["group"]) if g}


def report(found: Leaks) -> str:
    """All that was found, for a person."""
    lines = [
        f"{counted(sum(found.sets.values()), 'file')} of {counted(found.titles, 'video')}: "
        + ", ".join(f"{s} {n}" for s, n in found.sets.items()),
        f"names read {found.reading}",
    ]
    lines.append(
        "groups by " + " and by ".join(found.grouped)
        if found.grouped
        else "no groups known: only videos were compared. With --data or --manifest also a fake and its original are "
        "told apart"
    )
    for title, sets in found.videos.items():
        lines.append(f"LEAK video {title}: " + ", ".join(f"{counted(n, 'file')} in {s}" for s, n in sets.items()))
    for group, sets in found.groups.items():
        lines.append(f"LEAK group {group}: " + "; ".join(f"{s}: {', '.join(titles)}" for s, titles in sets.items()))
    for same in found.pictures:
        lines.append("LEAK picture: the same bytes in " + ", ".join(same))
    if found:
        lines.append(
            f"on two sides of the split: {counted(len(found.videos), 'video')}, "
            f"{counted(len(found.groups), 'group')}, {counted(len(found.pictures), 'picture')}"
        )
    else:
        lines.append("no leak found")
    return "\n".join(lines)
