"""The queue and its results in one SQLite file: what was there before a crash is there after it.

A video is `queued`, `running`, `done` or `failed`. The table holds what the page shows; the uploads and reports lie beside it as
files named by the random id, never by what the person called them.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import threading
import time
from pathlib import Path

from ..errors import UserError

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"

#: A video that was being worked on in this many crashes of the server is not tried again.
MOST_STARTS = 3

_SCHEMA = """
CREATE TABLE IF NOT EXISTS videos (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, bytes INTEGER NOT NULL, state TEXT NOT NULL, created REAL NOT NULL, started REAL,
    finished REAL, starts INTEGER NOT NULL DEFAULT 0, result TEXT, callback TEXT);
CREATE INDEX IF NOT EXISTS videos_by_state ON videos (state, created);
CREATE TABLE IF NOT EXISTS callbacks (
    id INTEGER PRIMARY KEY, video TEXT NOT NULL, url TEXT NOT NULL, body TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', answer TEXT);
"""

_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """128 random bits: an id is also what protects a result from being guessed."""
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


class Store:
    """Table and files below one folder. Safe to use from several threads.

    Args:
        folder: made if it is not there, readable by its owner only.

    Raises:
        UserError: when the folder cannot be written, the table is damaged, or another server uses it.
    """

    def __init__(self, folder: Path):
        import fcntl
        self.folder = Path(folder)
        self.uploads, self.reports = self.folder / "uploads", self.folder / "reports"
        try:
            for path in (self.folder, self.uploads, self.reports):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_file = open(self.folder / ".serve.lock", "w")
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError("another server uses this folder", file=folder, hint="stop it, or choose another with --store") from None
        except OSError as e:
            raise UserError(f"cannot write here ({e.strerror})", file=folder, hint="choose another folder with --store") from None
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(self.folder / "queue.sqlite3", check_same_thread=False, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as e:
            raise UserError(f"the queue's table is damaged ({e})", file=self.folder / "queue.sqlite3",
                            hint="move it away; queued videos are lost") from None

    def close(self) -> None:
        with self._lock:
            self._db.close()
        self._lock_file.close()

    # -- files ---------------------------------------------------------------------------------------------------------------
    def upload(self, video: str) -> Path:
        return self.uploads / f"{video}.video"

    def partial(self, video: str) -> Path:
        return self.uploads / f".{video}.partial"

    def report(self, video: str) -> Path:
        return self.reports / f"{video}.html"

    def remove_files(self, video: str) -> None:
        for path in (self.upload(video), self.report(video), self.report(video).with_suffix(".json")):
            path.unlink(missing_ok=True)

    def recover(self) -> int:
        """After a start: what was running is queued again, half files and files without a row are removed. Returns how many requeued."""
        with self._lock:
            for row in self._all("SELECT id FROM videos WHERE state = ? AND starts >= ?", RUNNING, MOST_STARTS):
                self.finish(row["id"], {"error": "the server stopped several times while it worked on this video (hint: re-encode it)"})
                self.upload(row["id"]).unlink(missing_ok=True)
            requeued = self._db.execute("UPDATE videos SET state = ?, started = NULL WHERE state = ?", (QUEUED, RUNNING)).rowcount
            for row in self._all("SELECT id FROM videos WHERE state = ?", QUEUED):
                if not self.upload(row["id"]).exists():
                    self.finish(row["id"], {"error": "the uploaded file is gone (hint: upload it again)"})
            known = {row["id"]: row["state"] for row in self._all("SELECT id, state FROM videos")}
            for folder in (self.uploads, self.reports):
                for path in folder.iterdir():
                    state = known.get(path.stem)
                    if path.name.startswith(".") or state is None or (folder == self.uploads and state in (DONE, FAILED)):
                        path.unlink()
        return requeued

    # -- the queue -----------------------------------------------------------------------------------------------------------
    def _all(self, query: str, *values) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def add(self, video: str, name: str, size: int, callback: str | None) -> None:
        """Queues a video whose file stands under `upload(video)`."""
        with self._lock:
            self._db.execute("INSERT INTO videos (id, name, bytes, state, created, callback) VALUES (?, ?, ?, ?, ?, ?)",
                             (video, name, size, QUEUED, time.time(), callback))

    def take(self) -> dict | None:
        """The oldest queued video, now running; None when the queue is empty."""
        with self._lock:
            rows = self._all("SELECT id FROM videos WHERE state = ? ORDER BY created, rowid LIMIT 1", QUEUED)
            if not rows:
                return None
            self._db.execute("UPDATE videos SET state = ?, started = ?, starts = starts + 1 WHERE id = ?", (RUNNING, time.time(), rows[0]["id"]))
            return self.get(rows[0]["id"])

    def put_back(self, video: str) -> None:
        """A running video whose worker was stopped because the server ends: queued as if never started."""
        with self._lock:
            self._db.execute("UPDATE videos SET state = ?, started = NULL, starts = starts - 1 WHERE id = ? AND state = ?",
                             (QUEUED, video, RUNNING))

    def finish(self, video: str, result: dict) -> dict | None:
        """Stores a result object (`error` set: failed). Returns the row, or None when the video was deleted meanwhile."""
        with self._lock:
            state = FAILED if result.get("error") else DONE
            self._db.execute("UPDATE videos SET state = ?, finished = ?, result = ? WHERE id = ?",
                             (state, time.time(), json.dumps(result, allow_nan=False), video))
            return self.get(video)

    def get(self, video: str) -> dict | None:
        rows = self._all("SELECT rowid, * FROM videos WHERE id = ?", video)
        return _plain(rows[0]) if rows else None

    def list(self, limit: int = 200) -> list[dict]:
        """Newest first."""
        return [_plain(row) for row in self._all("SELECT rowid, * FROM videos ORDER BY created DESC, rowid DESC LIMIT ?", limit)]

    def ahead(self, row: dict) -> int:
        """How many queued videos are before this one."""
        return self._all("SELECT count(*) AS n FROM videos WHERE state = ? AND (created, rowid) < (?, ?)", QUEUED, row["created"],
                         row["rowid"])[0]["n"]

    def counts(self) -> dict[str, int]:
        found = {row["state"]: row["n"] for row in self._all("SELECT state, count(*) AS n FROM videos GROUP BY state")}
        return {state: found.get(state, 0) for state in (QUEUED, RUNNING, DONE, FAILED)}

    def delete(self, video: str) -> bool:
        """Forgets a video, its files and callbacks that still wait. Returns whether it was there."""
        with self._lock:
            there = self._db.execute("DELETE FROM videos WHERE id = ?", (video,)).rowcount > 0
            self._db.execute("DELETE FROM callbacks WHERE video = ?", (video,))
            self.remove_files(video)
        return there

    def expired(self, before: float) -> list[str]:
        """Videos that were finished before this time."""
        return [row["id"] for row in self._all("SELECT id FROM videos WHERE finished < ?", before)]

    # -- callbacks -----------------------------------------------------------------------------------------------------------
    def add_callback(self, video: str, url: str, body: str) -> None:
        with self._lock:
            self._db.execute("INSERT INTO callbacks (video, url, body, due) VALUES (?, ?, ?, ?)", (video, url, body, time.time()))

    def due_callbacks(self, now: float) -> list[dict]:
        return [dict(row) for row in self._all("SELECT * FROM callbacks WHERE state = 'waiting' AND due <= ? ORDER BY due", now)]

    def mark_callback(self, number: int, *, state: str, tries: int, due: float, answer: str) -> None:
        with self._lock:
            self._db.execute("UPDATE callbacks SET state = ?, tries = ?, due = ?, answer = ? WHERE id = ?", (state, tries, due, answer, number))

    def callback_of(self, video: str) -> dict | None:
        rows = self._all("SELECT state, tries, answer FROM callbacks WHERE video = ? ORDER BY id DESC LIMIT 1", video)
        return dict(rows[0]) if rows else None


def _plain(row: sqlite3.Row) -> dict:
    out = dict(row)
    out["result"] = json.loads(out["result"]) if out["result"] else None
    return out
