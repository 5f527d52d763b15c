"""Draws what a detector learns from: pairs of an untouched face and a fake, each pair seen through the same window and
degraded alike.

    batches = Sampler(faces, Settings(size=192, seed=1))
    batch = batches(step)  # uint8 (2 P + C, size, size, 3): P pairs (untouched, fake), C copies degraded harder

Where a fake's own original is at hand it is the other half of its pair; else a blend stands beside its base. So neither
source, person and room nor the picture's quality tell the label. A batch is a function of (seed, step) alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..faces.mesh import CONTROL
from . import recipe
from .blend import STEADY, SelfBlender
from .degrade import Degradation
from .faces import BOX, POINTS, Faces

#: What is blended in, by chance: the face's own copy, another face as today's swappers lay it in, another face bent in,
#: an expression.
BLENDS = {"own": 0.3, "live": 0.4, "swap": 0.13, "expression": 0.17}

#: Windows, as margins around a detected box in parts of its sides. The tight one is what the DFDC crops show (brows to
#: chin).
WIDE_MARGIN = (0.13, 0.31)
TIGHT = {"left": 0.09, "right": 0.09, "top": -0.134, "bottom": -0.016}
WIDE_PART = 0.75

#: Part of the given fakes of which only a piece is pasted into the original, where both show the same moment.
PASTED = 0.3
ALIKE = 0.9
LIKES, OFFERED, COLOUR = 24, 6000, 0.15


@dataclass(frozen=True)
class Settings:
    """Of the batches.

    Attributes:
        size: side of a face in px.
        copies: faces of a batch that are repeated with a harder degradation: of an untouched face and of a fake in
            turn.
        wide: how often the wide window is shown; else a face ends at the brows and the chin.
        degrade: whether pictures are degraded at all, alike within a pair.
        clips: how often a pair is, in addition, the last of moving clips at a low rate.
        live: whether blends like today's swaps are made; without them they are the face's own copy or swaps along the
            mesh.
        without: sources that are left out, with everything that comes from them.
        shares: of the sources, see `blending.recipe`; `recipe.usual` where there are none.
        seed: of every random choice.
    """

    size: int = 192
    copies: int = 4
    wide: float = WIDE_PART
    degrade: bool = True
    clips: float = 0.0
    live: bool = True
    without: tuple = ()
    shares: tuple[recipe.Share, ...] = ()
    seed: int = 1


class Sampler:
    """Makes batches from the training split of `faces`; rows of `val` and `unseen` are never read.

    Attributes:
        pairs: how many pairs a batch has.
    """

    def __init__(self, faces: Faces, settings: Settings = Settings()):
        table = faces.table
        self.settings, self._images, self._meshes = settings, faces.images, faces.meshes
        self._points = table[list(POINTS)].to_numpy(np.float32).reshape(-1, 5, 2)
        self._boxes = table[list(BOX)].to_numpy(np.float64)
        self._places = table[["frame_x0", "frame_y0", "frame_x1", "frame_y1"]].to_numpy(np.float64)
        self._times, self._files = table.time_s.to_numpy(), table.file.to_numpy()
        self._groups, self._originals = table.group.to_numpy(), table.original.to_numpy()
        train = trained_on(faces, settings.without)
        self._shares = recipe.shares_of(train, settings.shares, settings.without)
        self.pairs = sum(count for *_, count in self._shares)
        self._videos, self._rows_of_file, self._reals_of_group = {}, {}, {}
        self._windows = train.groupby("source").window.first()
        for (source, label), part in train.groupby(["source", "label"]):
            # A video is drawn first, then a face of it, so that long videos do not weigh more.
            self._videos[source, label] = [g.index.to_numpy() for _, g in part.groupby("file", sort=True)]
        for file, part in train[train.label == "real"].groupby("file"):
            self._rows_of_file[file] = part.index.to_numpy()
        for group, part in train[train.label == "real"].groupby("group"):
            self._reals_of_group[group] = part.index.to_numpy()
        reals = train.index[train.label == "real"].to_numpy()
        self._likes = most_like(faces, reals, CONTROL, COLOUR)
        self._poses = most_like(faces, reals, STEADY, 0.0)

    def __call__(self, step: int) -> np.ndarray:
        rng = np.random.default_rng([self.settings.seed, int(step)])
        blend = SelfBlender(seed=int(rng.integers(2**31)))
        made = []
        for kind, sources, count in self._shares:
            names = rng.choice(list(sources), count, p=np.array(list(sources.values())) / sum(sources.values()))
            made += [self._pair(rng, blend, kind, str(name)) for name in names]
        untouched_first, copies = [], []
        for number, pair in enumerate(made):
            change = Degradation.drawn(rng, clips=self.settings.clips) if self.settings.degrade else None
            seen = [change(picture) if change else picture for picture in pair]
            untouched_first += seen
            if number < self.settings.copies:
                copies.append(Degradation.drawn(rng, "hard")(pair[number % 2]))
        return np.stack(untouched_first + copies)

    # ---- one pair ----------------------------------------------------------------------------------------------------

    def _pair(self, rng, blend: SelfBlender, kind: str, source: str) -> tuple[np.ndarray, np.ndarray]:
        """An untouched face and a fake, both (size, size, 3), through one window."""
        if kind == "blend":
            row = self._draw(rng, source, "real")
            window = self._window(rng, row)
            fake = self._blended(rng, blend, row)
            return self._seen(self._images[row], window), self._seen(fake, window)
        row = self._draw(rng, source, "fake")
        window, real = self._window(rng, row), self._original(rng, row)
        fake = self._seen(self._images[row], window)
        if real is None:
            real = self._draw(rng, self._untouched_beside(source), "real")
            window = self._window(rng, real)
        else:
            window = self._same_place(window, row, real)
        untouched = self._seen(self._images[real], window)
        if rng.random() < PASTED and alike(fake, untouched) > ALIKE:
            fake = blend(untouched, np.full((5, 2), np.nan), fake, np.full((5, 2), np.nan))
        return untouched, fake

    def _draw(self, rng, source: str, label: str) -> int:
        videos = self._videos[source, label]
        return int(rng.choice(videos[rng.integers(len(videos))]))

    def _untouched_beside(self, source: str) -> str:
        """The source itself, or where it has fakes only the largest one of the same window."""
        if (source, "real") in self._videos:
            return source
        reals = sorted(name for name, label in self._videos if label == "real")
        return max(reals, key=lambda s: (self._windows[s] == self._windows[source], len(self._videos[s, "real"])))

    def _original(self, rng, row: int) -> int | None:
        """The row of the fake's original that shows the same moment, or a real face of the same group, or None."""
        rows = self._rows_of_file.get(self._originals[row])
        if rows is not None:
            return int(rows[np.argmin(np.abs(self._times[rows] - self._times[row]))])
        rows = self._reals_of_group.get(self._groups[row])
        return None if rows is None else int(rng.choice(rows))

    def _blended(self, rng, blend: SelfBlender, row: int) -> np.ndarray:
        face, mesh = np.asarray(self._images[row]), self._meshes[row].astype(np.float32)
        likes, poses = self._likes.get(row, ()), self._poses.get(row, ())
        if not (len(likes) and len(poses)):
            return blend(face, self._points[row])
        kinds = dict(BLENDS) if self.settings.live else {"own": 0.45, "swap": 0.3, "expression": 0.25}
        kind = str(rng.choice(list(kinds), p=list(kinds.values())))
        like = int(rng.choice(likes))
        if kind == "own":
            return blend(face, mesh)
        if kind == "swap":
            return blend(face, mesh, np.asarray(self._images[like]), self._meshes[like].astype(np.float32))
        if kind == "expression":
            return blend.reenacted(face, mesh, self._meshes[int(rng.choice(poses))].astype(np.float32))
        if rng.random() < 0.4:
            return blend.live(face, mesh)
        return blend.live(face, mesh, np.asarray(self._images[like]), self._meshes[like].astype(np.float32))

    # ---- the window --------------------------------------------------------------------------------------------------

    def _window(self, rng, row: int) -> tuple[np.ndarray, float, bool]:
        """What is shown of a row: (edges as parts of the cut picture; turn in degrees; mirrored)."""
        box = self._boxes[row]
        if not np.isfinite(box).all():  # a tight crop: all of it, a little moved
            window, shift, stretch = np.array([0.0, 0.0, 1.0, 1.0]), 0.04, 0.07
        elif rng.random() < self.settings.wide:
            window, shift, stretch = around(box, **dict.fromkeys(TIGHT, rng.uniform(*WIDE_MARGIN))), 0.04, 0.05
        else:
            window, shift, stretch = around(box, **TIGHT), 0.04, 0.06
        centre, size = (window[:2] + window[2:]) / 2, window[2:] - window[:2]
        centre = centre + rng.uniform(-shift, shift, 2) * size
        size = size * rng.uniform(1 - stretch, 1 + stretch) * np.exp(rng.uniform(-0.05, 0.05) * np.array([1, -1]))
        edges = np.concatenate([centre - size / 2, centre + size / 2])
        return edges, float(rng.uniform(-8, 8)), bool(rng.random() < 0.5)

    def _same_place(self, window, row: int, other: int):
        """The window of `row` on another picture of the same frame; the same parts where the frames are not known."""
        a, b = self._places[[row, other]].reshape(2, 2, 2)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return window
        in_frame = window[0].reshape(2, 2) * (a[1] - a[0]) + a[0]
        return ((in_frame - b[0]) / (b[1] - b[0])).ravel(), *window[1:]

    def _seen(self, image: np.ndarray, window) -> np.ndarray:
        (x0, y0, x1, y1), turn, mirrored = window
        size, side = self.settings.size, image.shape[0]
        angle = np.deg2rad(turn)
        across, down = (x1 - x0) * side / size, (y1 - y0) * side / size
        flip = -1 if mirrored else 1
        matrix = np.array(
            [
                [np.cos(angle) * across * flip, -np.sin(angle) * down, 0.0],
                [np.sin(angle) * across * flip, np.cos(angle) * down, 0.0],
            ]
        )
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) * side - 0.5
        matrix[:, 2] = middle - matrix[:, :2] @ np.full(2, (size - 1) / 2)
        shrinking = max(across, down) > 1.15
        if shrinking:  # no aliasing: the picture is softened by what is lost
            image = cv2.GaussianBlur(np.asarray(image), (0, 0), 0.35 * max(across, down))
        return cv2.warpAffine(
            np.asarray(image),
            matrix,
            (size, size),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )


def trained_on(faces: Faces, without: tuple = ()):
    """The rows of the training split, but for the sources left out."""
    train = faces.table[faces.table.split == "train"]
    return train[~train.source.isin(without)]


def around(box, *, left: float, right: float, top: float, bottom: float) -> np.ndarray:
    """A box (x0, y0, x1, y1) widened by parts of its sides."""
    width, height = box[2] - box[0], box[3] - box[1]
    return np.array([box[0] - left * width, box[1] - top * height, box[2] + right * width, box[3] + bottom * height])


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of the grey thumbnails of two faces (uint8 RGB), -1..1; 0 for a picture of one grey."""
    a, b = (
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
        .astype(np.float32)
        .ravel()
        for f in (one, other)
    )
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else 0.0


def most_like(faces: Faces, rows: np.ndarray, points, colour: float) -> dict[int, np.ndarray]:
    """For each of the rows that has a mesh up to LIKES of them, of other groups, that are most like it, the likest
    first.

    Args:
        points: which points of the mesh are compared, after shift and size.
        colour: what the mean colour (0..1) counts beside the points (of unit length).
    """
    from sklearn.neighbors import NearestNeighbors

    known = rows[np.isfinite(faces.meshes[rows, 0, 0])]
    if not len(known):
        return {}
    shapes = faces.meshes[known][:, list(points)].astype(np.float32)
    shapes -= shapes.mean(1, keepdims=True)
    shapes = (shapes / np.linalg.norm(shapes, axis=(1, 2), keepdims=True)).reshape(len(known), -1)
    if colour:
        side = faces.images.shape[1]
        middle = slice(side // 3, 2 * side // 3, 12)
        colours = np.stack([faces.images[row][middle, middle].mean((0, 1)) for row in known]) / 255
        shapes = np.hstack([shapes, colour * colours]).astype(np.float32)
    groups = faces.table["group"].to_numpy()[known]
    # Of a long video few frames are offered, or the likest faces of a frame would all be its own neighbours.
    offered = np.flatnonzero(faces.table.loc[known].groupby("file").cumcount().to_numpy() % 10 == 0)
    if len(offered) > OFFERED:
        offered = np.sort(np.random.default_rng(0).choice(offered, OFFERED, replace=False))
    count = min(len(offered), 2 * LIKES)
    found = (
        NearestNeighbors(n_neighbors=count, algorithm="brute")
        .fit(shapes[offered])
        .kneighbors(shapes, return_distance=False)
    )
    return {
        int(row): known[nearest[groups[nearest] != group]][:LIKES]
        for row, group, nearest in zip(known, groups, offered[found])
    }
