"""The folder of the queue: whether it is one, who holds it, and opening its SQLite table."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import UserError

#: Seconds that a call waits for a table which another program holds, at the start and later. Short: others wait behind
#: it.
OPEN_S, BUSY_S = 10.0, 0.25

TABLE, LOCK = "queue.sqlite3", ".serve.lock"
#: What else may lie in an empty folder that becomes a store.
_EMPTY = {LOCK, "uploads", "reports", "lost+found", TABLE, TABLE + "-wal", TABLE + "-shm"}
#: Written into the table's header: "ddqs".
_APPLICATION = 0x64647173

SCHEMA = """
CREATE TABLE IF NOT EXISTS videos (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, bytes INTEGER NOT NULL, state TEXT NOT NULL, created REAL NOT NULL,
    started REAL, finished REAL, starts INTEGER NOT NULL DEFAULT 0, result TEXT, callback TEXT);
CREATE INDEX IF NOT EXISTS videos_by_state ON videos (state, created);
CREATE TABLE IF NOT EXISTS callbacks (
    id INTEGER PRIMARY KEY, video TEXT NOT NULL, url TEXT NOT NULL, body TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', answer TEXT);
CREATE TABLE IF NOT EXISTS files (id TEXT PRIMARY KEY);
INSERT OR IGNORE INTO files SELECT id FROM videos;
"""
#: Columns that came later: (table, column, declaration).
_ADDED = (("videos", "explain", "TEXT"),)


def must_be_store(folder: Path) -> None:
    """Accepts an empty folder, or one that holds a queue of ours; touches nothing.

    Raises:
        UserError: the folder holds something else, or the table is damaged.
    """
    table = folder / TABLE
    for path in (folder / name for name in (TABLE, TABLE + "-wal", TABLE + "-shm", "uploads", "reports", LOCK)):
        if path.is_symlink():
            raise UserError(
                "a link where the server keeps its own files", file=path, hint="choose an empty folder with --store"
            )
    if table.is_file() and table.stat().st_size:
        if not _is_ours(table):
            raise UserError(
                f"not a folder of this server: another program's {TABLE} lies in it",
                file=folder,
                hint="choose an empty folder with --store",
            )
        return
    others = {entry.name for entry in folder.iterdir()} - _EMPTY
    held = [
        sub
        for sub in ("uploads", "reports")
        if (folder / sub).exists() and (not (folder / sub).is_dir() or any((folder / sub).iterdir()))
    ]
    if others or held or (table.exists() and not table.is_file()):
        raise UserError(
            "not a folder of this server: it holds other files",
            file=folder,
            hint="choose an empty or a new folder with --store",
        )


def _is_ours(table: Path) -> bool:
    """Whether an SQLite file is a queue: by its mark, or (older ones have none) by its columns."""
    address = f"{table.absolute().as_uri()}?mode=ro"
    with _told(table), contextlib.closing(sqlite3.connect(address, uri=True, timeout=OPEN_S)) as db:
        if db.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION:
            return True
        videos, calls = ({row[1] for row in db.execute(f"PRAGMA table_info({n})")} for n in ("videos", "callbacks"))
    known = {"id", "name", "bytes", "state", "starts", "result", "callback"}
    return videos >= known and calls >= {"video", "url", "body", "tries", "due"}


def opened(folder: Path) -> tuple[IO, sqlite3.Connection]:
    """The lock and the table of a queue's folder, which is made if it is not there, and is its owner's alone.

    Raises:
        UserError: the folder is not a store, cannot be written, the table is damaged, or another server uses it.
    """
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        must_be_store(folder)
        lock = _held(folder)
        try:
            for path in (folder, folder / "uploads", folder / "reports"):
                path.mkdir(exist_ok=True, mode=0o700)
                _only_owner(path, 0o700)
            with _told(folder / TABLE):
                return lock, _opened_table(folder / TABLE)
        except BaseException:
            lock.close()
            raise


def _held(folder: Path) -> IO:
    # Never through a link, and nothing of a file that is there is lost.
    lock = os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(
            "another server uses this folder", file=folder, hint="stop it, or choose another with --store"
        ) from None
    return lock


def _opened_table(table: Path) -> sqlite3.Connection:
    # Made by us, because SQLite would make it readable by everyone; its log takes over these rights.
    os.close(os.open(table, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    for path in (table, *(table.with_name(table.name + end) for end in ("-wal", "-shm"))):
        if path.exists():
            _only_owner(path, 0o600)
    db = sqlite3.connect(table, check_same_thread=False, isolation_level=None, timeout=OPEN_S)
    db.row_factory = sqlite3.Row
    for pragma in (
        f"application_id={_APPLICATION}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=ON",
        "temp_store=MEMORY",
    ):
        db.execute(f"PRAGMA {pragma}")
    db.executescript(SCHEMA)
    for name, column, kind in _ADDED:
        if column not in {row["name"] for row in db.execute(f"PRAGMA table_info({name})")}:
            db.execute(f"ALTER TABLE {name} ADD COLUMN {column} {kind}")
    db.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")
    return db


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong with a folder or its table inside, as a UserError."""
    try:
        yield
    except OSError as e:
        raise UserError(
            f"cannot write here ({e.strerror})", file=path, hint="choose another folder with --store"
        ) from None
    except sqlite3.OperationalError as e:
        raise UserError(
            f"the queue's table cannot be used now ({e})",
            file=path,
            hint="end the program that holds it, or make room on the disk",
        ) from None
    except sqlite3.DatabaseError as e:
        raise UserError(
            f"the queue's table is damaged ({e})",
            file=path,
            hint="move the whole folder away, or choose another with --store; queued videos are lost",
        ) from None


def _only_owner(path: Path, mode: int) -> None:
    """Takes group and others their rights to a file or folder of ours."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        os.chmod(path, mode)
