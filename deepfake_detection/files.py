"""Outputs that are either whole or absent, links instead of copies, and a lock for a folder.

A data set may come from anyone, and our locks and unfinished files may lie in its folder. So nothing that already
stands under such a name is ever opened for writing: a link there could lead to any file of the user.
"""

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
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .errors import UserError, printable

_PARTIAL = ".partial-"

#: Our pid as others of this machine see it, where that is not `os.getpid()`: `video.sandbox.leave_processes` sets it.
#: Two workers of two runs have the same one inside.
outer_pid: int | None = None


def partial_name(path: Path) -> Path:
    """Where `path` is written while it is not whole: same folder (so a rename is atomic), hidden, marked with our
    machine and pid.

    The suffix is kept at the end because OpenCV, Keras and pandas choose a format by it. The name is shortened, because
    a name of 255 bytes is legal for the output and the marker must still fit.
    """
    stem = hashlib.sha1(path.name.encode()).hexdigest()[:12]
    suffix = path.suffix if len(path.suffix) <= 16 else ""
    return path.with_name(f".{stem}{_PARTIAL}{_host()}-{outer_pid or os.getpid()}{suffix}")


def _host() -> str:
    """A few letters for this machine: on a shared disk, a pid alone says nothing."""
    return hashlib.sha1(platform.node().encode()).hexdigest()[:6]


def create(path: str | Path) -> None:
    """Makes a new, empty file.

    Raises:
        FileExistsError: something stands under this name, be it a link that leads nowhere.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a new, empty file to write to; becomes `path` when the block ends well, else it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(path)
    _remove(partial)
    # Made here, so that whoever writes opens a file of ours and never follows a link that somebody laid under this
    # name.
    create(partial)
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Like `atomic_path` for a folder: yields an empty one that replaces `path` when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(path)
    _remove(partial)
    partial.mkdir()
    try:
        yield partial
        if os.path.lexists(path):
            # os.replace cannot replace a folder that is not empty: move the old one aside first, under a partial name,
            # so that a kill between the two renames leaves rubbish that remove_partials() knows, never a half-filled
            # `path`.
            old = partial.with_name(partial.name + "-old")
            _remove(old)
            os.replace(path, old)
            os.replace(partial, path)
            _remove(old)
        else:
            os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _remove(path: Path) -> None:
    """Removes a file, a folder with all in it, or a link (never what it leads to), if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_whole(path: Path) -> None:
    """Removes a folder with all in it; by its name at one moment: what a kill leaves, `remove_partials` knows."""
    aside = partial_name(path)
    _remove(aside)
    os.replace(path, aside)
    _remove(aside)


def remove_partials(folder: str | Path) -> int:
    """Removes what killed runs left in `folder`, not below it; returns how many. Hold the folder's lock."""
    count = 0
    for entry in Path(folder).glob(f".*{_PARTIAL}*"):
        _remove(entry)
        count += 1
    return count


def remove_dead_partials(folder: str | Path) -> int:
    """Removes what dead runs of this machine left in `folder`, not below it; returns how many. Needs no lock."""
    count = 0
    for entry in Path(folder).glob(f".*{_PARTIAL}{_host()}-*"):
        pid = re.search(r"-(\d+)(?!.*-\d)", entry.name)
        if pid and not _alive(int(pid[1])):
            with contextlib.suppress(OSError):  # another run clears up too
                _remove(entry)
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


def read_json(path: str | Path) -> Any:
    """What a file of JSON holds; None when it is not there or cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_csv(path: str | Path, table) -> None:
    """Writes a pandas DataFrame atomically as CSV without its index."""
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def csv_name(name: str) -> str:
    """A name as a cell that no spreadsheet takes for a formula: `./` goes before = + - @, which is the same file."""
    return f"./{name}" if name[:1] in ("=", "+", "-", "@", "\t", "\r") else name


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Makes `target` the same file as `source`: a hard link where the file system allows, else a copy."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as e:
        if e.errno not in (
            errno.EXDEV,
            errno.EPERM,
            errno.EMLINK,
            errno.ENOTSUP,
            errno.EOPNOTSUPP,
            errno.EACCES,
            errno.ENOSYS,
        ):
            raise
        shutil.copyfile(source, target)


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def source_stamp(path: str | Path, *, content: bool = True) -> dict:
    """What tells whether a source file is the one an output was made from: size in bytes, modification time in ns and
    SHA-256.

    Size and time say little: `cp -p`, rsync and archives keep the time of what they copy. So `same_source` goes by the
    content.

    Args:
        content: read the file for its hash; without, `sha256` is empty and `ctime_ns` there: no program can set it, so
            whatever is put in a file's place has another, also where size and modification time were kept.

    Raises:
        OSError: it cannot be read, or is no regular file (a pipe would wait for ever).
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as f:
        info = os.fstat(f.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        stamp = {"bytes": info.st_size, "mtime_ns": info.st_mtime_ns, "sha256": ""}
        if not content:
            return {**stamp, "ctime_ns": info.st_ctime_ns}
        return {**stamp, "sha256": hashlib.file_digest(f, "sha256").hexdigest()}


def stamp_since(path: str | Path, before: dict) -> dict | None:
    """The stamp of a source file that was worked on; None where it is not the file, or not as it was, whose stamp
    without content is `before`.

    Raises:
        OSError: see `source_stamp`.
    """
    stamp = source_stamp(path)
    return stamp if source_stamp(path, content=False) == before else None


def same_source(path: str | Path, stamp: Any) -> bool:
    """Whether the file's content is that of `stamp` (of `source_stamp`, as it was read from a record).

    Raises:
        OSError: see `source_stamp`.
    """
    if not isinstance(stamp, dict) or not stamp.get("sha256") or os.stat(path).st_size != stamp.get("bytes"):
        return False
    return source_stamp(path)["sha256"] == stamp["sha256"]


def open_lock(path: str | Path) -> IO[bytes]:
    """The file `path`, made if it is not there and locked until it is closed (the lock dies with the process). Never
    written to.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: it cannot be made; it is a link (ELOOP), or no regular file (EINVAL).
    """
    while True:
        # No O_TRUNC, and O_NONBLOCK because a pipe laid under this name would wait for its other end.
        handle = open(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666),
            "r+b",
            buffering=0,
        )
        try:
            opened = os.fstat(handle.fileno())
            if not stat.S_ISREG(opened.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(path))
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(opened, os.stat(path, follow_symlinks=False)):
                    return handle
        except BaseException:
            handle.close()
            raise
        handle.close()  # its last holder removed it between our opening and our lock: that lock holds nobody off


@contextlib.contextmanager
def folder_lock(folder: str | Path, stage: str, option: str = "--out") -> Iterator[None]:
    """Holds `<folder>/.<stage>.lock` so that two runs never write to one folder at once. The lock dies with the
    process.

    Args:
        option: what names another folder.

    Raises:
        UserError: when another run holds it, the folder cannot be written, or something else stands under the lock's
            name.
    """
    folder = Path(folder)
    lock = folder / f".{stage}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = open_lock(lock)
    except BlockingIOError:
        raise UserError(
            f"another run of {stage} is writing to this folder",
            file=folder,
            hint=f"wait until it ends, or choose another folder with {option}",
        ) from None
    except OSError as e:
        if odd := odd_lock(e, lock):
            raise odd from None
        raise UserError(
            f"cannot write here ({e.strerror})", file=folder, hint=f"choose another folder with {option}"
        ) from None
    with handle:
        yield


def odd_lock(error: OSError, lock: Path) -> UserError | None:
    """The UserError for what `open_lock` refused to touch; None for any other error (no permission, no room)."""
    if error.errno not in (errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO):
        return None
    return UserError(
        "a link, or what is no plain file, stands where our lock should be",
        file=lock,
        hint="it is not ours: look at it, then remove it",
    )


def walk(folder: str | Path, *, skip: Callable[[str], bool] = lambda folder: False) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of what is no folder in it, sorted) of a folder and of all below it, hidden ones left out.

    Links to folders are followed after all that needs no link, each real folder once: loops end, nothing comes twice,
    and a link that is laid beside a file does not rename it. A folder that cannot be read or entered, and a link to a
    folder above `folder`, is said and left out.

    Args:
        skip: of a folder's path: leave it out with all that is below it.

    Raises:
        UserError: `folder` itself cannot be read.
    """
    start, seen = os.fspath(folder), set()
    above = set()
    for parent in Path(os.path.realpath(start)).parents:
        with contextlib.suppress(OSError):  # one that may not be entered is not entered through a link either
            above.add(_identity(parent))
    folders, links = [start], []
    while folders or links:
        here = folders.pop() if folders else links.pop(0)
        try:
            identity = _identity(os.path.join(here, "."))  # through it: a folder may be listed and yet not be entered
            if identity in seen:
                continue
            if identity in above:
                raise OSError(errno.ELOOP, "a link to a folder above")
            seen.add(identity)
            with os.scandir(here) as found:
                entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as e:
            if here == start:
                raise UserError(
                    f"cannot read this folder ({e.strerror})", file=folder, hint="check the path and its permissions"
                ) from None
            note_skipped(here, e)
            continue
        # os.path, not the entry's own is_dir(): that one raises on a link that leads in a circle.
        inner = [e for e in entries if os.path.isdir(e.path)]
        yield here, [e.name for e in entries if e not in inner]
        wanted = [e for e in inner if not skip(e.path)]
        folders += [e.path for e in reversed(wanted) if not e.is_symlink()]
        links += [e.path for e in wanted if e.is_symlink()]


def _identity(folder: str | Path) -> tuple[int, int]:
    info = os.stat(folder)
    return info.st_dev, info.st_ino


_told: set[str] = set()


def note_skipped(folder: str | Path, error: OSError) -> None:
    """Once a run, on stderr: `lost+found`, or a folder of another user, is no reason to stop, and none to be silent."""
    if str(folder) not in _told:
        _told.add(str(folder))
        print(
            f"note: skipped, this folder cannot be read ({error.strerror}): {printable(str(folder))}", file=sys.stderr
        )
