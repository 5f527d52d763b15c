"""Warning a platform that a verdict is there: signed JSON by POST, retried, to named hosts only.

The receiver checks, with the secret that both sides know, that
    X-Deepfake-Signature == "sha256=" + HMAC-SHA256(secret, X-Deepfake-Timestamp + "." + body) in hex
and that the timestamp is recent. X-Deepfake-Delivery is the same in every retry of one message.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import logging
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable
from datetime import UTC, datetime

log = logging.getLogger("deepfake_detection.web")

SECRET_VARIABLE = "DEEPFAKE_CALLBACK_SECRET"
SHORTEST_SECRET = 16

#: Seconds to wait after the 1st, 2nd, ... failed try; after the last the message is given up.
WAITS = (2, 10, 60, 300, 1800, 7200)
#: Seconds for one try, from the look-up of the name to the end of the answer's head.
TIMEOUT_S = 10.0
#: Tries under way at once, one a host: a slow host keeps no other waiting.
MOST_AT_ONCE = 8
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Refused(Exception):
    """This callback address is not accepted; str() says why."""


def checked(url: str, allowed: tuple[str, ...], secret: str | None) -> str:
    """The address, if a callback may go there; letters outside ASCII in its path and query are percent-encoded.

    Args:
        allowed: hosts, each `host` or `host:port`.

    Raises:
        Refused: no secret, no allowed host, not https (http only to this machine), or with a user name in it.
    """
    if not secret or not allowed:
        raise Refused("this server takes no callbacks (needs --callback-host and a secret)")
    if len(url) > 2000 or not url.isprintable() or " " in url:
        raise Refused("the callback is not a plain address")
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
        url = _ascii(url)
    except ValueError:  # also what cannot be encoded
        raise Refused("the callback is not an address") from None
    host = (parts.hostname or "").rstrip(".")
    if (
        parts.scheme not in ("https", "http")
        or not host
        or parts.username is not None
        or parts.password is not None
        or "\\" in url
    ):
        raise Refused("the callback must be an https address without a user name")
    if not any(host == a.lower() or (port and f"{host}:{port}" == a.lower()) for a in allowed):
        raise Refused("callbacks to this host are not allowed")
    if not host.isascii():
        raise Refused("the callback's host must be in its ASCII form (xn--...)")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise Refused("the callback must be an https address")
    return url


def _ascii(url: str) -> str:
    """The address with everything outside ASCII behind the host percent-encoded."""
    parts = urllib.parse.urlsplit(url)
    keep = "%/:?@!$&'()*+,;=~-._[]|^`{}<>\""
    return urllib.parse.urlunsplit(
        (parts.scheme, parts.netloc, urllib.parse.quote(parts.path, keep), urllib.parse.quote(parts.query, keep), "")
    )


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of X-Deepfake-Signature."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def body_of(row: dict) -> str:
    """The message about a finished video."""
    result = row["result"] or {}
    kept = ("verdict", "p_real", "p_fake", "interval", "frames_decoded", "frames_with_face", "people", "model", "error")
    when = row["finished"] and datetime.fromtimestamp(row["finished"], UTC).isoformat(timespec="milliseconds")
    return json.dumps(
        {
            "event": "video.finished",
            "id": row["id"],
            "name": row["name"],
            "state": row["state"],
            "finished": row["finished"],
            "finished_at": when,
            **{k: result.get(k) for k in kept},
        },
        sort_keys=True,
    )


def deliver(url: str, body: str, secret: str, delivery: str, *, timeout_s: float = TIMEOUT_S) -> tuple[bool, str]:
    """One try. Redirects are not followed (they would leave the allow-list), proxies not used.

    It returns after `timeout_s` at the latest, whatever the other side does, and raises nothing.

    Returns:
        (whether the other side answered 2xx, its answer in a few words).
    """
    attempt = _Attempt(timeout_s)
    # A thread of its own, because a look-up of a name cannot be broken off; it is left behind then, and ends by itself.
    thread = threading.Thread(target=attempt.run, args=(url, body, secret, delivery), daemon=True, name="callback")
    try:
        thread.start()
    except RuntimeError as e:  # no more threads
        return False, str(e)
    thread.join(timeout_s)
    if thread.is_alive():
        attempt.give_up()
        return False, f"no answer in {timeout_s:g} s"
    return attempt.answer


class _Attempt:
    """A POST with one deadline over name, connection, TLS, sending and the answer's head."""

    def __init__(self, timeout_s: float):
        self.end = time.monotonic() + timeout_s
        self.answer: tuple[bool, str] = (False, "not sent")
        self._lock, self._late = threading.Lock(), False
        self._socket: socket.socket | None = None

    def give_up(self) -> None:
        """Closes the connection under the thread's hands."""
        with self._lock:
            self._late = True
            if self._socket is not None:
                _shut(self._socket)

    def run(self, url: str, body: str, secret: str, delivery: str) -> None:
        try:
            self.answer = self._post(url, body, secret, delivery)
        except Exception as e:  # of a host's making, so of any kind: one message's failure and no more
            self.answer = False, type(e).__name__
        finally:
            if self._socket is not None:
                self._socket.close()

    def _post(self, url: str, body: str, secret: str, delivery: str) -> tuple[bool, str]:
        parts = urllib.parse.urlsplit(_ascii(url))
        host, data, timestamp = parts.hostname or "", body.encode(), str(int(time.time()))
        secure = parts.scheme == "https"
        connected = self._connect(host, parts.port or (443 if secure else 80))
        try:
            if secure:
                connected = ssl.create_default_context().wrap_socket(connected, server_hostname=host)
            connection = http.client.HTTPConnection(host, parts.port)
            if secure:
                connection.default_port = http.client.HTTPS_PORT  # what the Host header leaves out
            connection.sock = connected
            path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
            connection.request(
                "POST",
                path,
                data,
                {
                    "Content-Type": "application/json",
                    "User-Agent": "deepfake-detection",
                    "X-Deepfake-Timestamp": timestamp,
                    "X-Deepfake-Delivery": delivery,
                    "X-Deepfake-Signature": signature(secret, timestamp, data),
                },
            )
            status = connection.getresponse().status
            return 200 <= status < 300, f"status {status}"
        finally:
            connected.close()

    def _connect(self, host: str, port: int) -> socket.socket:
        error: OSError = OSError("no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            left = self.end - time.monotonic()
            if left <= 0:
                break
            one = socket.socket(family, kind, protocol)
            try:
                one.settimeout(left)
                one.connect(address)
                with self._lock:
                    if self._late:
                        raise TimeoutError
                    # A second handle: TLS takes the first one over, and a shut connection ends its waiting too.
                    self._socket = one.dup()
                return one
            except OSError as e:
                one.close()
                error = e
        raise error


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # closed by the other side


def tried(secret: str, message: dict, timeout_s: float = TIMEOUT_S) -> dict:
    """Tries one message. Returns what came of it, as `Store.mark_callback` takes it."""
    delivery = f"{message['video']}-{message['id']}"
    ok, answer = deliver(message["url"], message["body"], secret, delivery, timeout_s=timeout_s)
    tries = message["tries"] + 1
    state = "delivered" if ok else "waiting" if tries <= len(WAITS) else "given up"
    return {
        "state": state,
        "tries": tries,
        "due": time.time() + (WAITS[tries - 1] if state == "waiting" else 0),
        "answer": answer,
    }


class Courier:
    """Sends what is due, one try a host at a time and several hosts at once.

    Args:
        keep: calls the function it is given until the table takes it.
    """

    def __init__(self, store, secret: str | None, keep: Callable, timeout_s: float = TIMEOUT_S):
        self._store, self._secret, self._keep, self._timeout_s = store, secret, keep, timeout_s
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def round(self) -> int:
        """Starts what can be started now. Returns how many tries."""
        secret, started = self._secret, 0
        with self._lock:
            busy = set(self._busy)  # before the table is read: what was under way then may be noted there only now
        for message in self._store.due_callbacks(time.time()) if secret else ():
            host = _host(message["url"])
            if host in busy or len(busy) >= MOST_AT_ONCE:
                continue
            busy.add(host)
            with self._lock:
                self._busy.add(host)
            try:
                threading.Thread(target=self._one, args=(host, message, secret), daemon=True, name="courier").start()
                started += 1
            except RuntimeError:
                with self._lock:
                    self._busy.discard(host)
                raise
        return started

    def _one(self, host: str, message: dict, secret: str) -> None:
        try:
            came = tried(secret, message, self._timeout_s)
            # Its host waits until this is noted: a message that was delivered would be sent again.
            self._keep(lambda: self._store.mark_callback(message["id"], **came))
        except Exception as e:
            log.error("callback %s: %s", message["id"], e)
        finally:
            with self._lock:
                self._busy.discard(host)


def _host(url: str) -> str:
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return ""
