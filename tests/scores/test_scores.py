"""Score files: the published layout byte by byte, every other form, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from deepfake_detection import scores
from deepfake_detection.errors import UserError


@pytest.mark.parametrize(
    "name, expected",
    [
        ("real/dmupfdcvca-002-00.png", ("REAL", "dmupfdcvca", 2, 0)),
        ("fake/my-clip-2-010-03.png", ("FAKE", "my-clip-2", 10, 3)),
        ("FAKE/-a-1234-00.PNG", ("FAKE", "-a", 1234, 0)),
        ("a-000-00.jpg", ("", "a", 0, 0)),
        ("unlabelled/a-000-00.png", ("", "a", 0, 0)),
        ("split/test/real/a-000-00.png", ("REAL", "a", 0, 0)),
        ("real\\a-000-00.png", ("REAL", "a", 0, 0)),
        ("really/a-000-00.png", ("", "a", 0, 0)),
        ("real/x.mp4-000-00.png", ("REAL", "x.mp4", 0, 0)),
    ],
)
def test_names(name, expected):
    assert scores.parse_face_name(name) == expected


@pytest.mark.parametrize(
    "name", ["", "real/a.png", "real/a-000.png", "real/-000-00.png", "real/a-000-00.mp4", "real/a-b-c.png"]
)
def test_no_names(name):
    with pytest.raises(ValueError):
        scores.parse_face_name(name)


def test_published_bytes(tmp_path):
    scores.write_cnn_preds(
        tmp_path / "a.json",
        ["real/dmupfdcvca-002-00.png", "fake/é-000-00.png"],
        np.array([[0.98906213051], [6.09827e-05]]),
    )
    assert (
        tmp_path / "a.json"
    ).read_text() == '[["real\\/dmupfdcvca-002-00.png",0.9890621305],["fake\\/\\u00e9-000-00.png",0.0000609827]]'
    for names, p in (
        (["x"], [0.5]),
        (["a-000-00.png"], [1.5]),
        (["a-000-00.png"], [float("nan")]),
        (["a-000-00.png"], [0.5, 0.5]),
    ):
        with pytest.raises(ValueError):
            scores.write_cnn_preds(tmp_path / "b.json", names, p)
    assert not (tmp_path / "b.json").exists()


def test_the_published_file_is_written_back_byte_by_byte(shared, tmp_path):
    path = shared / "reference" / "brown_cv" / "cnn_preds_values.json"
    rows = json.loads(path.read_text())
    scores.write_cnn_preds(tmp_path / "a.json", [r[0] for r in rows], [r[1] for r in rows])
    assert json.loads((tmp_path / "a.json").read_text()) == rows
    assert (tmp_path / "a.json").read_text()[:200] == path.read_text()[:200]
    table = scores.read_scores(path)
    assert table["video"].nunique() == 39 and len(table) == len(rows) and set(table["label"]) == {"REAL", "FAKE"}


def test_json_rows_come_in_time_order(tmp_path):
    rows = [
        ["real/a-010-00.png", 0.3],
        ["real/a-002-01.png", 0.2],
        ["real/a-002-00.png", 0.1],
        ["fake/b-000-00.png", 0.9],
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    table = scores.read_scores(tmp_path / "a.json")
    assert list(table.columns) == [*scores.COLUMNS, "status"] and list(table["p_real"]) == [0.1, 0.2, 0.3, 0.9]
    assert list(table["group"]) == ["a", "a", "a", "b"] and scores.label_numbers(table["label"]).tolist() == [
        1,
        1,
        1,
        0,
    ]


@pytest.mark.parametrize(
    "files, said",
    [
        pytest.param({"1.json": ["real/a-000-00.png", "real/a-000-01.png", "real/a-001-00.png"]}, "", id="none"),
        pytest.param({"1.json": ["real/a-000-00.png"] * 3}, "2 rows", id="in one file"),
        pytest.param({n: ["real/a-000-00.png", "fake/b-012-00.png"] for n in ("1.json", "copy.json")}, "2 rows",
                     id="a copy beside"),
        pytest.param({"1.csv": "video,p_real\na,0.5\na,0.5\n"}, "", id="no names of faces"),
    ],
)  # fmt: skip
def test_a_face_that_is_there_twice_is_said(tmp_path, capsys, files, said):
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps([[face, 0.5] for face in content])
        (tmp_path / name).write_text(text)
    scores.read_scores(tmp_path)
    found = capsys.readouterr().err
    assert found.startswith(f"note: {said} with the name") and "e.g. a-000-00;" in found if said else not found
    assert found.count("\n") == bool(said)


CSV = """video,label,group,dataset,manipulation,person,time_s,p_real
007,REAL,g1,dfdc,,p0,1.0,0.7
007,REAL,g1,dfdc,,p0,0.0,0.9
007,REAL,g1,dfdc,,p1,0.0,0.2
NA,0,g2,ffpp,Deepfakes/c23,,0.0,1e-3
=x,fake,,,,,,
"""


def test_csv_parquet_and_folder(tmp_path):
    (tmp_path / "s.csv").write_text(CSV)
    table = scores.read_scores(tmp_path / "s.csv")
    assert sorted(set(table["video"])) == ["007", "=x", "NA"]  # not a number, not missing
    assert table.set_index("video")["label"].to_dict() == {"007": "REAL", "NA": "FAKE", "=x": "FAKE"}
    assert table.set_index("video")["group"].to_dict() == {"007": "g1", "NA": "g2", "=x": "=x"}
    people = scores.by_person(table)
    assert (
        list(people) == ["007", "NA"]
        and people["007"]["p0"].tolist() == [0.9, 0.7]
        and people["007"]["p1"].tolist() == [0.2]
    )
    table.to_parquet(tmp_path / "s.parquet")
    pd.testing.assert_frame_equal(scores.read_scores(tmp_path / "s.parquet"), table)
    folder = tmp_path / "many"
    folder.mkdir()
    table.iloc[:2].to_csv(folder / "1.csv", index=False)
    table.iloc[2:].to_parquet(folder / "2.parquet")
    pd.testing.assert_frame_equal(scores.read_scores(folder), table)


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("a.json", "[", "not valid JSON"),
        ("a.json", "{}", "not a list"),
        ("a.json", "[]", "no rows"),
        ("a.json", '[["real/a-000-00.png"]]', "row 1 is not a pair"),
        ("a.json", '[{"video": "a.mp4", "verdict": null, "p_real": null}]', "predict.py --csv FILE"),
        ("a.json", '{"video": "a.mp4", "verdict": "REAL", "p_real": 0.9}', "predict.py --csv FILE"),
        ("a.json", '[["real/a-000-00.png",0.5],["a",0.5]]', "row 2 does not name a face: 'a'"),
        ("a.json", '[["real/a-000-00.png",1.5]]', "row 1 has the score 1.5"),
        ("a.json", '[["real/a-000-00.png",null]]', "row 1 has the score None"),
        ("a.json", '[["real/a-000-00.png",NaN]]', "row 1 has the score nan"),
        ("a.json", '[["real/a-000-00.png",0.5],["fake/a-001-00.png",0.5]]', "both REAL and FAKE: 1 video, e.g. 'a'"),
        ("a.csv", "video,score\na,1\n", "columns video and p_real are not both there"),
        ("a.csv", "", "cannot be read"),
        ("a.csv", "video,label,p_real\na,MAYBE,0.5\n", "row 1 has the label 'MAYBE'"),
        ("a.csv", "video,p_real\na,0.5\nb,nan\n", "row 2 has the score 'nan'"),
        ("a.csv", "video,p_real\n,0.5\n", "row 1 names no video"),
        ("a.parquet", "not parquet", "cannot be read"),
        ("a.txt", "x", "not a score file"),
    ],
)
def test_refusals_name_the_file_and_the_row(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="hint:") as e:
        scores.read_scores(tmp_path / name)
    assert expected in str(e.value) and name in str(e.value)


def test_nothing_there(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UserError):
            scores.read_scores(path)
