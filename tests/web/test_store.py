"""The store's folder and table: whose files it touches, what stays behind, and a table that is locked or has no
room."""

import json
import os
import random
import re
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.web import store, store_folder

SERVE = Path(__file__).resolve().parents[2] / "serve.py"


def tree(folder: Path) -> dict:
    return {
        str(p.relative_to(folder)): os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


def reports_of_the_readme(d):
    (d / "reports").mkdir()
    (d / "reports" / "clip.html").write_text("mine")


def uploads_of_mine(d):
    (d / "uploads").mkdir()
    (d / "uploads" / "holiday.mp4").write_text("mine")


def hidden_only(d):
    (d / "uploads").mkdir()
    (d / "uploads" / ".notes").write_text("mine")


def other_table(d):
    with sqlite3.connect(d / "queue.sqlite3") as db:
        db.execute("CREATE TABLE videos (title TEXT)")


def linked_uploads(d):
    (d.parent / "precious").mkdir()
    (d.parent / "precious" / "x.mp4").write_text("mine")
    (d / "uploads").symlink_to(d.parent / "precious")


def linked_lock(d):
    (d.parent / "precious.txt").write_text("mine")
    (d / ".serve.lock").symlink_to(d.parent / "precious.txt")


def linked_table(d):
    other = store.Store(d.parent / "other")
    other.close()
    (d / "queue.sqlite3").symlink_to(d.parent / "other" / "queue.sqlite3")


@pytest.mark.parametrize(
    "fill",
    [
        pytest.param(f, id=f.__name__)
        for f in (
            reports_of_the_readme,
            uploads_of_mine,
            hidden_only,
            other_table,
            linked_uploads,
            linked_lock,
            linked_table,
        )
    ]
    + [
        pytest.param(lambda d: (d / "notes.txt").write_text("mine"), id="any_other_file"),
        pytest.param(lambda d: (d / "uploads").write_text("mine"), id="a_file_named_uploads"),
    ],
)
def test_a_folder_that_is_not_a_store_is_refused_untouched(tmp_path, fill):
    folder = tmp_path / "dir"
    folder.mkdir(mode=0o755)
    fill(folder)
    before = tree(tmp_path)
    with pytest.raises(UserError, match="--store"):
        store.Store(folder)
    assert tree(tmp_path) == before and stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_serve_says_so_in_one_line(tmp_path, tiny_model):
    reports_of_the_readme(tmp_path)
    done = subprocess.run(
        [sys.executable, str(SERVE), "--port", "0", "--store", str(tmp_path), "--model", str(tiny_model)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (
        done.returncode == 2
        and "not a folder of this server" in done.stderr
        and "hint:" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert (tmp_path / "reports" / "clip.html").read_text() == "mine"


def test_files_of_others_in_a_store_stay(tmp_path):
    """Also those named like ours: only ids that the table names are cleared up in reports/."""
    table = store.Store(tmp_path)
    ours, gone = store.new_id(), store.new_id()
    for video in (ours, gone):
        table.upload(video).write_bytes(b"x")
        table.add(video, "a.mp4", 1, None)
    table.delete(gone)
    table.report(gone).write_text("written by a worker after its video was deleted")
    table.partial(ours).write_bytes(b"half an upload")
    table.close()
    mine = [
        "reports/clip.html",
        "reports/.hidden",
        f"reports/{'d' * 32}.html",
        "reports/d41d8cd98f00b204e9800998ecf8427e.json",
        "uploads/holiday.mp4",
        "uploads/.notes.partial",
        f"uploads/{'A' * 32}.video",
        f"uploads/{'a' * 32}.video.bak",
        "notes.txt",
    ]
    for name in mine:
        (tmp_path / name).write_text("mine")
    (tmp_path / "uploads" / "folder.video").mkdir()
    again = store.Store(tmp_path)
    again.recover()
    assert [n for n in mine if not (tmp_path / n).exists()] == [] and (tmp_path / "uploads" / "folder.video").is_dir()
    assert again.upload(ours).exists() and not again.report(gone).exists() and not again.partial(ours).exists()
    again.close()


def test_an_older_store_is_taken(tmp_path):
    """One without our mark and without the newer columns: its rows are there, its files are cleared up."""
    for sub in ("uploads", "reports"):
        (tmp_path / sub).mkdir()
    with sqlite3.connect(tmp_path / "queue.sqlite3") as db:
        db.executescript(store_folder.SCHEMA.split("CREATE TABLE IF NOT EXISTS files")[0])
        db.execute(
            "INSERT INTO videos (id, name, bytes, state, created) VALUES (?, 'old.mp4', 1, 'done', 1)", ("a" * 32,)
        )
    db.close()
    table = store.Store(tmp_path)
    table.report("a" * 32).write_text("old report")
    assert [row["name"] for row in table.list()] == ["old.mp4"] and table.delete("a" * 32) == 1
    assert not list((tmp_path / "reports").iterdir())
    table.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_deleted_names_are_nowhere_in_the_folder(tmp_path, seed):
    """Not in the table's free pages and not in its log."""
    random.seed(seed)
    table, kept, gone = store.Store(tmp_path), [], set()
    for number in range(120):
        video, name = store.new_id(), f"NAME{number:05d}{'x' * random.randint(0, 120)}.mp4"
        table.add(video, name, 1, f"https://h/{name}" if number % 3 == 0 else None)
        kept.append((video, number))
        if random.random() < 0.7:
            table.finish(
                video,
                {"video": name, "people": ["p" * random.randint(0, 6000)], "error": None},
                lambda row: json.dumps(row["name"]),
            )
        if random.random() < 0.4:
            video, at = kept.pop(random.randrange(len(kept)))
            table.delete(video)
            gone.add(at)
    written = {
        int(n) for path in tmp_path.iterdir() if path.is_file() for n in re.findall(rb"NAME(\d{5})", path.read_bytes())
    }
    assert gone and written & gone == set()
    table.close()


@pytest.mark.parametrize("there", [True, False], ids=["a folder of mode 755", "no folder yet"])
def test_only_the_owner_reads_a_store(tmp_path, there):
    folder, old = tmp_path / "store", os.umask(0o022)
    try:
        if there:
            folder.mkdir(mode=0o755)
        table = store.Store(folder)
        table.add(store.new_id(), "a.mp4", 1, None)
        assert {p.name: oct(stat.S_IMODE(p.stat().st_mode)) for p in (folder, *folder.iterdir())} == {
            "store": "0o700",
            "uploads": "0o700",
            "reports": "0o700",
            "queue.sqlite3": "0o600",
            "queue.sqlite3-wal": "0o600",
            "queue.sqlite3-shm": "0o600",
            ".serve.lock": "0o600",
        }
        table.close()
    finally:
        os.umask(old)


def test_a_locked_table_is_unavailable_for_a_while(tmp_path):
    table = store.Store(tmp_path)
    other = sqlite3.connect(tmp_path / "queue.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    video = store.new_id()
    for call in (
        lambda: table.add(video, "a.mp4", 1, None),
        lambda: table.finish(video, {"error": None}),
        lambda: table.delete(video),
    ):
        with pytest.raises(store.Unavailable, match="locked"):
            call()
    other.execute("ROLLBACK")
    table.add(video, "a.mp4", 1, None)
    assert table.take()["id"] == video
    table.close()


def test_a_table_without_room_loses_nothing(tmp_path):
    """A result that did not fit is refused whole; the row is as it was."""
    table = store.Store(tmp_path)
    video = store.new_id()
    table.add(video, "a.mp4", 1, "https://h/")
    table.take()
    pages = table._db.execute("PRAGMA page_count").fetchone()[0]
    table._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(store.Unavailable, match="full") as e:
        table.finish(video, {"error": None, "people": "x" * 100_000}, lambda row: "{}")
    assert e.value.full and table.get(video)["state"] == "running" and table.callback_of(video) is None
    table._db.execute("PRAGMA max_page_count=100000")
    assert table.finish(video, {"error": None, "people": "x" * 100_000}, lambda row: "{}")["state"] == "done"
    table.close()
