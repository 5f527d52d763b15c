"""Stages 01a and 01b and the fused path: the same crops on every path, restart, account, memory."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.faces import boxes, crop_stage, detectors, extract, landmarks
from deepfake_detection.faces.crop_stage import FaceSettings, crop_faces
from deepfake_detection.faces.extract import CarryOver
from deepfake_detection.video import frames as frames_stage
from deepfake_detection.video.sampling import parse
from tests.clips import dfdc_folder, faces_of_video, moving_face, pattern, scene, write_video
from tests.processes import interrupt_midway

FAST = FaceSettings("mtcnn_fast")


def manifest(rows):
    columns = ["title", "video", "label", "dataset", "manipulation", "original", "group", "split", "error"]
    return pd.DataFrame([{c: "" for c in columns} | r for r in rows], columns=columns)


def rows_of(names):
    return manifest([{"title": n.rsplit(".", 1)[0], "video": n, "label": "REAL"} for n in names])


def tree(folder, skip=()):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.endswith(".lock") and p.name not in skip
    }


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """One person who is away in the middle; two people; nobody; a damaged file."""
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "one.mp4", moving_face(70, absent=range(25, 45)), fps=10, bf=2, gop=30)
    write_video(folder / "two-people.mp4", (scene([(150 + i, 180), (480 - i, 180)], 170) for i in range(30)), fps=10)
    write_video(folder / "nobody.mp4", (cv2.resize(f, (640, 360)) for f in pattern(20, 32, 18)), fps=10)
    (folder / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + b"\0" * 1000)
    return folder


@pytest.fixture(scope="module")
def staged(clips, tmp_path_factory):
    """00 and 01a, once."""
    out = tmp_path_factory.mktemp("staged")
    table = rows_of(sorted(os.listdir(clips)))
    frames_stage.convert(table, clips, out, sampling=parse("per-second"))
    account = crop_faces(table, clips, out, FAST)
    return out, table, account.table().set_index("title")


def test_faces_and_account(staged):
    out, table, account = staged
    assert dict(account["status"]) == {"one": "ok", "two-people": "ok", "nobody": "no face", "broken": "no frames"}
    assert account.loc["one", ["frames", "frames_with_face", "faces"]].tolist() == [7, 5, 5]
    assert account.loc["two-people", ["frames", "faces"]].tolist() == [3, 6]
    names = sorted(os.listdir(out / "one" / "faces"))
    assert names == ["boxes.csv", "faces.json", *(f"one-{n:03d}-00.png" for n in (0, 1, 2, 5, 6))]
    assert sorted(os.listdir(out / "nobody" / "faces")) == ["boxes.csv", "faces.json"]
    for title in ("one", "two-people"):
        rows = boxes.read_boxes(out / title / "faces" / "boxes.csv")
        for line in rows.to_dict("records"):
            frame = cv2.imread(str(out / title / f"{title}-{line['frame']:03d}.png"))
            cut = frame[line["crop_y0"] : line["crop_y1"], line["crop_x0"] : line["crop_x1"]]
            assert np.array_equal(cut, cv2.imread(str(out / title / "faces" / line["file"])))
            assert line["source"] == "detected" and line["file"] == crop_stage.face_name(
                title, line["frame"], line["face"]
            )
    assert set(boxes.read_boxes(out / "two-people" / "faces" / "boxes.csv")["person"]) == {"p1", "p2"}


@pytest.mark.parametrize("worker_count", [1, 2])
def test_direct_gives_the_same_faces(clips, staged, tmp_path, worker_count):
    out, table, _ = staged
    account = crop_faces(
        table, clips, tmp_path, FAST, direct=True, sampling=parse("per-second"), worker_count=worker_count
    ).table()
    assert sorted(account["status"]) == ["error", "no face", "ok", "ok"]  # the broken file says so itself here
    for title in ("one", "two-people", "nobody"):
        assert tree(tmp_path / title / "faces", skip=["faces.json"]) == tree(out / title / "faces", skip=["faces.json"])
        assert os.listdir(tmp_path / title) == ["faces"]


def test_fused_path_gives_the_same_faces(clips, staged):
    out, _, _ = staged
    detector = detectors.create("mtcnn_fast")
    for title in ("one", "two-people", "nobody"):
        reader, frames = faces_of_video(clips / f"{title}.mp4", sampling=parse("per-second"), detector=detector)
        stored = boxes.read_boxes(out / title / "faces" / "boxes.csv").to_dict("records")
        found = [(f, face, crop) for f in frames for face, crop in zip(f.faces, f.crops)]
        assert len(stored) == len(found)
        for line, (frame, face, crop) in zip(stored, found):
            assert boxes.face_of(line) == face and line["frame"] == frame.frame and line["time_s"] == frame.time_s
            assert np.array_equal(crop[..., ::-1], cv2.imread(str(out / title / "faces" / line["file"])))
    assert reader.yielded == len(frames) == 2 and reader.note == "" and not any(f.faces for f in frames)


def test_fused_path_on_a_real_clip(shared, tmp_path):
    clip = shared / "data/dfdc/adylbeequz.mp4"
    (tmp_path / "data").mkdir()
    os.symlink(clip, tmp_path / "data" / "v.mp4")
    table = rows_of(["v.mp4"])
    frames_stage.convert(table, tmp_path / "data", tmp_path / "out", sampling=parse("per-second"))
    crop_faces(table, tmp_path / "data", tmp_path / "out", FAST)
    crop_faces(table, tmp_path / "data", tmp_path / "direct", FAST, direct=True, sampling=parse("per-second"))
    staged = tree(tmp_path / "out/v/faces", skip=["faces.json"])
    assert staged == tree(tmp_path / "direct/v/faces", skip=["faces.json"]) and len(staged) == 12


def test_a_rerun_makes_nothing_again(clips, staged, monkeypatch):
    out, table, account = staged
    monkeypatch.setattr(detectors, "create", lambda *a, **k: pytest.fail("a network was loaded although all is done"))
    again = crop_faces(table, clips, out, FAST).table().set_index("title")
    assert again.equals(account)


def test_other_settings_replace(clips, staged, tmp_path):
    out, table, _ = staged
    work = tmp_path / "w"
    subprocess.run(["cp", "-r", str(out), str(work)], check=True)
    crop_faces(table, clips, work, FaceSettings("mtcnn_fast", margin=0.0))
    wide, tight = (cv2.imread(str(f / "one/faces/one-000-00.png")) for f in (out, work))
    assert wide.shape[0] > tight.shape[0] * 1.5
    (work / "one/faces/one-001-00.png").unlink()
    crop_faces(table, clips, work, FaceSettings("mtcnn_fast", margin=0.0))
    assert (work / "one/faces/one-001-00.png").is_file()


def test_frames_made_again_make_faces_again(clips, staged, tmp_path):
    out, table, _ = staged
    table = table[table["title"] == "one"]
    frames_stage.convert(table, clips, tmp_path, sampling=parse("even", 2))
    assert crop_faces(table, clips, tmp_path, FAST).table()["frames"].tolist() == [2]
    frames_stage.convert(table, clips, tmp_path, sampling=parse("even", 4))
    assert crop_faces(table, clips, tmp_path, FAST).table()["frames"].tolist() == [4]


def test_carry_over(clips, staged, tmp_path):
    out, table, _ = staged
    table = table[table["title"] == "one"]
    frames_stage.convert(table, clips, tmp_path, sampling=parse("per-second"))
    account = crop_faces(table, clips, tmp_path, FaceSettings("mtcnn_fast", carry_over=CarryOver(2, 1))).table()
    assert account[["frames", "frames_with_face", "faces"]].values.tolist() == [[7, 5, 6]]
    rows = boxes.read_boxes(tmp_path / "one/faces/boxes.csv").set_index("frame")
    assert dict(rows["source"]) == {n: "carried" if n == 3 else "detected" for n in (0, 1, 2, 3, 5, 6)}
    assert rows.loc[3, "x"] == pytest.approx((rows.loc[1, "x"] + rows.loc[2, "x"]) / 2, abs=0.011) or rows.loc[
        3, "x"
    ] == pytest.approx(rows.loc[2, "x"], abs=0.011)  # k = 2, but only frame 2 is at most one frame old
    carried = cv2.imread(str(tmp_path / "one/faces/one-003-00.png"))
    frame = cv2.imread(str(tmp_path / "one/one-003.png"))
    x0, y0, x1, y1 = rows.loc[3, list(boxes.CROP_COLUMNS)]
    assert np.array_equal(carried, frame[y0:y1, x0:x1])


def test_smallest_face_in_pixels_of_the_source(clips):
    """The 1280 px frame is halved; its face of about 100 px becomes 50."""
    video = clips / "hd.mp4"
    write_video(video, (scene([(500, 300)], 220, 1280, 720) for _ in range(3)), fps=1)
    detector = detectors.create("mtcnn_fast")
    counts = [
        sum(bool(f.faces) for f in faces_of_video(video, detector, sampling=parse("even", 1), min_face_source_px=px)[1])
        for px in (None, 40, 400)
    ]
    video.unlink()
    assert counts == [1, 1, 0]


def test_memory_does_not_grow_with_length(clips):
    """Frames come and go in chunks: at most CHUNK_PIXELS of them are alive at once."""
    import weakref

    alive, most = [], [0]

    class Pixels(np.ndarray):
        pass

    class Nobody:
        name, confidence = "nobody", 0.95

        def detect(self, frames, min_face_px=None):
            return [[] for _ in frames]

    def endless(count):
        for i in range(count):
            image = np.zeros((1000, 1000, 3), np.uint8).view(Pixels)
            alive.append(weakref.ref(image))
            most[0] = max(most[0], sum(r() is not None for r in alive))
            yield extract.Frame(i, i, float(i), image)

    assert sum(1 for _ in extract.faces_of_frames(endless(60), Nobody())) == 60
    assert most[0] <= 10


def test_chunks_hold_at_least_one_frame_and_bounded_pixels():
    def frame(height, width):
        return extract.Frame(0, 0, 0.0, np.zeros((height, width, 3), np.uint8))

    sizes = [len(c) for c in extract._chunks(frame(1425, 2534) for _ in range(3))]
    assert sizes == [1, 1, 1]  # 8K, after the resize rule
    assert [len(c) for c in extract._chunks(frame(356, 633) for _ in range(40))] == [17, 17, 6]
    assert [len(c) for c in extract._chunks(frame(10, 10) for _ in range(70))] == [32, 32, 6]


def test_what_is_read_ahead_is_the_same_and_ends_with_who_reads_it():
    import threading

    assert list(extract._ahead(iter(range(100)))) == list(range(100))

    def broken():
        yield 1
        raise UserError("cut off", hint="none")

    read = extract._ahead(broken())
    assert next(read) == 1
    with pytest.raises(UserError, match="cut off"):
        next(read)

    before, made = threading.active_count(), []
    read = extract._ahead(made.append(i) or i for i in range(100))
    assert [next(read), next(read)] == [0, 1]
    read.close()
    assert threading.active_count() == before and len(made) < 6


@pytest.mark.parametrize("threads", [1, 2])
def test_faces_do_not_depend_on_threads(clips, threads):
    _, made = faces_of_video(clips / "one.mp4", sampling=parse("even", 12), detector="mtcnn_fast", threads=threads)
    _, one = faces_of_video(clips / "one.mp4", sampling=parse("even", 12), detector="mtcnn_fast")
    assert any(f.faces for f in made) and [f.index for f in made] == [f.index for f in one]
    for a, b in zip(made, one, strict=True):
        assert a.faces == b.faces
        for x, y in zip(a.crops, b.crops, strict=True):
            np.testing.assert_array_equal(x, y)


def test_refuses_without_frames_and_foreign_folders(clips, tmp_path):
    table = rows_of(["one.mp4"])
    with pytest.raises(UserError, match="00_convert_video_to_image"):
        crop_faces(table, clips, tmp_path, FAST)
    (tmp_path / "one/faces").mkdir(parents=True)
    (tmp_path / "one/faces/mine.jpg").write_text("mine")
    account = crop_faces(table, clips, tmp_path, FAST, direct=True, sampling=parse("even", 1)).table()
    assert account["status"].tolist() == ["error"] and "left alone" in account["detail"][0]
    assert (tmp_path / "one/faces/mine.jpg").read_text() == "mine"


def test_a_missing_frame_is_this_videos_error_only(clips, staged, tmp_path):
    out, table, _ = staged
    work = tmp_path / "w"
    subprocess.run(["cp", "-r", str(out), str(work)], check=True)
    (work / "one/one-003.png").unlink()
    account = crop_faces(table, clips, work, FAST, force=True).table().set_index("title")
    assert account.loc["one", "status"] == "error" and "frame" in account.loc["one", "detail"]
    assert account.loc["two-people", "status"] == "ok"
    assert len(list((work / "one/faces").glob("*.png"))) == 5 and not list((work / "one").glob(".*partial*"))


@pytest.mark.parametrize(
    "settings, frames_now, left",
    [
        pytest.param(FAST, False, 5, id="the same faces"),
        pytest.param(FaceSettings("mtcnn_fast", margin=0.1), False, 0, id="other settings"),
        pytest.param(FAST, True, 0, id="other frames"),
    ],
)
def test_faces_of_an_earlier_run_do_not_pass_for_those_of_one_that_failed(
    clips, staged, tmp_path, settings, frames_now, left
):
    out, table, _ = staged
    table, work = table[table["title"] == "one"], tmp_path / "w"
    subprocess.run(["cp", "-r", str(out), str(work)], check=True)
    landmarks.mark_faces(table, work)
    if frames_now:
        record = json.loads((work / "one/frames.json").read_text())
        (work / "one/frames.json").write_text(json.dumps(record | {"source": {"sha256": "other"}}))
    (work / "one/one-003.png").write_bytes(b"broken")
    assert crop_faces(table, clips, work, settings, force=True).table()["status"].tolist() == ["error"]
    for folder in ("faces", "marked_faces"):
        assert len(list((work / "one" / folder).glob("*.png"))) == left


BROKEN = ["", "[]", "3", "{}", "[" * 100000, '{"settings": 1}', '{"settings": {}, "frames": 1, "faces": 1}', "\0"]


def test_a_record_that_is_none_of_ours_is_none(tmp_path):
    for text in BROKEN:
        for name in (frames_stage.RECORD, crop_stage.SETTINGS_FILE):
            (tmp_path / name).write_text(text)
        assert frames_stage.read_record(tmp_path) is None and crop_stage._read_record(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "frame,index\n1,1\n", "frame,index,time_s\nx,1,1\n", "frame,index,time_s\n,1,1\n"]
)
def test_a_table_of_frames_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / frames_stage.TABLE).write_text(text)
    with pytest.raises(UserError, match="no table of frames"):
        frames_stage.read_frames_table(tmp_path)


@pytest.mark.parametrize("name", ["frames.json", "faces/faces.json"])
def test_a_broken_record_costs_one_row(clips, staged, tmp_path, name):
    out, table, _ = staged
    work = tmp_path / "w"
    subprocess.run(["cp", "-r", str(out), str(work)], check=True)
    (work / "one" / name).write_text("[]")
    account = crop_faces(table, clips, work, FAST).table().set_index("title")
    assert account.loc["one", "status"] == "error" and account.loc["two-people", "status"] == "ok"


# -- 01b ---------------------------------------------------------------------------------------------------------------
def test_marked_faces(staged):
    out, table, _ = staged
    account = landmarks.mark_faces(table, out).table().set_index("title")
    assert dict(account["status"]) == {"one": "ok", "two-people": "ok", "nobody": "no face", "broken": "no frames"}
    for title in ("one", "two-people"):
        for line in boxes.read_boxes(out / title / "faces" / "boxes.csv").to_dict("records"):
            plain, marked = (cv2.imread(str(out / title / f / line["file"])) for f in ("faces", "marked_faces"))
            assert plain.shape == marked.shape
            for point in boxes.POINTS:
                x, y = round(line[f"{point}_x"]) - line["crop_x0"], round(line[f"{point}_y"]) - line["crop_y0"]
                assert marked[y, x].tolist() == [0, 0, 255]
            changed = np.any(plain != marked, axis=2)
            assert 5 <= changed.sum() < 0.03 * changed.size
    times = {p: p.stat().st_mtime_ns for p in out.rglob("marked_faces/*")}
    landmarks.mark_faces(table, out)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("marked_faces/*")} == times


def test_marks_follow_the_faces(clips, staged, tmp_path):
    out, table, _ = staged
    work = tmp_path / "w"
    subprocess.run(["cp", "-r", str(out), str(work)], check=True)
    landmarks.mark_faces(table, work)
    crop_faces(table, clips, work, FaceSettings("mtcnn_fast", margin=0.0))
    landmarks.mark_faces(table, work)
    name = "one-000-00.png"
    assert cv2.imread(str(work / "one/faces" / name)).shape == cv2.imread(str(work / "one/marked_faces" / name)).shape


def test_marks_of_other_faces_do_not_stay(clips, staged, tmp_path):
    """Stage 02 would take them for those of the faces beside them."""
    out, table, _ = staged
    work = tmp_path / "w"
    subprocess.run(["cp", "-r", str(out), str(work)], check=True)
    landmarks.mark_faces(table, work)
    marks = sorted(work.glob("*/marked_faces"))
    crop_faces(table, clips, work, FAST)
    assert marks and sorted(work.glob("*/marked_faces")) == marks
    crop_faces(table, clips, work, FaceSettings("mtcnn_fast", margin=0.0))
    assert not any(work.glob("*/marked_faces"))


def test_mark_outside_the_crop_is_not_drawn():
    crop = np.zeros((40, 30, 3), np.uint8)
    face = boxes.Face(0, 0, 10, 10, 1.0, ((-20.0, 5.0), (100.0, 5.0), (10.0, 10.0), (5.0, 300.0), (5.0, -300.0)))
    marked = landmarks.mark(crop, face, (0, 0))
    assert marked[10, 10].tolist() == [0, 0, 255] and (marked.any(2).sum()) <= 9 and not crop.any()


# -- the scripts -------------------------------------------------------------------------------------------------------
def script(project, name, *arguments):
    return subprocess.run(
        [sys.executable, str(project / name), *map(str, arguments)], capture_output=True, text=True, timeout=600
    )


def test_scripts_and_interruption(project, clips, tmp_path):
    videos = 20  # so many that an interrupt on a busy machine still finds some of them to do
    data = dfdc_folder(
        tmp_path / "data",
        {f"v{i:02d}.mp4": clips / ("one.mp4" if i % 2 else "two-people.mp4") for i in range(videos)},
        {"v01.mp4": "v00.mp4"},
    )
    common = ["--data", data, "--out", tmp_path / "o", "--workers", 2, "--sampling", "even"]
    arguments = [*common, "--direct", "--frame-count", 10]
    interrupt_midway(
        [project / "01a_crop_faces_mtcnn.py", *arguments, "--frames-dir", tmp_path / "stopped"],
        tmp_path / "stopped",
        "v*/faces/boxes.csv",
    )
    assert 1 <= len(list((tmp_path / "stopped").glob("v*/faces/boxes.csv"))) < videos
    for folder in ("stopped", "whole"):
        done = script(project, "01a_crop_faces_mtcnn.py", *arguments, "--frames-dir", tmp_path / folder)
        assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "stopped") == tree(tmp_path / "whole")
    assert not list((tmp_path / "stopped").rglob("*partial*"))
    done = script(
        project, "01b_mark_landmarks.py", "--data", data, "--out", tmp_path / "o", "--frames-dir", tmp_path / "whole"
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "o/stage_reports/01b_videos.csv")
    assert len(table) == videos and set(table["status"]) == {"ok"}
    settings = json.loads((tmp_path / "o/stage_reports/01a_settings.json").read_text())
    assert settings["face_detector"] == "mtcnn_fast" and settings["margin"] == 0.3


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("01a_crop_faces_mtcnn.py", ["--face-detector", "haar"]),
        ("01a_crop_faces_mtcnn.py", ["--margin", "-1"]),
        ("01a_crop_faces_mtcnn.py", ["--confidence", "2"]),
        ("01a_crop_faces_mtcnn.py", ["--data", "/nowhere"]),
        ("01b_mark_landmarks.py", ["--data", "/nowhere"]),
        ("01b_mark_landmarks.py", ["--what"]),
    ],
)
def test_scripts_refuse(project, name, arguments):
    done = script(project, name, *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.strip()
