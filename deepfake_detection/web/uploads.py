"""An upload from the socket to the disk in small pieces: limited, looked at, and gone if it breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from ..detector import stills
from ..errors import UserError, of_the_disk
from ..video import containers
from . import forms

#: Seconds without a byte after which an upload is given up.
STALLED_S = 30.0
#: Bytes that are looked at to tell what the file is.
HEAD_BYTES = 4096
#: Longest name that is kept, characters.
NAME_LENGTH = 160
#: Room that must stay free on the disk, whatever is uploaded at once.
SPARE_BYTES = 1 << 29
#: What may lie around the file in a form.
AROUND_BYTES = 1 << 16


@dataclass(frozen=True)
class Pace:
    """How slow an upload may be.

    Attributes:
        grace_s: seconds before its rate is looked at.
        least_rate: bytes a second from then on, on the average since its start.
        deadline_s: seconds for all of it.
    """

    grace_s: float = 20.0
    least_rate: float = 16_000.0
    deadline_s: float = 3600.0


class Refused(Exception):
    """The upload is not taken: an HTTP status and why, for a person."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


def full() -> Refused:
    """The answer when the disk has no room."""
    return Refused(507, "the server's disk is full; try later")


def shown_name(name: str | None) -> str:
    """What an uploaded file is called on the page: its last part, printable, bounded. Never used as a path."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name or ""))[-1]
    # Directional marks could make "gpj.mp4" read backwards; control characters have no business in a name.
    clean = "".join(
        " " if unicodedata.category(c) in ("Zl", "Zp") else c for c in last if unicodedata.category(c)[0] != "C"
    ).strip()
    return clean[:NAME_LENGTH] or "video"


class Room:
    """The room on the disk that all uploads share: what others were promised, and SPARE_BYTES, stay free.

    Args:
        folder: where uploads are written.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._promised: dict[Path, int] = {}

    def free(self) -> int:
        """Bytes that may still be written by an upload that was promised nothing."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize - sum(self._promised.values()) - SPARE_BYTES

    def promise(self, target: Path, length: int) -> None:
        """Keeps room for an upload that says how long it is."""
        if self.free() < length:
            raise full()
        self._promised[target] = length

    def use(self, target: Path, size: int) -> None:
        """Before each write."""
        promised = min(self._promised.get(target, 0), size)
        if self.free() < size - promised:
            raise full()
        if promised:
            self._promised[target] -= promised

    def done(self, target: Path) -> None:
        self._promised.pop(target, None)


async def receive(
    pieces: AsyncIterator[bytes],
    target: Path,
    *,
    content_type: str,
    length: str | None,
    limit: int,
    stalled_s: float = STALLED_S,
    pace: Pace = Pace(),
    room: Room | None = None,
) -> tuple[int, str | None]:
    """Streams a request's body to `target`; the file is there whole and synced, or not at all.

    Args:
        pieces: the body as it arrives.
        content_type: multipart/form-data with one file, or anything else: the body is the file.
        length: the Content-Length header.
        limit: bytes of the largest file.
        stalled_s: seconds without a byte after which it is given up.
        pace: how slow an upload may be.
        room: shared by all uploads to one disk.

    Returns:
        (bytes of the file, its name from the form or None).

    Raises:
        Refused: too large, stalled, too slow, empty, a broken form, neither a video nor a picture, or no room.
    """
    room = room or Room(target.parent)
    declared = int(length) if length is not None and length.isascii() and length.isdigit() else 0
    if declared > limit + AROUND_BYTES:
        raise _too_large(limit)
    try:
        room.promise(target, declared)
        with open(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600), "wb") as file:
            body = _Body(file, target, limit, room)
            form = _form(content_type, body.write)
            async with contextlib.aclosing(paced(pieces, limit + AROUND_BYTES, stalled_s, pace)) as arriving:
                async for piece in arriving:
                    form.feed(piece) if form else body.write(piece)
            if form:
                form.end()
            if not body.size:
                raise Refused(400, "the file is empty")
            file.flush()
            check_kind(target)
            await asyncio.to_thread(os.fsync, file.fileno())
        return body.size, form.name if form else None
    except forms.Broken as e:
        raise Refused(400, str(e)) from None
    except Longer:
        raise _too_large(limit) from None
    except OSError as e:
        if of_the_disk(e) is None:
            raise
        raise full() from None
    finally:
        room.done(target)


def _too_large(limit: int) -> Refused:
    return Refused(413, f"larger than {limit // 1_000_000} MB")


def _form(content_type: str, write) -> forms.Form | None:
    kind, boundary = forms.content_type(content_type)
    return forms.Form(boundary, write) if kind == "multipart/form-data" else None


class Longer(Exception):
    """A body is longer than it may be."""


async def paced(pieces: AsyncIterator[bytes], limit: int, stalled_s: float, pace: Pace) -> AsyncIterator[bytes]:
    """The pieces of a body, as long as they come fast enough.

    Raises:
        Refused: 408.
        Longer: more than `limit` bytes.
    """
    clock, iterator, total = asyncio.get_running_loop().time, aiter(pieces), 0
    start = clock()
    while True:
        now = clock()
        # The moment at which what came so far would be too little.
        slow = start + pace.grace_s + total / pace.least_rate
        until = min(now + stalled_s, start + pace.deadline_s, slow)
        try:
            piece = await asyncio.wait_for(anext(iterator), max(until - now, 0))
        except StopAsyncIteration:
            return
        except TimeoutError:
            if until == slow:
                raise Refused(
                    408, f"the upload is too slow (less than {pace.least_rate / 1000:g} kB a second)"
                ) from None
            raise Refused(
                408,
                "the upload stalled"
                if until == now + stalled_s
                else f"the upload took longer than {pace.deadline_s:g} s",
            ) from None
        total += len(piece)
        if total > limit:
            raise Longer
        yield piece


class _Body:
    """The file's bytes on their way to the disk: counted, looked at, and never more than there is room for."""

    def __init__(self, file, target: Path, limit: int, room: Room):
        self._file, self._target, self._limit, self._room = file, target, limit, room
        self._head = bytearray()
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._limit:
            raise Longer
        self._room.use(self._target, len(data))
        self._file.write(data)
        self._file.flush()  # what is written counts as used
        if len(self._head) < HEAD_BYTES:
            self._head.extend(data[: HEAD_BYTES - len(self._head)])
            if len(self._head) == HEAD_BYTES and containers.demuxer_of(bytes(self._head)) is None:
                check_kind(self._target)


def check_kind(path: Path) -> None:
    """Refuses what its first bytes say is neither a video nor a JPEG, PNG or WebP; the words never name the path.

    Raises:
        Refused: 415.
    """
    try:
        if not stills.is_still(path):
            containers.check(path)
    except UserError as e:
        raise Refused(415, f"{e.what} (hint: {e.hint})") from None
