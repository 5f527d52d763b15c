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
import ssl
import time
import urllib.parse

SECRET_VARIABLE = "DEEPFAKE_CALLBACK_SECRET"
SHORTEST_SECRET = 16

#: Seconds to wait after the 1st, 2nd, ... failed try; after the last the message is given up.
WAITS = (2, 10, 60, 300, 1800, 7200)
TIMEOUT_S = 10.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Refused(Exception):
    """This callback address is not accepted; str() says why."""


def checked(url: str, allowed: tuple[str, ...], secret: str | None) -> str:
    """The address, if a callback may go there.

    Args:
        allowed: hosts, each `host` or `host:port`.

    Raises:
        Refused: no secret, no allowed host, not https (http only to this machine), or with a user name in it.
    """
    if not secret or not allowed:
        raise Refused(f"this server takes no callbacks (needs --callback-host and {SECRET_VARIABLE})")
    if len(url) > 2000 or not url.isprintable() or " " in url:
        raise Refused("the callback is not a plain address")
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("the callback is not an address") from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("https", "http") or not host or parts.username is not None or parts.password is not None or "\\" in url:
        raise Refused("the callback must be an https address without a user name")
    if not any(host == a.lower() or (port and f"{host}:{port}" == a.lower()) for a in allowed):
        raise Refused("callbacks to this host are not allowed")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise Refused("the callback must be an https address")
    return url


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of X-Deepfake-Signature."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def body_of(row: dict) -> str:
    """The message about a finished video."""
    result = row["result"] or {}
    kept = ("verdict", "p_real", "p_fake", "interval", "frames_decoded", "frames_with_face", "people", "model", "error")
    return json.dumps({"event": "video.finished", "id": row["id"], "name": row["name"], "state": row["state"],
                       "finished": row["finished"], **{k: result.get(k) for k in kept}}, sort_keys=True)


def deliver(url: str, body: str, secret: str, delivery: str, *, timeout_s: float = TIMEOUT_S) -> tuple[bool, str]:
    """One try. Redirects are not followed (they would leave the allow-list), proxies not used.

    Returns:
        (whether the other side answered 2xx, its answer in a few words).
    """
    parts = urllib.parse.urlsplit(url)
    data, timestamp = body.encode(), str(int(time.time()))
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    extra = {"context": ssl.create_default_context()} if parts.scheme == "https" else {}
    connection = kind(parts.hostname, parts.port, timeout=timeout_s, **extra)
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    try:
        connection.request("POST", path, data, {"Content-Type": "application/json", "User-Agent": "deepfake-detection",
                                                "X-Deepfake-Timestamp": timestamp, "X-Deepfake-Delivery": delivery,
                                                "X-Deepfake-Signature": signature(secret, timestamp, data)})
        status = connection.getresponse().status
        return 200 <= status < 300, f"status {status}"
    except (OSError, http.client.HTTPException) as e:
        return False, type(e).__name__
    finally:
        connection.close()


def send_due(store, secret: str | None, now: float | None = None) -> int:
    """Tries every message that is due. Returns how many were tried."""
    if not secret:
        return 0
    due = store.due_callbacks(time.time() if now is None else now)
    for message in due:
        ok, answer = deliver(message["url"], message["body"], secret, f"{message['video']}-{message['id']}")
        tries = message["tries"] + 1
        state = "delivered" if ok else "waiting" if tries <= len(WAITS) else "given up"
        wait = WAITS[tries - 1] if state == "waiting" else 0
        store.mark_callback(message["id"], state=state, tries=tries, due=time.time() + wait, answer=answer)
    return len(due)
