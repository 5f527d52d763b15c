"""Who may call: under a known name, from the page itself, and with the token where one is asked for."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import stat
import sys
import time
import urllib.parse
from pathlib import Path

from ..errors import UserError

log = logging.getLogger("deepfake_detection.web")

#: Sent with everything. The page loads its own files and nothing else, and cannot be framed.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    # Not no-referrer: browsers would send the page's own form with the origin "null".
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

#: What is answered without the token: the form that asks for it, and what it looks like.
OPEN = frozenset({"/login", "/static/app.css", "/static/icon.svg", "/favicon.ico"})
COOKIE, SESSION_S = "deepfake_session", 12 * 3600
_PR_SET_DUMPABLE = 4
SHORTEST_TOKEN, LONGEST_SECRET_FILE = 12, 4096


def read_secret(path: str | Path, what: str, shortest: int) -> str:
    """One line of a file, or of anything that can be read once, like /dev/fd/3 or a named pipe.

    Raises:
        UserError: it cannot be read, is too short, or is no plain text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LONGEST_SECRET_FILE + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as e:
        raise UserError(
            f"the {what} cannot be read ({e.strerror})", file=path, hint="name a file with one line"
        ) from None
    text = data.decode("ascii", "replace").strip()
    if stat.S_ISREG(mode) and mode & 0o077:
        log.warning("the %s can be read by other users of this computer: chmod 600 %s", what, path)
    if (
        len(data) > LONGEST_SECRET_FILE
        or not shortest <= len(text)
        or not text.isascii()
        or not text.isprintable()
        or " " in text
    ):
        raise UserError(
            f"the {what} must be one line of {shortest} or more ASCII characters without spaces",
            file=path,
            hint="make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    return text


def hide_memory() -> None:
    """Linux: this user's other processes (root's still) can neither look into this one nor read its /proc files."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.geteuid() == 0:
        log.warning(
            "running as root: a video that takes over its decoder could reach everything of this server and this "
            "computer; "
            "run it as a user of its own"
        )


class Token:
    """The access token, and the sessions of browsers that showed it: dates signed with it, so a new one ends all."""

    def __init__(self, token: str):
        self._token = token.encode()

    def is_it(self, shown: str) -> bool:
        return hmac.compare_digest(hashlib.sha256(shown.encode()).digest(), hashlib.sha256(self._token).digest())

    def session(self, now: float | None = None) -> str:
        """The value of a new cookie."""
        until = str(int((time.time() if now is None else now) + SESSION_S))
        return f"{until}.{self._signed(until)}"

    def _signed(self, until: str) -> str:
        return hmac.new(self._token, b"session until " + until.encode(), hashlib.sha256).hexdigest()

    def opens(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether a request's headers hold the token or a session."""
        for name, value in headers:
            text = value.decode("latin-1")
            if name == b"authorization":
                kind, _, shown = text.partition(" ")
                if kind.lower() == "bearer" and self.is_it(shown.strip()):
                    return True
            if name == b"cookie":
                cookies = (c.strip().partition("=") for c in text.split(";"))
                if any(key == COOKIE and self._valid(held) for key, _, held in cookies):
                    return True
        return False

    def _valid(self, session: str) -> bool:
        until, _, signed = session.partition(".")
        return (
            until.isascii()
            and until.isdigit()
            and len(until) < 15
            and int(until) > time.time()
            and hmac.compare_digest(signed.encode(), self._signed(until).encode())
        )


class Guard:
    """ASGI middleware: refuses calls under a foreign name (DNS rebinding), changes asked for by other sites' pages, and
    callers without the token; adds HEADERS; answers HEAD like GET without the body.

    Args:
        hosts: names in the Host header that are ours.
        token: what callers must show; None: nothing.
        ask: the page that asks for the token, as HTML, from the address that was wanted.
    """

    def __init__(self, app, hosts: tuple[str, ...], token: Token | None, ask):
        self.app, self.hosts, self.token, self.ask = app, frozenset(h.lower() for h in hosts), token, ask

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = {k: v.decode("latin-1") for k, v in scope["headers"]}
        host = given.get(b"host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name.lower() not in self.hosts:
            return await _plain(send, 421, "this server is not called by that name")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            origin, site = given.get(b"origin"), given.get(b"sec-fetch-site")
            if (origin is not None and urllib.parse.urlsplit(origin).netloc != host) or site in (
                "cross-site",
                "same-site",
            ):
                return await _plain(send, 403, "asked for by another site")
        if self.token and scope["path"] not in OPEN and not self.token.opens(scope["headers"]):
            return await self._unknown(scope, given, send)
        head = scope["method"] == "HEAD"
        if head:
            scope = {**scope, "method": "GET"}

        async def guarded(message):
            if message["type"] == "http.response.start":
                present = {k.lower() for k, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present),
                ]
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app(scope, receive, guarded)

    async def _unknown(self, scope, given, send) -> None:
        if "text/html" in given.get(b"accept", "") and scope["method"] in ("GET", "HEAD"):
            wanted = scope["path"] + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
            return await _answer(send, 401, b"text/html; charset=utf-8", self.ask(wanted).encode())
        await _plain(
            send, 401, "this server asks for a token: Authorization: Bearer TOKEN", (b"www-authenticate", b"Bearer")
        )


def local(path: str) -> str:
    """The path to go to after the token was shown: on this server, else the page."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isascii() and path.isprintable()
    return path if plain else "/"


async def _plain(send, status: int, text: str, *more: tuple[bytes, bytes]) -> None:
    await _answer(
        send, status, b"application/json", json.dumps({"detail": text}).encode(), (b"connection", b"close"), *more
    )


async def _answer(send, status: int, kind: bytes, body: bytes, *more: tuple[bytes, bytes]) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", kind),
                (b"content-length", str(len(body)).encode()),
                *more,
                *((k.encode(), v.encode()) for k, v in HEADERS.items()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
