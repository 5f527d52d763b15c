"""Stage 04 on real files: the published one, hand-made ones with known means, and everything that a file can get
wrong."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from deepfake_detection import scores
from deepfake_detection.errors import UserError
from deepfake_detection.spark import score_readers
from deepfake_detection.spark import video_predictions as stage

ROWS = [
    ["real/a-b-000-00.png", 0.9],
    ["real/a-b-001-00.png", 0.7],
    ["real/a-b-001-01.png", 0.5],
    ["real/c-000-00.png", 0.5],
    ["fake/d-000-00.png", 0.1],
    ["fake/d-001-00.png", 0.3],
    ["fake/e-2-000-00.png", 0.75],
    ["fake/f-000-00.png", 0.5 - 1e-9],
]
EXPECTED = {
    "a-b": ("REAL", 0.7, 3),
    "c": ("REAL", 0.5, 1),
    "d": ("FAKE", 0.2, 2),
    "e-2": ("FAKE", 0.75, 1),
    "f": ("FAKE", 0.5, 1),
}


def published(path, rows=ROWS):
    scores.write_cnn_preds(path, [r[0] for r in rows], [r[1] for r in rows])
    return path


def as_dict(table):
    return {v: (label, round(p, 6), frames) for v, label, p, frames, _ in table.itertuples(index=False)}


@pytest.mark.parametrize(
    "write",
    [
        lambda p, t: p.write_text(t),
        lambda p, t: p.write_text(t + "\n"),
        lambda p, t: p.write_text(json.dumps(json.loads(t))),  # ", " between records
        lambda p, t: p.write_text(json.dumps(json.loads(t), indent=2) + "\n\n"),
        lambda p, t: p.write_bytes(t.replace("],", "],\r\n").encode()),
        lambda p, t: p.write_bytes(b"\xef\xbb\xbf" + t.encode()),
    ],
    ids=["published", "newline", "spaces", "indented", "crlf", "bom"],
)
def test_every_way_to_write_the_array_gives_the_same_videos(spark, tmp_path, write):
    text = published(tmp_path / "a.json").read_text()
    write(tmp_path / "a.json", text)
    assert as_dict(stage.video_table(spark, str(tmp_path / "a.json"))) == EXPECTED


def test_csv_files_with_different_columns_are_refused_not_mixed(spark, tmp_path):
    (tmp_path / "1.csv").write_text("video,label,p_real\na,REAL,0.9\n")
    (tmp_path / "2.csv").write_text("label,video,p_real\nREAL,b,0.9\n")
    with pytest.raises(UserError, match="cannot read these scores"):
        stage.video_table(spark, str(tmp_path))


def test_names_with_dashes_quotes_unicode_and_commas(spark, tmp_path):
    titles = ["my-clip-2", "été", 'a"b', "x, y", "[1]", "123-000-00", "emoji 🎥", "back\\slash"]
    rows = [[f"real/{t}-000-00.png", 0.25] for t in titles]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    found = list(stage.video_table(spark, str(tmp_path / "a.json"))["video"])
    assert sorted(found) == sorted(t.replace("back\\slash", "slash") for t in titles)
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False).replace("real/", "real\\/"))
    assert sorted(stage.video_table(spark, str(tmp_path / "a.json"))["video"]) == sorted(found)


def test_csv_parquet_and_a_folder_of_many_agree_with_the_json(spark, tmp_path):
    table = scores.read_scores(published(tmp_path / "a.json"))
    (tmp_path / "[odd] {name}*").mkdir()
    folder = tmp_path / "[odd] {name}*"
    table.iloc[:3].to_parquet(folder / "one.parquet")
    table.iloc[3:4].to_parquet(folder / "two.parquet")
    published(folder / "three.json", ROWS[-2:])
    pd.DataFrame(ROWS[4:6], columns=["file", "p_real"]).to_csv(folder / "names.csv", index=False)
    (folder / "notes.txt").write_text("not a score file")
    assert as_dict(stage.video_table(spark, str(folder))) == EXPECTED
    table.to_parquet(tmp_path / "a.parquet")
    assert as_dict(stage.video_table(spark, str(tmp_path / "a.parquet"))) == EXPECTED


def test_one_job_and_every_row_is_read_once(spark, tmp_path):
    rows = [
        [f"{'real' if v % 2 else 'fake'}/v{v}-{f:03d}-00.png", (v * 7 + f) % 10 / 10]
        for v in range(40)
        for f in range(50)
    ]
    path = published(tmp_path / "a.json", rows)
    store = spark.sparkContext._jsc.sc().statusStore()
    before = store.jobsList(None).size()
    table = stage.video_table(spark, str(path))
    stage.write(table, str(path), tmp_path / "out", resamples=50)
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()
    jobs = [store.jobsList(None).apply(i) for i in range(store.jobsList(None).size())]
    assert len(jobs) - before == 1
    newest = max(jobs, key=lambda j: j.jobId())
    assert newest.stageIds().size() == 2
    records = 0
    for i in range(2):
        records += store.lastStageAttempt(newest.stageIds().apply(i)).inputRecords()
    assert records == len(rows)
    assert table["frames"].sum() == len(rows)


def test_same_bytes_whatever_the_partitions_and_the_order(spark, tmp_path):
    rng = np.random.default_rng(3)
    rows = [
        [f"{'real' if v % 2 else 'fake'}/v{v}-{f:03d}-00.png", float(rng.random())]
        for v in range(30)
        for f in range(40)
    ]
    outputs = set()
    for split, order in ((2**20, 1), (2**12, 1), (2**14, -1)):
        spark.conf.set("spark.sql.files.maxPartitionBytes", str(split))
        try:
            path = published(tmp_path / f"{split}" / "a.json", rows[::order])
            faces, _ = score_readers.read_faces(spark, str(path))
            parts = faces.rdd.getNumPartitions()
            out = tmp_path / f"out{split}"
            stage.write(stage.video_table(spark, str(path)), str(path), out, resamples=50)
        finally:
            spark.conf.unset("spark.sql.files.maxPartitionBytes")
        assert (parts > 2) == (split < 2**20)
        outputs.add(tuple((out / name).read_bytes() for name in (stage.RESULT, stage.PREDICTIONS, stage.CONFUSION)))
    assert len(outputs) == 1
    means = pd.DataFrame(rows, columns=["name", "p"]).groupby(lambda i: f"v{i // 40}")["p"].mean()
    got = pd.read_csv(tmp_path / "out4096" / stage.PREDICTIONS, index_col="video")["p_real"]
    assert np.abs(got - means).max() < 1e-8  # the JSON keeps ten decimals


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            '[["real/a-000-00.png",0.5],["real/b.png",0.5]]',
            "1 row cannot be read as scores, e.g. '[\"real/b.png\",0.5]]'|1 row cannot be read as scores",
        ),
        ('[["real/a-000-00.png",0.5],["real/b-000-00.png",1.5]]', "1 row cannot be read as scores"),
        ('[["real/a-000-00.png",NaN]]', "1 row cannot be read as scores"),
        ('[["real/a-000-00.png",null]]', "1 row cannot be read as scores"),
        ('[["real/a-000-00.png","x"]]', "1 row cannot be read as scores"),
        ('[["real/a-000-00.png",0.5],["real/a-001-00.png",0.98', "cut short"),
        ('[["real/a-000-00.png",0.5],', "cut short"),
        ('[["real/a-000-00.png",0.5],["fake/a-001-00.png",0.4]]', "both real and fake: 1 video, e.g. 'a'"),
        ("[]", "no scores here"),
        ('{"a": 1}', "1 row cannot be read as scores"),
    ],
)
def test_what_is_no_score_file_is_refused_in_one_line(spark, as_session, tmp_path, text, expected):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError) as e:
        stage.run(tmp_path / "a.json", tmp_path / "out")
    assert any(x in str(e.value) for x in expected.split("|")) and "\n" not in str(e.value)
    assert not (tmp_path / "out" / stage.RESULT).exists()


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda p: None, "no such score file"),
        (lambda p: p.mkdir(), "no score file here"),
        (lambda p: (p.mkdir(), (p / "a.csv").write_text("title,score\nx,1\n")), "columns video and p_real"),
        (
            lambda p: (p.mkdir(), (p / "a.csv").write_text("video,label,p_real\nx,MAYBE,0.5\n")),
            "1 row cannot be read as scores, e.g. 'x,0.5'",
        ),
        (
            lambda p: (p.mkdir(), (p / "a.csv").write_text("video,label,p_real\nx,REAL,nan\n")),
            "1 row cannot be read as scores",
        ),
        (lambda p: (p.mkdir(), (p / "a.parquet").write_text("not parquet at all")), "this is no whole Parquet file"),
    ],
)
def test_folders_that_hold_no_scores(spark, as_session, tmp_path, make, expected):
    make(tmp_path / "in")
    with pytest.raises(UserError, match="hint:") as e:
        stage.run(tmp_path / "in", tmp_path / "out")
    assert expected in str(e.value)


def test_results_of_known_scores(spark, tmp_path):
    path = published(tmp_path / "a.json")
    result = stage.write(stage.video_table(spark, str(path)), str(path), tmp_path, resamples=50)
    written = pd.read_csv(tmp_path / stage.PREDICTIONS)
    assert list(written.columns) == ["video", "label", "p_real", "verdict", "correct", "frames"]
    # c lies on the tie and is REAL; f lies just below it and is FAKE; e-2 is the one mistake.
    assert dict(zip(written.video, written.verdict)) == {
        "a-b": "REAL",
        "c": "REAL",
        "d": "FAKE",
        "e-2": "REAL",
        "f": "FAKE",
    }
    assert dict(zip(written.video, written.correct)) == {"a-b": 1, "c": 1, "d": 1, "e-2": 0, "f": 1}
    text = (tmp_path / stage.RESULT).read_text()
    assert "overall            4 of 5    80.0 %" in text and "real               2 of 2   100.0 %" in text
    assert "Called wrongly: 1" in text and "e-2" in text
    assert result.metrics["auc"]["value"] == pytest.approx(4 / 6)  # pairs real > fake: a-b over d, f; c over d, f
    assert (tmp_path / stage.CONFUSION).stat().st_size > 5000


def test_unlabelled_videos_are_judged_but_not_scored(spark, tmp_path):
    path = published(tmp_path / "a.json", [["x-000-00.png", 0.9], ["unlabelled/y-000-00.png", 0.2]])
    (tmp_path / stage.CONFUSION).write_bytes(b"of an earlier run")
    result = stage.write(stage.video_table(spark, str(path)), str(path), tmp_path)
    assert (
        tmp_path / stage.PREDICTIONS
    ).read_text() == "video,label,p_real,verdict,correct,frames\nx,,0.9,REAL,,1\ny,,0.2,FAKE,,1\n"
    assert result.metrics["auc"] == {"refused": "no scores"} and not (tmp_path / stage.CONFUSION).exists()
    assert "AUC       not computed: no scores" in result.text


def test_one_class_and_a_video_without_a_face(spark, tmp_path):
    (tmp_path / "scores.csv").write_text("video,label,p_real\na,REAL,0.9\nb,REAL,\n")
    result = stage.write(stage.video_table(spark, str(tmp_path / "scores.csv")), "scores.csv", tmp_path, resamples=50)
    assert (tmp_path / stage.PREDICTIONS).read_text().splitlines()[1:] == ["a,REAL,0.9,REAL,1,1", "b,REAL,,NO FACE,,0"]
    assert "AUC       not computed: no fake video" in result.text and "1 without a face" in result.text


def test_a_video_that_failed_is_told_apart(spark, tmp_path):
    (tmp_path / "v.csv").write_text("video,label,p_real,error\na,REAL,0.9,\nb,REAL,,\nc,FAKE,,no video stream\n")
    result = stage.write(stage.video_table(spark, str(tmp_path / "v.csv")), "v.csv", tmp_path, resamples=50)
    rows = (tmp_path / stage.PREDICTIONS).read_text().splitlines()[1:]
    assert rows == ["a,REAL,0.9,REAL,1,1", "b,REAL,,NO FACE,,0", "c,FAKE,,ERROR,,0"]
    assert "3: 2 real, 1 fake; 1 without a face; 1 failed" in result.text


def test_no_cell_is_run_by_a_spreadsheet(spark, tmp_path):
    path = published(
        tmp_path / "a.json", [["real/=1+1-000-00.png", 0.9], ["fake/@x-000-00.png", 0.1], ["fake/-y-000-00.png", 0.1]]
    )
    stage.write(stage.video_table(spark, str(path)), str(path), tmp_path, resamples=50)
    assert not [line for line in (tmp_path / stage.PREDICTIONS).read_text().splitlines() if line[0] in "=@-+"]


def test_the_published_file(spark, shared, tmp_path):
    path = shared / "reference" / "brown_cv" / "cnn_preds_values.json"
    result = stage.write(stage.video_table(spark, str(path)), str(path), tmp_path, resamples=200)
    videos = result.videos
    assert len(videos) == 39 and sum(videos.correct) == 38
    means = videos.groupby("label")["p_real"].mean()
    assert means["REAL"] == pytest.approx(0.9092749931654972, abs=1e-10) and means["FAKE"] == pytest.approx(
        0.1795922879993914, abs=1e-10
    )
    assert pd.crosstab(videos.label, videos.verdict).loc[["REAL", "FAKE"], ["REAL", "FAKE"]].to_numpy().tolist() == [
        [19, 0],
        [1, 19],
    ]
    for part in ("38 of 39    97.4 %", "real     0.9093", "fake     0.1796", "AUC       0.995"):
        assert part in result.text
    reference = dict(
        re.findall(r"^\d+ +(\w+) +([01]) +[01] *$", path.with_name("mapreduce_res.txt").read_text(), re.MULTILINE)
    )
    assert len(reference) == 39
    assert {v: str(int(x == "REAL")) for v, x in zip(videos.video, videos.verdict)} == reference


def test_the_script_as_a_user_runs_it(project, tmp_path):
    published(tmp_path / "cnn_preds_values.json")
    done = subprocess.run(
        [sys.executable, str(project / "04_mapreduce_video_preds.py"), "--out", str(tmp_path), "--master", "local[1]"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
    assert "4 of 5" in done.stdout and str(tmp_path / "mapreduce_res.txt") in done.stdout
    assert (tmp_path / "stage_reports" / "04_mapreduce_video_preds_settings.json").exists()
    for arguments, expected in (
        (["--preds", "nowhere.json"], "no such score file"),
        (["--nonsense"], "unrecognized arguments"),
    ):
        done = subprocess.run(
            [sys.executable, str(project / "04_mapreduce_video_preds.py"), *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 2 and expected in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "people, said",
    [
        pytest.param(12, "resamples of the 12 groups of people", id="many groups"),
        pytest.param(2, "No interval: 2 groups of people are too few", id="two groups"),
        pytest.param(None, "resamples of the videos", id="no table of groups"),
    ],
)
def test_intervals_resample_people_where_stage_02_says_who_they_are(tmp_path, people, said):
    titles = [f"v{i}" for i in range(24)]
    table = pd.DataFrame(
        {
            "video": titles,
            "label": ["REAL", "FAKE"] * 12,
            "p_real": [0.5 + 0.01 * i * (1 if i % 2 else -1) for i in range(24)],
            "frames": 3,
            "status": "ok",
        }
    )
    if people:
        pd.DataFrame({"title": titles, "group": [f"g{i % people}" for i in range(24)]}).to_csv(
            tmp_path / "split_manifest.csv", index=False
        )
    text = stage.write(table, "x.json", tmp_path).text
    assert said in text
    assert ("0.000 to" in text or " to " in text.split("Metrics")[1].split("Called")[0]) == (people != 2)
