"""A detected face, and the table of faces (boxes.csv) that stage 01a writes beside the crops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..files import atomic_path

#: Order of the five points in `Face.points`; left and right as seen by the viewer, as MTCNN names them.
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")

DETECTED, CARRIED = "detected", "carried"

POINT_COLUMNS = tuple(f"{p}_{axis}" for p in POINTS for axis in "xy")
CROP_COLUMNS = ("crop_x0", "crop_y0", "crop_x1", "crop_y1")
COLUMNS = (
    "frame", "time_s", "face", "file", "x", "y", "width", "height", "confidence", *POINT_COLUMNS, *CROP_COLUMNS,
    "source", "person", "turned",
)  # fmt: skip
#: The columns that are not numbers.
TEXT_COLUMNS = ("file", "source", "person")

FILE_NAME = "boxes.csv"


@dataclass(frozen=True)
class Face:
    """One face in one frame. Pixels of the frame it was found in; x to the right, y down.

    Attributes:
        x, y, width, height: detection box, before any margin.
        confidence: the detector's, 0..1; 0 for a carried face.
        points: five (x, y), in the order of POINTS.
        source: "detected", or "carried" from past frames (`faces.tracks.carry_over`).
        person: track id ("p1", "p2", ...), "" when not tracked.
        turned: degrees clockwise by which the frame is turned to make the face upright: 0, 90, 180 or 270. Its crop is.
    """

    x: float
    y: float
    width: float
    height: float
    confidence: float
    points: tuple[tuple[float, float], ...]
    source: str = DETECTED
    person: str = ""
    turned: int = 0

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x, y, width, height)."""
        return self.x, self.y, self.width, self.height

    @property
    def center(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


def row(face: Face, *, frame: int, time_s: float, number: int, file: str, crop: tuple[int, int, int, int]) -> dict:
    """One line of boxes.csv.

    Args:
        frame: NNN of the kept frame; time_s: its time; number: FF, the face's number in the frame.
        file: the crop's file name; crop: (x0, y0, x1, y1) that was cut, exclusive ends.
    """
    values = {
        "frame": frame, "time_s": time_s, "face": number, "file": file, "x": face.x, "y": face.y, "width": face.width,
        "height": face.height, "confidence": face.confidence,
    }  # fmt: skip
    values.update(zip(POINT_COLUMNS, (c for point in face.points for c in point)))
    values.update(zip(CROP_COLUMNS, crop))
    return values | {"source": face.source, "person": face.person, "turned": face.turned}


def face_of(line) -> Face:
    """The Face of one line of boxes.csv (a mapping or a pandas row)."""
    return Face(
        float(line["x"]),
        float(line["y"]),
        float(line["width"]),
        float(line["height"]),
        float(line["confidence"]),
        tuple((float(line[f"{p}_x"]), float(line[f"{p}_y"])) for p in POINTS),
        line["source"],
        line["person"] or "",
        int(line.get("turned", 0)),
    )


def write_boxes(path: str | Path, rows: list[dict]) -> None:
    """Writes boxes.csv atomically: the columns of COLUMNS, a header also when there is no face."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS))
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def read_boxes(path: str | Path):
    """Reads boxes.csv as a DataFrame; `file`, `source` and `person` are text, never NaN.

    Raises:
        UserError: the file is missing or is no box table.
    """
    import pandas as pd

    try:
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(TEXT_COLUMNS, str),
            keep_default_na=False,
            na_values={c: [""] for c in COLUMNS if c not in TEXT_COLUMNS},
        )
    except OSError as e:
        raise UserError(
            f"cannot read the table of faces ({e.strerror})", file=path, hint="run 01a_crop_faces_mtcnn.py"
        ) from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError):
        table = pd.DataFrame()
    if len(table.columns) and "turned" not in table.columns:
        table["turned"] = 0  # a table from before faces were looked for turned
    if missing := [c for c in COLUMNS if c not in table.columns]:
        raise _no_table(f"no column {missing[0]}", path)
    numbers = [c for c in COLUMNS if c not in TEXT_COLUMNS]
    if odd := [c for c in numbers if len(table) and not pd.api.types.is_numeric_dtype(table[c])]:  # no rows: no type
        raise _no_table(f"column {odd[0]} does not hold numbers only", path)
    table["turned"] = table["turned"].fillna(0)
    if not table["turned"].isin((0, 90, 180, 270)).all():
        raise _no_table("column turned holds other numbers than 0, 90, 180, 270", path)
    return table.astype({"turned": int})


def _no_table(why: str, path: str | Path) -> UserError:
    hint = "run 01a_crop_faces_mtcnn.py again with --force"
    return UserError(f"not a table of faces ({why})", file=path, hint=hint)
