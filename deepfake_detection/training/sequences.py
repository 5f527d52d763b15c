"""Sequences for the recurrent models: one person's faces in time order, padded and masked, and frozen features computed
once.

Faces come from the same folders as for the frame models (`real/<title>-NNN-FF.png`). Who is who in a frame with several
people comes from the box tables of stage 01a (`<frames>/<title>/faces/boxes.csv`, column `person`), as do the five
points of `landmark_gru`. A title without a tracked box table gives one sequence, of face 00 (the surest) of each frame:
two people are never joined by their number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..names import parts_of_face
from . import features
from .face_list import Faces
from .input_pipeline import WHOLE, FaceStore, index_batches, parallel_calls

if TYPE_CHECKING:
    import pandas


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Which face stands where in which sequence. Looks like `Faces` to whoever judges or writes scores: one row a
    sequence.

    Attributes:
        faces: the faces.
        slots: int64 (M, T): position in `faces`, -1 where there is none.
        names: published name of each sequence: that of its first face.
        y, titles, groups: as in `Faces`, one a sequence.
        persons: track id of each sequence, "" where not tracked.
    """

    faces: Faces
    slots: np.ndarray
    names: tuple[str, ...]
    y: np.ndarray
    titles: tuple[str, ...]
    groups: tuple[str, ...]
    persons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def box_tables(faces: Faces, frames: Path | None) -> dict[str, pandas.DataFrame]:
    """Title -> its box table indexed by file name, for the titles that have one below `frames`."""
    from ..faces.boxes import FILE_NAME, read_boxes

    tables = {}
    for title in dict.fromkeys(faces.titles):
        path = frames / title / "faces" / FILE_NAME if frames is not None else None
        if path is not None and path.is_file():
            tables[title] = read_boxes(path).drop_duplicates("file").set_index("file")
    return tables


def tables_digest(tables: dict) -> str:
    """What tells whether box tables are those a model was trained with: a hash of persons and points."""
    from ..faces.boxes import POINT_COLUMNS

    digest = hashlib.sha256()
    for title, table in sorted(tables.items()):
        digest.update(title.encode() + table[["person", *POINT_COLUMNS]].to_csv().encode())
    return digest.hexdigest()[:16] if tables else ""


def make_sequences(faces: Faces, length: int, tables: dict | None = None) -> Sequences:
    """Groups faces into one sequence a person (track) and title.

    A frame that lacks this person's face is a gap that the mask hides, where the frames from first to last fit into
    `length`; of a longer sequence, `length` faces are taken at even distances.

    Args:
        faces: of one split.
        length: slots a sequence.
        tables: from `box_tables`.
    """
    tracks: dict[tuple, list[tuple[int, int]]] = {}
    untracked, left_out = set(), 0
    for i, (name, title, label) in enumerate(zip(faces.names, faces.titles, faces.y)):
        _, frame, face = parts_of_face(name)
        table = (tables or {}).get(title)
        file = Path(name).name
        person = table.at[file, "person"] if table is not None and file in table.index else ""
        if not person and face != 0:
            untracked.add(title)
            left_out += 1
            continue
        tracks.setdefault((int(label), title, person), []).append((frame, i))
    if untracked:
        print(
            f"note: {len(untracked)} titles show several faces in a frame and are not tracked: {left_out} faces are "
            "left out "
            f"(--frames-dir DIR names the folder with the box tables; in which stage 01a writes who is who)",
            file=sys.stderr,
        )
    if not tracks:
        raise UserError(
            "no sequence can be made of these faces",
            file=faces.root,
            hint="name the folder of the frames with --frames-dir",
        )
    slots, rows = np.full((len(tracks), length), -1, np.int64), []
    for row, ((label, title, person), members) in enumerate(
        sorted(tracks.items(), key=lambda item: (-item[0][0], *item[0][1:]))
    ):
        members.sort()
        first, last = members[0][0], members[-1][0]
        if last - first < length:
            for frame, i in members:
                slots[row, frame - first] = i
        elif len(members) <= length:
            slots[row, : len(members)] = [i for _, i in members]
        else:
            picked = np.linspace(0, len(members) - 1, length).round().astype(int)
            slots[row] = [members[k][1] for k in picked]
        rows.append((faces.names[members[0][1]], label, title, faces.groups[members[0][1]], person))
    names, y, titles, groups, persons = zip(*rows)
    return Sequences(faces, slots, names, np.array(y, np.int64), titles, groups, persons)


class SequenceStore:
    """Sequences with the values of their frames: what `FaceStore` is for faces.

    Attributes:
        sequences: which face stands where.
        faces: the same, under the name that the code shared with frame models uses.
        unreadable: names of faces that could not be decoded, or have no points.
    """

    def __init__(
        self,
        sequences: Sequences,
        get: Callable,
        shape: tuple[int, ...],
        dtype: str,
        unreadable: list[str] | None = None,
    ):
        """
        Args:
            get: positions (K,) in `sequences.faces` -> values (K, *shape).
            shape: of one frame's value.
            dtype: of the values.
        """
        self.sequences = self.faces = sequences
        self._get, self._shape, self._dtype = get, tuple(shape), dtype
        self.unreadable = unreadable or []

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def y(self):
        """int64 (M,) labels."""
        return self.sequences.y

    def get(self, indices):
        """(values (B, T, *shape), mask float32 (B, T)) of the sequences at these positions; 0 where the mask is 0."""
        slots = self.sequences.slots[indices]
        there = slots >= 0
        values = np.zeros((*slots.shape, *self._shape), self._dtype)
        values[there] = self._get(slots[there])
        return values, there.astype(np.float32)

    def batches(
        self,
        order,
        batch_size: int,
        *,
        augment=None,
        first_step: int = 0,
        drop_remainder: bool = False,
        sample_weight=None,
        shard: tuple[int, int] = (0, 1),
    ):
        """As `input_pipeline.batches`, of ((values, mask), y (B, 1)[, weight (B, 1)])."""
        import tensorflow as tf

        data = index_batches(
            self.y, order, batch_size, drop_remainder=drop_remainder, sample_weight=sample_weight, shard=shard
        )
        length = self.sequences.slots.shape[1]

        def fetch(indices, *rest):
            kinds = tf.as_dtype(self._dtype), tf.float32
            values, mask = tf.numpy_function(self.get, [indices], kinds, stateful=False)
            values.set_shape((None, length, *self._shape))
            mask.set_shape((None, length))
            return ((values, mask), *rest)

        return data.map(fetch, num_parallel_calls=parallel_calls(), deterministic=True).prefetch(tf.data.AUTOTUNE)


def pixel_store(
    faces: Faces,
    length: int,
    size: int,
    *,
    tables: dict | None = None,
    workers: int = 1,
    cache_bytes: int | None = None,
    part: tuple = WHOLE,
    progress: str | None = None,
) -> SequenceStore:
    """Sequences of decoded faces, uint8 (B, T, size, size, 3) RGB; those that cannot be decoded become gaps."""
    store = FaceStore(faces, size, workers=workers, cache_bytes=cache_bytes, part=part, progress=progress)
    sequences = make_sequences(store.faces, length, tables)
    return SequenceStore(sequences, store.get, (size, size, 3), "uint8", store.unreadable)


def point_store(faces: Faces, length: int, tables: dict) -> SequenceStore:
    """Sequences of the five facial points, float32 (B, T, 5, 2) px of the frame, from the box tables.

    Raises:
        UserError: when no face has a row in a box table.
    """
    from ..faces.boxes import POINT_COLUMNS

    known, points = [], []
    for i, (name, title) in enumerate(zip(faces.names, faces.titles)):
        table, file = tables.get(title), Path(name).name
        if table is not None and file in table.index:
            values = table.loc[file, list(POINT_COLUMNS)].to_numpy(np.float32)
            if np.isfinite(values).all():  # a face carried over from past frames has no points
                known.append(i)
                points.append(values.reshape(5, 2))
    if not known:
        raise UserError(
            "no box table has the points of these faces",
            file=faces.root,
            hint="name the folder of stage 01a's results with --frames-dir; this model reads "
            "<frames>/<title>/faces/boxes.csv",
        )
    without = [faces.names[i] for i in sorted(set(range(len(faces))) - set(known))]
    faces, points = faces.take(known), np.stack(points)
    sequences = make_sequences(faces, length, tables)
    return SequenceStore(sequences, lambda indices: points[indices], (5, 2), "float32", without)


def feature_store(
    pixels: SequenceStore, extractor, folder: Path, *, batch_size: int = 32, progress: str | None = None
) -> SequenceStore:
    """The same sequences with the features of a frozen frame network, float32 (B, T, F), in place of the pixels.

    Args:
        pixels: from `pixel_store`.
        extractor: Keras model (N, S, S, 3) -> (N, F).
        folder: keeps the features, see `features.face_features`.
    """
    used = np.unique(pixels.sequences.slots[pixels.sequences.slots >= 0])
    table = features.face_features(
        pixels._get, pixels.sequences.faces, used, extractor, folder, batch_size=batch_size, progress=progress
    )
    get, shape = lambda indices: table[indices], (table.shape[1],)
    return SequenceStore(pixels.sequences, get, shape, "float32", pixels.unreadable)
