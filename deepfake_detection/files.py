"""Outputs that are either whole or absent, links instead of copies, and a lock for a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any, Iterator

from .errors import UserError

_PARTIAL = ".partial-"


def partial_name(path: Path) -> Path:
    """Where `path` is written while it is not whole: same folder (so a rename is atomic), hidden, marked with our machine and pid.

    The suffix is kept at the end because OpenCV, Keras and pandas choose a format by it. The name is shortened, because a name
    of 255 bytes is legal for the output and the marker must still fit.
    """
    stem = hashlib.sha1(path.name.encode()).hexdigest()[:12]
    return path.with_name(f".{stem}{_PARTIAL}{_host()}-{os.getpid()}{path.suffix if len(path.suffix) <= 16 else ''}")


def _host() -> str:
    """A few letters for this machine: on a shared disk, a pid alone says nothing."""
    return hashlib.sha1(platform.node().encode()).hexdigest()[:6]


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a path to write to; renames it to `path` when the block ends well, removes it when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(path)
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Like `atomic_path` for a folder: yields an empty folder that becomes `path` (replacing it) when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            # os.replace cannot replace a folder that is not empty: move the old one aside first, under a partial name, so that
            # a kill between the two renames leaves rubbish that remove_partials() knows, never a half-filled `path`.
            old = partial.with_name(partial.name + "-old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(path, old)
            os.replace(partial, path)
            shutil.rmtree(old)
        else:
            os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remove_partials(folder: str | Path) -> int:
    """Removes what killed runs left in `folder` (not below it). Call it while holding the folder's lock. Returns how many."""
    count = 0
    for entry in Path(folder).glob(f".*{_PARTIAL}*"):
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)
        count += 1
    return count


def remove_dead_partials(folder: str | Path) -> int:
    """Removes what runs of this machine that live no more left in `folder` (not below it). Needs no lock. Returns how many."""
    count = 0
    for entry in Path(folder).glob(f".*{_PARTIAL}{_host()}-*"):
        pid = re.search(r"-(\d+)(?!.*-\d)", entry.name)
        if pid and not _alive(int(pid[1])):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)
            count += 1
    return count


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON atomically: sorted as given, two spaces, NaN refused (it is not JSON)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: str | Path, table) -> None:
    """Writes a pandas DataFrame atomically as CSV without its index."""
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def csv_name(name: str) -> str:
    """A file's name as a cell that no spreadsheet takes for a formula: what begins with = + - @ gets a `./`, which is the same file."""
    return f"./{name}" if name[:1] in ("=", "+", "-", "@", "\t", "\r") else name


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Makes `target` the same file as `source`: a hard link where the file system allows, else a copy."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as e:
        if e.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.ENOSYS):
            raise
        shutil.copyfile(source, target)


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def source_stamp(path: str | Path) -> dict:
    """What tells whether a source file is the one an output was made from: size in bytes and modification time in ns."""
    stat = os.stat(path)
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


@contextlib.contextmanager
def folder_lock(folder: str | Path, stage: str) -> Iterator[None]:
    """Holds `<folder>/.<stage>.lock` so that two runs never write to one folder at once. The lock dies with the process.

    Raises:
        UserError: when another run holds it, or the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / f".{stage}.lock", "w")
    except OSError as e:
        raise UserError(f"cannot write here ({e.strerror})", file=folder, hint="choose another folder with --out") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another run of {stage} is writing to this folder", file=folder,
                            hint="wait until it ends, or choose another folder with --out") from None
        yield
