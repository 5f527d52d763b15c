"""Callers that are slow, many, or write more than there is room for."""

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest

from deepfake_detection.web import connections, uploads

HEAD = b"\0\0\0\x18ftypmp42"


def refusal(tmp_path, pieces, **options):
    with pytest.raises(uploads.Refused) as e:
        asyncio.run(uploads.receive(pieces, tmp_path / "x", content_type="", length=None, limit=10**9, **options))
    return e.value.status, e.value.reason


async def bytes_now_and_then(wait=0.01, piece=b"x"):
    yield HEAD
    while True:
        await asyncio.sleep(wait)
        yield piece


def test_an_upload_at_a_byte_now_and_then_is_given_up(tmp_path):
    """It never stalls, and would take for ever."""
    status, words = refusal(
        tmp_path, bytes_now_and_then(), pace=uploads.Pace(grace_s=0.3, least_rate=16_000, deadline_s=60)
    )
    assert status == 408 and "too slow" in words


def test_a_fast_start_buys_no_more_than_its_share(tmp_path):
    async def pieces():
        yield HEAD + b"x" * 4000
        async for piece in bytes_now_and_then():
            yield piece

    assert refusal(tmp_path, pieces(), pace=uploads.Pace(grace_s=0.1, least_rate=16_000, deadline_s=60))[0] == 408


def test_every_upload_has_a_deadline(tmp_path):
    status, words = refusal(
        tmp_path,
        bytes_now_and_then(0.001, b"x" * 1000),
        pace=uploads.Pace(grace_s=0.1, least_rate=1000, deadline_s=0.5),
    )
    assert status == 408 and "longer than 0.5 s" in words


def test_a_form_that_drips_is_no_exception(tmp_path):
    async def pieces():
        yield b"--x\r\n"
        async for _ in bytes_now_and_then():
            yield b"A: b\r\n"[:1]

    with pytest.raises(uploads.Refused) as e:
        asyncio.run(
            uploads.receive(
                pieces(),
                tmp_path / "x",
                content_type="multipart/form-data; boundary=x",
                length=None,
                limit=10**9,
                pace=uploads.Pace(grace_s=0.2, least_rate=16_000),
            )
        )
    assert e.value.status in (400, 408)


def fill(folder, room, count, size, declared):
    """`count` uploads at once. Returns their statuses (202 when taken) and the least room that was left meanwhile."""
    least = []

    async def pieces():
        yield HEAD + b"\0" * 5000
        for _ in range(size // 65536):
            await asyncio.sleep(0)
            least.append(os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize)
            yield b"\0" * 65536

    async def one(number):
        try:
            await uploads.receive(
                pieces(),
                folder / f"{number}",
                content_type="",
                length=str(size + 70_000) if declared else None,
                limit=10**9,
                room=room,
            )
            return 202
        except uploads.Refused as e:
            (folder / f"{number}").unlink(missing_ok=True)  # as the API does
            return e.status

    async def together():
        return await asyncio.gather(*(one(n) for n in range(count)))

    return asyncio.run(together()), min(least)


@pytest.mark.parametrize("declared", [True, False], ids=["with a length", "chunked"])
def test_uploads_at_once_leave_the_reserve_alone(tmp_path, monkeypatch, declared):
    """Eight of 4 MB where 10 MB are free above the reserve: those that do not fit are refused with 507."""
    free = os.statvfs(tmp_path)
    monkeypatch.setattr(uploads, "SPARE_BYTES", free.f_bavail * free.f_frsize - (10 << 20))
    statuses, least = fill(tmp_path, uploads.Room(tmp_path), 8, 4 << 20, declared)
    assert set(statuses) <= {202, 507} and 507 in statuses and (not declared or 202 in statuses)


def test_the_reserve_of_a_real_disk_stays(tmp_path, monkeypatch):
    """A file system of its own: free room is measured at every step."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("only root may mount")
    try:
        monkeypatch.setattr(uploads, "SPARE_BYTES", 12 << 20)
        room = uploads.Room(disk)
        statuses, least = fill(disk, room, 8, 4 << 20, declared=False)
        assert set(statuses) <= {202, 507} and 507 in statuses and least >= 12 << 20
        for path in disk.iterdir():
            path.unlink()
        statuses, least = fill(disk, room, 8, 4 << 20, declared=True)
        assert statuses.count(202) == 2 and statuses.count(507) == 6 and least >= 12 << 20
        # Promises are given back.
        for path in disk.iterdir():
            path.unlink()
        assert fill(disk, room, 1, 4 << 20, declared=True)[0] == [202]
    finally:
        subprocess.run(["umount", disk], check=True)
        shutil.rmtree(disk)


def test_a_disk_that_fills_up_meanwhile_is_507(tmp_path, monkeypatch):
    """By somebody else, between the look and the write."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("only root may mount")
    try:
        room = uploads.Room(disk)
        monkeypatch.setattr(room, "free", lambda: 10**9)
        assert fill(disk, room, 1, 4 << 20, declared=False)[0] == [507]
    finally:
        subprocess.run(["umount", disk], check=True)


# --- connections ------------------------------------------------------------------------------------------------------
@pytest.fixture
def small(monkeypatch):
    """A server in this process with room for eight connections and little patience; its port."""
    import uvicorn

    monkeypatch.setattr(connections, "HEAD_S", 0.6)
    monkeypatch.setattr(connections, "ANSWER_S", 0.6)
    monkeypatch.setattr(connections, "MOST", 8)
    monkeypatch.setattr(connections.Protocol, "waiting", {})
    monkeypatch.setattr(connections.Protocol, "unread", {})

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        if scope["path"] == "/slow":
            await asyncio.sleep(2)
        size = 50_000_000 if scope["path"] == "/large" else 2
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(size).encode())]})
        for _ in range(max(size // 1_000_000, 1)):
            await send({"type": "http.response.body", "body": b"x" * min(size, 1_000_000), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", http=connections.Protocol, ws="none", lifespan="off")
    )
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = server.force_exit = True
    thread.join(20)
    listening.close()


def ask(port, path="/", timeout=10):
    with socket.create_connection(("127.0.0.1", port), timeout) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got = []
        while piece := s.recv(1 << 20):
            got.append(piece)
        return b"".join(got)


def closed(connection, feed=b"", seconds=30):
    """Whether the other side closes it while we send a byte now and then."""
    connection.settimeout(0.1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if feed:
                connection.sendall(feed)
            if not connection.recv(65536):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.parametrize(
    "start, feed",
    [
        pytest.param(b"", b"", id="silent"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n", b"", id="half a head"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"X: y\r\n", id="a header now and then"),
        pytest.param(b"G", b"E", id="a letter now and then"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"", id="kept alive, silent"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"G", id="kept alive, half a head"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"x", id="a body that nobody reads"
        ),
    ],
)
def test_connections_that_bring_nothing_are_closed(small, start, feed):
    with socket.create_connection(("127.0.0.1", small)) as s:
        s.sendall(start)
        assert closed(s, feed)
    assert ask(small).startswith(b"HTTP/1.1 200")


def test_an_answer_that_nobody_reads_is_given_up(small):
    with socket.create_connection(("127.0.0.1", small)) as s:
        s.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(2)
        s.settimeout(10)
        got = 0
        try:
            while piece := s.recv(1 << 20):
                got += len(piece)
        except OSError:
            pass
        assert got < 50_000_000


def test_a_request_that_is_worked_on_is_left_alone(small):
    assert ask(small, "/slow").endswith(b"xx") and len(ask(small, "/large")) > 50_000_000


def test_many_half_open_requests_do_not_shut_others_out(small):
    """Three times as many as there is room for; a request is answered at once all the same."""
    half = []
    try:
        for _ in range(24):
            half.append(socket.create_connection(("127.0.0.1", small)))
            half[-1].sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(5):
            assert ask(small).startswith(b"HTTP/1.1 200")
    finally:
        for s in half:
            s.close()


def test_requests_one_after_another_and_at_once_on_one_connection(small):
    with socket.create_connection(("127.0.0.1", small), 10) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        got = b""
        while got.count(b"200 OK") < 3 or not got.endswith(b"xx"):
            got += s.recv(65536)
        time.sleep(0.2)
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert s.recv(65536).startswith(b"HTTP/1.1 200")


def test_slow_uploads_take_no_place_in_the_queue(start, tmp_path, tiny_model, clips):
    """Six sockets at a byte now and then, a queue of five: a real upload is taken all the same. And 600 half-open
    requests besides."""
    server = start(tmp_path / "store", tiny_model, "--workers", 1, "--queue", 5, "--explain", "none")
    slow = []
    try:
        for _ in range(6):
            slow.append(socket.create_connection((server.host, server.port)))
            slow[-1].sendall(
                f"POST /api/v1/videos HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: 900000\r\n\r\n".encode() + HEAD
            )
        for _ in range(600):
            slow.append(socket.create_connection((server.host, server.port)))
            slow[-1].sendall(b"GET / HTTP/1.1\r\n")
        status, video = server.upload(clips["two"])
        assert status == 202 and server.wait(video["id"])["state"] == "done"
        assert server.json("GET", "/api/v1/health")[0] == 200
    finally:
        for s in slow:
            s.close()
