"""From lists of face crops (`face_list`) to batches: decoding, the cache, the order of an epoch, and the tf.data
pipeline.

A face is decoded with OpenCV and brought to size with `faces.crops.network_input`, the definition that every other path
uses, so that training sees exactly what prediction sees. Faces are decoded once: they stay in memory as bytes where
they fit, else they are decoded anew each epoch. The order and the augmentation of an epoch depend on (seed, epoch)
alone, never on what ran before, which is what lets an interrupted training end in the same weights as an undisturbed
one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .. import cpus, labels
from ..errors import UserError
from .face_list import Faces

#: Faces of one set are kept decoded in memory up to this share of the machine's memory (train and val are held
#: together).
CACHE_SHARE_OF_MEMORY = 0.2

#: Files decoded by one call of the reader threads: large enough that handing over does not matter.
_READ_BLOCK = 64

#: The part of a crop that a model sees, as (left, top, right, bottom) in parts of its width and height.
WHOLE = (0.0, 0.0, 1.0, 1.0)


def read_face(path: str | Path, size: int, part: tuple = WHOLE):
    """A face picture as network input: uint8 (size, size, 3) RGB, or None when the file is not a picture that can be
    decoded.

    Args:
        part: (left, top, right, bottom) of what is kept, in parts of the width and height, for a model that wants a
            tighter crop.
    """
    import cv2

    from ..faces import pictures
    from ..faces.crops import network_input

    image = pictures.read(path)
    if image is None:
        return None
    if part != WHOLE:
        height, width = image.shape[:2]
        # Rounded edge by edge, as `detector.network.trim` does, so that both see the same rows.
        left, top = min(round(part[0] * width), width - 1), min(round(part[1] * height), height - 1)
        right, bottom = width - round((1 - part[2]) * width), height - round((1 - part[3]) * height)
        image = image[top : max(top + 1, bottom), left : max(left + 1, right)]
    return network_input(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), size)


class FaceStore:
    """The decoded faces of a `Faces` list by position, from memory where they fit.

    Attributes:
        faces: the list, without the files that could not be decoded.
        unreadable: names of those files.
    """

    def __init__(
        self,
        faces: Faces,
        size: int,
        *,
        workers: int = 1,
        cache_bytes: int | None = None,
        part: tuple = WHOLE,
        progress: str | None = None,
    ):
        """Reads every file once, so that a broken one is known before training and not in its middle.

        Args:
            size: side of the network's input in px.
            workers: reader threads (OpenCV decodes outside Python's lock).
            cache_bytes: most memory for decoded faces; a fifth of what this process may use if None.
            part: see `read_face`.
            progress: label of the progress bar; none if None.

        Raises:
            UserError: when no file can be decoded.
        """
        self.size, self.part = size, part
        if cache_bytes is None:
            cache_bytes = int(CACHE_SHARE_OF_MEMORY * cpus.memory_bytes())
        cached = len(faces) * size * size * 3 <= cache_bytes
        pixels = np.empty((len(faces), size, size, 3), np.uint8) if cached else None
        good = self._read_all(faces.paths(), pixels, workers, progress)
        self.unreadable = [name for name, ok in zip(faces.names, good) if not ok]
        for name in self.unreadable:
            print(f"skipped, not a picture that can be decoded: {faces.root / name}", file=sys.stderr)
        if not good.any():
            raise UserError(
                "no face picture here can be decoded",
                file=faces.root,
                hint="make the faces again with stages 01a and 02",
            )
        self.faces = faces.take(np.flatnonzero(good)) if self.unreadable else faces
        self._paths = self.faces.paths()
        self._pixels = pixels[good] if pixels is not None and self.unreadable else pixels

    def _read_all(self, paths: list[Path], pixels, workers: int, progress: str | None):
        """Reads every file into `pixels` (or, if None, only tries it); returns which could be decoded, bool (N,)."""
        from tqdm import tqdm

        good = np.zeros(len(paths), bool)

        def read(start: int) -> int:
            for i in range(start, min(start + _READ_BLOCK, len(paths))):
                face = read_face(paths[i], self.size, self.part)
                good[i] = face is not None
                if pixels is not None and face is not None:
                    pixels[i] = face
            return min(_READ_BLOCK, len(paths) - start)

        disable = None if progress else True
        with (
            ThreadPoolExecutor(max(1, workers)) as pool,
            tqdm(total=len(paths), desc=progress or "", unit="face", disable=disable, file=sys.stderr) as bar,
        ):
            for count in pool.map(read, range(0, len(paths), _READ_BLOCK)):
                bar.update(count)
        return good

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def y(self):
        """int64 (N,) labels of `faces`."""
        return self.faces.y

    def batches(self, order, batch_size: int, **options):
        """See `batches`."""
        return batches(self, order, batch_size, **options)

    def get(self, indices):
        """uint8 (B, size, size, 3) RGB of the faces at these positions."""
        if self._pixels is not None:
            return self._pixels[indices]
        batch = np.empty((len(indices), self.size, self.size, 3), np.uint8)
        for row, i in enumerate(indices):
            face = read_face(self._paths[i], self.size, self.part)
            if face is None:
                raise UserError(
                    "this face could be decoded before and cannot now", file=self._paths[i], hint="run the stage again"
                )
            batch[row] = face
        return batch


def epoch_order(y, *, seed: int, epoch: int, balance: bool = False):
    """The order in which an epoch visits the faces: int64 positions. A pure function of its arguments.

    Args:
        y: (N,) labels.
        seed, epoch: what the order depends on.
        balance: draw N faces, half of each class: a class with too few is repeated (whole rounds, each in a new order,
            so that no face is drawn twice more often than another), one with too many is thinned. An alternative to
            deleting fakes beforehand.
    """
    rng = np.random.default_rng([seed & 0xFFFFFFFF, epoch, 0x0D])
    if not balance:
        return rng.permutation(len(y))
    y = np.asarray(y)
    picked = []
    for label, count in ((labels.REAL, len(y) - len(y) // 2), (labels.FAKE, len(y) // 2)):
        members = np.flatnonzero(y == label)
        rounds = -(-count // len(members))
        picked.append(np.concatenate([rng.permutation(members) for _ in range(rounds)])[:count])
    return rng.permutation(np.concatenate(picked))


def index_batches(y, order, batch_size: int, *, drop_remainder: bool, sample_weight, shard: tuple[int, int]):
    """A tf.data.Dataset of (positions int64 (B,), y float32 (B, 1)[, weight (B, 1)]) in the given order.

    Args:
        y: (N,) labels.
        others: as `batches`.
    """
    import tensorflow as tf

    order = np.asarray(order, np.int64)
    if drop_remainder:
        order = order[: len(order) // batch_size * batch_size]
    columns = (order, y[order].astype(np.float32)[:, None])
    if sample_weight is not None:
        columns += (np.asarray(sample_weight, np.float32)[y[order]][:, None],)
    data = tf.data.Dataset.from_tensor_slices(columns).batch(batch_size, drop_remainder=drop_remainder)
    index, count = shard
    if count > 1:
        # Each worker takes its rows of every global batch, so that together they do the steps that one machine would.
        data = data.map(lambda *columns: tuple(c[index::count] for c in columns))
    return data


def parallel_calls() -> int:
    """How many batches are made at a time. A fixed number: AUTOTUNE takes seconds to find out that more than one core
    is there, and many epochs are over by then."""
    import tensorflow as tf

    return tf.config.threading.get_inter_op_parallelism_threads() or cpus.count()


def batches(
    store: FaceStore,
    order,
    batch_size: int,
    *,
    augment: Callable | None = None,
    first_step: int = 0,
    drop_remainder: bool = False,
    sample_weight=None,
    shard: tuple[int, int] = (0, 1),
):
    """A tf.data.Dataset of (faces uint8 or float32 (B, S, S, 3) 0..255, y float32 (B, 1)[, weight (B, 1)]) in the given
    order.

    Fetching and augmentation run in parallel on the CPU, ahead of the training step, and keep the order.

    Args:
        order: positions, e.g. from `epoch_order`.
        augment: called with (faces, number of the batch) inside the graph, see `augmentation.augment`; None for
            prediction.
        first_step: number of the first batch, for `augment`.
        sample_weight: (2,) weight of fake and real, or None.
        shard: (index, count): this worker's part of each global batch; `batch_size` is the global one and count must
            divide it.
    """
    import tensorflow as tf

    data = index_batches(
        store.faces.y, order, batch_size, drop_remainder=drop_remainder, sample_weight=sample_weight, shard=shard
    )
    index, count = shard

    def fetch(indices, *rest):
        faces = tf.numpy_function(store.get, [indices], tf.uint8, stateful=False)
        faces.set_shape((None, store.size, store.size, 3))
        return (faces, *rest)

    data = data.map(fetch, num_parallel_calls=parallel_calls(), deterministic=True)
    if augment is not None:
        # The draws depend on the number of the batch (and of the worker), not on which of the parallel calls came
        # first.
        data = data.enumerate(first_step).map(
            lambda step, columns: (augment(columns[0], tf.cast(step, tf.int32) * count + index), *columns[1:]),
            num_parallel_calls=parallel_calls(),
            deterministic=True,
        )
    return data.prefetch(tf.data.AUTOTUNE)
