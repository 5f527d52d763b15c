"""The queue and its results in one SQLite file: what was there before a crash is there after it.

A video is `queued`, `running`, `done` or `failed`. The table holds what the page shows; the uploads and reports lie
beside it as files named by the random id, never by what the person called them. `files` names every id whose files may
lie there: only those are ever removed, so that a file which somebody else put into the folder stays.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .. import files
from . import store_folder

log = logging.getLogger("deepfake_detection.web")

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"

#: A video that was being worked on in this many crashes of the server is not tried again.
MOST_STARTS = 3
_ID = re.compile(r"[0-9a-f]{32}")
_UPLOAD = re.compile(r"([0-9a-f]{32})\.video|\.([0-9a-f]{32})\.partial")
#: The folder in which an address is fetched.
_FETCH = re.compile(r"\.([0-9a-f]{32})\.fetch")


class Unavailable(Exception):
    """The table cannot be used now: locked by another program, no room on the disk, not readable. Worth another try.

    Attributes:
        full: for lack of room.
    """

    def __init__(self, reason: str):
        super().__init__(f"the queue's table cannot be used now ({reason})")
        self.full = "full" in reason


class Full(Exception):
    """As many videos wait as may."""


def new_id() -> str:
    """128 random bits: an id is also what protects a result from being guessed."""
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Whether a text has the form of a video's id."""
    return _ID.fullmatch(text) is not None


class Store:
    """Table and files below one folder. Safe to use from several threads.

    Args:
        folder: made if it is not there; becomes readable by its owner only.

    Every method raises `Unavailable` when the table cannot be used for the moment.

    Raises:
        UserError: when the folder is not a store, cannot be written, the table is damaged, or another server uses it.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.uploads, self.reports = self.folder / "uploads", self.folder / "reports"
        self._lock = threading.RLock()
        self._depth, self._unscrubbed = 0, True
        self._lock_file, self._db = store_folder.opened(self.folder)

    def close(self) -> None:
        with self._lock:
            with contextlib.suppress(Unavailable):
                self.scrub()
            self._db.close()
        self._lock_file.close()

    # -- files ---------------------------------------------------------------------------------------------------------
    def upload(self, video: str) -> Path:
        return self.uploads / f"{video}.video"

    def partial(self, video: str) -> Path:
        return self.uploads / f".{video}.partial"

    def report(self, video: str) -> Path:
        return self.reports / f"{video}.html"

    def remove_files(self, video: str) -> None:
        """Removes whatever there is of a video's files, half written ones too."""
        reports = (self.report(video), self.report(video).with_suffix(".json"))
        names = [files.partial_name(r).name.split(".partial-")[0] + ".partial-*" for r in reports]
        half = [path for name in names for path in self.reports.glob(name)]
        for path in (self.partial(video), self.upload(video), *reports, *half):
            path.unlink(missing_ok=True)

    def recover(self) -> int:
        """After a start: requeues what was running, returns how many; removes half files and those without a row."""
        with self._lock:
            for row in self._all("SELECT id, result FROM videos WHERE state = ? AND starts >= ?", RUNNING, MOST_STARTS):
                early = json.loads(row["result"]) if row["result"] else None
                self.finish(
                    row["id"],
                    early
                    or {"error": "the server stopped several times while it worked on this video (hint: re-encode it)"},
                )
            requeued = self._run(
                "UPDATE videos SET state = ?, started = NULL, result = NULL WHERE state = ?", QUEUED, RUNNING
            ).rowcount
            for row in self._all("SELECT id FROM videos WHERE state = ?", QUEUED):
                if not self.upload(row["id"]).exists():
                    self.finish(row["id"], {"error": "the uploaded file is gone (hint: upload it again)"})
            self.tidy()
            self._unscrubbed = True
        return requeued

    def tidy(self, busy: Callable[[], frozenset] = frozenset) -> None:
        """Removes files that nobody needs any more, of ids in `files` only; uploads also by their name, which is ours
        alone.

        Args:
            busy: gives the ids that are being uploaded or worked on: left alone.
        """
        with self._lock:
            # In this order: what is here now is either busy then, or has its row by then.
            ids, uploads = [row["id"] for row in self._all("SELECT id FROM files")], list(self.uploads.iterdir())
            left = busy()
            known = {row["id"]: row["state"] for row in self._all("SELECT id, state FROM videos")}
            for video in ids:
                if video not in known and video not in left:
                    self.remove_files(video)
                    self._run("DELETE FROM files WHERE id = ?", video)
            for path in uploads:
                if (fetch := _FETCH.fullmatch(path.name)) and fetch[1] not in left and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                if (
                    (named := _UPLOAD.fullmatch(path.name))
                    and (video := named[1] or named[2]) not in left
                    and path.is_file()
                    and not path.is_symlink()
                    and (named[2] or known.get(video) not in (QUEUED, RUNNING))
                ):
                    path.unlink(missing_ok=True)

    # -- access --------------------------------------------------------------------------------------------------------
    def _run(self, query: str, *values) -> sqlite3.Cursor:
        with self._lock:
            try:
                return self._db.execute(query, values)
            except sqlite3.Error as e:
                raise Unavailable(str(e)) from None

    def _all(self, query: str, *values) -> list[sqlite3.Row]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as e:
                raise Unavailable(str(e)) from None

    @contextlib.contextmanager
    def _together(self):
        """What is written inside is written whole or not at all. May be nested."""
        with self._lock:
            if not self._depth:
                self._run("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self._run("COMMIT")
            except BaseException:
                if self._depth == 1 and self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def scrub(self) -> None:
        """Overwrites what was deleted in the write-ahead log too: its pages go into the table, the log is emptied."""
        with self._lock:
            if self._unscrubbed:
                busy = self._all("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]
                self._unscrubbed = bool(busy)  # another program reads: tried again at the next clearing up

    # -- the queue -----------------------------------------------------------------------------------------------------
    def add(
        self,
        video: str,
        name: str,
        size: int,
        callback: str | None,
        explain: str | None = None,
        *,
        most: int | None = None,
    ) -> None:
        """Queues a video whose file stands under `upload(video)`.

        Args:
            most: videos that may wait.

        Raises:
            Full: as many wait already.
        """
        with self._together():
            if most is not None and self.counts()[QUEUED] >= most:
                raise Full
            self._run("INSERT OR IGNORE INTO files VALUES (?)", video)
            self._run(
                "INSERT INTO videos (id, name, bytes, state, created, callback, explain) VALUES (?, ?, ?, ?, ?, ?, ?)",
                video,
                name,
                size,
                QUEUED,
                time.time(),
                callback,
                explain,
            )

    def take(self) -> dict | None:
        """The oldest queued video, now running; None when the queue is empty."""
        with self._lock:
            rows = self._all("SELECT id FROM videos WHERE state = ? ORDER BY created, rowid LIMIT 1", QUEUED)
            if not rows:
                return None
            self._run(
                "UPDATE videos SET state = ?, started = ?, starts = starts + 1 WHERE id = ?",
                RUNNING,
                time.time(),
                rows[0]["id"],
            )
            return self.get(rows[0]["id"])

    def put_back(self, video: str) -> None:
        """A running video whose worker was stopped because the server ends: queued as if never started."""
        self._run(
            "UPDATE videos SET state = ?, started = NULL, result = NULL, starts = starts - 1 WHERE id = ? AND state "
            "= ?",
            QUEUED,
            video,
            RUNNING,
        )

    def note(self, video: str, result: dict) -> None:
        """Keeps the verdict of a video that is still being explained."""
        self._run(
            "UPDATE videos SET result = ? WHERE id = ? AND state = ?",
            json.dumps(result, allow_nan=False),
            video,
            RUNNING,
        )

    def finish(self, video: str, result: dict, message: Callable[[dict], str] | None = None) -> dict | None:
        """Stores a result object (`error` set: failed). Returns the row, or None when the video was deleted meanwhile.

        Args:
            message: from the finished row to the callback's body; queued with the result, if the video has a callback.
        """
        with self._together():
            state = FAILED if result.get("error") else DONE
            self._run(
                "UPDATE videos SET state = ?, finished = ?, result = ? WHERE id = ?",
                state,
                time.time(),
                json.dumps(result, allow_nan=False),
                video,
            )
            row = self.get(video)
            if row and row["callback"] and message:
                self.add_callback(video, row["callback"], message(row))
            return row

    def get(self, video: str) -> dict | None:
        rows = self._all("SELECT rowid, * FROM videos WHERE id = ?", video)
        return _plain(rows[0]) if rows else None

    def list(self, limit: int = 200) -> list[dict]:
        """Newest first."""
        return [
            _plain(row)
            for row in self._all("SELECT rowid, * FROM videos ORDER BY created DESC, rowid DESC LIMIT ?", limit)
        ]

    def ahead(self, row: dict) -> int:
        """How many queued videos are before this one."""
        return self._all(
            "SELECT count(*) AS n FROM videos WHERE state = ? AND (created, rowid) < (?, ?)",
            QUEUED,
            row["created"],
            row["rowid"],
        )[0]["n"]

    def counts(self) -> dict[str, int]:
        found = {row["state"]: row["n"] for row in self._all("SELECT state, count(*) AS n FROM videos GROUP BY state")}
        return {state: found.get(state, 0) for state in (QUEUED, RUNNING, DONE, FAILED)}

    def delete(self, *videos: str) -> int:
        """Forgets videos, their files and callbacks that still wait. Returns how many were there."""
        with self._lock:
            with self._together():
                there = 0
                for video in videos:
                    # The id stays in `files` until its files are gone, also those that a worker is still writing.
                    there += self._run("DELETE FROM videos WHERE id = ?", video).rowcount
                    self._run("DELETE FROM callbacks WHERE video = ?", video)
            self._unscrubbed |= there > 0
            for video in videos:
                self.remove_files(video)
            with contextlib.suppress(Unavailable):  # deleted it is; the log is cut at the next clearing up
                self.scrub()
        return there

    def expired(self, before: float) -> list[str]:
        """Videos that were finished before this time."""
        return [row["id"] for row in self._all("SELECT id FROM videos WHERE finished < ?", before)]

    # -- callbacks -----------------------------------------------------------------------------------------------------
    def add_callback(self, video: str, url: str, body: str) -> None:
        self._run("INSERT INTO callbacks (video, url, body, due) VALUES (?, ?, ?, ?)", video, url, body, time.time())

    def due_callbacks(self, now: float) -> list[dict]:
        return [
            dict(row)
            for row in self._all("SELECT * FROM callbacks WHERE state = 'waiting' AND due <= ? ORDER BY due", now)
        ]

    def mark_callback(self, number: int, *, state: str, tries: int, due: float, answer: str) -> None:
        self._run(
            "UPDATE callbacks SET state = ?, tries = ?, due = ?, answer = ? WHERE id = ?",
            state,
            tries,
            due,
            answer,
            number,
        )

    def callback_of(self, video: str) -> dict | None:
        rows = self._all("SELECT state, tries, answer FROM callbacks WHERE video = ? ORDER BY id DESC LIMIT 1", video)
        return dict(rows[0]) if rows else None


def _plain(row: sqlite3.Row) -> dict:
    out = dict(row)
    out["result"] = json.loads(out["result"]) if out["result"] else None
    return out
