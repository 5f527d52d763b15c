"""The table of verdicts (--csv): it grows by a row a video, and a later run goes on from it."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable
from pathlib import Path

from .. import files
from ..errors import UserError
from ..files import csv_name

#: Columns of --csv. No times of ours in it: a second run gives the same bytes. The last three are the video's
#: (`files.source_stamp`).
CSV_COLUMNS = (
    "video", "verdict", "p_real", "p_fake", "interval_low", "interval_high", "frames_decoded", "frames_with_face",
    "people", "people_p_real", "model", "settings", "error", "note", "report", "bytes", "mtime", "sha256",
)  # fmt: skip


def csv_row(result: dict, settings: str, report: str | None = None) -> dict:
    """The row of --csv for a result object. `report`: path of its page."""
    interval = result["interval"] or (None, None)
    number = lambda v: "" if v is None else f"{v:.6f}"
    return {
        "video": csv_name(result["video"]),
        "verdict": result["verdict"] or "",
        "p_real": number(result["p_real"]),
        "p_fake": number(result["p_fake"]),
        "interval_low": number(interval[0]),
        "interval_high": number(interval[1]),
        "frames_decoded": result["frames_decoded"],
        "frames_with_face": result["frames_with_face"],
        "people": len(result["people"]),
        "people_p_real": " ".join(f"{p['id']}:{p['p_real']:.6f}" for p in result["people"]),
        "model": csv_name(result["model"] or ""),
        "settings": settings,
        "error": csv_name(result["error"] or ""),
        "note": csv_name("; ".join(filter(None, [result.get("note"), *(result.get("warnings") or ())]))),
        "report": csv_name(report or ""),
        **_stamp_cells(result.get("source")),
    }


def _stamp_cells(stamp: dict | None) -> dict:
    if not stamp:
        return {"bytes": "", "mtime": "", "sha256": ""}
    return {"bytes": stamp["bytes"], "mtime": f"{stamp['mtime_ns'] / 1e9:.6f}", "sha256": stamp["sha256"]}


class CsvFile:
    """The growing table: reads what an earlier run left, appends synced rows, puts them into order at the end.

    Args:
        path: the file; a half last row, left by a kill, is cut off.
        settings: short text of everything that changes a score; rows made with another are not mixed in.
        force: start afresh.

    Raises:
        UserError: when the file is no such table, was made with other settings, or is in use by another run.
    """

    def __init__(self, path: Path, settings: str, *, force: bool = False):
        self.path, self.settings = Path(path), settings
        lock = _lock_of(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # The lock is a file of its own: the table is replaced by a rename at the end.
            self._lock = files.open_lock(lock)
        except BlockingIOError:
            raise UserError(
                "another run is writing to this table", file=path, hint="wait until it ends, or name another --csv"
            ) from None
        except OSError as e:
            if odd := files.odd_lock(e, lock):
                raise odd from None
            raise UserError(f"cannot write here ({e.strerror})", file=path, hint="name another --csv") from None
        try:
            self._begin(force)
        except BaseException:
            self._let_go()
            raise

    def _begin(self, force: bool) -> None:
        files.remove_dead_partials(self.path.parent)
        self.rows: dict[str, dict] = {} if force else self._read()
        # Videos that failed are tried again; the others stand, as long as their file is the same (`stands`).
        self.done = {name: row for name, row in self.rows.items() if not row["error"]}
        self._write(self.done.values())
        self._handle = open(
            os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC),
            "w",
            encoding="utf-8",
            newline="",
        )

    def _read(self) -> dict[str, dict]:
        if not self.path.exists():
            return {}
        data = self.path.read_bytes()
        text = data[: data.rfind(b"\n") + 1].decode("utf-8", errors="replace")
        # A row may hold a quoted newline; a cut inside the quotes leaves an unbalanced last row, which has too few
        # fields.
        reader = csv.reader(io.StringIO(text, newline=""))
        try:
            table = list(reader)
        except csv.Error as e:
            raise UserError(
                f"not a table of verdicts ({e})", file=self.path, hint="name another --csv, or --force"
            ) from None
        if not table:
            return {}
        if tuple(table[0]) != CSV_COLUMNS:
            raise UserError(
                "not a table that predict.py wrote", file=self.path, hint="name another --csv, or --force to replace it"
            )
        rows = [dict(zip(CSV_COLUMNS, row)) for row in table[1:] if len(row) == len(CSV_COLUMNS)]
        other = next((r for r in rows if r["settings"] != self.settings), None)
        if other:
            raise UserError(
                f"made with other settings ({other['settings']}, now {self.settings})",
                file=self.path,
                hint="name another --csv, or --force to make it again",
            )
        return {row["video"]: row for row in rows}

    def _write(self, rows: Iterable[dict]) -> None:
        with files.atomic_path(self.path) as partial, open(partial, "w", encoding="utf-8", newline="") as f:
            writer = csv.DictWriter(f, CSV_COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            f.flush()
            os.fsync(f.fileno())

    def stands(self, name: str, video: str | Path) -> bool:
        """Whether the row of `name` is there, without an error, and of the content that the file has now."""
        row = self.done.get(csv_name(name))
        if row is None or not row["sha256"].strip():
            return False
        try:
            return files.same_source(video, {"bytes": int(row["bytes"]), "sha256": row["sha256"]})
        except (OSError, ValueError):
            return False

    def append(self, row: dict) -> None:
        """Adds a row and waits until the disk has it."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n").writerow(row)
        self._handle.write(text.getvalue())
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self.rows[row["video"]] = row

    def finish(self, order: list[str]) -> None:
        """Puts the rows into the order of the input, those of other videos last, and lets go of the file."""
        self._handle.close()
        first = {csv_name(name): i for i, name in enumerate(order)}
        self._write(sorted(self.rows.values(), key=lambda r: first.get(r["video"], len(first))))
        self.close()

    def close(self) -> None:
        """Lets go of the file; a second time nothing happens: the lock may be the next run's by then."""
        if not self._handle.closed:
            self._handle.close()
        self._let_go()

    def _let_go(self) -> None:
        if not self._lock.closed:
            _lock_of(self.path).unlink(missing_ok=True)
            self._lock.close()


def _lock_of(table: Path) -> Path:
    """The lock is a file of its own, because the table is replaced by a rename at the end. Any name of 255 bytes can
    have one."""
    name = f".{table.name}.lock"
    if len(os.fsencode(name)) > 255:
        name = f".{hashlib.sha1(os.fsencode(table.name)).hexdigest()}.lock"
    return table.with_name(name)
