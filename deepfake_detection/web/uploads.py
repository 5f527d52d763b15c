"""An upload from the socket to the disk in small pieces: limited, looked at before it is kept, and gone if it breaks off."""

from __future__ import annotations

import asyncio
import os
import re
import unicodedata
from pathlib import Path
from typing import AsyncIterator

from ..errors import UserError
from ..video import containers

#: Seconds without a byte after which an upload is given up.
STALLED_S = 30.0
#: Bytes that are looked at to tell what the file is.
HEAD_BYTES = 4096
#: Longest name that is kept, characters.
NAME_LENGTH = 160
#: Room that must stay free on the disk.
SPARE_BYTES = 1 << 29

class Refused(Exception):
    """The upload is not taken: an HTTP status and why, for a person."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


def shown_name(name: str | None) -> str:
    """What an uploaded file is called on the page: its last part, printable, of bounded length. Never used as a path."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name or ""))[-1]
    # Directional marks could make "gpj.mp4" read backwards; control characters have no business in a name.
    clean = "".join(" " if unicodedata.category(c) in ("Zl", "Zp") else c for c in last if unicodedata.category(c)[0] != "C").strip()
    return clean[:NAME_LENGTH] or "video"


class _Form:
    """The file part of a multipart form, fed piece by piece."""

    def __init__(self, boundary: bytes, write):
        from python_multipart.multipart import MultipartParser, parse_options_header
        self._options, self._write = parse_options_header, write
        self.name: str | None = None
        self.found = self._inside = False
        self._field, self._value, self._headers = b"", b"", {}
        self._parser = MultipartParser(boundary, {
            "on_part_begin": self._begin, "on_header_field": self._on_field, "on_header_value": self._on_value,
            "on_header_end": self._on_header, "on_headers_finished": self._on_headers, "on_part_data": self._on_data, "on_part_end": self._end})

    def feed(self, data: bytes) -> None:
        self._parser.write(data)

    def _begin(self):
        self._headers = {}

    def _on_field(self, data, start, end):
        self._field += data[start:end]

    def _on_value(self, data, start, end):
        self._value += data[start:end]

    def _on_header(self):
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_headers(self):
        _, options = self._options(self._headers.get(b"content-disposition", b""))
        if not self.found and b"filename" in options:
            self.name = options[b"filename"].decode("utf-8", "replace")
            self.found = self._inside = True

    def _on_data(self, data, start, end):
        if self._inside:
            self._write(data[start:end])

    def _end(self):
        self._inside = False


async def receive(pieces: AsyncIterator[bytes], target: Path, *, content_type: str, length: str | None, limit: int,
                  stalled_s: float = STALLED_S) -> tuple[int, str | None]:
    """Streams a request's body to `target`; the file is there whole and synced, or not at all.

    Args:
        pieces: the body as it arrives.
        content_type: multipart/form-data with one file, or anything else: the body is the file.
        length: the Content-Length header.
        limit: bytes of the largest file.

    Returns:
        (bytes of the file, its name from the form or None).

    Raises:
        Refused: too large, stalled, empty, a broken form, or not a video container.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import parse_options_header
    too_large = Refused(413, f"larger than {limit // 1_000_000} MB")
    if length is not None and length.isdigit() and int(length) > limit + 65536:
        raise too_large
    disk = os.statvfs(target.parent)
    if disk.f_bavail * disk.f_frsize < SPARE_BYTES + int(length if length and length.isdigit() else 0):
        raise Refused(507, "the server's disk is full; try later")
    head, size = bytearray(), 0
    with open(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        def write(data: bytes) -> None:
            nonlocal size
            size += len(data)
            if size > limit:
                raise too_large
            if len(head) < HEAD_BYTES:
                head.extend(data[:HEAD_BYTES - len(head)])
                if len(head) == HEAD_BYTES and containers.demuxer_of(bytes(head)) is None:
                    file.write(head)
                    file.flush()
                    _must_be_video(target)
            file.write(data)

        kind, options = parse_options_header(content_type)
        form = None
        if kind == b"multipart/form-data":
            if not options.get(b"boundary"):
                raise Refused(400, "the form has no boundary")
            form = _Form(options[b"boundary"], write)
        iterator, total = aiter(pieces), 0
        while True:
            try:
                piece = await asyncio.wait_for(anext(iterator), stalled_s)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise Refused(408, "the upload stalled") from None
            total += len(piece)
            if total > limit + 65536:       # also what lies around the file in a form
                raise too_large
            try:
                form.feed(piece) if form else write(piece)
            except FormParserError:
                raise Refused(400, "the form is damaged") from None
        if form and not form.found:
            raise Refused(400, "the form holds no file")
        if not size:
            raise Refused(400, "the file is empty")
        file.flush()
        _must_be_video(target)
        await asyncio.to_thread(os.fsync, file.fileno())
    return size, form.name if form else None


def _must_be_video(path: Path) -> None:
    """Refuses what its first bytes say is no video; the words never name the path."""
    try:
        containers.check(path)
    except UserError as e:
        raise Refused(415, f"{e.what} (hint: {e.hint})") from None
