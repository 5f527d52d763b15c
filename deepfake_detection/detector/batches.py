"""Batches for training the detector: balanced within every source, with blended fakes, and fakes beside and mixed with their originals.

    batches = Batches(cache, settings)
    faces, labels = batches(step)
    faces, labels, maps, known = batches.located(step)      # and where each face was altered

A batch is balanced within every source, so that "which data set is this" never tells the label: 21 real DFDC faces stand beside
11 DFDC fakes and 10 blends of real DFDC faces, and so on (SHARES). A fake brings the video it was made from where that is at hand, so
that person, room and light are on both sides and only the manipulation differs. Batches are a function of (seed, step) alone, so a
run that was killed goes on from its last checkpoint with the batches it would have had.
"""

from __future__ import annotations

import numpy as np

from ..faces.mesh import CONTROL
from ..labels import FAKE, REAL
from .data import BOX, POINTS, Cache
from .self_blending import STEADY, SelfBlender

#: How many faces of a batch of 64 are (real, given fakes, blended fakes) for each source: real = fakes + blends in every line.
SHARES = {"dfdc": (21, 11, 10), "ffpp": (7, 4, 3), "ffpp_faces": (3, 2, 1), "stills": (1, 0, 1)}

#: Which data sets of the cache make up a source.
SOURCES = {"dfdc": ("dfdc",), "ffpp": ("ffpp", "dfd"), "ffpp_faces": ("ffpp_faces",), "stills": ("stills",)}

#: Parts of the blends whose inside is another person's (a swap) or the same person's with another expression; of the others it is the face's own copy.
SWAP_PART, REENACTED_PART = 0.30, 0.25

#: A swap takes one of that many faces of other groups that are most like the face's own in all points and colour: nobody is fooled by one of
#: another pose. A reenacted face takes the mouth of one that is alike in eyes and nose.
ALIKE_MESHES, ALIKE_COLOUR = 24, 0.15

#: A face of the same video shows another expression from this time on.
ANOTHER_MOMENT_S = 0.4

#: A fake and a real face show the same moment when their grey thumbnails correlate by this much (two thirds of the DFDC pairs do); where
#: frame and place are known, this much tells the video that was altered (FF++: .7 and more) from that of the other person (.3 and less).
ALIGNED, ALIGNED_IN_PLACE = 0.9, 0.6

#: Times of two frames that are the same one: less than half a frame at 25 frames a second, more than rounding.
SAME_FRAME_S = 0.015

#: Grey levels beyond the background's difference from which on a place begins to count as altered, and counts in full.
DIFFERENT = (2.0, 8.0)

#: The largest shift between a fake and its original that is taken back, and the altered shares of a face that are believed.
MOVED, ALTERED_SHARE = 0.06, (0.02, 0.85)

#: Quality of the WebP (VP8's key frames, close to those of H.264) that stands for a video's compression on single pictures.
CODEC_QUALITY = (1, 50)

#: What part of a fake is left when it is mixed evenly with its original.
MIXED_PART = (0.35, 1.0)

_NOWHERE = np.float32(0)


class Batches:
    """Draws batches of uint8 faces (batch, CACHE_SIZE, CACHE_SIZE, 3) and labels (batch,) from the training split.

    Args:
        cache: all faces; only rows with split `train` are ever read.
        settings: of the run.
    """

    def __init__(self, cache: Cache, settings: "train.Settings"):  # noqa: F821 (train imports this module)
        self._images = cache.images
        self._points = cache.table[list(POINTS)].to_numpy(np.float32).reshape(-1, 5, 2)
        self._boxes = cache.table[list(BOX)].to_numpy(np.float64)
        self._times = cache.table.time_s.to_numpy()
        self._qualities = cache.table.manipulation.to_numpy()
        self._seed, self._mixing, self._codec = settings.seed, settings.mixing, settings.codec
        left_out = {"ffpp": ("ffpp", "ffpp_faces"), "dfdc": ("dfdc",)}
        gone = {s for name in settings.without for s in left_out.get(name, (name,))}
        self._shares, self._videos, self._groups, self._reals_of, self._chances = {}, {}, {}, {}, {}
        self._originals: dict[int, int | None] = {}
        self._likes: dict[int, np.ndarray] = {}
        self._poses: dict[int, np.ndarray] = {}
        if cache.meshes is not None and settings.blends:
            self._meshes = cache.meshes.astype(np.float32)
            # A swap may take its inside from another source, but from none that is left out.
            reals = cache.rows(dataset=[d for source in SHARES if source not in gone for d in SOURCES[source]], split="train", label=REAL)
            self._likes, self._poses = most_like(cache, reals, CONTROL, ALIKE_COLOUR), most_like(cache, reals, STEADY, 0.0)
        for source, share in SHARES.items():
            if source in gone:
                continue
            reals, fakes, blends = share
            if fakes:
                blends = round(blends * settings.blends)
            elif not settings.blends:
                continue                            # its only fakes are blends
            self._shares[source] = reals, reals - blends, blends
            for label in (REAL, FAKE):
                # A video is drawn first, then a face of it, so that long videos do not weigh more.
                rows = cache.rows(dataset=SOURCES[source], split="train", label=label)
                videos = [g for _, g in cache.table.iloc[rows].groupby("video", sort=True)]
                self._videos[source, label] = [g.index.to_numpy() for g in videos]
                self._groups[source, label] = [g["group"].iloc[0] for g in videos]
                self._chances[source, label] = _chances([g["manipulation"].iloc[0].split("/")[0] for g in videos])
            self._reals_of[source] = {}
            for number, group in enumerate(self._groups[source, REAL]):
                self._reals_of[source].setdefault(group, []).append(number)
        scale = settings.batch / sum(2 * s[0] for s in self._shares.values())
        self._shares = {k: self._scaled(s, scale) for k, s in self._shares.items()}

    @staticmethod
    def _scaled(share, scale: float):
        reals = max(1, round(share[0] * scale))
        blends = min(reals, round(share[2] * scale)) if share[1] else reals
        return reals, reals - blends, blends

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of one step: faces, uint8 (batch, CACHE_SIZE, CACHE_SIZE, 3), and labels, float32 (batch,)."""
        faces, labels, _, _ = self._make(step, with_maps=False)
        return faces, labels

    def located(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The same batch, and where each face was altered.

        Returns:
            faces and labels as above; maps, uint8 (batch, CACHE_SIZE, CACHE_SIZE): 0 as it was to 255 altered; known, float32
            (batch,): 0 for fakes of which no original is at hand that shows the same moment. Their maps say nothing.
        """
        return self._make(step, with_maps=True)

    def _make(self, step: int, with_maps: bool):
        rng = np.random.default_rng([self._seed, int(step)])
        blend = SelfBlender(seed=int(rng.integers(2**31)))
        faces, labels, maps = [], [], []
        for source, (reals, fakes, blends) in self._shares.items():
            fake_videos = self._draw(rng, source, FAKE, fakes)
            groups = [self._groups[source, FAKE][v] for v in fake_videos]
            paired = [int(rng.choice(self._reals_of[source][g])) for g in groups if g in self._reals_of[source]][:reals]
            real_videos = rng.permutation(paired + self._draw(rng, source, REAL, reals - len(paired))).astype(int)
            chosen = self._face_of_each(rng, source, REAL, real_videos)
            faces += [self._images[i] for i in chosen]
            maps += [_NOWHERE] * reals
            for n, i in enumerate(chosen[:blends]):
                # The blends stand beside the very faces they were made from: what differs is the blending alone.
                face, mask = self._blended(rng, blend, i, self._videos[source, REAL][real_videos[n]], chosen[(n + 1) % len(chosen)])
                faces.append(face)
                maps.append(mask)
            labels += [REAL] * reals + [FAKE] * blends
            for i, group in zip(self._face_of_each(rng, source, FAKE, fake_videos), groups):
                mix = self._mixing and rng.random() < self._mixing
                row = self._original(source, i, group) if mix or with_maps else None
                original = None if row is None else self._in_place(row, i)
                where = altered(self._images[i], original) if with_maps and original is not None else None
                face, label = self._images[i], FAKE
                if mix and original is not None:
                    points = self._points[i] if np.isfinite(self._points[i]).all() else self._points[row]
                    face, label, where = mixed(rng, blend, face, original, points, where)
                faces.append(face)
                labels.append(label)
                maps.append(where)
        if self._codec:
            faces = [recode(face, int(rng.integers(*CODEC_QUALITY))) if rng.random() < self._codec else face for face in faces]
        known = np.array([m is not None for m in maps], np.float32)
        maps = np.stack([np.broadcast_to(np.uint8(0) if m is None else np.uint8(m * 255), faces[0].shape[:2]) for m in maps]) if with_maps else None
        return np.stack(faces), np.array(labels, np.float32), maps, known

    def _blended(self, rng, blend: SelfBlender, row: int, video: np.ndarray, neighbour: int):
        """A blend of the face `row`, and its mask.

        Args:
            video: all rows of the face's video.
            neighbour: the face that is swapped in where no mesh says which one is like it.
        """
        face, kind = self._images[row], rng.random()
        likes, poses = self._likes.get(row, ()), self._poses.get(row, ())
        if not (len(likes) and len(poses)):
            if kind < SWAP_PART and neighbour != row:
                return blend.located(face, self._points[row], self._images[neighbour], self._points[neighbour])
            return blend.located(face, self._points[row])
        mesh = self._meshes[row]
        if kind < SWAP_PART:
            like = int(rng.choice(likes))
            return blend.located(face, mesh, self._images[like], self._meshes[like])
        if kind < SWAP_PART + REENACTED_PART:
            moments = video[(np.abs(self._times[video] - self._times[row]) > ANOTHER_MOMENT_S) & np.isfinite(self._meshes[video, 0, 0])]
            if len(moments) and rng.random() < 0.5:
                moment = int(rng.choice(moments))
                return blend.located(face, mesh, self._images[moment], self._meshes[moment])
            return blend.reenacted(face, mesh, self._meshes[int(rng.choice(poses))])
        return blend.located(face, mesh)

    def _original(self, source: str, fake: int, group: str) -> int | None:
        """The row of a real face that shows the same moment as a fake and was compressed as it was (`Deepfakes/c23` goes with `c23`), or
        None. The data say it, no chance: it is looked for once."""
        if fake not in self._originals:
            quality = self._qualities[fake].split("/")[-1]
            best, found = ALIGNED_IN_PLACE if np.isfinite(self._boxes[fake]).all() else ALIGNED, None
            for number in self._reals_of[source].get(group, ()):
                rows = self._videos[source, REAL][number]
                row = int(rows[np.argmin(np.abs(self._times[rows] - self._times[fake]))])
                if self._qualities[row] == quality and abs(self._times[row] - self._times[fake]) < SAME_FRAME_S:
                    likeness = alike(self._images[fake], self._in_place(row, fake))
                    best, found = (likeness, row) if likeness >= best else (best, found)
            self._originals[fake] = found
        return self._originals[fake]

    def _in_place(self, original: int, fake: int) -> np.ndarray:
        """The original's face as it is where the fake's was cut: the two boxes were found apart. The face as it is where the boxes are not known."""
        if not np.isfinite(self._boxes[[original, fake]]).all():
            return self._images[original]
        return moved(self._images[original], self._boxes[original], self._boxes[fake])

    def _draw(self, rng, source: str, label: int, count: int) -> list[int]:
        """Numbers of videos."""
        if not count:
            return []
        chances = self._chances[source, label]
        return rng.choice(len(chances), count, replace=len(chances) < count, p=chances).tolist()

    def _face_of_each(self, rng, source: str, label: int, videos) -> list[int]:
        return [int(rng.choice(self._videos[source, label][v])) for v in videos]


def _chances(kinds: list[str]) -> np.ndarray:
    """How likely each video is drawn: a kind (manipulation or quality) with four times the videos is drawn twice as often."""
    _, numbers, counts = np.unique(np.array(kinds), return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts[numbers])
    return weights / weights.sum()


def most_like(cache: Cache, rows: np.ndarray, points, colour: float) -> dict[int, np.ndarray]:
    """For each of the rows that has a mesh those of them, of other groups, that are most like it: up to ALIKE_MESHES, the likest first.

    Args:
        points: which points of the mesh are compared, after shift and size.
        colour: what the mean colour (0..1) counts beside the points (of unit length).
    """
    from sklearn.neighbors import NearestNeighbors

    known = rows[np.isfinite(cache.meshes[rows, 0, 0])]
    if not len(known):
        return {}
    shapes = cache.meshes[known][:, list(points)].astype(np.float32)
    shapes -= shapes.mean(1, keepdims=True)
    shapes = (shapes / np.linalg.norm(shapes, axis=(1, 2), keepdims=True)).reshape(len(known), -1)
    if colour:
        # Of the middle of the face, some 100 pixels.
        colours = np.stack([cache.images[row][72:168:10, 56:168:10].mean((0, 1)) for row in known]) / 255
        shapes = np.hstack([shapes, colour * colours]).astype(np.float32)
    groups, videos = cache.table["group"].to_numpy()[known], cache.table["video"].to_numpy()[known]
    # Of a long video few frames are offered, or the likest faces of a frame would all be its own neighbours.
    offered = np.sort(np.concatenate([np.flatnonzero(videos == v)[::10] for v in dict.fromkeys(videos)]))
    count = min(len(offered), 2 * ALIKE_MESHES)
    found = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(shapes[offered]).kneighbors(shapes, return_distance=False)
    return {int(row): known[nearest[groups[nearest] != group]][:ALIKE_MESHES] for row, group, nearest in zip(known, groups, offered[found])}


def recode(face: np.ndarray, quality: int) -> np.ndarray:
    """A face (uint8 RGB, H x W x 3) after lossy WebP, whose coding is that of VP8's key frames: prediction, DCT, loop filter.

    Args:
        quality: 1 (worst) to 100.
    """
    import cv2

    coded = cv2.imencode(".webp", face[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]


def mixed(rng, blend: SelfBlender, fake: np.ndarray, original: np.ndarray, points: np.ndarray, where: np.ndarray | None):
    """A fake mixed with its original, evenly or with part of the fake pasted in.

    Args:
        fake, original: uint8 RGB (H, W, 3), of the same moment and place.
        points: five points of the face, (5, 2), parts of width and height.
        where: where the fake was altered, float32 (H, W), or None if that is not asked or not known.

    Returns:
        (face, its label, where it was altered or None). What is pasted is blended as the face's own copy would be, in colour or sharpness too,
        so all of the mask counts.
    """
    if rng.random() < 0.5:
        part = float(rng.uniform(*MIXED_PART))
        face = (fake * np.float32(part) + original * np.float32(1 - part) + 0.5).astype(np.uint8)
        return face, part * FAKE + (1 - part) * REAL, None if where is None else where * part
    face, mask = blend.located(original, points, fake, points)
    return face, FAKE, mask


def moved(face: np.ndarray, box, wanted) -> np.ndarray:
    """What a frame shows in another box: `face` (uint8 RGB, H x W x 3), which shows `box`, as it would be cut and scaled for `wanted`.
    What lies outside `box` is mirrored.

    Args:
        box, wanted: left, top, right, bottom in one unit.
    """
    import cv2

    height, width = face.shape[:2]
    side = np.array([width, height])
    box, wanted = np.reshape(box, (2, 2)), np.reshape(wanted, (2, 2))
    scale = (wanted[1] - wanted[0]) / (box[1] - box[0])
    # Pixel i of the result is centred at (i + 0.5) / side of `wanted`.
    shift = (wanted[0] - box[0]) / (box[1] - box[0]) * side + 0.5 * scale - 0.5
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    return cv2.warpAffine(face, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of the grey thumbnails of two faces (uint8 RGB, H x W x 3), -1..1; 0 for a picture of one grey."""
    import cv2

    thumbnails = [cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
                  for face in (one, other)]
    a, b = (t - t.mean() for t in thumbnails)
    return float(a @ b / norm) if (norm := np.sqrt((a @ a) * (b @ b))) > 0 else 0.0


def altered(fake: np.ndarray, original: np.ndarray) -> np.ndarray | None:
    """Where a fake differs from its original, beyond what the compression of both differs everywhere.

    Both are looked at with half their size; a shift between them (their boxes were found apart) is taken back first. What a place differs
    by is the mean over colours, smoothed; the least altered quarter of the face says how much is nothing.

    Args:
        fake, original: uint8 RGB (H, W, 3), of the same moment.

    Returns:
        float32 (H, W), 0 (the same) to 1 (altered); None where next to nothing or nearly all differs: then it is not known.
    """
    import cv2

    height, width = fake.shape[:2]
    half = (width // 2, height // 2)
    a, b = (cv2.resize(face, half, interpolation=cv2.INTER_AREA).astype(np.float32) for face in (fake, original))
    window = cv2.createHanningWindow(half, cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(b.mean(-1), a.mean(-1), window)
    if max(abs(dx), abs(dy)) < MOVED * half[0]:
        b = cv2.warpAffine(b, np.float32([[1, 0, dx], [0, 1, dy]]), half, borderMode=cv2.BORDER_REPLICATE)
    difference = cv2.GaussianBlur(np.abs(a - b).mean(-1), (0, 0), half[0] * 0.03)
    where = np.clip((difference - np.quantile(difference, 0.25) - DIFFERENT[0]) / (DIFFERENT[1] - DIFFERENT[0]), 0, 1)
    if not ALTERED_SHARE[0] <= where.mean() <= ALTERED_SHARE[1]:
        return None
    return cv2.resize(where, (width, height), interpolation=cv2.INTER_LINEAR)
