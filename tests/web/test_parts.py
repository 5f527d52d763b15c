"""Names, addresses, signatures and the queue's table, without a server."""

import asyncio
import hashlib
import hmac
import http.server
import sqlite3
import threading

import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.web import callbacks, schema, store, uploads


@pytest.mark.parametrize(
    "given, shown",
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\clip.mp4", "clip.mp4"),
        ("a\nb\x00c.mp4", "abc.mp4"),
        ("", "video"),
        (None, "video"),
        ("x" * 500, "x" * 160),
        ("\u202egpj.exe", "gpj.exe"),
        ("Ünïcode 🎬.mp4", "Ünïcode 🎬.mp4"),
        ("..", ".."),
        ("/", "video"),
        ("<b>.mp4", "<b>.mp4"),
    ],
)
def test_shown_name(given, shown):
    assert uploads.shown_name(given) == shown


SECRET, ALLOWED = "0123456789abcdef", ("hooks.example.org", "127.0.0.1:9000")


@pytest.mark.parametrize(
    "url", ["https://hooks.example.org/a?b=c", "https://HOOKS.example.org:8443/", "http://127.0.0.1:9000/x"]
)
def test_callbacks_that_are_taken(url):
    assert callbacks.checked(url, ALLOWED, SECRET) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/",
        "https://evil.example/",
        "https://hooks.example.org.evil.example/",
        "https://hooks.example.org@evil.example/",
        "https://user:pw@hooks.example.org/",
        "file:///etc/passwd",
        "https://127.0.0.1:9001/",
        "ftp://hooks.example.org/",
        "https://hooks.example.org\\@evil.example/",
        "https://hooks.example.org/\r\nX: y",
        "//hooks.example.org/",
        "https://hooks.example.org:99999/",
        "",
        "https://" + "a" * 3000,
    ],
)
def test_callbacks_that_are_refused(url):
    with pytest.raises(callbacks.Refused):
        callbacks.checked(url, ALLOWED, SECRET)


@pytest.mark.parametrize("allowed, secret", [((), SECRET), (ALLOWED, None), (ALLOWED, "")])
def test_no_callbacks_without_secret_and_hosts(allowed, secret):
    with pytest.raises(callbacks.Refused, match="takes no callbacks"):
        callbacks.checked("https://hooks.example.org/", allowed, secret)


def test_signature_is_the_documented_one():
    expected = "sha256=" + hmac.new(b"0123456789abcdef", b"1700000000.{}", hashlib.sha256).hexdigest()
    assert callbacks.signature(SECRET, "1700000000", b"{}") == expected


def send_due(table, now):
    """Tries what is due by then, one after the other. Returns how many."""
    due = table.due_callbacks(now)
    for message in due:
        table.mark_callback(message["id"], **callbacks.tried(SECRET, message))
    return len(due)


def test_redirects_are_not_followed_and_failures_are_retried_then_given_up(tmp_path):
    hits = []

    class Redirects(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            hits.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *a):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirects)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    table = store.Store(tmp_path)
    try:
        video = store.new_id()
        table.add(video, "a.mp4", 1, None)
        table.add_callback(video, f"http://127.0.0.1:{server.server_port}/hook", "{}")
        late = 4e9
        tries = [send_due(table, late) for _ in range(len(callbacks.WAITS) + 3)]
        assert tries == [1] * (len(callbacks.WAITS) + 1) + [0, 0] and set(hits) == {"/hook"}
        assert table.callback_of(video) == {
            "state": "given up",
            "tries": len(callbacks.WAITS) + 1,
            "answer": "status 302",
        }
    finally:
        server.shutdown()
        server.server_close()
        table.close()
    assert callbacks.deliver(f"http://127.0.0.1:{server.server_port}/", "{}", SECRET, "1", timeout_s=1) == (
        False,
        "ConnectionRefusedError",
    )


def test_the_queue_keeps_its_order_and_survives(tmp_path):
    table = store.Store(tmp_path)
    ids = [store.new_id() for _ in range(3)]
    for number, video in enumerate(ids):
        table.upload(video).write_bytes(b"x")
        table.add(video, f"{number}.mp4", 1, None)
    assert [table.ahead(table.get(v)) for v in ids] == [0, 1, 2]
    assert table.take()["id"] == ids[0] and table.counts()["running"] == 1
    with pytest.raises(UserError, match="another server"):
        store.Store(tmp_path)
    table.close()
    table = store.Store(tmp_path)
    assert table.recover() == 1 and [table.take()["id"] for _ in range(3)] == ids and table.take() is None
    table.finish(ids[1], {"verdict": "REAL", "error": None})
    assert table.get(ids[1])["state"] == "done" and table.get(ids[1])["result"]["verdict"] == "REAL"
    # A video that takes the server down with it is not tried for ever.
    table.recover(), table.take(), table.recover()
    for _ in range(store.MOST_STARTS):
        table.take()
        table.recover()
    assert table.get(ids[0])["state"] == "failed" and "stopped several times" in table.get(ids[0])["result"]["error"]
    assert table.delete(ids[1]) and not table.delete(ids[1]) and table.get(ids[1]) is None
    assert len(table.expired(4e9)) >= 1 and table.expired(0) == []
    table.close()


def test_a_damaged_table_is_one_line(tmp_path):
    (tmp_path / "queue.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match="damaged"):
        store.Store(tmp_path)


def test_an_upload_that_stalls_is_given_up(tmp_path):
    async def slow():
        yield b"\0\0\0\x18ftypmp42"
        await asyncio.sleep(60)

    with pytest.raises(uploads.Refused, match="stalled") as e:
        asyncio.run(uploads.receive(slow(), tmp_path / "x", content_type="", length=None, limit=100, stalled_s=0.05))
    assert e.value.status == 408


@pytest.mark.parametrize(
    "pieces, limit, status",
    [
        ([b"\0\0\0\x18ftypmp42" + b"\0" * 50] * 3, 100, 413),
        ([b"\0\0\0\x18ftypmp42", b"x" * 80], 100, None),
        ([b"\0\0\0", b"\x18ftypmp42"], 100, None),
    ],
)
def test_the_limit_counts_what_arrives(tmp_path, pieces, limit, status):
    async def body():
        for piece in pieces:
            yield piece

    run = lambda: asyncio.run(
        uploads.receive(body(), tmp_path / "x", content_type="video/mp4", length=None, limit=limit)
    )
    if status is None:
        assert run() == (sum(map(len, pieces)), None) and (tmp_path / "x").read_bytes() == b"".join(pieces)
    else:
        with pytest.raises(uploads.Refused) as e:
            run()
        assert e.value.status == status


def test_ids_are_random_and_checked():
    assert store.is_id(store.new_id()) and store.new_id() != store.new_id()
    assert not any(map(store.is_id, ("", "../x", "0" * 31, "0" * 33, "G" * 32, "0" * 32 + "\n")))


def test_secure_delete_is_on(tmp_path):
    table = store.Store(tmp_path)
    assert table._db.execute("PRAGMA secure_delete").fetchone()[0] == 1
    table.close()
    assert sqlite3.connect(tmp_path / "queue.sqlite3").execute("PRAGMA journal_mode").fetchone()[0] == "wal"


@pytest.mark.parametrize("model", [schema.Result, schema.Person])
def test_an_average_and_its_frames_are_not_mixed_up(model):
    """The interval is one of the average; only the range of single frames says how far they agree."""
    said = {name: model.model_fields[name].description for name in ("interval", "frame_range")}
    assert "average" in said["interval"] and "agree" not in said["interval"]
    assert "single frames" in said["frame_range"] and "agree" in said["frame_range"]
