"""Identity groups: videos that share a person or a source video are one group, and a group is never on two sides of a
split.

A group is a connected component of the graph whose nodes are videos and identities, and whose edges say "this video
shows this identity". So a fake, its original, every other fake of that original, and (in FaceForensics++) the video
whose face it wears are one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_FFPP = re.compile(r"(\d{3})(?:_(\d{3}))?")
_DFD = re.compile(r"(\d{2})(?:_(\d{2}))?__[A-Za-z_]+?(?:__[A-Za-z0-9]+)?")
_CELEBDF = re.compile(r"(id\d+)(?:_(id\d+))?_\d{4}")


def identities_of_name(stem: str, dataset: str | None = None) -> list[str]:
    """The identities that a file's name states in the manner of FaceForensics++, DFD or Celeb-DF; empty when it states
    none.

    Args:
        stem: e.g. `000_003` (FaceForensics++), `01_02__kitchen_pan__ABCDEFGH` (DFD), `id0_id1_0000` (Celeb-DF).
        dataset: `ffpp`, `dfd` or `celebdf` if known; None tries all. A lone `000` then says nothing, as anyone numbers
            files so.
    """
    if dataset in (None, "dfd") and (m := _DFD.fullmatch(stem)):
        return [f"dfd_actor_{actor}" for actor in m.groups() if actor]
    if dataset in (None, "celebdf") and (m := _CELEBDF.fullmatch(stem)):
        return [f"celebdf_{person}" for person in m.groups() if person]
    if dataset in (None, "ffpp") and (m := _FFPP.fullmatch(stem)) and (dataset or m[2]):
        return [f"ffpp_{video}" for video in m.groups() if video]
    return []


def connected(names: Sequence[Iterable[str]]) -> list[int]:
    """Number of the connected component of each item, where two items with a common name are connected.

    Args:
        names: for each item the names it is tied to; an item without a name is a component of its own.

    Returns:
        component numbers, 0.., in the order of first appearance.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number: dict[str, int] = {}
    edges = [(item, number.setdefault(name, len(number))) for item, given in enumerate(names) for name in given]
    size = len(names) + len(number)
    rows = np.array([item for item, _ in edges], dtype=np.int64)
    columns = np.array([len(names) + name for _, name in edges], dtype=np.int64)
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (rows, columns)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    first: dict[int, int] = {}
    return [first.setdefault(int(c), len(first)) for c in component[: len(names)]]


def name_groups(identities: Sequence[Sequence[str]], links: Sequence[Sequence[str]] | None = None) -> list[str]:
    """A group name for each item: the first, in sorted order, of the identities in its component.

    Args:
        identities: of each item, at least one.
        links: further names that tie items together but do not name a group.
    """
    links = links if links is not None else [()] * len(identities)
    component = connected([[*a, *b] for a, b in zip(identities, links, strict=True)])
    smallest: dict[int, str] = {}
    for number, own in zip(component, identities, strict=True):
        smallest[number] = min([*own, *([smallest[number]] if number in smallest else [])])
    return [smallest[number] for number in component]
