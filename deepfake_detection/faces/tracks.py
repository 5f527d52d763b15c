"""Who is who in a video: faces of one person are linked over the frames by place and looks, never by their number in a
frame.

Linking (`Linker`) is causal: a frame's people are decided by that frame and earlier ones, so carry-over never uses the
future. `merge` then joins broken tracks with the whole video in view.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Sequence
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


def link(frames: list[list[Face]], crops: list[list[np.ndarray]] | None = None) -> list[list[Face]]:
    """Links the faces of a video.

    Args:
        frames: the faces of each frame in time order; frames without a face are empty lists.
        crops: the crop (uint8 RGB) of each face; None links by place only.

    Returns:
        The same structure with `person` set: "p1", "p2", ... by first appearance.
    """
    linker = Linker()
    return [
        linker.update(faces, None if crops is None else [look(c) for c in crops[i]]) for i, faces in enumerate(frames)
    ]


#: Tracks whose nearest looks are closer than this are one person, wherever they are; where the one ends beside the
#: other's begin, `NEAR_LOOK` is enough. Of 103 clips the first and the last third of one person are nearer than .21 in
#: 99 %, of 198 pairs of different people 99 % are further than .34, but people of one scene (the same light) come as
#: near as .22.
SAME_TRACK_LOOK, NEAR_LOOK = 0.20, 0.28
#: Near: so many frames apart at most, and moved or grown by less than this (`_place_distance`).
NEAR_FRAMES, NEAR_PLACE = 3, 1.0


def merge(frames: list[list[Face]], looks: list[list[np.ndarray]]) -> list[list[Face]]:
    """Joins tracks of one person that cuts, crossings and gaps have broken. Looks at the whole video, so it is not for
    carry-over.

    Two tracks that share a frame are two people. Of the others the pair with the nearest looks is joined first.

    Args:
        frames: linked faces of each frame in time order; looks: `look` of each.

    Returns:
        the same structure with `person` set anew: "p1", "p2", ... by first appearance.
    """
    tracks: dict[str, list[tuple[int, Face, np.ndarray]]] = {}
    for number, (faces, seen) in enumerate(zip(frames, looks)):
        for face, look_of in zip(faces, seen):
            tracks.setdefault(face.person, []).append((number, face, look_of))
    away = {
        frozenset(pair): _nearest_looks(*(np.stack([entry[2] for entry in _thinned(tracks[name])]) for name in pair))
        for pair in itertools.combinations(tracks, 2)
    }
    name_of = {name: name for name in tracks}
    while pair := _nearest_tracks(tracks, away):
        kept, joined = pair
        tracks[kept] = sorted(tracks[kept] + tracks.pop(joined), key=lambda entry: entry[0])
        for other in tracks:
            if other != kept:
                away[frozenset((kept, other))] = min(away[frozenset((kept, other))], away[frozenset((joined, other))])
        name_of = {old: kept if now == joined else now for old, now in name_of.items()}
    order = {name: f"p{i + 1}" for i, name in enumerate(dict.fromkeys(name_of.values()))}
    return [[replace(face, person=order[name_of[face.person]]) for face in faces] for faces in frames]


def _nearest_tracks(tracks: dict, away: dict) -> tuple[str, str] | None:
    """The two tracks that are most surely one person; None when no two are."""
    best, found = 1.0, None
    for (a, first), (b, second) in itertools.combinations(tracks.items(), 2):
        looks = away[frozenset((a, b))]
        if looks >= NEAR_LOOK * best or {n for n, _, _ in first} & {n for n, _, _ in second}:
            continue
        before, after = (first, second) if first[-1][0] < second[0][0] else (second, first)
        near = (
            0 < after[0][0] - before[-1][0] <= NEAR_FRAMES and _place_distance(before[-1][1], after[0][1]) < NEAR_PLACE
        )
        distance = looks / (NEAR_LOOK if near else SAME_TRACK_LOOK)
        if distance < best:
            best, found = distance, (a, b)
    return found


def _nearest_looks(a: np.ndarray, b: np.ndarray) -> float:
    """The least `look_distance` between two sets of looks, (N, D) and (M, D)."""
    hellinger = np.sqrt(np.maximum(0, 1 - a[:, :256] @ b[:, :256].T))
    return float(((hellinger + 4 * np.abs(a[:, None, 256:] - b[None, :, 256:]).mean(-1)) / 2).min())


def _thinned(track: list, most: int = 8) -> list:
    """At most `most` entries of a track, evenly: bounds the work in videos with many frames."""
    return track if len(track) <= most else [track[i * (len(track) - 1) // (most - 1)] for i in range(most)]


def people(frames: list[list[Face]], times_s: Sequence[float]) -> list[dict]:
    """Each person's `id`, `first_s`, `last_s` and `frames` (frames it was detected in, carried ones not counted), by
    first appearance."""
    found: dict[str, dict] = {}
    for faces, time_s in zip(frames, times_s):
        for face in faces:
            if face.source == CARRIED:
                continue
            entry = found.setdefault(face.person, {"id": face.person, "first_s": time_s, "last_s": time_s, "frames": 0})
            entry["last_s"] = time_s
            entry["frames"] += 1
    return list(found.values())


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
