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
    gone = [
        tmp_path / mine.name.replace(f"-{os.getpid()}", f"-{dead.pid}"),
        tmp_path / f"{mine.name}-old".replace(f"-{os.getpid()}", f"-{dead.pid}"),
    ]
    for path in (mine, other, gone[0]):
        path.write_text("half")
    gone[1].mkdir()
    assert files.remove_dead_partials(tmp_path) == 2
    assert mine.exists() and other.exists(), "a living process, and another machine"
    assert not any(p.exists() for p in gone)


# --- a data set may be anyone's: nothing that stands under the name of a lock or of an unfinished file is written throu
def _symlink(path, precious):
    path.symlink_to(precious)


def _relative(path, precious):
    path.symlink_to(os.path.relpath(precious, path.parent))


def _chain(path, precious):
    (path.parent / "hop").symlink_to(precious)
    path.symlink_to("hop")


def _hard_link(path, precious):
    os.link(precious, path)


def _nowhere(path, precious):
    path.symlink_to(precious.with_name("new.txt"))


def _pipe(path, precious):
    os.mkfifo(path)


def _folder(path, precious):
    path.mkdir()
    (path / "mine.txt").write_text("mine")


PLANTED = [
    pytest.param(make, id=make.__name__.strip("_"))
    for make in (_symlink, _relative, _chain, _hard_link, _nowhere, _pipe, _folder)
]


@pytest.fixture
def precious(tmp_path):
    path = tmp_path / "home" / "precious.txt"
    path.parent.mkdir()
    path.write_text("years of work")
    yield path
    assert path.read_text() == "years of work"
    assert names(path.parent) == ["precious.txt"], "nothing was made through a link that led nowhere"


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_lock_is_never_written_through(tmp_path, precious, plant):
    data = tmp_path / "data"
    data.mkdir()
    plant(data / ".frames.lock", precious)
    if plant is _hard_link:  # a plain file: locked, and left as it is
        with files.folder_lock(data, "frames"):
            pass
        return
    with pytest.raises(UserError, match="where our lock should be") as e:
        with files.folder_lock(data, "frames"):
            pytest.fail("held a lock that is none")
    assert e.value.hint and "\n" not in str(e.value)


@pytest.mark.parametrize("plant", PLANTED)
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: files.write_text(path, "ours"), id="file"),
        pytest.param(lambda path: _made(path), id="folder"),
    ],
)
def test_a_planted_partial_file_is_never_written_through(tmp_path, precious, plant, write):
    data = tmp_path / "data"
    data.mkdir()
    plant(files.partial_name(data / "out.csv"), precious)
    write(data / "out.csv")
    assert not files.partial_name(data / "out.csv").is_symlink()


def test_an_output_that_is_a_link_is_replaced_itself(tmp_path, precious):
    for name, write in (("t.csv", lambda p: files.write_text(p, "ours")), ("d", lambda p: _made(p))):
        (tmp_path / name).symlink_to(precious.parent if name == "d" else precious)
        write(tmp_path / name)
        assert not (tmp_path / name).is_symlink()


def _made(path):
    with files.atomic_dir(path) as partial:
        (partial / "f").write_text("ours")


def test_a_lock_is_never_truncated(tmp_path):
    (tmp_path / ".x.lock").write_text("content")
    with files.folder_lock(tmp_path, "x"):
        pass
    assert (tmp_path / ".x.lock").read_text() == "content"


def test_a_lock_that_its_holder_removed_holds_nobody_off_and_is_not_ours(tmp_path, monkeypatch):
    """The holder removes its lock file between our opening it and our locking it: then we lock the new one, not the
    ghost."""
    import fcntl

    path, flock, first = tmp_path / ".x.lock", fcntl.flock, []

    def removed_meanwhile(handle, how):
        if not first:
            first.append(path.unlink())
        return flock(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", removed_meanwhile)
    with files.open_lock(path) as handle:
        assert os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
        with pytest.raises(BlockingIOError):
            files.open_lock(path)


# --- is it still the same file? ---------------------------------------------------------------------------------------
def _same(path):
    pass


def _other_same_size_and_time(path):
    stat = os.stat(path)
    path.write_bytes(b"B" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _renamed_over(path):
    other = path.with_name("other")
    other.write_bytes(b"B" * path.stat().st_size)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    os.replace(other, path)


@pytest.mark.parametrize(
    "change, same",
    [
        pytest.param(_same, True, id="untouched"),
        pytest.param(lambda p: os.utime(p, (1, 1)), True, id="touched"),
        pytest.param(lambda p: p.chmod(0o600), True, id="mode"),
        pytest.param(_other_same_size_and_time, False, id="cp -p"),
        pytest.param(_renamed_over, False, id="rsync"),
        pytest.param(lambda p: p.write_bytes(b"longer" * 9), False, id="other size"),
    ],
)
def test_a_source_is_known_by_its_content(tmp_path, change, same):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"A" * 30)
    stamp, before = files.source_stamp(path), files.source_stamp(path, content=False)
    assert files.stamp_since(path, before) == stamp
    while path.stat().st_ctime_ns == before["ctime_ns"] and change is not _same:  # the clock of file systems has ticks
        change(path)
    assert files.same_source(path, stamp) is same
    assert files.stamp_since(path, before) == (stamp if change is _same else None)


@pytest.mark.parametrize("stamp", [None, {}, [], {"bytes": 30, "mtime_ns": 1}, {"bytes": 30, "sha256": ""}])
def test_a_stamp_of_an_older_version_is_no_proof(tmp_path, stamp):
    (tmp_path / "v.mp4").write_bytes(b"A" * 30)
    assert files.same_source(tmp_path / "v.mp4", stamp) is False


def test_a_pipe_is_no_source(tmp_path):
    os.mkfifo(tmp_path / "p")
    with pytest.raises(OSError):
        files.source_stamp(tmp_path / "p")


def plant(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def walked(folder):
    return [os.path.join(here, n) for here, inner in files.walk(folder) for n in inner]


@pytest.mark.parametrize(
    "link, target, expected",
    [
        pytest.param("b/loop", "..", [], id="to-the-folder-itself"),
        pytest.param("b/loop", ".", [], id="to-its-own-folder"),
        pytest.param("a0", "b", [], id="to-a-folder-that-is-there-anyway"),
        pytest.param("self", "self", ["self"], id="to-itself"),
        pytest.param("gone", "nowhere", ["gone"], id="to-nothing"),
        pytest.param("far", "../far", ["far/f", "far/in/g"], id="to-another-place"),
        pytest.param("up", "../..", [], id="to-a-folder-above"),
        pytest.param("root", "/", [], id="to-all-of-the-disk"),
    ],
)
def test_walk_follows_links_once_and_after_what_needs_none(tmp_path, monkeypatch, capsys, link, target, expected):
    plant(tmp_path / "up" / "data", "a", "b/c", "b/d/e", ".hidden/h")
    plant(tmp_path / "up" / "far", "f", "in/g")
    monkeypatch.chdir(tmp_path / "up" / "data")
    os.symlink(target, link)
    at_top = [link] if expected == [link] else []
    assert walked(".") == [
        f"./{n}" for n in sorted(["a", *at_top]) + ["b/c", "b/d/e"] + (expected if not at_top else [])
    ]
    assert ("folder above" in capsys.readouterr().err) == (link in ("up", "root"))


@pytest.mark.parametrize(
    "mode, found",
    [
        pytest.param(0o000, ["./a"], id="nothing-allowed"),
        pytest.param(0o444, ["./a"], id="listed-but-not-entered"),
        pytest.param(0o111, ["./a"], id="entered-but-not-listed"),
        pytest.param(0o555, ["./a", "./secret/b", "./secret/in/c"], id="read-only"),
    ],
)
def test_walk_says_what_it_may_not_read(somebody, monkeypatch, capsys, mode, found):
    monkeypatch.setattr(files, "_told", set())
    plant(somebody, "a", "secret/b", "secret/in/c")
    os.chmod("secret", mode)
    assert walked(".") == found
    assert capsys.readouterr().err.count("secret") == (len(found) == 1)


def test_walk_of_a_folder_that_may_not_be_read(somebody):
    os.mkdir("secret", 0)
    with pytest.raises(UserError, match="cannot read this folder .Permission denied.: secret"):
        walked("secret")
