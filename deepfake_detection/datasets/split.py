"""Balancing and splitting, as pure functions of counts: no file is touched here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import UserError

SETS = ("train", "val", "test")

#: Up to this many assignments all are tried; 3^11 = 177,147.
_EXHAUSTIVE_GROUPS = 11


def allocate(available: Mapping[str, int], total: int, seed: int) -> dict[str, int]:
    """Spreads `total` faces over as many videos as possible: all get the same number, or all they have.

    Args:
        available: faces of each video.
        total: how many to take in all; at least the sum leaves all as they are.
        seed: decides which videos get the one face more when `total` does not divide.

    Returns:
        faces to take of each video, 0 for some only if there are more videos than `total`.
    """
    import numpy as np

    if total >= sum(available.values()):
        return dict(available)
    level = 0
    while sum(min(n, level + 1) for n in available.values()) <= total:
        level += 1
    taken = {title: min(n, level) for title, n in available.items()}
    more = [title for title, n in sorted(available.items()) if n > level]
    np.random.default_rng(seed).shuffle(more)
    for title in more[: total - sum(taken.values())]:
        taken[title] += 1
    return taken


def assign_groups(
    counts: Mapping[str, tuple[int, int]],
    ratio: Sequence[float] = (80, 10, 10),
    seed: int = 1,
    hint: str = "add videos of further people",
) -> dict[str, str]:
    """Puts whole groups into train, val and test so that the faces of each class come near the ratio.

    The cost is the squared deviation of each (set, class) share from its wish, each set weighted by one over its wished
    share, so that the small sets are met as well as the large one. Few groups: all assignments are tried. Many: seeded
    restarts of "largest group first to where it is cheapest", each improved by moves and swaps of single groups until
    none helps.

    Args:
        counts: group -> (real faces, fake faces).
        ratio: parts for train, val, test.
        hint: of the error.

    Returns:
        group -> "train" | "val" | "test"; each set has at least one real and one fake face.

    Raises:
        UserError: when the groups cannot fill three sets with both classes.
    """
    import numpy as np

    names = sorted(g for g, c in counts.items() if sum(c))
    faces = np.array([counts[g] for g in names], dtype=float).reshape(len(names), 2)
    _require_enough(faces, hint)
    wish = np.array(ratio, dtype=float) / sum(ratio)
    share = faces / faces.sum(axis=0)  # (groups, 2): part of its class that a group holds
    rng = np.random.default_rng(seed)

    def cost(filled):  # filled: (..., 3, 2)
        value = (((filled - wish[:, None]) ** 2) / wish[:, None]).sum(axis=(-1, -2))
        return value + 1e3 * (filled <= 1e-12).sum(axis=(-1, -2))

    if len(names) <= _EXHAUSTIVE_GROUPS:
        every = np.indices((3,) * len(names), dtype=np.int8).reshape(len(names), -1)  # (groups, assignments)
        filled = np.stack([((every == s).T @ share) for s in range(3)], axis=1)
        costs = cost(filled)
        best = np.flatnonzero(costs <= costs.min() + 1e-12)
        chosen = every[:, rng.choice(best)]
    else:
        restarts = max(1, min(60, 5_000 // len(names)))
        candidates = [_search(share, wish, cost, rng) for _ in range(restarts)]
        chosen = min(candidates, key=lambda c: c[0])[1]
    result = {name: SETS[int(s)] for name, s in zip(names, chosen, strict=True)}
    for s, _ in enumerate(SETS):  # the search minimises; that it found a whole answer is checked, not hoped
        if not (faces[np.asarray(chosen) == s].sum(axis=0) > 0).all():
            raise UserError("found no split into three sets with real and fake faces in each", hint=hint)
    return result


def _require_enough(faces, hint: str) -> None:
    both = int(((faces[:, 0] > 0) & (faces[:, 1] > 0)).sum())
    real = int(((faces[:, 0] > 0) & (faces[:, 1] == 0)).sum())
    fake = int(((faces[:, 0] == 0) & (faces[:, 1] > 0)).sum())
    if both + min(real, fake) < 3:
        raise UserError(
            f"too few identity groups for three sets with real and fake faces in each: {both} groups with both, "
            f"{real} with real only, {fake} with fake only",
            hint=hint,
        )


def _search(share, wish, cost, rng):
    """One restart of `assign_groups`. Returns (cost, assignment)."""
    import numpy as np

    count = len(share)
    # Largest first, shaken by the seed so that restarts differ.
    order = np.argsort(-share.max(axis=1) * rng.uniform(0.7, 1.3, count), kind="stable")
    place = np.zeros(count, dtype=np.int8)
    filled = np.zeros((3, 2))
    for number, group in enumerate(order):
        if number < 3:
            s = number  # no set may stay empty: the three largest start one each
        else:
            # While filling, what matters is how far each set still is from its wish.
            trial = np.repeat(filled[None], 3, axis=0)
            trial[np.arange(3), np.arange(3)] += share[group]
            over = (np.maximum(trial - wish[:, None], 0) ** 2 / wish[:, None]).sum(axis=(-1, -2))
            need = ((wish[:, None] - filled) / wish[:, None] * (share[group] > 0)).sum(axis=1)
            s = int(np.lexsort((-need, np.round(over, 12)))[0])
        place[group] = s
        filled[s] += share[group]
    best = float(cost(filled))
    improved, rounds = True, 0
    while improved and rounds < 50:
        improved, rounds = False, rounds + 1
        for group in rng.permutation(count):  # move one group
            trial = np.repeat(filled[None], 3, axis=0)
            trial[:, place[group]] -= share[group]
            trial[np.arange(3), np.arange(3)] += share[group]
            costs = cost(trial)
            s = int(costs.argmin())
            if costs[s] < best - 1e-12:
                place[group], filled, best, improved = s, trial[s].copy(), float(costs[s]), True
        if count <= 400:
            for group in rng.permutation(count):  # swap two groups of different sets
                others = np.flatnonzero(place != place[group])
                trial = np.repeat(filled[None], len(others), axis=0)
                rows = np.arange(len(others))
                change = share[others] - share[group]
                trial[rows, place[group]] += change
                trial[rows, place[others]] -= change
                costs = cost(trial)
                if len(others) and costs.min() < best - 1e-12:
                    pick = int(costs.argmin())
                    other = others[pick]
                    place[group], place[other] = place[other], place[group]
                    filled, best, improved = trial[pick].copy(), float(costs[pick]), True
    return best, place
