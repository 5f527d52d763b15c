"""What a batch is made of: which sources, as what, how many pairs.

    recipe = read(Path("recipes/detector.json"))    # a detector's own
    shares = usual(table)                               # for any sources

A recipe is a JSON object: `shares`, a list of {kind, pairs, sources: {source of the index: part}}, and
`least_sharpness`, {source: variance of the Laplacian}. `given` pairs a fake of the sources with its original, `blend`
an untouched face with its blend.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    import pandas

#: Kind of a pair -> label of the face that is drawn.
KINDS = {"blend": "real", "given": "fake"}
#: Pairs of a batch where no recipe says how many.
PAIRS = 30

Share = tuple[str, dict[str, float], int]


@dataclass(frozen=True)
class Recipe:
    """Attributes:
    shares: (kind, {source: part}, pairs of a batch) each.
    least_sharpness: of a source's pictures; softer ones were enlarged before they came here, and are left out.
    """

    shares: tuple[Share, ...] = ()
    least_sharpness: dict[str, float] = field(default_factory=dict)


def read(path: Path) -> Recipe:
    """A recipe's file.

    Raises:
        UserError: it cannot be read, or is none.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        shares = tuple(
            (share["kind"], {str(s): float(part) for s, part in share["sources"].items()}, int(share["pairs"]))
            for share in said["shares"]
        )
        sharp = {str(s): float(least) for s, least in said.get("least_sharpness", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(
            f"this recipe cannot be read ({getattr(e, 'strerror', None) or f'{type(e).__name__}: {e}'})",
            file=path,
            hint="see recipes/detector.json",
        ) from None
    for kind, sources, pairs in shares:
        if kind not in KINDS or pairs < 1 or min(sources.values(), default=0) <= 0:
            raise UserError(
                f"the recipe has a share of the kind {kind!r} with {pairs} pairs of {sources}",
                file=path,
                hint=f"kind is one of {', '.join(KINDS)}; pairs and parts are more than 0",
            )
    return Recipe(shares, sharp)


def usual(train: pandas.DataFrame) -> tuple[Share, ...]:
    """Shares for any sources: as many pairs of blended stills, of blended clips and of fakes with their originals, as
    far as there are such; within each a source counts by the square root of its files, between alike and by size.

    Args:
        train: the training faces, a row each, with label, source, file and `time_s` (more than one of a clip).
    """
    moments = train.groupby("file").time_s.transform("nunique")
    kinds = [
        ("blend", train[(train.label == "real") & (moments == 1)]),
        ("blend", train[(train.label == "real") & (moments > 1)]),
        ("given", train[train.label == "fake"]),
    ]
    kinds = [(kind, rows) for kind, rows in kinds if len(rows)]
    return tuple(
        (
            kind,
            {str(s): round(float(n) ** 0.5, 3) for s, n in rows.groupby("source").file.nunique().items()},
            (PAIRS + place) // len(kinds),
        )
        for place, (kind, rows) in enumerate(kinds)
    )


def shares_of(train: pandas.DataFrame, wanted: tuple[Share, ...] = (), without: tuple = ()) -> tuple[Share, ...]:
    """The shares of a batch: those wanted, or the usual ones, but for the sources left out.

    Raises:
        UserError: there are no such faces to train on.
    """
    if not (train.label == "real").any():
        raise UserError(
            "there is no untouched face to train on", hint="see left_out.csv in --work, or give --real-faces DIR"
        )
    if not wanted:
        return usual(train)
    found = set(zip(train.source, train.label))
    shares = [(kind, {s: p for s, p in sources.items() if s not in without}, n) for kind, sources, n in wanted]
    for kind, sources, _ in shares:
        if missing := [s for s in sources if (s, KINDS[kind]) not in found]:
            raise UserError(
                f"the index has no {KINDS[kind]} training faces of the source {missing[0]}, which the recipe asks for",
                hint=f"--without {missing[0]}, or another --recipe",
            )
    return tuple(share for share in shares if share[1])
