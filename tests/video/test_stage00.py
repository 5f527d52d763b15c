"""Stage 00 as a user runs it: frames, account, restart, and what must never be touched."""

import json
import os
import subprocess
import sys

import cv2
import pandas as pd
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.video import frames as stage
from deepfake_detection.video.sampling import parse
from tests.clips import dfdc_folder, pattern, truncated, write_video
from tests.processes import interrupt_midway


def manifest(rows):
    columns = ["title", "video", "label", "dataset", "manipulation", "original", "group", "split", "error"]
    table = pd.DataFrame([{c: "" for c in columns} | r for r in rows], columns=columns)
    return table


def rows_of(folder, names, label="REAL"):
    return [{"title": n.rsplit(".", 1)[0], "video": n, "label": label} for n in names]


def tree(folder, skip=()):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.endswith(".lock") and p.name not in skip
    }


def convert(data, out, rows, **options):
    options = {"sampling": parse("per-second"), **options}
    return stage.convert(manifest(rows), data, out, **options)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "a.mp4", pattern(70), gop=30, bf=2)
    write_video(folder / "b-with-dash.mp4", pattern(40, 200, 150, seed=1), fps=25)
    whole = write_video(folder / "whole.mp4", pattern(90, seed=2), gop=30, container_options={"movflags": "faststart"})
    truncated(whole, folder / "cut.mp4", 0.5)
    whole.unlink()
    (folder / "empty.mp4").touch()
    return folder


def test_frames_tables_and_account(clips, tmp_path):
    before = tree(clips)
    names = sorted(os.listdir(clips))
    rows = rows_of(clips, names) + [{"title": "gone", "video": "gone.mp4", "label": "FAKE", "error": "missing file"}]
    account = convert(clips, tmp_path / "out", rows).table().set_index("title")
    assert list(account["status"]) == ["ok", "ok", "ok", "error", "error"]
    assert list(account["frames"])[:2] == [3, 2] and account.loc["cut", "frames"] >= 1
    assert "cut off" in account.loc["cut", "detail"] and "empty" in account.loc["empty", "detail"]
    assert account.loc["gone", "detail"] == "missing file"
    made = tmp_path / "out"
    assert sorted(os.listdir(made / "a")) == ["a-000.png", "a-001.png", "a-002.png", "frames.csv", "frames.json"]
    assert (made / "a" / "frames.csv").read_text() == "frame,index,time_s\n0,0,0.000\n1,30,1.000\n2,60,2.000\n"
    assert cv2.imread(str(made / "b-with-dash" / "b-with-dash-001.png")).shape == (
        300,
        400,
        3,
    )  # narrower than 300 px: doubled
    assert not (made / "empty").exists()
    assert tree(clips) == before and sorted(os.listdir(made)) == [".frames.lock", "a", "b-with-dash", "cut"]


def test_workers_and_reruns_give_the_same_bytes(clips, tmp_path):
    rows = rows_of(clips, ["a.mp4", "b-with-dash.mp4", "cut.mp4", "empty.mp4"])
    one = convert(clips, tmp_path / "one", rows).table()
    many = convert(clips, tmp_path / "many", rows, worker_count=2).table()
    assert one.equals(many) and tree(tmp_path / "one") == tree(tmp_path / "many")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*.png")}
    assert convert(clips, tmp_path / "one", rows).table().equals(one)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "one").rglob("*.png")} == times  # nothing was made again


def test_faces_stay_unless_frames_change(clips, tmp_path):
    rows = rows_of(clips, ["a.mp4"])
    convert(clips, tmp_path, rows)
    faces = tmp_path / "a" / "faces"
    faces.mkdir()
    (faces / "boxes.csv").write_text("kept")
    convert(clips, tmp_path, rows, force=True)
    assert (faces / "boxes.csv").read_text() == "kept"
    convert(clips, tmp_path, rows, sampling=parse("even", 3, 100), force=False)  # other settings, other frames
    assert not faces.exists() and len(list((tmp_path / "a").glob("*.png"))) == 3


def test_other_settings_that_give_the_same_frames_keep_faces(clips, tmp_path):
    rows = rows_of(clips, ["a.mp4"])
    convert(clips, tmp_path, rows)
    (tmp_path / "a" / "faces").mkdir()
    convert(clips, tmp_path, rows, sampling=parse("per-second", max_seconds=1000))
    assert (tmp_path / "a" / "faces").is_dir()
    assert json.loads((tmp_path / "a" / "frames.json").read_text())["settings"]["max_seconds"] == 1000


def test_a_changed_source_is_converted_again(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    write_video(data / "v.mp4", pattern(10))
    convert(data, out, rows_of(data, ["v.mp4"]))
    first = tree(out)
    write_video(data / "v.mp4", pattern(10, seed=5))
    convert(data, out, rows_of(data, ["v.mp4"]))
    assert tree(out)["v/v-000.png"] != first["v/v-000.png"]


def test_a_deleted_frame_is_made_again(clips, tmp_path):
    convert(clips, tmp_path, rows_of(clips, ["a.mp4"]))
    before = tree(tmp_path)
    (tmp_path / "a" / "a-001.png").unlink()
    convert(clips, tmp_path, rows_of(clips, ["a.mp4"]))
    assert tree(tmp_path) == before


def test_a_folder_of_the_users_is_never_replaced(clips, tmp_path):
    """A video `real.mp4` beside a folder `real/` full of videos."""
    mine = tmp_path / "a"
    mine.mkdir()
    (mine / "thesis.docx").write_text("do not lose me")
    account = convert(clips, tmp_path, rows_of(clips, ["a.mp4", "b-with-dash.mp4"]), force=True).table()
    assert list(account["status"]) == ["error", "ok"] and "left alone" in account["detail"][0]
    assert (mine / "thesis.docx").read_text() == "do not lose me" and os.listdir(mine) == ["thesis.docx"]


def test_leftovers_of_a_killed_run_are_removed(clips, tmp_path):
    (tmp_path / ".0123456789ab.partial-99").mkdir()
    convert(clips, tmp_path, rows_of(clips, ["a.mp4"]))
    assert sorted(os.listdir(tmp_path)) == [".frames.lock", "a"]


def test_max_videos_is_balanced_and_depends_on_the_seed_only():
    table = manifest(
        [{"title": f"{label}{i}", "video": "x", "label": label} for label in ("REAL", "FAKE") for i in range(20)]
    )
    for most in (1, 7, 8, 39, 40, 100, None):
        chosen = stage.balanced_titles(table, most, seed=3)
        assert len(chosen) == min(most or 40, 40)
        counts = [sum(t.startswith(x) for t in chosen) for x in ("REAL", "FAKE")]
        assert abs(counts[0] - counts[1]) <= 1
        assert chosen == stage.balanced_titles(table.sample(frac=1, random_state=1).sort_index(), most, seed=3)
    assert stage.balanced_titles(table, 8, 1) != stage.balanced_titles(table, 8, 2)
    few = table[~table["title"].isin([f"REAL{i}" for i in range(2, 20)])]  # 2 real, 20 fake
    assert sum(t.startswith("REAL") for t in stage.balanced_titles(few, 10, 1)) == 2


def test_videos_left_out_have_a_row(clips, tmp_path):
    account = convert(clips, tmp_path, rows_of(clips, ["a.mp4", "b-with-dash.mp4"]), max_videos=1).table()
    assert sorted(account["status"]) == ["left out", "ok"]


def test_two_runs_at_once_are_refused(clips, tmp_path):
    from deepfake_detection.files import folder_lock

    with folder_lock(tmp_path, stage.LOCK), pytest.raises(UserError, match="another run"):
        convert(clips, tmp_path, rows_of(clips, ["a.mp4"]))


# -- the script --------------------------------------------------------------------------------------------------------
def script(project, *arguments, **options):
    return subprocess.run(
        [sys.executable, str(project / "00_convert_video_to_image.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        **options,
    )


def test_script(project, clips, tmp_path):
    data = dfdc_folder(
        tmp_path / "data",
        {"a.mp4": clips / "a.mp4", "b.mp4": clips / "b-with-dash.mp4", "e.mp4": clips / "empty.mp4"},
        {"b.mp4": "a.mp4"},
    )
    done = script(
        project,
        "--data",
        data,
        "--out",
        tmp_path / "o",
        "--workers",
        1,
        "--sampling",
        "even",
        "--frame-count",
        2,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "REAL" in done.stdout and "FAKE" in done.stdout and "Traceback" not in done.stderr
    table = pd.read_csv(tmp_path / "o/stage_reports/00_videos.csv", keep_default_na=False)
    assert dict(zip(table["title"], table["status"])) == {"a": "ok", "b": "ok", "e": "error"}
    assert len(list((tmp_path / "o" / "frames" / "a").glob("a-*.png"))) == 2
    assert json.loads((tmp_path / "o/stage_reports/00_settings.json").read_text())["sampling"] == "even"


@pytest.mark.parametrize(
    "arguments, code, word",
    [
        (["--data", "nowhere"], 2, "hint:"),
        (["--sampling", "all"], 2, "invalid choice"),
        (["--unknown", "1"], 2, "unrecognized"),
        (["--max-seconds", "0"], 2, "more than 0"),
        (["--scale", "big"], 2, "scale"),
    ],
)
def test_script_refuses(project, tmp_path, arguments, code, word):
    done = script(project, *arguments, cwd=tmp_path)
    assert done.returncode == code and word in done.stderr and "Traceback" not in done.stderr


def test_all_bad_is_an_error(project, clips, tmp_path):
    data = dfdc_folder(tmp_path / "data", {"e.mp4": clips / "empty.mp4"}, {})
    done = script(project, "--data", data, "--out", tmp_path / "o", "--workers", 1)
    assert done.returncode == 2 and "none of 1 video" in done.stderr and "empty" in done.stderr
    assert (tmp_path / "o/stage_reports/00_videos.csv").is_file()


def test_interrupt_and_go_on_gives_the_same_bytes(project, tmp_path):
    source = write_video(tmp_path / "s.mp4", pattern(45, 400, 300), preset="ultrafast", gop=30)
    data = dfdc_folder(tmp_path / "data", {f"v{i:02d}.mp4": source for i in range(10)}, {})
    options = [
        "--data",
        str(data),
        "--workers",
        "2",
        "--sampling",
        "even",
        "--frame-count",
        "35",
        "--out",
        str(tmp_path / "o"),
    ]
    interrupt_midway(
        [project / "00_convert_video_to_image.py", *options, "--frames-dir", tmp_path / "stopped"],
        tmp_path / "stopped",
        "v*/frames.json",
    )
    done = len(list((tmp_path / "stopped").glob("v*/frames.json")))
    assert 1 <= done < 10
    for folder in ("stopped", "whole"):
        assert script(project, *options, "--frames-dir", tmp_path / folder).returncode == 0
    assert tree(tmp_path / "stopped") == tree(tmp_path / "whole")
    assert not list((tmp_path / "stopped").glob(".*partial*"))


def _replaced_like_rsync(path, other):
    """Another video of the same size and time."""
    stat, data = path.stat(), other.read_bytes()
    size = max(stat.st_size, len(data))
    path.write_bytes(data.ljust(size, b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_video_replaced_at_the_same_size_and_time_is_converted_again(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write_video(data / "v.mp4", pattern(31, 96, 64, seed=5))
    other = write_video(tmp_path / "other.mp4", pattern(31, 96, 64, seed=6))
    size = max(p.stat().st_size for p in (data / "v.mp4", other))
    (data / "v.mp4").write_bytes(
        (data / "v.mp4").read_bytes().ljust(size, b"\0")
    )  # rubbish after the end changes nothing
    rows = rows_of(data, ["v.mp4"])
    convert(data, tmp_path / "out", rows)
    before = (tmp_path / "out" / "v" / "v-000.png").read_bytes()
    _replaced_like_rsync(data / "v.mp4", other)
    convert(data, tmp_path / "out", rows)
    assert (tmp_path / "out" / "v" / "v-000.png").read_bytes() != before
    os.utime(data / "v.mp4", (1, 1))  # touched only: what stands, stands
    record = (tmp_path / "out" / "v" / "frames.json").stat().st_mtime_ns
    convert(data, tmp_path / "out", rows)
    assert (tmp_path / "out" / "v" / "frames.json").stat().st_mtime_ns == record


# -- what a failure leaves ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "content, status",
    [
        pytest.param(b"", "error", id="empty"),
        pytest.param(b"\x00\x00\x00\x18ftypmp42" + b"\0" * 1000, "error", id="broken"),
        pytest.param(b"a text", "error", id="no video"),
    ],
)
@pytest.mark.parametrize("faces", [False, True], ids=["frames only", "with faces"])
def test_a_video_that_fails_leaves_nothing_of_an_earlier_run(clips, tmp_path, content, status, faces):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (data / name).write_bytes((clips / "a.mp4").read_bytes())
    rows = rows_of(data, ["a.mp4", "b.mp4"])
    convert(data, out, rows)
    if faces:
        (out / "a" / "faces").mkdir()
        (out / "a" / "faces" / "boxes.csv").write_text("of the old frames")
    (data / "a.mp4").write_bytes(content)
    assert list(convert(data, out, rows).table()["status"]) == [status, "ok"]
    assert sorted(os.listdir(out)) == [".frames.lock", "b"]


def test_faces_made_without_frames_and_what_is_not_ours_outlive_a_failure(clips, tmp_path):
    (tmp_path / "empty" / "faces").mkdir(parents=True)  # of 01a --direct
    (tmp_path / "empty" / "faces" / "boxes.csv").write_text("kept")
    convert(clips, tmp_path, rows_of(clips, ["a.mp4", "empty.mp4"]))
    assert (tmp_path / "empty" / "faces" / "boxes.csv").is_file()
    (tmp_path / "a" / "mine.txt").write_text("mine")
    assert (
        "left alone"
        in convert(clips, tmp_path, rows_of(clips, ["a.mp4", "empty.mp4"]), force=True).table()["detail"][0]
    )
    assert (tmp_path / "a" / "mine.txt").is_file() and (tmp_path / "a" / "a-000.png").is_file()


@pytest.mark.parametrize(
    "record", ["[]", "3", "{}", "[" * 100000, '{"settings": {}, "frames": "3"}', '{"settings": 1}', "\0"]
)
def test_a_record_that_is_none_is_made_again(clips, tmp_path, record):
    rows = rows_of(clips, ["a.mp4"])
    convert(clips, tmp_path, rows)
    before = (tmp_path / "a" / "frames.json").read_text()
    (tmp_path / "a" / "frames.json").write_text(record)
    assert list(convert(clips, tmp_path, rows).table()["status"]) == ["ok"]
    assert (tmp_path / "a" / "frames.json").read_text() == before


def test_the_account_is_written_before_a_bug_is_raised(clips, tmp_path, monkeypatch):
    from deepfake_detection.video import workers

    def run(function, tasks, *_, **__):
        for task in tasks:
            yield task, workers.Bug("the program failed on it", "Traceback") if task.title == "a" else function(task)
        raise workers.Bug("the program failed on it", "Traceback")

    monkeypatch.setattr(workers, "run", run)
    account = convert(clips, tmp_path, rows_of(clips, ["a.mp4", "b-with-dash.mp4"]))
    account.write(tmp_path / "videos.csv")
    assert list(pd.read_csv(tmp_path / "videos.csv")["status"]) == ["error", "ok"]
    with pytest.raises(workers.Bug):
        account.require_success(tmp_path / "videos.csv")
