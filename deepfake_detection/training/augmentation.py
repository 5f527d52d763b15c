"""Augmentation of faces for training, in the TensorFlow graph: it runs beside the training step on the CPU and needs no
Python.

    change = augment("strong", seed=1)
    dataset = dataset.batch(64).map(lambda x, y: (change(x), y))         # draws go on from batch to batch
    dataset = dataset.enumerate().map(lambda step, xy: (change(xy[0], step), xy[1]))  # draws: of seed and step alone

`published` is the numbered pipeline's own, with Keras' ImageDataGenerator's meaning of the numbers: turned up to 10
degrees, shifted up to 10 %, width and height zoomed up to 10 % each, sheared by up to 0.2 (which there are degrees:
next to nothing), mirrored. `strong` adds what happens to a video on its way to a viewer: JPEG, down-scaling and up
again, blur, noise, colour, and a cut-out box so that no single part of the face decides. `none` only makes float32 of
the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import UserError

NAMES = ("published", "strong", "none")

#: Largest geometric changes: rotation and shear in degrees, shift and zoom as parts of the side; stretch is of width
#: against height, None: both are zoomed each for itself. What comes in from outside repeats the edge (NEAREST) or is
#: mirrored (REFLECT).
PUBLISHED = {
    "rotation": 10.0, "shift_x": 0.1, "shift_y": 0.1, "zoom": 0.1, "stretch": None, "shear": 0.2, "fill": "NEAREST",
}  # fmt: skip
STRONG = {
    "rotation": 8.0, "shift_x": 0.05, "shift_y": 0.06, "zoom": 0.10, "stretch": 0.06, "shear": 0.0, "fill": "REFLECT",
}  # fmt: skip

#: Probability of each change of `strong`, for each image alone.
CHANCE = {"colour": 0.6, "grey": 0.03, "scale": 0.45, "blur": 0.25, "noise": 0.15, "jpeg": 0.5, "cut_out": 0.2}
JPEG_QUALITY = (30, 95)
SMALLEST_SCALE = 0.25
BLUR_SIGMA = (0.3, 2.0)
NOISE_SIGMA = (1.0, 12.0)
CUT_OUT_SIDE = (0.12, 0.45)


def augment(name: str, seed: int) -> Callable:
    """The augmentation `name` as a function of a batch.

    Args:
        name: one of NAMES.
        seed: of every random choice.

    Returns:
        f(images, step=None, size=None): images is uint8 or float32 (N, H, W, 3), RGB 0..255; `step` is a number of the
        batch that the draws then depend on (without it they go on from call to call); `size` is the side of the result
        (default H). Gives float32 (N, size, size, 3), 0..255. Usable in `tf.data.Dataset.map`. Channels after the third
        (maps of the face) go where their pixels go and are not changed otherwise.

    Raises:
        UserError: for an unknown name.
    """
    if name not in NAMES:
        raise UserError(f"no augmentation {name!r}", hint=f"one of {', '.join(NAMES)}")
    import tensorflow as tf

    generator = tf.random.Generator.from_seed(seed)

    def change(images, step=None, size: int | None = None):
        images = tf.cast(images, tf.float32)
        size = size or images.shape[1]
        if name == "none":
            return images if images.shape[1] == size else tf.image.resize(images, (size, size), antialias=True)
        if step is None:
            start = generator.uniform_full_int((2,), tf.int32)
        else:
            start = tf.stack([tf.cast(seed, tf.int32), tf.cast(step, tf.int32)])
        seeds = _Seeds(start)
        if name == "published":
            return _move(images, seeds, size, **PUBLISHED)
        images = _move(images, seeds, size, **STRONG)
        images, maps = images[..., :3], images[..., 3:]
        images = _degrade(_colour(images, seeds), seeds, size)
        return tf.concat([images, maps], -1) if maps.shape[-1] else images

    return change


class _Seeds:
    """Independent seeds for stateless draws: one a call of `next`, all of them from one start."""

    def __init__(self, start):
        self._start, self._count = start, 0

    def next(self):
        import tensorflow as tf

        self._count += 1
        return tf.random.experimental.stateless_fold_in(self._start, self._count)

    def uniform(self, shape, low=0.0, high=1.0):
        import tensorflow as tf

        return tf.random.stateless_uniform(shape, self.next(), low, high)

    def happens(self, shape, chance: float):
        """1.0 with probability `chance`, else 0.0."""
        import tensorflow as tf

        return tf.cast(self.uniform(shape) < chance, tf.float32)


def _move(images, seeds: _Seeds, size: int, *, rotation, shift_x, shift_y, zoom, stretch, shear, fill):
    """Mirror, turn, shear, shift, zoom and stretch, in one resampling.

    The map goes from the result's pixels to the image's, as ImageProjectiveTransformV3 wants it: about the middle,
    x' = (s_x cos a) x - (s_y sin(a + h)) y + t_x, where h is the shear.
    """
    import tensorflow as tf

    count, source = tf.shape(images)[0], tf.cast(tf.shape(images)[1], tf.float32)
    shape = (count,)
    angle = seeds.uniform(shape, -rotation, rotation) * (math.pi / 180)
    scale = seeds.uniform(shape, 1 - zoom, 1 + zoom)
    if stretch is None:
        across, down = scale, seeds.uniform(shape, 1 - zoom, 1 + zoom)
    else:
        ratio = seeds.uniform(shape, 1 - stretch, 1 + stretch)
        across, down = scale * ratio, scale / ratio
    mirror = 1 - 2 * seeds.happens(shape, 0.5)
    across, down = across * (source / size), down * (source / size)
    tilted = angle + seeds.uniform(shape, -shear, shear) * (math.pi / 180) if shear else angle
    a0, a1 = tf.cos(angle) * across * mirror, -tf.sin(tilted) * down
    b0, b1 = tf.sin(angle) * across * mirror, tf.cos(tilted) * down
    middle_in, middle_out = (source - 1) / 2, (size - 1) / 2
    a2 = middle_in - (a0 + a1) * middle_out + seeds.uniform(shape, -shift_x, shift_x) * source
    b2 = middle_in - (b0 + b1) * middle_out + seeds.uniform(shape, -shift_y, shift_y) * source
    zero = tf.zeros(shape)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a0, a1, a2, b0, b1, b2, zero, zero], 1),
        output_shape=(size, size),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill,
    )
    return tf.ensure_shape(moved, (None, size, size, images.shape[-1]))


def _colour(images, seeds: _Seeds):
    """Brightness, contrast, saturation, gamma and a tint, for the whole batch at once; a few faces become grey."""
    import tensorflow as tf

    shape = (tf.shape(images)[0], 1, 1, 1)
    mean = tf.reduce_mean(images, (1, 2, 3), keepdims=True)
    changed = (images - mean) * seeds.uniform(shape, 0.8, 1.2) + mean * seeds.uniform(shape, 0.75, 1.25)
    changed += seeds.uniform((shape[0], 1, 1, 3), -9.0, 9.0)
    luma = tf.reduce_sum(changed * [0.299, 0.587, 0.114], -1, keepdims=True)
    saturation = seeds.uniform(shape, 0.65, 1.35) * (1 - seeds.happens(shape, CHANCE["grey"]))
    changed = tf.clip_by_value(luma + (changed - luma) * saturation, 0, 255)
    changed = 255 * (changed / 255) ** seeds.uniform(shape, 0.8, 1.25)
    use = seeds.happens(shape, CHANCE["colour"])
    return use * changed + (1 - use) * images


def _degrade(images, seeds: _Seeds, size: int):
    """Resolution, blur, noise, JPEG, image by image, in the order in which a video suffers them; the cut-out."""
    import tensorflow as tf

    count = tf.shape(images)[0]
    draws = {key: seeds.happens((count,), CHANCE[key]) > 0 for key in ("scale", "blur", "jpeg")}
    side = tf.cast(seeds.uniform((count,), SMALLEST_SCALE, 0.9) * size, tf.int32)
    cubic = seeds.uniform((count,)) < 0.5
    sigma = seeds.uniform((count,), *BLUR_SIGMA)
    quality = tf.cast(seeds.uniform((count,), *JPEG_QUALITY), tf.int32)
    noise = tf.random.stateless_normal(tf.shape(images), seeds.next()) * (
        seeds.uniform((count, 1, 1, 1), *NOISE_SIGMA) * seeds.happens((count, 1, 1, 1), CHANCE["noise"])
    )

    def small_and_back(image, side, cubic):
        small = tf.image.resize(image, tf.stack([side, side]), antialias=True)
        return tf.cond(
            cubic, lambda: tf.image.resize(small, (size, size), "bicubic"), lambda: tf.image.resize(small, (size, size))
        )

    def soften(image, sigma):
        distance = tf.range(-3.0, 4.0)
        kernel = tf.exp(-0.5 * (distance / sigma) ** 2)
        kernel = tf.tile((kernel / tf.reduce_sum(kernel))[:, None, None, None], (1, 1, 3, 1))
        padded = tf.pad(image[None], ((0, 0), (3, 3), (3, 3), (0, 0)), "REFLECT")
        once = tf.nn.depthwise_conv2d(padded, kernel, (1, 1, 1, 1), "VALID")
        return tf.nn.depthwise_conv2d(once, tf.transpose(kernel, (1, 0, 2, 3)), (1, 1, 1, 1), "VALID")[0]

    def compress(image, quality):
        coded = tf.raw_ops.EncodeJpegVariableQuality(images=tf.cast(image, tf.uint8), quality=quality)
        return tf.cast(tf.io.decode_jpeg(coded, channels=3), tf.float32)

    def one(values):
        image, noise, scale, blur, jpeg, side, cubic, sigma, quality = values
        image = tf.cond(scale, lambda: small_and_back(image, side, cubic), lambda: image)
        image = tf.cond(blur, lambda: soften(image, sigma), lambda: image)
        image = tf.clip_by_value(image + noise, 0, 255)
        image = tf.cond(jpeg, lambda: compress(image, quality), lambda: image)
        return tf.ensure_shape(image, (size, size, 3))

    images = tf.map_fn(
        one,
        (images, noise, draws["scale"], draws["blur"], draws["jpeg"], side, cubic, sigma, quality),
        fn_output_signature=tf.float32,
    )
    return tf.ensure_shape(_cut_out(images, seeds, size), (None, size, size, 3))


def _cut_out(images, seeds: _Seeds, size: int):
    """A box of one colour over part of some faces (DeVries & Taylor, 2017)."""
    import tensorflow as tf

    shape = (tf.shape(images)[0], 1, 1)
    place = tf.range(size, dtype=tf.float32) / size
    y, x = seeds.uniform(shape), seeds.uniform(shape)
    half_height, half_width = seeds.uniform(shape, *CUT_OUT_SIDE) / 2, seeds.uniform(shape, *CUT_OUT_SIDE) / 2
    inside = (tf.abs(place[None, :, None] - y) < half_height) & (tf.abs(place[None, None, :] - x) < half_width)
    hide = (tf.cast(inside, tf.float32) * seeds.happens(shape, CHANCE["cut_out"]))[..., None]
    return images * (1 - hide) + seeds.uniform((shape[0], 1, 1, 3), 0.0, 255.0) * hide
