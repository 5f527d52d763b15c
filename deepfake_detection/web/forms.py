"""The file in a multipart form, fed piece by piece, and what it is called."""

from __future__ import annotations

import codecs
import email.header
import email.message
import re
import urllib.parse
from collections.abc import Callable

#: Encodings of Python that are none of text a client could mean, or cost more than linear time.
_NO_ENCODINGS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"}
_ENCODED_WORD = re.compile(r"\s*=\?[^?\s]+\?[bBqQ]\?[^?\s]*\?=\s*(=\?[^?\s]+\?[bBqQ]\?[^?\s]*\?=\s*)*")
_NUMBERED = re.compile(r";\s*filename\*\d+\*?\s*=[^;]*", re.IGNORECASE)


class Broken(Exception):
    """The form cannot be read; str() says why."""


def file_name(disposition: bytes) -> str | None:
    """The file's name in a Content-Disposition header; None when it names no file.

    Taken in this order: `filename*` (RFC 5987), `filename*0`, `filename*1*`, ... (RFC 2231), then plain `filename` in
    UTF-8 as browsers send it, else in Windows' Latin letters; also as an encoded word (RFC 2047), which some mail
    libraries write.
    """
    header = " ".join(_text(disposition).splitlines())
    try:
        found = _names(header)
    except (TypeError, ValueError):  # numbered and not numbered at once, or a number of thousands of digits
        found = _names(_NUMBERED.sub(";", header)) or [""]
    # The library puts extended forms last, and they say more than the plain one, which is often an ASCII stand-in.
    for value in reversed(found):
        name = _extended(value) if isinstance(value, tuple) else _plain(value)
        if name:
            return name
    return "" if found else None


def _names(header: str) -> list:
    """Values of all forms of `filename`, decoded; (encoding, language, characters of a byte each) if extended."""
    message = email.message.Message()
    message["content-disposition"] = header
    return [value for name, value in message.get_params([], header="content-disposition") if name == "filename"]


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _extended(value: tuple) -> str:
    charset, _, text = value  # percent-decoded to one character a byte
    try:
        data = text.encode("latin-1")
    except UnicodeEncodeError:  # raw letters where percent signs belong
        return text
    try:
        codec = codecs.lookup(charset or "utf-8")
        return _text(data) if codec.name.replace("-", "_") in _NO_ENCODINGS else data.decode(codec.name)
    except (LookupError, UnicodeError):
        return _text(data)


def _plain(value: str) -> str:
    if _ENCODED_WORD.fullmatch(value):
        try:
            return str(email.header.make_header(email.header.decode_header(value)))
        except (LookupError, UnicodeError, ValueError, email.errors.HeaderParseError):
            return value
    return value.replace("%22", '"')  # how browsers write a quote in a name


class Form:
    """Passes on the one file of a form.

    Args:
        boundary: of the Content-Type header.
        write: gets the file's bytes.

    Raises:
        Broken: here, in `feed` and in `end`.
    """

    def __init__(self, boundary: bytes, write: Callable[[bytes], None]):
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser

        if not boundary:
            raise Broken("the form has no boundary")
        self.name: str | None = None
        self._write, self._error = write, FormParserError
        self._found = self._inside = self._closed = False
        self._field, self._value, self._headers = b"", b"", {}
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError:
            raise Broken("the form's boundary is too long") from None

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except self._error:
            raise Broken("the form is damaged") from None

    def end(self) -> None:
        """The body ended: the form must have ended too, and held a file."""
        if not self._closed:
            raise Broken("the form is cut off" if self._headers or self._found else "the form is damaged")
        if not self._found:
            raise Broken("the form holds no file")

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
        name = file_name(self._headers.get(b"content-disposition", b""))
        kind = self._headers.get(b"content-type", b"").lower()
        # A name is not required (RFC 7578): then the type says that it is a file.
        if name is None and not kind.startswith((b"video/", b"image/", b"application/octet-stream")):
            return
        if self._found:
            raise Broken("the form holds more than one file: send one a request")
        self.name, self._found, self._inside = name, True, True

    def _on_data(self, data, start, end):
        if self._inside:
            self._write(data[start:end])

    def _on_part_end(self):
        self._inside = False

    def _on_end(self):
        self._closed = True


def content_type(header: str) -> tuple[str, bytes]:
    """(type in lower case, boundary or b"") of a Content-Type header."""
    message = email.message.Message()
    message["content-type"] = " ".join(header.splitlines())
    kind = header.partition(";")[0].strip().lower()
    try:
        boundary = message.get_param("boundary", "")
    except (ValueError, LookupError, UnicodeError):
        return kind, b""
    if isinstance(boundary, tuple):
        boundary = urllib.parse.unquote(boundary[2])
    return kind, boundary.encode("latin-1", "replace")
