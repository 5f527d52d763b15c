"""Self-blended images: fakes made from real faces, so that a detector learns what blending leaves behind and not one
generator's marks.

    blend = SelfBlender(seed=1)
    fake = blend(face, points)                     # uint8 RGB (H, W, 3) -> uint8 RGB (H, W, 3)
    fake = blend(face, points, other, other_points) # another person's face blended in: a face swap
    fake = blend.reenacted(face, mesh, other_mesh)  # the face with another's expression
    fake = blend.live(face, mesh, other, other_mesh) # a swap as live and trained swappers lay it in

Two slightly different copies of one face, a source and a target, are blended with a mask over the face (Shiohara &
Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022). The copies differ in colour, sharpness or
compression and in place; the mask's shape is deformed and its edge soft; the blending ratio varies. With two people it
is close to Face X-ray's blended images (Li et al., CVPR 2020).

Where the 468 points of a face (`faces.mesh`) are known, masks follow its real outline, and another face is bent onto it
point by point, as graphics-based swaps do (FaceForensics++'s FaceSwap, DFDC's MM/NN: Dolhansky et al., 2020). With five
points a canonical outline is laid over them by an affine fit.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..faces import mesh

#: The five points and a face outline in the frame of 112 x 112 px in which face recognition aligns faces (ArcFace's
#: template).
CANONICAL_POINTS = np.array([(38.3, 51.7), (73.5, 51.5), (56.0, 71.7), (41.5, 92.4), (70.7, 92.2)], np.float32)
BROWS = ((26, 42), (36, 36), (50, 38), (62, 38), (76, 36), (86, 42))
JAW = ((90, 54), (89, 67), (86, 81), (80, 94), (70, 104), (56, 109), (42, 104), (32, 94), (26, 81), (23, 67), (22, 54))

#: Outlines to choose from; a generator changes the whole face, its inner part, or only the mouth and chin (as
#: NeuralTextures does).
OUTLINES = {
    "face": (BROWS + JAW, 0.40),
    "upper": (BROWS + ((88, 54), (82, 78), (72, 98), (56, 101), (40, 98), (30, 78), (24, 54)), 0.20),
    "inner": (
        ((30, 44), (40, 39), (56, 43), (72, 39), (82, 44), (80, 60), (74, 98), (56, 102), (38, 98), (32, 60)),
        0.20,
    ),
    "lower": (((34, 78), (56, 68), (78, 78), (82, 92), (70, 105), (56, 109), (42, 105), (30, 92)), 0.12),
    "eyes": (
        ((24, 44), (38, 38), (56, 42), (74, 38), (88, 44), (86, 58), (70, 64), (56, 62), (42, 64), (26, 58)),
        0.08,
    ),
}
#: The same for a mesh, by its points; what is blended is their convex hull.
REGIONS = {
    "face": (mesh.BROWS + mesh.JAW, 0.36),
    "upper": (mesh.BROWS + mesh.JAW[:4] + mesh.JAW[-4:] + mesh.LIPS, 0.16),
    "inner": (mesh.BROWS + mesh.LEFT_EYE + mesh.RIGHT_EYE + mesh.LIPS, 0.16),
    "whole": (mesh.OVAL, 0.08),
    "lower": (mesh.JAW[4:-4] + (98, 2, 327), 0.12),
    "mouth": (mesh.LIPS, 0.06),
    "eyes": (mesh.BROWS + mesh.LEFT_EYE + mesh.RIGHT_EYE, 0.06),
}
#: What a changed expression shows in, and what is then blended in.
EXPRESSION = sorted({*mesh.LIPS, *mesh.INNER_LIPS, *mesh.JAW[5:-5]})
STEADY = sorted({*mesh.LEFT_EYE, *mesh.RIGHT_EYE, *mesh.NOSE})
REENACTED = ("face", "lower", "mouth")
#: What live swaps cover, and how often: mostly the whole oval, forehead and jaw with it.
LIVE = {"whole": 0.75, "face": 0.25}

RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)

#: Pixels between the places where a bending is computed, and how far it may miss its points for smoothness' sake (of
#: squared widths).
BEND_STEP, BEND_SLACK = 8, 1e-4


class SelfBlender:
    """Makes blended fakes. Calls draw from one generator, so a run with one seed and one order of faces repeats itself.

    Args:
        seed: of every random choice.
    """

    def __init__(self, seed: int):
        self._random = np.random.default_rng(seed)

    def __call__(
        self,
        face: np.ndarray,
        points: np.ndarray,
        other: np.ndarray | None = None,
        other_points: np.ndarray | None = None,
    ) -> np.ndarray:
        """A blended fake of `face`.

        Args:
            face: uint8 RGB (H, W, 3); not changed.
            points: (5, 2) or (468, 2) parts of width and height: eyes, nose, corners of the mouth, or a mesh. With NaN
                a typical face is assumed.
            other, other_points: a second person's face whose inside is blended in; without it the face's own copy is.

        Returns:
            uint8 RGB (H, W, 3).
        """
        rng = self._random
        height, width = face.shape[:2]
        size = np.array([width, height], np.float32)
        points = _or_typical(points) * size
        if other is None:
            source = target = face
        else:
            own_size = np.array([other.shape[1], other.shape[0]], np.float32)
            source, target = self._align(other, _or_typical(other_points) * own_size, points, (width, height)), face
        # One of the two copies is changed, as in the paper; in a swap the source keeps its own colours half of the
        # time.
        if rng.random() < 0.5:
            source = self._restyle(source)
        else:
            target = self._restyle(target)
        mask = self._mask(points, (width, height))
        if other is None or rng.random() < 0.5:
            matrix = self._small_move(width, height)
            source = cv2.warpAffine(
                source, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
            )
            mask = cv2.warpAffine(mask, matrix, (width, height))
        if other is not None and rng.random() < 0.8:
            source = match_colour(source, target, mask)
        return _blended(source, target, mask * rng.choice(RATIOS))

    def reenacted(self, face: np.ndarray, points: np.ndarray, like: np.ndarray) -> np.ndarray:
        """The face with the mouth and chin of another expression, re-rendered (as Face2Face and NeuralTextures do).

        Args:
            face: uint8 RGB (H, W, 3); not changed.
            points: its mesh, (468, 2) parts of width and height.
            like: the mesh of the face whose expression it takes over.
        """
        rng = self._random
        size = np.array(face.shape[1::-1], np.float32)
        own, like = points * size, like * size
        matrix = affine_fit(like[STEADY], own[STEADY])
        wanted = own.copy()
        wanted[EXPRESSION] += np.float32(rng.uniform(0.4, 1.0)) * (
            like[EXPRESSION] @ matrix[:, :2].T + matrix[:, 2] - own[EXPRESSION]
        )
        source = bend(face, own, wanted, face.shape[1::-1])
        if rng.random() < 0.9:
            source = self._restyle(source)
        mask = self._mask(wanted, face.shape[1::-1], REENACTED)
        return _blended(source, face, mask)

    def live(
        self,
        face: np.ndarray,
        points: np.ndarray,
        other: np.ndarray | None = None,
        other_points: np.ndarray | None = None,
    ) -> np.ndarray:
        """A swap as live and trained swappers make them: the whole face down to the jaw comes out of a network of 96 to
        256 px, is colour-matched, perhaps sharpened, and laid in with a soft mask.

        Args:
            face, points, other, other_points: as of a call, with meshes; without `other` the face's own copy is laid
                in, slightly moved.

        Returns:
            uint8 RGB (H, W, 3).
        """
        rng = self._random
        height, width = face.shape[:2]
        size = np.array([width, height], np.float32)
        points = _or_typical(points) * size
        if other is None:
            source = cv2.warpAffine(
                face,
                self._small_move(width, height, 0.6),
                (width, height),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REFLECT_101,
            )
        else:
            own_size = np.array([other.shape[1], other.shape[0]], np.float32)
            source = self._align(other, _or_typical(other_points) * own_size, points, (width, height))
        source = self._generated(source, float(np.ptp(points[:, 0])) / width)
        name = str(rng.choice(list(LIVE), p=list(LIVE.values()))) if len(points) == mesh.POINTS else "face"
        mask = self._mask(points, (width, height), (name,), erode=rng.uniform(0, 0.05))
        if rng.random() < 0.9:
            source = match_colour(source, face, mask)
        if rng.random() < 0.7:
            gain, shift = rng.normal(1, 0.05, 3).astype(np.float32), rng.normal(0, 4, 3).astype(np.float32)
            source = np.clip(source * gain + shift, 0, 255).astype(np.uint8)
        return _blended(source, face, mask * rng.uniform(0.85, 1.0) if rng.random() < 0.3 else mask)

    def _generated(self, image: np.ndarray, share: float) -> np.ndarray:
        """What a generator of limited size leaves of a face that takes `share` of the picture's width: fewer pixels and
        smooth skin, then perhaps sharpening or a little grain."""
        rng = self._random
        height, width = image.shape[:2]
        # A face in the video has 60 to 400 px, the generator's 80 to 250: what is lost is their ratio, and the
        # decoder's own blur.
        part = float(np.clip(rng.uniform(0.3, 1.1), 0.3, 1.0))
        x = image
        if rng.random() < 0.65:
            x = cv2.bilateralFilter(x, 7, float(rng.uniform(15, 60)), 3.0 * float(rng.uniform(0.6, 1.4)))
        if rng.random() < 0.6:
            x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.4, 1.3)))
        if part < 1:
            x = cv2.resize(x, (round(width * part), round(height * part)), interpolation=cv2.INTER_AREA)
            x = cv2.resize(x, (width, height), interpolation=int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])))
        if rng.random() < 0.35:
            amount = float(rng.uniform(0.4, 1.8))
            x = cv2.addWeighted(x, 1 + amount, cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.8, 2.0))), -amount, 0)
        return x

    def _align(
        self, other: np.ndarray, other_points: np.ndarray, points: np.ndarray, size: tuple[int, int]
    ) -> np.ndarray:
        if len(points) == len(other_points) == mesh.POINTS:
            return bend(other, other_points, points, size)
        matrix = affine_fit(_five(other_points), _five(points))
        return cv2.warpAffine(other, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)

    def _small_move(self, width: int, height: int, part: float = 1.0) -> np.ndarray:
        """Shift up to 3 % across, 1.5 % down, scale 0.95..1.05 (the paper's; `part` of it), about the middle."""
        rng = self._random
        scale = rng.uniform(1 - 0.05 * part, 1 / (1 - 0.05 * part))
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), part * rng.uniform(-3, 3), scale)
        matrix[:, 2] += part * rng.uniform(-0.03, 0.03) * width, part * rng.uniform(-0.015, 0.015) * height
        return matrix

    def _restyle(self, image: np.ndarray) -> np.ndarray:
        """Another look of the same picture: colour, then sharpness, resolution or compression."""
        rng = self._random
        x: np.ndarray = image.astype(np.float32)
        if rng.random() < 0.85:
            x += rng.uniform(-15, 15, 3).astype(np.float32)
            x = (x - 128) * np.float32(rng.uniform(0.85, 1.15)) + 128 + np.float32(rng.uniform(-13, 13))
        x = np.clip(x, 0, 255).astype(np.uint8)
        if rng.random() < 0.5:
            hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV).astype(np.int16)
            hsv[..., 0] = (hsv[..., 0] + rng.integers(-5, 6)) % 180
            hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.75, 1.25), 0, 255)
            x = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
        choice = rng.random()
        height, width = x.shape[:2]
        if choice < 0.35:  # lower resolution: what a generator's output size does
            factor = rng.uniform(0.3, 0.8)
            less = max(8, round(width * factor)), max(8, round(height * factor))
            small = cv2.resize(x, less, interpolation=cv2.INTER_AREA)
            x = cv2.resize(
                small,
                (width, height),
                interpolation=int(
                    rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST], p=[0.5, 0.4, 0.1])
                ),
            )
        elif choice < 0.55:  # sharpen
            soft = cv2.GaussianBlur(x, (0, 0), 1.2)
            x = cv2.addWeighted(x, 1 + (a := rng.uniform(0.3, 1.2)), soft, -a, 0)
        elif choice < 0.75:
            x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.6))
        elif choice < 0.9:
            coded = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])[1]
            x = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        return x

    def _mask(self, points: np.ndarray, size: tuple[int, int], names: tuple = (), erode: float = 0.0) -> np.ndarray:
        """Where the source shows: float32 (H, W) in 0..1, an outline deformed elastically with a soft edge.

        Args:
            points: five or 468, in pixels.
            names: which regions of a mesh to choose from; none: all.
            erode: drawn in by this part of the width before the edge is softened.
        """
        rng = self._random
        width, height = size
        by_mesh = len(points) == mesh.POINTS
        outlines = REGIONS if by_mesh else OUTLINES
        names = list(names or outlines)
        chances = np.array([outlines[n][1] for n in names])
        outline = outlines[names[rng.choice(len(names), p=chances / chances.sum())]][0]
        # Widen or narrow the outline, and pull each of its points a little.
        if by_mesh:
            outline, pull = points[list(outline)], 0.013 * width
        else:
            outline, pull = np.array(outline, np.float32), 1.5
        centre = outline.mean(0)
        outline = (outline - centre) * rng.uniform(0.85, 1.12, 2).astype(np.float32) + centre
        outline += rng.normal(0, pull, outline.shape).astype(np.float32)
        if not by_mesh:
            matrix = affine_fit(CANONICAL_POINTS, points)
            outline = outline @ matrix[:, :2].T + matrix[:, 2]
        hull = cv2.convexHull(outline.astype(np.float32)).round().astype(np.int32)
        mask = np.zeros((height, width), np.float32)
        cv2.fillConvexPoly(mask, hull, 1.0)
        if erode:
            mask = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=max(1, round(erode * width / 2)))
        if rng.random() < 0.7:
            mask = self._elastic(mask, width)
        # Two blurs with a threshold between them move the edge and set its softness apart, as the paper does.
        mask = cv2.GaussianBlur(mask, (0, 0), width * rng.uniform(0.01, 0.06))
        if rng.random() < 0.5:
            mask = np.minimum(mask / rng.uniform(0.5, 0.9), 1.0)
        return cv2.GaussianBlur(mask, (0, 0), width * rng.uniform(0.004, 0.04))

    def _elastic(self, mask: np.ndarray, width: int) -> np.ndarray:
        """Smooth random displacement, up to about 4 % of the width (Simard et al., 2003)."""
        rng = self._random
        coarse = rng.normal(0, width * 0.025, (2, 6, 6)).astype(np.float32)
        height = mask.shape[0]
        dx, dy = (cv2.resize(c, (width, height), interpolation=cv2.INTER_CUBIC) for c in coarse)
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        return cv2.remap(mask, x + dx, y + dy, cv2.INTER_LINEAR)


#: Median points of 200 DFDC faces, for faces in which the finder saw none.
TYPICAL_POINTS = np.array([(0.30, 0.275), (0.70, 0.28), (0.487, 0.513), (0.327, 0.695), (0.658, 0.70)], np.float32)


def _or_typical(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, np.float32).reshape(-1, 2)
    return points if np.isfinite(points).all() else TYPICAL_POINTS


def _five(points: np.ndarray) -> np.ndarray:
    return mesh.five(points) if len(points) == mesh.POINTS else points


def _blended(source: np.ndarray, target: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`source` over `target` (uint8 (H, W, 3)) where `share` (H, W) is 1."""
    share = share[..., None]
    return np.clip(source * share + target * (1 - share) + 0.5, 0, 255).astype(np.uint8)


def bend(image: np.ndarray, start: np.ndarray, end: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture bent so that its points `start` come to lie at `end`: a thin-plate spline (Bookstein, 1989) through
    `mesh.CONTROL`.

    Args:
        image: uint8 (H, W, 3).
        start, end: meshes, (468, 2), in pixels of the picture and of the result.
        size: width and height of the result.
    """
    control, scale = list(mesh.CONTROL), np.float64(size[0])
    here, there = end[control] / scale, start[control].astype(np.float64)
    count = len(control)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _plate(here, here) + BEND_SLACK * np.eye(count)
    system[:count, count], system[:count, count + 1 :] = 1, here
    system[count:, :count] = system[:count, count:].T
    terms = np.linalg.solve(system, np.vstack([there, np.zeros((3, 2))]))
    # A spline is smooth: it is computed at the middle of every BEND_STEP pixels, one more all around, and between them
    # lies a straight line.
    (width, height), step = size, BEND_STEP
    columns, rows = (2 + -(-side // step) for side in size)
    x, y = np.meshgrid(*((np.arange(cells) - 0.5) * step - 0.5 for cells in (columns, rows)))
    grid = np.stack([x.ravel(), y.ravel()], 1) / scale
    where = (
        (np.hstack([_plate(grid, here), np.ones((len(grid), 1)), grid]) @ terms)
        .reshape(rows, columns, 2)
        .astype(np.float32)
    )
    where = cv2.resize(where, (columns * step, rows * step), interpolation=cv2.INTER_LINEAR)[
        step : step + height, step : step + width
    ]
    return cv2.remap(image, np.ascontiguousarray(where), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _plate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """r^2 log r of the distances between the points a (N, 2) and b (M, 2): (N, M)."""
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    return 0.5 * squared * np.log(np.maximum(squared, 1e-12))


def affine_fit(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The affine map (2, 3), float32, that takes the points `start` (N, 2) closest to `end` (N, 2), least squares."""
    known = np.hstack([start, np.ones((len(start), 1), np.float32)])
    return np.linalg.lstsq(known, end, rcond=None)[0].T.astype(np.float32)


def match_colour(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`source` (uint8 RGB) with each channel's mean and spread of `target` inside `mask` (Reinhard et al., 2001)."""
    a = source.astype(np.float32)
    # Every second pixel of every second row says enough.
    weight = mask[::2, ::2, None] + 1e-6
    (mean_a, std_a), (mean_b, std_b) = (
        _mean_and_spread(x[::2, ::2].astype(np.float32), weight / weight.sum()) for x in (a, target)
    )
    return np.clip((a - mean_a) * np.clip(std_b / (std_a + 1e-3), 0.5, 2.0) + mean_b, 0, 255).astype(np.uint8)


def _mean_and_spread(image: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each channel, float32 (3,) each; the weights (H, W, 1) sum to 1."""
    mean = (image * weight).sum((0, 1))
    return mean, np.sqrt((((image - mean) ** 2) * weight).sum((0, 1)))
