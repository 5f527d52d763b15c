"""Who is who in a video: faces of one person are linked over the frames by place and looks, never by their number in a
frame.

Linking (`Linker`) is causal: a frame's people are decided by that frame and earlier ones, so carry-over never uses the
future. `merge` then joins broken tracks with the whole video in view.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from .boxes import CARRIED, Face

#: Looks of a person's last so many faces are remembered.
REMEMBERED_LOOKS = 4
#: A face further than this from every known person is a new person. See `_distance`.
NEW_PERSON = 1.0


@dataclass
class _Person:
    name: str
    last: Face
    seen: int  # number of the frame it was last seen in
    looks: deque = field(default_factory=lambda: deque(maxlen=REMEMBERED_LOOKS))


class Linker:
    """Gives faces their person, frame after frame."""

    def __init__(self):
        self._people: list[_Person] = []
        self._frame = -1

    def update(self, faces: Sequence[Face], looks: Sequence[np.ndarray | None] | None = None) -> list[Face]:
        """The faces of the next frame with `person` set, in the order given.

        Args:
            faces: of one frame; call with [] for a frame without a face.
            looks: `look` of each, or None to link by place only.
        """
        self._frame += 1
        if looks is None:
            looks = [None] * len(faces)
        assigned: list[_Person | None] = [None] * len(faces)
        if faces and self._people:
            cost = np.array([[self._cost(p, face, look) for p in self._people] for face, look in zip(faces, looks)])
            for row, column in _assign(np.minimum(cost, NEW_PERSON)):
                if cost[row, column] < NEW_PERSON:
                    assigned[row] = self._people[column]
        linked = []
        for face, look, person in zip(faces, looks, assigned):
            if person is None:
                person = _Person(f"p{len(self._people) + 1}", face, self._frame)
                self._people.append(person)
            person.last, person.seen = face, self._frame
            if look is not None:
                person.looks.append(look)
            linked.append(replace(face, person=person.name))
        return linked

    def _cost(self, person: _Person, face: Face, seen: np.ndarray | None) -> float:
        """0: surely the same; NEW_PERSON or more: another.

        Place counts for less the longer ago the person was seen, and looks must then agree better; without looks, place
        is all.
        """
        place = _place_distance(person.last, face)
        if seen is None or not person.looks:
            return place
        away = self._frame - person.seen
        looks = min(look_distance(seen, look) for look in person.looks) / SAME_LOOK * min(1.5, 1 + 0.1 * (away - 1))
        weight = PLACE_WEIGHT / away
        return (looks + weight * min(place, 2.0)) / (1 + weight)


def _place_distance(a: Face, b: Face) -> float:
    """0 for the same box; 1 when it moved by its own size or changed its size by half or double."""
    size = math.sqrt(a.width * a.height) / 2 + math.sqrt(b.width * b.height) / 2
    moved = math.dist(a.center, b.center) / size
    grown = abs(math.log2(max(a.height, 1e-6) / max(b.height, 1e-6)))
    return math.hypot(moved, grown)


#: Distance of looks at which two faces are as likely of two people as of one, and the weight of place beside looks.
SAME_LOOK = 0.30
PLACE_WEIGHT = 0.5


def look(crop: np.ndarray) -> np.ndarray:
    """How a face looks, to tell the people of one video apart (not to recognise anybody): a small colour histogram and
    thumbnail.

    Args:
        crop: uint8 (H, W, 3) RGB, margin included (hair and collar tell people apart, too).

    Returns:
        float32 vector: the square roots of a histogram of 8 x 8 x 4 (a, b, L) bins, then an 8 x 8 thumbnail in Lab,
        0..1.
    """
    small = cv2.cvtColor(cv2.resize(crop, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    # Skin and hair fill a small part of the a-b plane: 96..176 is spread over the bins.
    light, a, b = (small[..., i].astype(np.int32).ravel() for i in range(3))
    a, b = (np.clip((v - 96) * 8 // 80, 0, 7) for v in (a, b))
    histogram = np.bincount((a * 8 + b) * 4 + light // 64, minlength=256).astype(np.float32)
    thumbnail = cv2.resize(small, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 255
    return np.concatenate([np.sqrt(histogram / histogram.sum()), thumbnail])


def look_distance(a: np.ndarray, b: np.ndarray) -> float:
    """0: alike. The Hellinger distance of the histograms (0..1) and the mean difference of the thumbnails, averaged."""
    hellinger = math.sqrt(max(0.0, 1 - float(a[:256] @ b[:256])))
    return (hellinger + 4 * float(np.abs(a[256:] - b[256:]).mean())) / 2


def _assign(cost: np.ndarray) -> list[tuple[int, int]]:
    """The pairs (row, column) of least total cost, each row and column once (the assignment problem)."""
    rows, columns = cost.shape
    if rows > columns:
        return [(r, c) for c, r in _assign(cost.T)]
    if columns <= 4:
        best = min(itertools.permutations(range(columns), rows), key=lambda p: sum(cost[r, c] for r, c in enumerate(p)))
        return list(enumerate(best))
    return _shortest_paths(np.asarray(cost, float))


def _shortest_paths(cost: np.ndarray) -> list[tuple[int, int]]:
    """The assignment by successive shortest paths (Jonker and Volgenant 1987); no more rows than columns, finite costs.

    scipy.optimize.linear_sum_assignment is the same method: judging a video would need SciPy (110 MB, 0.3 s to import)
    for this alone.
    """
    rows, columns = cost.shape
    row_of = np.full(columns + 1, -1)  # the last entry is the column that a path begins at
    row_price, column_price = np.zeros(rows), np.zeros(columns + 1)
    for row in range(rows):
        here, row_of[columns] = columns, row
        shortest, before = np.full(columns, np.inf), np.full(columns, columns)
        visited = np.zeros(columns + 1, bool)
        while row_of[here] >= 0:
            visited[here] = True
            step = cost[row_of[here]] - row_price[row_of[here]] - column_price[:columns]
            nearer = ~visited[:columns] & (step < shortest)
            shortest[nearer], before[nearer] = step[nearer], here
            free = np.where(visited[:columns], np.inf, shortest)
            here = int(free.argmin())
            row_price[row_of[visited]] += free[here]
            column_price[visited] -= free[here]
            shortest[~visited[:columns]] -= free[here]
        while here != columns:
            row_of[here] = row_of[before[here]]
            here = before[here]
    return sorted((int(row), column) for column, row in enumerate(row_of[:columns]) if row >= 0)


#: Tracks whose nearest looks are closer than this are one person, wherever they are; where the one ends beside the
#: other's begin, `NEAR_LOOK` is enough. Of 103 clips the first and the last third of one person are nearer than .21 in
#: 99 %, of 198 pairs of different people 99 % are further than .34, but people of one scene (the same light) come as
#: near as .22.
SAME_TRACK_LOOK, NEAR_LOOK = 0.20, 0.28
#: Near: so many frames apart at most, and moved or grown by less than this (`_place_distance`).
NEAR_FRAMES, NEAR_PLACE = 3, 1.0
#: Where faces are described (`descriptors`), the distance of the means decides: below the first they are one person in
#: any light, above the second two however they look. Of 62 pairs of clips of one person, recorded apart, half are
#: nearer than .40; of 14,611 pairs of different people 2 are, and 99 % are further than .51. The first and the last
#: third of one person's track are nearer than .38 in 99 %. (Pair by pair, with the median, .45 joined four in ten:
#: single faces of one person lie up to .7 apart by pose and expression.)
SAME_FACE, OTHER_FACE = 0.40, 0.55
#: So many faces of a track are described, of so many tracks, those with most: bounds the work in a crowd.
DESCRIBED_FACES, DESCRIBED_TRACKS = 5, 24


@dataclass
class _Track:
    """The faces of one person in time order: (number of the frame, face, `look`)."""

    entries: list[tuple[int, Face, np.ndarray]]
    descriptors: np.ndarray | None = None

    def frames(self) -> set[int]:
        return {number for number, _, _ in self.entries}


def merge(
    frames: list[list[Face]],
    looks: list[list[np.ndarray]],
    describe: Callable[[list[tuple[int, int]]], np.ndarray] | None = None,
    good: Callable[[int, int], float] | None = None,
) -> list[list[Face]]:
    """Joins tracks of one person that cuts, crossings and gaps have broken. Looks at the whole video, so it is not for
    carry-over.

    Two tracks that share a frame are two people. Of the others the nearest pair is joined first.

    Args:
        frames: linked faces of each frame in time order; looks: `look` of each.
        describe: from (number of the frame, number of the face in it) to descriptors (N, D); None: by looks alone.
            Called only where tracks may be one person.
        good: how good a picture a face is, by the same numbers; 0 or less: it cannot be described.

    Returns:
        the same structure with `person` set anew: "p1", "p2", ... by first appearance.
    """
    tracks: dict[str, _Track] = {}
    places: dict[str, list[tuple[int, int]]] = {}
    for number, (faces, seen) in enumerate(zip(frames, looks)):
        for at, (face, look_of) in enumerate(zip(faces, seen)):
            tracks.setdefault(face.person, _Track([])).entries.append((number, face, look_of))
            places.setdefault(face.person, []).append((number, at))
    if describe is not None and good is not None:
        _describe(tracks, places, describe, good)
    pairs = [frozenset(pair) for pair in itertools.combinations(tracks, 2)]
    seen = {name: np.stack([e[2] for e in _thinned(track.entries)]) for name, track in tracks.items()}
    away = {pair: _nearest_looks(*(seen[name] for name in pair)) for pair in pairs}
    faces_away = {pair: _faces_apart(*(tracks[name] for name in pair)) for pair in pairs}
    name_of = {name: name for name in tracks}
    while nearest := _nearest_tracks(tracks, away, faces_away):
        kept, joined = nearest
        one, other = tracks[kept], tracks.pop(joined)
        one.entries = sorted(one.entries + other.entries, key=lambda entry: entry[0])
        described = [t.descriptors for t in (one, other) if t.descriptors is not None]
        one.descriptors = np.concatenate(described) if described else None
        for name, third in tracks.items():
            if name != kept:
                pair = frozenset((kept, name))
                away[pair] = min(away[pair], away[frozenset((joined, name))])
                faces_away[pair] = _faces_apart(one, third)
        name_of = {old: kept if now == joined else now for old, now in name_of.items()}
    order = {name: f"p{i + 1}" for i, name in enumerate(dict.fromkeys(name_of.values()))}
    return [[replace(face, person=order[name_of[face.person]]) for face in faces] for faces in frames]


def _describe(tracks: dict[str, _Track], places: dict, describe: Callable, good: Callable) -> None:
    """Describes faces of the tracks that may be one person with another, the best of each part of a track's time: faces
    of one moment are one pose and one expression."""
    alone = {name: track.frames() for name, track in tracks.items()}
    pairs = itertools.combinations(tracks, 2)
    apart = {name for a, b in pairs if alone[a].isdisjoint(alone[b]) for name in (a, b)}
    best = {}
    for name in sorted(apart, key=lambda name: (-len(places[name]), name)):
        can = [c for c in ((good(*place), place) for place in places[name]) if c[0] > 0]
        if can and len(best) < DESCRIBED_TRACKS:
            parts = min(DESCRIBED_FACES, len(can))
            cut = [len(can) * i // parts for i in range(parts + 1)]
            best[name] = [max(can[a:b])[1] for a, b in itertools.pairwise(cut)]
    if len(best) < 2:
        return
    found = iter(describe([place for chosen in best.values() for place in chosen]))
    for name, chosen in best.items():
        tracks[name].descriptors = np.stack([next(found) for _ in chosen])


def _nearest_tracks(tracks: dict[str, _Track], away: dict, faces_away: dict) -> tuple[str, str] | None:
    """The two tracks that are most surely one person; None when no two are."""
    best, found = 1.0, None
    for (a, first), (b, second) in itertools.combinations(tracks.items(), 2):
        pair = frozenset((a, b))
        looks, faces = away[pair], faces_away[pair]
        if faces is not None and faces > OTHER_FACE:
            continue
        distance = looks / SAME_TRACK_LOOK
        if looks < NEAR_LOOK * best and _near(first, second):
            distance = looks / NEAR_LOOK
        if faces is not None:
            distance = min(distance, faces / SAME_FACE)
        if distance < best and first.frames().isdisjoint(second.frames()):
            best, found = distance, (a, b)
    return found


def _near(first: _Track, second: _Track) -> bool:
    """Whether the one begins where and when the other ends."""
    before, after = (first, second) if first.entries[-1][0] < second.entries[0][0] else (second, first)
    (ended, last, _), (began, new, _) = before.entries[-1], after.entries[0]
    return 0 < began - ended <= NEAR_FRAMES and _place_distance(last, new) < NEAR_PLACE


def _faces_apart(first: _Track, second: _Track) -> float | None:
    """Distance of the mean descriptors of two tracks; None where one of them has none."""
    if first.descriptors is None or second.descriptors is None:
        return None
    return float(np.linalg.norm(first.descriptors.mean(0) - second.descriptors.mean(0)))


def _nearest_looks(a: np.ndarray, b: np.ndarray) -> float:
    """The least `look_distance` between two sets of looks, (N, D) and (M, D)."""
    hellinger = np.sqrt(np.maximum(0, 1 - a[:, :256] @ b[:, :256].T))
    return float(((hellinger + 4 * np.abs(a[:, None, 256:] - b[None, :, 256:]).mean(-1)) / 2).min())


def _thinned(track: list, most: int = 8) -> list:
    """At most `most` entries of a track, evenly: bounds the work in videos with many frames."""
    return track if len(track) <= most else [track[i * (len(track) - 1) // (most - 1)] for i in range(most)]


class Memory:
    """Carry-over: fills a frame without a face with each person's running mean box. Uses the past only.

    Args:
        mean_of: k, mean over the person's last k detected faces.
        most_frames: m, none of them older than m frames.
    """

    def __init__(self, mean_of: int, most_frames: int):
        if mean_of < 1 or most_frames < 1:
            raise ValueError("mean_of and most_frames must be 1 or more")
        self._mean_of, self._most_frames = mean_of, most_frames
        self._past: dict[str, deque] = {}
        self._frame = -1

    def fill(self, faces: list[Face]) -> list[Face]:
        """The faces of the next frame (with `person` set), or carried ones when there are none."""
        self._frame += 1
        for face in faces:
            self._past.setdefault(face.person, deque(maxlen=self._mean_of)).append((self._frame, face))
        if faces:
            return faces
        carried = []
        for person, past in self._past.items():
            recent = [f for seen, f in past if self._frame - seen <= self._most_frames]
            recent = [f for f in recent if f.turned == recent[-1].turned]
            if recent:
                carried.append(_mean_face(recent, person))
        return carried


def _mean_face(faces: list[Face], person: str) -> Face:
    def mean(values):
        return round(float(np.mean(values)), 2)

    points = tuple(
        (mean([f.points[i][0] for f in faces]), mean([f.points[i][1] for f in faces]))
        for i in range(len(faces[0].points))
    )
    return Face(
        mean([f.x for f in faces]),
        mean([f.y for f in faces]),
        mean([f.width for f in faces]),
        mean([f.height for f in faces]),
        0.0,
        points,
        CARRIED,
        person,
        faces[-1].turned,
    )
