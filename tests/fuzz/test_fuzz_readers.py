"""Readers of files that others wrote, fed whatever hypothesis thinks of: each answers with a table or with one clear
line.

python -m pytest tests/fuzz                       a hundred inputs a reader, the same ones every time
FUZZ_EXAMPLES=20000 python -m pytest tests/fuzz   a long search, other inputs every time
"""

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deepfake_detection import scores
from deepfake_detection.datasets.manifest import COLUMNS, read_manifest
from deepfake_detection.errors import UserError
from deepfake_detection.faces import boxes
from deepfake_detection.video import containers, sampling
from deepfake_detection.video.decode import FrameReader

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 0))
FUZZ = settings(
    max_examples=EXAMPLES or 100,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)

NAMES = st.sampled_from(
    [
        "a.mp4",
        "b.mp4",
        "real.mp4",
        "../../x.mp4",
        "/etc/passwd",
        "a/b.mp4",
        "C:\\x.mp4",
        "=1+1.mp4",
        "",
        ".",
        "..",
        "a.mp4 ",
        "\ud800.mp4",
        "n\0.mp4",
        "line\nbreak.mp4",
        "x" * 300 + ".mp4",
        "A.MP4",
        "-rf.mp4",
        "é.mp4",
        "e\u0301.mp4",
    ]
) | st.text(max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["REAL", "FAKE", "real", "train", "test", 0, 1])
    | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {}, optional={"label": VALUES, "split": VALUES, "original": VALUES, "is_fake": VALUES, "identity": VALUES}
)
METADATA = st.dictionaries(NAMES, ENTRY | VALUES, max_size=6) | VALUES


@st.composite
def damaged(draw, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of a good file, some changed, cut out or put in."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        change = draw(st.sampled_from(["flip", "cut", "insert"]))
        if change == "flip" and at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        elif change == "cut":
            del data[at : at + draw(st.integers(1, 20))]
        else:
            data[at:at] = draw(
                st.binary(max_size=6)
                | st.sampled_from(
                    [b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"9" * 5000, b"[" * 3000, b'"', b"1e999", b"NaN"]
                )
            )
    return bytes(data)


def as_json(value) -> bytes:
    return json.dumps(value).encode()


def one_line(error: UserError) -> None:
    assert str(error).isprintable() and "hint:" in str(error), str(error)


# --- metadata.json ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def data():
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.mp4", "b.mp4", "real.mp4"):
            Path(folder, name).write_bytes(b"video")
        yield Path(folder)


def manifest_holds(data: Path) -> None:
    """What is true of every manifest, whatever the metadata says."""
    before = sorted(p.name for p in data.iterdir())
    try:
        table = read_manifest(data, "dfdc")
    except UserError as e:
        return one_line(e)
    assert list(table.columns) == COLUMNS
    "".join(table.to_numpy().ravel()).encode("utf-8")  # text that can be written
    assert (
        table["title"].str.casefold().is_unique
        and table["title"].map(lambda t: PurePosixPath(t).name == t and t not in ("", ".", "..")).all()
    )
    assert {"a.mp4", "b.mp4", "real.mp4"} <= set(table["video"]) | set(_named(table)), "every file has a row"
    for row in table.itertuples():
        assert row.label in ("REAL", "FAKE", "")
        assert row.error.isprintable()
        assert not row.video or (data / row.video).resolve().is_relative_to(data.resolve())
        if not row.error:
            assert (data / row.video).is_file()
    assert sorted(p.name for p in data.iterdir()) == before


def _named(table) -> list[str]:
    return [f"{t}.mp4" for t in table["title"]]


@FUZZ
@given(METADATA.map(as_json))
@example(b'{"a.mp4": {"label": ' + b"9" * 5000 + b"}}")
@example(b'{"a.mp4": {"label": "REAL", "identity": "\\ud800"}}')
@example(b"[" * 100_000)
@example(b'{"a.mp4":' * 50_000)
def test_metadata_of_any_content(data, content):
    (data / "metadata.json").write_bytes(content)
    manifest_holds(data)


@FUZZ
@given(
    damaged(
        st.just(
            as_json(
                {
                    "a.mp4": {"label": "FAKE", "split": "train", "original": "real.mp4"},
                    "real.mp4": {"label": "REAL"},
                    "b.mp4": {"label": "FAKE"},
                }
            )
        )
    )
)
def test_metadata_damaged(data, content):
    (data / "metadata.json").write_bytes(content)
    manifest_holds(data)


# --- score files ------------------------------------------------------------------------------------------------------
FACE_NAMES = st.builds(
    lambda folder, title, frame, face, suffix: f"{folder}{title}-{frame}-{face}{suffix}",
    st.sampled_from(["real/", "fake/", "", "REAL/", "x/real/", "..\\fake\\"]),
    st.text(min_size=1, max_size=5) | st.just("a-b-01"),
    st.sampled_from(["000", "1", "99999999999999999999", "007", "-1", "x"]),
    st.sampled_from(["00", "1", "9" * 30]),
    st.sampled_from([".png", ".PNG", ".jpeg", ".mp4", ""]),
) | st.text(max_size=6)
PAIRS = st.lists(
    st.tuples(FACE_NAMES, st.floats() | st.integers() | st.text(max_size=3) | st.none() | st.booleans()), max_size=5
)


def scores_hold(path: Path) -> None:
    try:
        table = scores.read_scores(path)
    except UserError as e:
        return one_line(e)
    assert set(scores.COLUMNS) <= set(table.columns) and len(table)
    p = table["p_real"].to_numpy(float)
    assert ((p >= 0) & (p <= 1) | np.isnan(p)).all()
    assert table["label"].isin(["REAL", "FAKE", ""]).all() and (table["video"] != "").all()
    assert (table[table["label"] != ""].groupby("video")["label"].nunique() <= 1).all()
    scores.by_person(table)


@FUZZ
@given(
    PAIRS.map(lambda pairs: as_json([list(p) for p in pairs]))
    | VALUES.map(as_json)
    | damaged(st.just(b'[["real\\/a-b-000-00.png",0.25],["fake\\/c-001-00.png",0.5]]'))
)
@example(b'[["real/a-000-00.png", ' + b"9" * 5000 + b"]]")
@example(b'[["real/a-99999999999999999999-00.png", 0.5]]')
@example(b"[" * 100_000)
@example(b'[["real/\\ud800-000-00.png", 0.5]]')
def test_score_json(tmp_path_factory, content):
    path = _file(".json", content)
    scores_hold(path)


COLUMN_NAMES = st.sampled_from(
    ["video", "label", "group", "p_real", "time_s", "person", "name", "file", "status", "_frame", "video", ""]
)
CELLS = st.sampled_from(
    ["", "a", "REAL", "FAKE", "0.5", "1", "nan", "inf", "-1", "1e400", "NA", '"', "=1+1", "0x1", "real/a-000-00.png"]
) | st.text(max_size=4)


@FUZZ
@given(
    st.lists(COLUMN_NAMES, max_size=6).flatmap(
        lambda header: st.lists(st.lists(CELLS, min_size=len(header), max_size=len(header)), max_size=5).map(
            lambda rows: "\n".join(",".join(r) for r in [header, *rows]).encode("utf-8", "surrogatepass")
        )
    )
    | damaged(
        st.just(
            b"video,label,group,dataset,manipulation,person,time_s,p_real\na,REAL,g,d,,p0,0.0,0.5\nb,FAKE,g,d,,p0,0.0,\n"
        )
    )
    | st.binary(max_size=60)
)
@example(b"video,p_real\na,0.5\na,0.5,0.5\n")
@example(b"video,video,p_real\na,b,0.5\n")
@example(b"\xff\xfe")
@example(b"")
def test_score_csv(content):
    scores_hold(_file(".csv", content))


@FUZZ
@given(damaged(st.just(b"PAR1" + bytes(40) + b"PAR1")) | st.binary(max_size=40))
def test_score_parquet(content):
    scores_hold(_file(".parquet", content))


# --- the table of faces -----------------------------------------------------------------------------------------------
_FACE = boxes.Face(1.5, 2.5, 30, 40, 0.99, ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10)))
_ROW = boxes.row(_FACE, frame=0, time_s=0.0, number=0, file="a-000-00.png", crop=(0, 0, 32, 43))


def _good_boxes() -> bytes:
    return (
        pd.DataFrame([_ROW, {**_ROW, "frame": 1, "file": "a-001-00.png"}], columns=list(boxes.COLUMNS))
        .to_csv(index=False)
        .encode()
    )


@FUZZ
@given(
    damaged(st.just(_good_boxes()))
    | st.binary(max_size=80)
    | st.text(max_size=40).map(lambda t: t.encode("utf-8", "surrogatepass"))
)
@example(b"")
@example(b"\xff\xfe\x00")
@example(_good_boxes().replace(b"detected", b'"detected'))
@example(_good_boxes().replace(b"1.5", b"wide"))
def test_box_table(content):
    path = _file(".csv", content)
    try:
        table = boxes.read_boxes(path)
    except UserError as e:
        return one_line(e)
    for _, line in table.iterrows():
        face = boxes.face_of(line)
        assert isinstance(face.person, str) and isinstance(line["file"], str)
        assert all(isinstance(v, float) for v in (*face.box, face.confidence))


# --- the first bytes of a video, and the video ------------------------------------------------------------------------
@FUZZ
@given(
    st.binary(max_size=64)
    | damaged(
        st.sampled_from(
            [
                b"\0\0\0\x18ftypisom" + bytes(40),
                b"\x1aE\xdf\xa3" + bytes(40),
                b"#EXTM3U\nhttp://x\n",
                b"RIFF\0\0\0\0AVI LIST",
                b"\0\0\0\1\x67\x42" + bytes(9),
                (b"\x47" + bytes(187)) * 5,
            ]
        )
    )
)
def test_first_bytes(content):
    path = _file(".mp4", content)
    try:
        assert containers.check(path) in containers.DEMUXERS
    except UserError as e:
        one_line(e)


def _clip() -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for i in range(10):
            out.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.full((32, 48, 3), i * 20, np.uint8), format="rgb24").reformat(
                        format="yuv420p"
                    )
                )
            )
        out.mux(stream.encode())
    return buffer.getvalue()


@FUZZ
@given(damaged(st.just(_clip())))
def test_video(content):
    path = _file(".mp4", content)
    try:
        frames = list(FrameReader(path, sampling.parse("even", 4)))
    except UserError as e:
        return one_line(e)
    assert [f.index for f in frames] == sorted({f.index for f in frames})
    assert all(f.image.dtype == np.uint8 and f.image.ndim == 3 for f in frames)


# --- helpers ----------------------------------------------------------------------------------------------------------
_FOLDER = tempfile.TemporaryDirectory()


def _file(suffix: str, content: bytes) -> Path:
    path = Path(_FOLDER.name, f"input{suffix}")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    path.write_bytes(content)
    return path
