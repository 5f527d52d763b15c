"""The Spark job's rows: equal to the fused path's, whatever the number of executors, restarts and dying processes."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from deepfake_detection.datasets.manifest import read_manifest
from deepfake_detection.errors import UserError
from deepfake_detection.spark import arrays, face_parts, preprocess, surroundings
from tests.clips import dfdc_folder, faces_of_video, moving_face, pattern, truncated, write_video
from tests.processes import heed_interrupts

SETTINGS = face_parts.Settings()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six clips of 3 s: two with a face, one of them fake, one without, a cut one, an empty one; and a label without a
    video."""
    made = tmp_path_factory.mktemp("clips")
    face = write_video(made / "a.mp4", moving_face(90), container_options={"movflags": "faststart"}, gop=15)
    late = write_video(made / "b.mp4", moving_face(90, absent=range(0, 40)))
    wall = write_video(made / "c.mp4", pattern(60))
    empty = made / "e.mp4"
    empty.touch()
    clips = {
        "face.mp4": face,
        "late.mp4": late,
        "wall.mp4": wall,
        "cut.mp4": truncated(face, made / "d.mp4", 0.5),
        "empty.mp4": empty,
    }
    data = dfdc_folder(made / "data", clips, {"late.mp4": "face.mp4"})
    metadata = (data / "metadata.json").read_text()
    (data / "metadata.json").write_text(metadata[:-1] + ', "gone.mp4": {"label": "FAKE", "original": "face.mp4"}}')
    return data


def table(out):
    """All rows, as one table in the files' order."""
    return pd.concat([pq.read_table(p).to_pandas() for p in sorted(out.glob("part-*.parquet"))], ignore_index=True)


@pytest.fixture(scope="module")
def made_here(folder, tmp_path_factory):
    """The bundles as the executor's function makes them, called in this process: no Spark."""
    out = tmp_path_factory.mktemp("here")
    bundles = face_parts.plan(read_manifest(folder), folder, SETTINGS, 2)
    for bundle in bundles:
        face_parts.make_bundle(dataclasses.asdict(SETTINGS), str(folder), str(out), (bundle.file, bundle.rows))
    return out, bundles


def test_rows_are_those_of_the_fused_path(folder, made_here):
    import cv2

    from deepfake_detection.video import sampling

    rows = table(made_here[0])
    assert list(rows.columns) == face_parts.schema().names
    for title in ("face", "late"):
        wanted = [
            (f, n)
            for f in faces_of_video(
                folder / f"{title}.mp4", sampling=sampling.parse("per-second"), detector="mtcnn_fast"
            )[1]
            for n in range(len(f.faces))
        ]
        got = rows[(rows["title"] == title) & (rows["status"] == "ok")]
        assert len(got) == len(wanted) > 0
        for row, (frame, n) in zip(got.itertuples(), wanted, strict=True):
            assert (row.frame, rows.at[row.Index, "index"], row.face, row.time_s) == (
                frame.frame,
                frame.index,
                n,
                frame.time_s,
            )
            assert np.float32(frame.faces[n].x) == row.x and row.person == frame.faces[n].person
            crop = cv2.cvtColor(cv2.imdecode(np.frombuffer(row.image, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            assert np.array_equal(crop, frame.crops[n])
            assert crop.shape[:2] == (row.crop_y1 - row.crop_y0, row.crop_x1 - row.crop_x0)


def test_every_video_has_a_row(folder, made_here):
    rows = table(made_here[0])
    status = rows.groupby("title")["status"].agg(set).map(lambda s: s if len(s) > 1 else s.pop()).to_dict()
    assert status == {"face": "ok", "late": "ok", "wall": "no face", "cut": "ok", "empty": "error", "gone": "error"}
    assert (
        rows[rows["status"] != "ok"]["image"].isna().all() and (rows[rows["status"] == "error"]["detail"] != "").all()
    )
    assert rows[rows["title"] == "gone"]["detail"].item() == "missing file"
    assert (rows[rows["title"] == "cut"]["detail"] != "").all()  # what is wrong is said, what decodes is kept
    assert rows[rows["title"].isin(["face", "late", "gone"])]["group"].unique().tolist() == ["dfdc_face"]
    account = preprocess.account(read_manifest(folder), *made_here).table().set_index("title")
    assert set(account.index) == set(status)
    assert (
        account.at["late", "frames"] == 3 and account.at["late", "frames_with_face"] == 1 == account.at["late", "faces"]
    )
    assert account.at["empty", "status"] == "error" and account.at["wall", "status"] == "no face"


def test_a_died_attempt_is_made_again_in_processes_of_its_own(folder, made_here, tmp_path):
    out, bundles = made_here
    for bundle in bundles:
        (tmp_path / f".{bundle.file.removesuffix('.parquet')}.started").touch()
        face_parts.make_bundle(dataclasses.asdict(SETTINGS), str(folder), str(tmp_path), (bundle.file, bundle.rows))
    assert {p.name for p in tmp_path.iterdir()} == {b.file for b in bundles}  # no marker, no partial file is left
    assert table(tmp_path).equals(table(out))


def test_a_video_that_kills_its_process_becomes_a_row(folder, tmp_path, monkeypatch):
    from deepfake_detection.video import workers

    monkeypatch.setattr(
        workers, "_parallel", lambda *a: iter([(None, workers.WorkerDied("the worker process was ended by SIGSEGV"))])
    )
    bundle = face_parts.plan(read_manifest(folder), folder, SETTINGS, 100)[0]
    (tmp_path / f".{bundle.file.removesuffix('.parquet')}.started").touch()
    face_parts.make_bundle(dataclasses.asdict(SETTINGS), str(folder), str(tmp_path), (bundle.file, bundle.rows))
    assert set(table(tmp_path)["status"]) == {"error"} and table(tmp_path)["detail"].str.contains("SIGSEGV").sum() == 5


class _OfOpenCV(Exception):
    """An exception that OpenCV or PyAV raises is told by its module."""

    __module__ = "cv2"


@pytest.mark.parametrize("flush", [1, 1 << 30], ids=["rows already spilt", "rows in memory"])
@pytest.mark.parametrize(
    "error, said",
    [
        pytest.param(UserError("cut off", hint="none"), "cut off", id="the file's"),
        pytest.param(MemoryError(), "memory", id="memory"),
        pytest.param(_OfOpenCV("-215"), "OpenCV", id="OpenCV"),
        pytest.param(OSError(5, "Input/output error"), "Input/output", id="disk"),
        pytest.param(None, "", id="none"),
    ],
)
def test_rows_from_before_a_failure_do_not_count(folder, made_here, tmp_path, monkeypatch, error, said, flush):
    rows = face_parts.video_rows

    def fails_late(path, settings, note):
        for number, faces in enumerate(rows(path, settings, note)):
            if error is not None and path.name == "face.mp4" and number == 2:
                raise error
            yield faces

    monkeypatch.setattr(face_parts, "video_rows", fails_late)
    monkeypatch.setattr(face_parts, "_FLUSH_BYTES", flush)
    bundle = face_parts.plan(read_manifest(folder), folder, SETTINGS, 100)[0]
    face_parts.make_bundle(dataclasses.asdict(SETTINGS), str(folder), str(tmp_path), (bundle.file, bundle.rows))
    assert [p.name for p in tmp_path.iterdir()] == [bundle.file]
    made, whole = table(tmp_path), table(made_here[0])
    pd.testing.assert_frame_equal(  # the others, with what is wrong with them in every row
        made[made["title"] != "face"].reset_index(drop=True), whole[whole["title"] != "face"].reset_index(drop=True)
    )
    own = made[made["title"] == "face"]
    account = preprocess.account(read_manifest(folder), tmp_path, [bundle]).table().set_index("title").loc["face"]
    if error is None:
        assert own.equals(whole[whole["title"] == "face"].set_index(own.index)) and account["status"] == "ok"
    else:
        assert own[["status", "frame"]].isna().values.tolist() == [[False, True]] and own["status"].item() == "error"
        assert said in own["detail"].item() and account[["status", "frames", "faces"]].tolist() == ["error", 0, 0]


def test_a_bug_stops_and_leaves_nothing_half(folder, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(face_parts, "video_rows", broken)
    bundle = face_parts.plan(read_manifest(folder), folder, SETTINGS, 100)[0]
    with pytest.raises(ZeroDivisionError):
        face_parts.make_bundle(dataclasses.asdict(SETTINGS), str(folder), str(tmp_path), (bundle.file, bundle.rows))
    assert [p.name for p in tmp_path.iterdir()] == [f".{bundle.file.removesuffix('.parquet')}.started"]


def test_plan_changes_with_settings_and_sources(folder, tmp_path):
    manifest = read_manifest(folder)
    names = [b.file for b in face_parts.plan(manifest, folder, SETTINGS, 2)]
    assert names == [b.file for b in face_parts.plan(manifest, folder, SETTINGS, 2)] and len(names) == 3
    other = [b.file for b in face_parts.plan(manifest, folder, dataclasses.replace(SETTINGS, margin=0.4), 2)]
    assert not set(names) & set(other)
    os.utime(folder / "wall.mp4")
    assert len(set(names) & {b.file for b in face_parts.plan(manifest, folder, SETTINGS, 2)}) == 2


def spark_preprocess(project, *options, **more):
    return subprocess.run(
        [sys.executable, project / "spark_preprocess.py", *map(str, options)],
        capture_output=True,
        text=True,
        cwd=project,
        **more,
    )


@pytest.fixture(scope="module")
def java():
    try:
        surroundings.find_java()
    except UserError as e:
        pytest.skip(str(e))


def test_job_on_one_and_two_cores_interrupted_and_started_again(project, folder, made_here, tmp_path, java):
    out = tmp_path / "out"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    job = subprocess.Popen(
        [
            sys.executable,
            project / "spark_preprocess.py",
            "--data",
            folder,
            "--out",
            out,
            "--bundle",
            "2",
            "--master",
            "local[1]",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=project,
        start_new_session=True,
        text=True,
        preexec_fn=heed_interrupts,
    )
    until = time.monotonic() + 240
    while not list((out / "spark_faces").glob("part-*")) and job.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGINT)
    text = job.communicate(timeout=120)[0]
    stand = {p.name: p.stat().st_mtime_ns for p in (out / "spark_faces").glob("part-*")}
    assert job.returncode in (0, 130) and stand, text
    done = spark_preprocess(
        project, "--data", folder, "--out", out, "--bundle", "2", "--master", "local[2]", "--to-numpy"
    )
    assert done.returncode == 0, done.stderr
    assert table(out / "spark_faces").equals(table(made_here[0]))
    assert all((out / "spark_faces" / name).stat().st_mtime_ns == at for name, at in stand.items())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert not [p for p in (out / "spark_faces").iterdir() if ".partial" in p.name or ".started" in p.name]
    account = pd.read_csv(out / "stage_reports" / "spark_preprocess_videos.csv", keep_default_na=False)
    assert len(account) == 6
    assert np.load(out / "X.npy", mmap_mode="r").shape[1:] == (100, 100, 3)


def test_to_numpy(made_here, tmp_path):
    out, _ = made_here
    made = arrays.to_numpy(out, tmp_path, dimension=40, samples=1, minority_ratio=2)
    x, y = np.load(tmp_path / "X.npy"), np.load(tmp_path / "y.npy")
    rows = pd.read_csv(tmp_path / "X_rows.csv")
    assert x.dtype == np.float32 and x.shape == (len(y), 40, 40, 3) and 0 <= x.min() < x.max() <= 1
    assert rows["title"].value_counts().to_dict() == {"face": 2, "cut": 2, "late": 1}
    assert y.tolist() == [1 if label == "REAL" else 0 for label in rows["label"]]
    assert made["REAL"] == (y == 1).sum() and made["FAKE"] == (y == 0).sum() == 1
    # The picture in the array is the face in the table, as every network sees it.
    import cv2

    from deepfake_detection.faces.crops import network_input

    faces = table(out).set_index(["title", "frame", "face"])
    for i in (0, len(rows) - 1):
        image = cv2.imdecode(
            np.frombuffer(faces.at[tuple(rows.loc[i, ["title", "frame", "face"]]), "image"], np.uint8), cv2.IMREAD_COLOR
        )
        assert np.allclose(x[i] * 255, network_input(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), 40), atol=0.01)


def test_bad_input_is_one_line(project, tmp_path, folder, java):
    for options, what in (
        (["--data", tmp_path / "none"], "no such folder"),
        (["--data", folder, "--out", tmp_path, "--master", "lokal"], "not a Spark master"),
        (["--out", tmp_path, "--only-to-numpy"], "no faces in this folder"),
        (["--data", folder, "--environment", tmp_path / "none.tar.gz"], "no such archive"),
    ):
        done = spark_preprocess(project, *options)
        assert done.returncode == 2 and what in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("error: ")


def test_java(tmp_path, monkeypatch):
    old = tmp_path / "old" / "bin"
    old.mkdir(parents=True)
    (old / "java").write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    (old / "java").chmod(0o755)
    assert surroundings._asked(old / "java")[0] == 8 and surroundings._asked(tmp_path / "none")[0] is None
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(surroundings.Path, "glob", lambda *a: iter([]))
    with pytest.raises(UserError, match="Java 17"):
        surroundings.find_java()
    monkeypatch.delenv("JAVA_HOME")
    with pytest.raises(UserError, match="no Java here"):
        surroundings.find_java()
