"""The zoo at the web page: what is taken, what is refused at once, what the worker says; uploads in parallel, broken
off, deleted."""

import asyncio
import importlib.util
import os
import re
import socket
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import psutil
import pytest

from deepfake_detection.web import uploads

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tests" / "predict"))

#: Judged by a running server in the ordinary run; the others in the nightly one (each has a worker process of its own).
SAMPLE = (
    "good_1",
    "face",
    "cut_at_0.6",
    "flipped_data",
    "sound_only",
    "bomb_png_12000x12000",
    "dash_polyglot",
    "webm_av1",
    "rotated_90",
    "zero_frames",
)


def _server_class():
    spec = importlib.util.spec_from_file_location("robustness_web_conftest", PROJECT / "tests" / "web" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("onnx", reason="the tiny test model is written with onnx")
    import tiny_model

    model = tiny_model.build(tmp_path_factory.mktemp("tiny"))
    one = _server_class()(
        tmp_path_factory.mktemp("store"), model, "--workers", 2, "--limit-mb", 10, "--queue", 400, "--explain", "none"
    )
    yield one
    one.stop()


def is_file(path: Path) -> bool:
    return path.is_file() and path.resolve().is_file() and path.exists() and os.access(path, os.R_OK)


# --- what is taken ----------------------------------------------------------------------------------------------------
def test_upload(zoo, kind, tmp_path):
    """A file that FFmpeg must never see is refused while it arrives, and nothing of it stays; any video is taken."""
    path = zoo.path(kind.name)
    if not is_file(path) or path.stat().st_size > 1 << 30:
        pytest.skip("not a file that a browser would send")

    async def pieces():
        with open(path, "rb") as f:
            while piece := f.read(1000):
                yield piece

    target = tmp_path / "upload"
    try:
        size, _ = asyncio.run(
            uploads.receive(
                pieces(), target, content_type="video/mp4", length=str(path.stat().st_size), limit=50_000_000
            )
        )
    except uploads.Refused as e:
        assert e.status in (400, 415) and kind.refused, f"{e.status} {e.reason}"
        return
    assert size == path.stat().st_size == target.stat().st_size
    assert kind.frames is not None or re.search(r"readable|stream|pixels|video|UTF-8|picture", kind.refused), (
        "a file of no container was taken"
    )


# --- what the worker says ---------------------------------------------------------------------------------------------
def judged(server, zoo, kinds) -> dict:
    """Uploads all at once and waits; {kind name: the video's object}."""
    ids = {}
    for k in kinds:
        query = urllib.parse.quote(os.fsencode(k.file).decode("utf-8", "replace"))
        status, video = server.json(
            "POST",
            f"/api/videos?name={query}",
            zoo.paths[k.name].read_bytes(),
            {"Content-Type": "application/octet-stream"},
        )
        if status == 202:
            ids[k.name] = video["id"]
        else:
            assert status in (400, 415) and kinds, video
    return {name: server.wait(video, 900) for name, video in ids.items()}


def right(kind, video) -> None:
    result = video["result"]
    if video["state"] == "failed":
        assert re.search(f"{kind.refused}|no frame of this video" if kind.either else kind.refused, result["error"]), (
            result["error"]
        )
        assert kind.refused and result["error"].isprintable() and "uploads" not in result["error"], (
            "the server's own paths stay secret"
        )
        assert result["verdict"] is None
    else:
        # Uploads lie under a name of our own: one that no tool could open is judged here.
        assert kind.frames is not None or kind.name in ("name_not_utf8", "png", "jpeg", "webp")
        assert result["verdict"] in ("REAL", "FAKE", "UNSURE", "NO FACE")


def test_server_judges_a_sample(server, zoo):
    kinds = [zoo.kinds[n] for n in SAMPLE if n in zoo.paths]
    got = judged(server, zoo, kinds)
    for k in kinds:
        if k.name in got:
            right(k, got[k.name])
    assert {"good_1", "face", "cut_at_0.6", "flipped_data"} <= set(got)
    assert not list((server.store / "uploads").iterdir()), "uploads go with their verdict"


@pytest.mark.nightly
def test_server_judges_the_whole_zoo(server, zoo):
    kinds = [
        k
        for n, k in zoo.kinds.items()
        if n in zoo.paths and is_file(zoo.paths[n]) and zoo.paths[n].stat().st_size < 10_000_000
    ]
    got = judged(server, zoo, kinds)
    assert len(got) > 100
    for name, video in got.items():
        right(zoo.kinds[name], video)


# --- load -------------------------------------------------------------------------------------------------------------
def test_twenty_uploads_at_once(server, zoo):
    """No job is lost, health checks are answered meanwhile, memory stays bounded by the workers."""
    body = zoo.path("good_1").read_bytes()
    answers, health, rss, done = [], [], [], threading.Event()

    def send(n):
        answers.append(
            server.json("POST", f"/api/videos?name=load{n}.mp4", body, {"Content-Type": "application/octet-stream"})
        )

    def watch():
        parent = psutil.Process(server.process.pid)
        while not done.is_set():
            start = time.monotonic()
            status, _ = server.json("GET", "/api/health")
            health.append((status, time.monotonic() - start))
            children = parent.children(recursive=True)
            rss.append((parent.memory_info().rss, len(children)))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    senders = [threading.Thread(target=send, args=(n,)) for n in range(20)]
    for s in senders:
        s.start()
    for s in senders:
        s.join()
    try:
        assert [status for status, _ in answers] == [202] * 20
        results = [server.wait(video["id"], 600) for _, video in answers]
    finally:
        done.set()
        watcher.join()
    assert [r["state"] for r in results] == ["done"] * 20
    assert len({r["id"] for r in results}) == 20
    assert {status for status, _ in health} == {200}
    # A worker is two processes: the first one of its process namespace, and the one that looks after it from outside.
    assert max(n for _, n in rss) <= 2 * 2 * 2, "never more workers than asked for (and the ones being made ready)"
    grown = rss[-1][0] - rss[0][0]
    assert grown < 100 << 20, f"the server itself grew by {grown >> 20} MiB"
    print(
        f"\n20 uploads: health checks {len(health)}, slowest {max(t for _, t in health):.3f} s, server "
        f"{rss[-1][0] >> 20} MiB"
    )


def test_broken_off_uploads_leave_nothing(server, zoo):
    """Twenty senders that hang up in the middle: no row, no file, and the server goes on."""
    body = zoo.path("good_1").read_bytes()
    before = server.json("GET", "/api/videos?limit=1000")[1]
    for n in range(20):
        with socket.create_connection((server.host, server.port)) as s:
            s.sendall(
                f"POST /api/videos?name=x.mp4 HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: "
                f"{len(body) * 2}\r\n\r\n".encode()
                + body[: n * 200]
            )
    deadline = time.monotonic() + 30
    while list((server.store / "uploads").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list((server.store / "uploads").iterdir())
    assert len(server.json("GET", "/api/videos?limit=1000")[1]) == len(before)
    assert server.json("GET", "/api/health")[0] == 200


def test_deleted_in_the_middle_leaves_nothing(server, zoo):
    """A video deleted while its worker is at it."""
    body = zoo.path("face").read_bytes()
    ids = [
        server.json("POST", "/api/videos?name=d.mp4", body, {"Content-Type": "application/octet-stream"})[1]["id"]
        for _ in range(4)
    ]
    deadline = time.monotonic() + 120
    while server.json("GET", f"/api/videos/{ids[0]}")[1]["state"] == "queued" and time.monotonic() < deadline:
        time.sleep(0.02)
    for video in ids:
        assert server.call("DELETE", f"/api/videos/{video}")[0] == 204
    deadline = time.monotonic() + 60
    held = lambda: [
        p.name
        for folder in ("uploads", "reports")
        for p in (server.store / folder).iterdir()
        if any(i in p.name for i in ids)
    ]
    while (held() or server.json("GET", "/api/health")[1]["running"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not held()
    # The crew is whole again.
    assert (
        server.wait(
            server.json("POST", "/api/videos?name=after.mp4", body, {"Content-Type": "application/octet-stream"})[1][
                "id"
            ],
            300,
        )["state"]
        == "done"
    )


def test_workers_inherit_no_secret_and_no_network(server, zoo, tmp_path):
    """Looked at from outside: a worker's environment and its network."""
    parent = psutil.Process(server.process.pid)
    deadline = time.monotonic() + 60
    while (
        not (parent.children() and os.path.exists(f"/proc/{parent.children()[0].pid}/ns/net"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)  # a worker may just be replaced
    worker = parent.children()[0]
    names = set(worker.environ())
    from deepfake_detection.video import sandbox

    assert not {n for n in names if re.search("SECRET|TOKEN|PASSWORD|KEY", n)}
    assert names <= {*sandbox.KEPT_VARIABLES, *sandbox.environment(), "OMP_NUM_THREADS", "LC_CTYPE"} | {
        n for n in names if n.startswith("OPENCV_")
    }, names
    if os.geteuid() == 0:
        time.sleep(0.5)
        assert os.readlink(f"/proc/{worker.pid}/ns/net") != os.readlink("/proc/self/ns/net")
