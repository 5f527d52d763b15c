"""evaluate.py and stage 04 read the same files: the same videos, labels and scores, or both refuse in one line."""

import datetime
import decimal
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepfake_detection import scores
from deepfake_detection.errors import UserError
from deepfake_detection.reports import scored_videos
from deepfake_detection.spark import video_predictions as stage

REFUSED = "refused"
#: Each case is two reads by Spark; these differ little from one that is tried always.
RARE = pytest.mark.nightly
TWO = {"a": ("REAL", 0.75, 2), "b": ("FAKE", 0.25, 1)}
BLANK = {"a": ("REAL", 0.75, 2), "b": ("FAKE", None, 0)}
VIDEO, LABEL, P = ["a", "a", "b"], ["REAL", "REAL", "FAKE"], [0.5, 1.0, 0.25]


@pytest.fixture(scope="module", autouse=True)
def quick(spark):
    """To compile each of these small queries would take most of the time."""
    settings = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    for name, value in settings.items():
        spark.conf.set(name, value)
    yield
    for name in settings:
        spark.conf.unset(name)


def by_evaluate(path):
    table = scores.read_scores(path)
    found = {}
    for video, rows in table.groupby("video"):
        p = rows["p_real"].dropna()
        found[video] = (rows["label"].max(), round(float(p.mean()), 6) if len(p) else None, len(p))
    return found


def by_04(spark, path):
    table = stage.video_table(spark, str(path))
    return {v: (label, round(p, 6) if n else None, n) for v, label, p, n, _ in table.itertuples(index=False)}


def outcome(read, *arguments):
    try:
        return read(*arguments)
    except UserError as e:
        assert "\n" not in str(e) and "hint:" in str(e)
        return REFUSED


def agree(spark, path, expected):
    found = {"evaluate": outcome(by_evaluate, path), "04": outcome(by_04, spark, path)}
    assert found == {"evaluate": expected, "04": expected}


CSV = "video,label,p_real\na,REAL,0.5\na,REAL,1\nb,FAKE,0.25\n"


LINES = 'video,label,p_real\n"x\ny",REAL,0.5\nb,FAKE,0.25\n'
OVER_LINES = {"x\ny": ("REAL", 0.5, 1), "b": ("FAKE", 0.25, 1)}


@pytest.mark.parametrize(
    "text, expected",
    [
        pytest.param(CSV, TWO, id="plain"),
        pytest.param(CSV.replace("REAL", "1.0").replace("FAKE", "0.0"), TWO, id="labels-1.0-and-0.0"),
        pytest.param(CSV.replace("REAL", "1").replace("FAKE", "0"), TWO, id="labels-1-and-0", marks=RARE),
        pytest.param(CSV.replace("REAL", " real ").replace("FAKE", "\tFake"), TWO, id="labels-with-blanks"),
        pytest.param(CSV.replace("REAL", "2"), REFUSED, id="label-2", marks=RARE),
        pytest.param(CSV.replace("REAL", "1.5"), REFUSED, id="label-1.5", marks=RARE),
        pytest.param(CSV.replace("REAL", "true"), REFUSED, id="label-true"),
        pytest.param(CSV.replace("0.25", ""), BLANK, id="blank-score"),
        pytest.param(CSV.replace("0.25", "   "), BLANK, id="score-of-blanks"),
        pytest.param(CSV.replace("0.25", " 0.25 "), TWO, id="score-between-blanks", marks=RARE),
        pytest.param(CSV.replace("0.25", "25e-2"), TWO, id="exponent", marks=RARE),
        pytest.param(CSV.replace("0.25", ".25"), TWO, id="no-leading-zero", marks=RARE),
        pytest.param(CSV.replace("0.25", "0.25d"), REFUSED, id="javas-double"),
        pytest.param(CSV.replace("0.25", "0x1p-2"), REFUSED, id="hexadecimal", marks=RARE),
        pytest.param(CSV.replace("0.25", "nan"), REFUSED, id="nan"),
        pytest.param(CSV.replace("0.25", "-0.1"), REFUSED, id="negative", marks=RARE),
        pytest.param(CSV.replace("0.25", "inf"), REFUSED, id="infinite", marks=RARE),
        pytest.param(CSV.replace("0.25", "True"), REFUSED, id="true"),
        pytest.param(CSV.replace("0.25", "0,25"), REFUSED, id="comma-for-a-point", marks=RARE),
        pytest.param(CSV.replace("b,", " ,").replace(" ,", ",", 1), REFUSED, id="no-name"),
        pytest.param(CSV.replace("a,REAL,1\n", "a,REAL,1,x\n"), REFUSED, id="one-cell-more", marks=RARE),
        pytest.param("video,label,p_real\na,REAL,0.5,x\nb,FAKE,0.5,x\n", REFUSED, id="one-cell-more-everywhere"),
        pytest.param(CSV.replace("b,FAKE,0.25", "b,FAKE"), REFUSED, id="one-cell-less"),
        pytest.param(
            CSV.replace("video,", "video,p_real,", 1).replace("a,R", "a,1,R").replace("b,F", "b,1,F"),
            REFUSED,
            id="two-columns-of-one-name",
        ),  # fmt: skip
        pytest.param("Video," + CSV.replace("\n", "\nx,").removesuffix("x,"), TWO, id="names-that-differ-in-case"),
        pytest.param("\ufeff" + CSV.replace("\n", "\r\n"), TWO, id="bom-and-crlf"),
        pytest.param(CSV + "\n\n", TWO, id="empty-lines", marks=RARE),
        pytest.param(
            '"video","label","p_real"\n"a","REAL","0.75"\n"a, ""b""","","0.5"\n',
            {"a": ("REAL", 0.75, 1), 'a, "b"': ("", 0.5, 1)},
            id="quotes",
        ),  # fmt: skip
        pytest.param(
            "file,p_real\nreal/a-000-00.png,0.75\n", {"a": ("REAL", 0.75, 1)}, id="names-of-faces", marks=RARE
        ),
        pytest.param("file,p_real\nreal/a-000-00.png,\n", REFUSED, id="names-of-faces-without-a-score"),
        pytest.param("file,p_real\n,0.5\n", REFUSED, id="no-name-of-a-face", marks=RARE),
        pytest.param("file,p_real\nreal/a-0000000000000000000-00.png,0.5\n", REFUSED, id="frame-of-19-digits"),
        pytest.param("video;label;p_real\na;REAL;0.5\n", REFUSED, id="semicolons", marks=RARE),
        pytest.param("video,label,p_real\n", REFUSED, id="header-only"),
        pytest.param(LINES, OVER_LINES, id="name-over-two-lines"),
        pytest.param("\ufeff" + LINES.replace("\n", "\r\n"), OVER_LINES, id="name-over-two-lines-crlf-bom"),
        pytest.param(LINES.replace("x\n", "x\r\n"), OVER_LINES, id="name-over-two-lines-crlf-within", marks=RARE),
        pytest.param(
            'video,p_real,note\na,0.75,"one\n\ntwo"\nb,0.25,\n', {"a": ("", 0.75, 1), "b": ("", 0.25, 1)},
            id="note-over-lines",
        ),
        pytest.param('video,label,p_real\n"x\na,REAL,0.5\ny",FAKE,0.25\n',
                     {"x\na,REAL,0.5\ny": ("FAKE", 0.25, 1)}, id="name-that-holds-a-row"),
        pytest.param('file,p_real\n"real/x\ny-000-00.png",0.5\n', {"x\ny": ("REAL", 0.5, 1)}, id="face-over-lines",
                     marks=RARE),
        pytest.param("video,p_real,note\na,0.5\nb,0.5,\n", REFUSED, id="one-cell-less-of-others"),
        pytest.param(CSV.replace("b,", '"b,'), REFUSED, id="quote-without-an-end", marks=RARE),
        pytest.param(CSV.replace("b,", '"b"c,'), REFUSED, id="text-behind-a-quote", marks=RARE),
        pytest.param(CSV + "   \n", TWO, id="line-of-blanks", marks=RARE),
        pytest.param(CSV.replace("b,", "caf\udce9,"), REFUSED, id="latin-1"),
        pytest.param(CSV.replace("b,", '"' + "x" * 140_000 + '",'), REFUSED, id="endless-cell", marks=RARE),
    ],
)  # fmt: skip
def test_csv(spark, tmp_path, text, expected):
    (tmp_path / "s.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    agree(spark, tmp_path / "s.csv", expected)


@pytest.mark.parametrize(
    "columns, expected",
    [
        pytest.param({}, TWO, id="plain"),
        pytest.param({"label": [1, 1, 0]}, TWO, id="whole-labels", marks=RARE),
        pytest.param({"label": [1.0, 1.0, 0.0]}, TWO, id="labels-with-a-fraction", marks=RARE),
        pytest.param({"label": [1.0, None, 0.0]}, TWO, id="labels-with-a-gap"),
        pytest.param({"label": pa.array([None] * 3)}, {k: ("", *v[1:]) for k, v in TWO.items()}, id="no-label"),
        pytest.param({"label": [True, True, False]}, REFUSED, id="truth-values-as-labels", marks=RARE),
        pytest.param({"label": [["REAL"]] * 3}, REFUSED, id="lists-as-labels", marks=RARE),
        pytest.param({"video": [["a"], ["a"], ["b"]]}, REFUSED, id="lists-as-names"),
        pytest.param({"video": [b"a", b"a", b"b"]}, REFUSED, id="bytes-as-names"),
        pytest.param({"video": [{"n": "a"}] * 3}, REFUSED, id="structs-as-names", marks=RARE),
        pytest.param({"video": [1, 1, 2]}, {"1": TWO["a"], "2": TWO["b"]}, id="whole-names"),
        pytest.param({"video": [1.0, 1.0, 2.0]}, REFUSED, id="names-with-a-fraction", marks=RARE),
        pytest.param({"video": pa.array(VIDEO).dictionary_encode()}, TWO, id="dictionary"),
        pytest.param({"video": pa.array(VIDEO, pa.large_string())}, TWO, id="large-text", marks=RARE),
        pytest.param({"p_real": [[0.5], [1.0], [0.25]]}, REFUSED, id="lists-as-scores"),
        pytest.param({"p_real": [{"p": 0.5}] * 3}, REFUSED, id="structs-as-scores", marks=RARE),
        pytest.param({"p_real": [b"0.5", b"1", b"0.25"]}, REFUSED, id="bytes-as-scores", marks=RARE),
        pytest.param({"p_real": [True, True, False]}, REFUSED, id="truth-values-as-scores"),
        pytest.param({"p_real": [datetime.datetime(2020, 1, 1)] * 3}, REFUSED, id="times-as-scores", marks=RARE),
        pytest.param({"p_real": ["0.5", "1", " 0.25"]}, TWO, id="scores-as-text", marks=RARE),
        pytest.param({"p_real": ["0.5", "1", "0.25f"]}, REFUSED, id="scores-as-javas-text"),
        pytest.param({"p_real": ["0.5", "1", " "]}, BLANK, id="blank-text"),
        pytest.param({"p_real": [0.5, 1.0, None]}, BLANK, id="null", marks=RARE),
        pytest.param({"p_real": [0.5, 1.0, float("nan")]}, BLANK, id="nan"),
        pytest.param({"p_real": [0.5, 1.0, 1.5]}, REFUSED, id="beyond-1", marks=RARE),
        pytest.param({"p_real": pa.array(P, pa.float32())}, TWO, id="float32", marks=RARE),
        pytest.param({"p_real": [decimal.Decimal(str(p)) for p in P]}, TWO, id="decimal"),
        pytest.param({"Video": [1, 2, 3], "more": [[1], [2], [3]], "raw": [b"x"] * 3}, TWO, id="other-columns"),
        pytest.param({"group": [["g"]] * 3}, REFUSED, id="lists-as-groups"),
        pytest.param({"group": [1, 1, None]}, TWO, id="whole-groups-with-a-gap", marks=RARE),
        pytest.param({"time_s": [b"0"] * 3}, REFUSED, id="bytes-as-times", marks=RARE),
    ],
)
def test_parquet(spark, tmp_path, columns, expected):
    pq.write_table(pa.table({"video": VIDEO, "label": LABEL, "p_real": P} | columns), tmp_path / "s.parquet")
    agree(spark, tmp_path / "s.parquet", expected)


def test_parquet_of_pandas(spark, tmp_path):
    table = pd.DataFrame({"video": pd.Categorical(VIDEO), "label": LABEL, "p_real": np.array(P, np.float16)})
    table.astype({"p_real": np.float32}).to_parquet(tmp_path / "s.parquet")
    agree(spark, tmp_path / "s.parquet", TWO)


@pytest.mark.parametrize(
    "score, expected",
    [
        pytest.param("0.5", {"a": ("REAL", 0.5, 1)}, id="plain"),
        pytest.param("5e-1", {"a": ("REAL", 0.5, 1)}, id="exponent", marks=RARE),
        pytest.param("1", {"a": ("REAL", 1.0, 1)}, id="whole", marks=RARE),
        *(pytest.param(t, REFUSED, id=t) for t in ("0.5d", ".5", '"0.5"')),
        *(pytest.param(t, REFUSED, id=t, marks=RARE) for t in ("0x1", "1.", "+0.5", "NaN", "null", "true", "[0.5]")),
    ],
)
def test_json(spark, tmp_path, score, expected):
    (tmp_path / "s.json").write_text(f'[["real\\/a-000-00.png",{score}]]')
    agree(spark, tmp_path / "s.json", expected)


@pytest.mark.parametrize(
    "files, expected",
    [
        pytest.param({"1.csv": CSV, "2.csv": ""}, TWO, id="an-empty-file-beside"),
        pytest.param({"2.csv": ""}, REFUSED, id="only-an-empty-file", marks=RARE),
        pytest.param({"1.csv": CSV, ".hidden.csv": "x", "_SUCCESS": "", "notes.txt": "x"}, TWO, id="what-spark-leaves"),
        pytest.param({"s.csv/part-0.csv": CSV, "s.csv/_SUCCESS": ""}, TWO, id="a-folder-that-spark-wrote"),
        pytest.param(
            {"1.csv": CSV, "2.json": json.dumps([["real/a-000-00.png", 0.75]])},
            TWO | {"a": ("REAL", 0.75, 3)},
            id="two-forms",
        ),  # fmt: skip
    ],
)
def test_folder(spark, tmp_path, files, expected):
    for name, text in files.items():
        path = tmp_path / "scores" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    agree(spark, tmp_path / "scores", expected)


OK, NO_FACE, ERROR = "ok", "no face", "error"
#: As predict.py --csv writes it: a video that is judged, one without a face, one that failed.
PREDICTED = 'video,verdict,p_real,error,note\na,REAL,0.9,,\nb,NO FACE,,,\nc,,,"no video\n(hint: x)",\n'


@pytest.mark.parametrize(
    "files, expected",
    [
        pytest.param({"s.csv": PREDICTED}, [OK, NO_FACE, ERROR], id="predict.py"),
        pytest.param(
            {"s.csv": "video,p_real,status\na,0.9,ok\nb,,no face\nc,, Error \n"}, [OK, NO_FACE, ERROR], id="status"
        ),
        pytest.param({"s.csv": "video,p_real,error\na,0.9,\nb,, \nc,,x\n"}, [OK, NO_FACE, ERROR], id="error-alone"),
        pytest.param(
            {"s.csv": "video,p_real,status,error\na,0.9,error,x\nb,,no face,x\nc,,,x\n"},
            [OK, NO_FACE, ERROR],
            id="a-score-goes-first-then-status",
        ),
        pytest.param({"s.csv": "video,p_real,status\na,,ok\nb,,\nc,,no frames\n"}, [NO_FACE, NO_FACE, "no frames"],
                     id="another-word", marks=RARE),
        pytest.param(
            {"s.csv": "video,p_real,status\na,0.9,\na,,error\nb,,no face\nc,,no face\nc,,error\nc,,\n"},
            [OK, NO_FACE, ERROR],
            id="several-rows",
        ),
        pytest.param({"s.csv": "video,p_real\na,0.9\nb,\nc,\n"}, [OK, NO_FACE, NO_FACE], id="neither-column"),
        pytest.param(
            {
                "1.parquet": {"video": ["a", "b"], "p_real": [0.9, None]},
                "2.parquet": {"video": ["c"], "p_real": [None], "error": ["x"], "status": pa.array([None])},
            },
            [OK, NO_FACE, ERROR],
            id="parquet-only-one-with-the-columns",
        ),
        pytest.param(
            {"s.parquet": {"video": list("abc"), "p_real": [0.9, None, None], "error": pa.array([None] * 3, "f8")}},
            [OK, NO_FACE, NO_FACE],
            id="empty-column-of-pandas",
        ),
    ],
)  # fmt: skip
def test_a_video_that_failed_is_no_video_without_a_face(spark, tmp_path, files, expected):
    for name, content in files.items():
        if isinstance(content, str):
            (tmp_path / name).write_text(content)
        else:
            p_real = pa.array(content["p_real"], "f8")
            pq.write_table(pa.table(content | {"p_real": p_real}), tmp_path / name)
    by_evaluate = scored_videos.video_table(scores.read_scores(tmp_path))
    assert by_evaluate["status"].tolist() == expected
    table = stage.video_table(spark, str(tmp_path))
    assert table["status"].tolist() == [s if s in (OK, NO_FACE) else ERROR for s in expected]
