"""Bundles of videos and the Parquet files that they become: cut on the driver, made by the executors."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UserError
from ..files import create, source_stamp
from ..stage_report import ERROR, NO_FACE, NO_FRAMES, OK

IMAGES = ("png", "jpeg")
#: What the manifest gives to every row.
_FROM_MANIFEST = ("title", "video", "label", "dataset", "manipulation", "group", "split")
#: Encoded faces are written when they have come to this size, so that an hour of video does not fill the memory.
_FLUSH_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Settings:
    """What decides the rows. `min_face_source_px`, in pixels of the source, goes before `min_face_px`."""

    detector: str = "mtcnn_fast"
    min_face_px: float = 20.0
    min_face_source_px: float | None = None
    margin: float = 0.30
    confidence: float | None = None
    scale: str | float = "published"
    sampling: str = "per-second"
    frame_count: int = 32
    max_seconds: float | None = None
    image: str = "png"
    jpeg_quality: int = 95


@dataclass(frozen=True)
class Bundle:
    """Videos that one task works on: `rows` of the manifest as dicts, `file` the Parquet file that they become."""

    file: str
    rows: list[dict]


def schema():
    """The Parquet schema, a row a face; a video without one, or that failed, has one row with `status`."""
    import pyarrow as pa

    from ..faces.boxes import CROP_COLUMNS, POINT_COLUMNS

    text = [(name, pa.string()) for name in _FROM_MANIFEST]
    return pa.schema(
        [
            *text,
            ("status", pa.string()),
            ("detail", pa.string()),
            ("frame", pa.int32()),
            ("index", pa.int64()),
            ("time_s", pa.float64()),
            ("face", pa.int16()),
            ("person", pa.string()),
            ("source", pa.string()),
            ("turned", pa.int16()),
            ("confidence", pa.float32()),
            *((name, pa.float32()) for name in ("x", "y", "width", "height")),
            *((name, pa.float32()) for name in POINT_COLUMNS),
            *((name, pa.int32()) for name in CROP_COLUMNS),
            ("image", pa.binary()),
        ]
    )


# -- planning, on the driver -------------------------------------------------------------------------------------------
def plan(manifest, data: Path, settings: Settings, videos_per_bundle: int) -> list[Bundle]:
    """Cuts the manifest into bundles, in its order; rows with an error too: every video has a row in the output."""
    from tqdm import tqdm

    rows = []
    for line in tqdm(manifest.to_dict("records"), desc="planning", unit="video", disable=None):
        row = {name: line[name] for name in _FROM_MANIFEST} | {"error": line["error"], "stamp": None}
        if not row["error"]:
            try:
                # Not the content, which the driver would read of the whole archive.
                row["stamp"] = source_stamp(data / row["video"], content=False)
            except OSError as e:
                row["error"] = f"cannot read the file ({e.strerror})"
        rows.append(row)
    bundles = []
    for number, start in enumerate(range(0, len(rows), videos_per_bundle)):
        part = rows[start : start + videos_per_bundle]
        print_of = hashlib.sha1(json.dumps([asdict(settings), part], sort_keys=True).encode()).hexdigest()[:12]
        bundles.append(Bundle(f"part-{number:06d}-{print_of}.parquet", part))
    return bundles


# -- the work, on an executor ------------------------------------------------------------------------------------------
def make_bundle(settings: dict, data: str, out: str, bundle: tuple[str, list[dict]]) -> None:
    """Writes one bundle's Parquet file, or finds it standing.

    The file is written aside under a name of its own and renamed, so two attempts at once (Spark may repeat a task) do
    no harm. While it is being made a marker lies beside it. A marker that is there already tells that an attempt died:
    a video may have crashed the decoder. Then each video runs in a process of its own, and the one that crashes it
    becomes a row with the error.
    """
    import cv2
    import pyarrow.parquet as pq

    cv2.setNumThreads(1)
    file, rows = bundle  # plain values: Spark unpickles them before the package is on the executor's path
    target = Path(out) / file
    if target.exists():
        return
    chosen = Settings(**settings)
    marker = target.with_name(f".{target.stem}.started")
    isolated = False
    try:
        create(marker)
    except FileExistsError:
        isolated = True
    partial = target.with_name(f".{target.stem}.partial-{socket.gethostname()}-{uuid.uuid4().hex}")
    spill = partial.with_name(partial.name + "-rows")
    accounts = []
    try:
        with pq.ParquetWriter(partial, schema(), compression="snappy", use_dictionary=list(_FROM_MANIFEST)) as writer:
            for row in rows:
                accounts.append(_write_video(writer, row, chosen, Path(data), isolated, spill))
            writer.add_key_value_metadata({"videos": json.dumps(accounts), "settings": json.dumps(settings)})
        os.replace(partial, target)
        marker.unlink(missing_ok=True)
    finally:
        partial.unlink(missing_ok=True)


def _write_video(writer, row: dict, settings: Settings, data: Path, isolated: bool, spill: Path) -> dict:
    """Writes a video's rows; returns its line of the account. Rows of a video that fails at its end were never written.

    Args:
        spill: file that may take the rows meanwhile.
    """
    count = {"title": row["title"], "status": OK, "detail": "", "frames": 0, "frames_with_face": 0, "faces": 0}
    base = {name: row[name] for name in _FROM_MANIFEST}
    held = _Held(spill, writer.schema)
    note: dict = {}
    try:
        read = _isolated if isolated else video_rows
        error = row["error"] or _take(_each(read, data / row["video"], settings, note), base, held, count)
        if error:
            count |= {"status": ERROR, "detail": error, "frames": 0, "frames_with_face": 0, "faces": 0}
        else:
            count |= {"status": OK if count["faces"] else NO_FACE if count["frames"] else NO_FRAMES}
            count["detail"] = note.get("note", "")
        if count["status"] == OK:
            held.write(writer, count["detail"])
        else:
            import pyarrow as pa

            line = base | {"status": count["status"], "detail": count["detail"]}
            writer.write_table(pa.Table.from_pylist([line], schema=writer.schema))
    finally:
        held.close()
    return count


def _each(read, *arguments) -> Iterator[list[dict]]:
    yield from read(*arguments)


def _take(frames: Iterator[list[dict]], base: dict, held: _Held, count: dict) -> str:
    """Takes and counts the rows of a video's frames. Returns what went wrong, or ""."""
    while True:
        try:
            faces = next(frames, None)
        except Exception as e:
            return _of_the_video(e)
        if faces is None:
            return ""
        count["frames"] += 1
        count["frames_with_face"] += bool(faces)
        count["faces"] += len(faces)
        held.add([base | {"status": OK} | face for face in faces])


def _of_the_video(error: Exception) -> str:
    """What the file did to us, in words; anything else is a bug, is raised and stops the job."""
    from ..video import workers

    known = workers.of_the_input(error)
    if known is None and not isinstance(error, OSError):
        raise error
    return known.what if known is not None else str(error) or type(error).__name__


class _Held:
    """Rows of one video until it is known to be whole: in memory, and beyond _FLUSH_BYTES in a file of their own."""

    def __init__(self, spill: Path, schema):
        self._spill, self._schema = spill, schema
        self._rows, self._size, self._file = [], 0, None

    def add(self, rows: list[dict]) -> None:
        import pyarrow.parquet as pq

        self._rows += rows
        self._size += sum(len(row["image"]) for row in rows)
        if self._size > _FLUSH_BYTES:
            if self._file is None:
                self._file = pq.ParquetWriter(self._spill, self._schema, compression="none")
            self._file.write_table(self._taken())

    def _taken(self):
        import pyarrow as pa

        table = pa.Table.from_pylist(self._rows, schema=self._schema)
        self._rows, self._size = [], 0
        return table

    def write(self, writer, detail: str) -> None:
        """Writes all rows, in their order, with `detail`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = []
        if self._file is not None:
            self._file.close()
            self._file = None
            spilt = pq.ParquetFile(self._spill)
            tables = (spilt.read_row_group(i) for i in range(spilt.num_row_groups))
        column = self._schema.get_field_index("detail")
        for table in itertools.chain(tables, [self._taken()]):
            if len(table):
                writer.write_table(table.set_column(column, "detail", pa.array([detail] * len(table), pa.string())))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._spill.unlink(missing_ok=True)


_detectors: dict[tuple, object] = {}


def video_rows(path: Path, settings: Settings, note: dict) -> Iterator[list[dict]]:
    """The rows of each frame of a video, without the manifest's columns: a list, empty for a frame without a face.

    Args:
        note: gets `note`, what was wrong with the file although frames could be read.
    """
    import cv2

    from ..faces import boxes, detectors, extract
    from ..faces.crops import widen
    from ..video import sampling

    key = (settings.detector, settings.min_face_px)
    if key not in _detectors:  # Spark keeps its Python workers: one detector for many bundles
        _detectors[key] = detectors.create(settings.detector, min_face_px=settings.min_face_px, threads=1)
    reader, frames = extract.iter_faces_of_video(
        path,
        sampling=sampling.parse(settings.sampling, settings.frame_count, settings.max_seconds),
        detector=_detectors[key],
        margin=settings.margin,
        confidence=settings.confidence,
        scale=settings.scale,
        min_face_source_px=settings.min_face_source_px,
    )
    encoding = (".png", []) if settings.image == "png" else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality])
    turned = set()
    for found in frames:
        rows = []
        turned.update(face.turned for face in found.faces)
        for number, (face, crop) in enumerate(zip(found.faces, found.crops, strict=True)):
            values = boxes.row(
                face,
                frame=found.frame,
                time_s=found.time_s,
                number=number,
                file="",
                crop=widen(face, settings.margin, *found.size),
            )
            del values["file"]
            encoded, image = cv2.imencode(encoding[0], cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), encoding[1])
            if not encoded:
                raise UserError("cannot encode a face", file=path, hint="this is a fault of the OpenCV installation")
            rows.append(values | {"index": found.index, "image": image.tobytes()})
        yield rows
    note["note"] = "; ".join(filter(None, [reader.note, extract.turned_note(turned)]))


def _isolated(path: Path, settings: Settings, note: dict) -> list[list[dict]]:
    """`video_rows` in a process of its own, which may die."""
    from ..video import workers

    ((_, result),) = workers._parallel(_in_child, [(path, settings)], 1, None, ())
    if isinstance(result, workers.WorkerDied):
        raise UserError(str(result), file=path, hint="the video crashes the decoder or fills the memory")
    if isinstance(result, Exception):
        raise result
    rows, found = result
    note.update(found)
    return rows


def _in_child(task) -> tuple[list[list[dict]], dict]:
    note: dict = {}
    return list(video_rows(*task, note)), note
