"""Outputs are whole or absent, whatever happens while they are written."""

import json
import multiprocessing
import os
import pickle

import pytest

from deepfake_detection import files
from deepfake_detection.errors import UserError


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_atomic_path_appears_only_when_whole(tmp_path):
    target = tmp_path / "out.csv"
    with files.atomic_path(target) as partial:
        partial.write_text("half")
        assert not target.exists()
        assert partial.suffix == ".csv", "writers choose the format by the suffix"
    assert target.read_text() == "half"
    assert names(tmp_path) == ["out.csv"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_atomic_path_failure_keeps_the_old_file_and_leaves_no_rubbish(tmp_path, failure):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(failure):
        with files.atomic_path(target) as partial:
            partial.write_text("new")
            raise failure()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_atomic_path_takes_a_name_of_255_bytes(tmp_path):
    target = tmp_path / ("x" * 251 + ".txt")
    files.write_text(target, "ok")
    assert target.read_text() == "ok"


def test_atomic_dir_replaces_a_folder_as_a_whole(tmp_path):
    target = tmp_path / "faces"
    for content in ("one", "two"):
        with files.atomic_dir(target) as partial:
            (partial / f"{content}.txt").write_text(content)
    assert names(target) == ["two.txt"]
    assert names(tmp_path) == ["faces"]


def test_atomic_dir_failure_keeps_the_old_folder(tmp_path):
    target = tmp_path / "faces"
    with files.atomic_dir(target) as partial:
        (partial / "old.txt").touch()
    with pytest.raises(KeyboardInterrupt):
        with files.atomic_dir(target) as partial:
            (partial / "new.txt").touch()
            raise KeyboardInterrupt
    assert names(target) == ["old.txt"]
    assert names(tmp_path) == ["faces"]


def test_remove_partials_takes_only_what_killed_runs_left(tmp_path):
    files.partial_name(tmp_path / "a.png").touch()
    files.partial_name(tmp_path / "b").mkdir()
    (tmp_path / ".hidden").touch()
    (tmp_path / "movie.partial-1.mp4").touch()
    assert files.remove_partials(tmp_path) == 2
    assert names(tmp_path) == [".hidden", "movie.partial-1.mp4"]


def test_link_or_copy_gives_the_same_bytes(tmp_path):
    source = tmp_path / "a"
    source.write_bytes(b"face")
    files.link_or_copy(source, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"face"
    with pytest.raises(FileExistsError):
        files.link_or_copy(source, tmp_path / "b")


def test_link_or_copy_copies_where_links_are_not_allowed(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(18, "Invalid cross-device link")
    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "a").write_bytes(b"face")
    files.link_or_copy(tmp_path / "a", tmp_path / "b")
    assert os.stat(tmp_path / "b").st_nlink == 1
    assert (tmp_path / "b").read_bytes() == b"face"


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "m.json", {"auc": float("nan")})
    assert names(tmp_path) == []
    files.write_json(tmp_path / "m.json", {"name": "é"})
    assert json.loads((tmp_path / "m.json").read_text()) == {"name": "é"}


def _hold(folder, held, release):
    with files.folder_lock(folder, "01a"):
        held.set()
        release.wait(30)


def test_two_runs_on_one_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, release))
    other.start()
    try:
        assert held.wait(30)
        with pytest.raises(UserError, match="another run of 01a"):
            with files.folder_lock(tmp_path, "01a"):
                pass
        with files.folder_lock(tmp_path, "02"):
            pass  # another stage is another lock
    finally:
        release.set()
        other.join()
    with files.folder_lock(tmp_path, "01a"):
        pass  # the lock dies with its process


def test_user_error_is_one_line_and_survives_pickling():
    error = UserError("not a video", file="a\nb.mp4", hint="name a video")
    assert "\n" not in str(error)
    assert str(error) == "not a video: 'a\\nb.mp4' (hint: name a video)"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_partials_of_the_dead_are_removed_and_of_the_living_kept(tmp_path):
    import subprocess
    import sys

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine, other = files.partial_name(tmp_path / "a.csv"), tmp_path / f".x.partial-ffffff-{dead.pid}.csv"
    gone = [tmp_path / mine.name.replace(f"-{os.getpid()}", f"-{dead.pid}"), tmp_path / f"{mine.name}-old".replace(f"-{os.getpid()}", f"-{dead.pid}")]
    for path in (mine, other, gone[0]):
        path.write_text("half")
    gone[1].mkdir()
    assert files.remove_dead_partials(tmp_path) == 2
    assert mine.exists() and other.exists(), "a living process, and another machine"
    assert not any(p.exists() for p in gone)
