"""The JSON API of a running server: uploads, limits, deletion, restarts, foreign callers."""

import concurrent.futures
import json
import re
import socket
import time

import prediction_clips
import pytest


def form(name: str, data: bytes, field="file") -> tuple[bytes, dict]:
    boundary = "----b0undary"
    head = (
        f"--{boundary}\r\nContent-Disposition: form-data; "
        f'name="note"\r\n\r\nhello\r\n--{boundary}\r\nContent-Disposition: form-data; name="{field}"; '
        f'filename="{name}"\r\nContent-Type: video/mp4\r\n\r\n'
    )
    return head.encode() + data + f"\r\n--{boundary}--\r\n".encode(), {
        "Content-Type": f"multipart/form-data; boundary={boundary}"
    }


def test_a_video_from_upload_to_report_to_deletion(server, clips):
    status, made = server.json("POST", "/api/videos", *form("../../etc/my clip.mp4", clips["fake"].read_bytes()))
    assert (
        status == 202
        and made["name"] == "my clip.mp4"
        and made["bytes"] == clips["fake"].stat().st_size
        and made["state"] in ("queued", "running")
    )
    done = server.wait(made["id"])
    assert done["state"] == "done" and done["result"]["verdict"] == "FAKE" and done["result"]["video"] == "my clip.mp4"
    assert done["expires"] == pytest.approx(done["finished"] + 24 * 3600)
    status, headers, page = server.call("GET", done["report"])
    assert status == 200 and b"FAKE" in page and b"my clip.mp4" in page
    assert (
        "default-src 'none'" in headers["content-security-policy"]
        and "script-src" not in headers["content-security-policy"]
    )
    assert str(server.store).encode() not in page
    assert server.json("GET", done["report"] + ".json")[1]["verdict"] == "FAKE"
    assert "attachment" in server.call("GET", done["report"] + "?download=true")[1]["content-disposition"]
    assert not list((server.store / "uploads").glob(f"*{made['id']}*")), "the upload goes when its verdict is there"
    assert server.call("DELETE", f"/api/videos/{made['id']}")[0] == 204
    assert server.call("GET", f"/api/videos/{made['id']}")[0] == server.call("GET", done["report"])[0] == 404
    assert not list((server.store / "reports").glob(f"*{made['id']}*"))


def test_a_raw_body_and_a_video_that_cannot_be_judged(server, clips):
    status, made = server.upload(clips["broken"], name="broken.mp4")
    assert status == 202
    done = server.wait(made["id"])
    assert done["state"] == "failed" and done["report"] is None and "hint:" in done["result"]["error"]
    assert str(server.store) not in json.dumps(done), "no path of the server is told"


@pytest.mark.parametrize(
    "data, status, words",
    [
        (b"", 400, "empty"),
        (b"hello", 415, "video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 415, "playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", 415, "list of files"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", 415, "SDP"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 5000, 415, "HEIC or AVIF"),
        (b"II*\0" + b"\0" * 5000, 415, "TIFF"),
        (b"\0\0\0\x18ftypavif" + b"\0" * 8, 415, "save it as JPEG or PNG"),
        (b"\0" * 5_200_000, 413, "larger than 5 MB"),
    ],
)
def test_what_is_not_taken_leaves_nothing(server, data, status, words):
    before = sorted(p.name for p in (server.store / "uploads").iterdir())
    try:
        got, answer = server.json("POST", "/api/videos?name=x.mp4", data, {"Content-Type": "application/octet-stream"})
        assert got == status and words in answer["detail"] and str(server.store) not in answer["detail"]
    except (BrokenPipeError, ConnectionResetError):
        assert status == 413  # refused before the body was sent to its end
    assert sorted(p.name for p in (server.store / "uploads").iterdir()) == before


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_picture_is_judged_as_weaker_evidence(server, tmp_path, suffix):
    """The same as `predict.py` says of it; also through a form without a name (RFC 7578)."""
    path = prediction_clips.photo(tmp_path / f"photo.{suffix}", prediction_clips.FAKE_TINT)
    status, made = server.upload(path)
    assert status == 202, made
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    head = f'--x\r\nContent-Disposition: form-data; name="file"\r\nContent-Type: image/{suffix}\r\n\r\n'.encode()
    status, second = server.json("POST", "/api/v1/videos", head + path.read_bytes() + b"\r\n--x--\r\n", boundary)
    assert status == 202, second
    for video in (made, second):
        done = server.wait(video["id"])
        result = done["result"]
        assert done["state"] == "done" and result["verdict"] == "FAKE" and result["file"]["still"] is True
        assert result["frames_decoded"] == 1 and any("still picture" in text for text in result["warnings"])
        assert b"still picture" in server.call("GET", done["report"])[2]


@pytest.mark.parametrize(
    "change, words",
    [
        pytest.param(lambda data: data[: len(data) // 2], "cut off or damaged", id="cut off"),
        pytest.param(lambda data: data[:30] + b"\0" * 5000, "cut off or damaged", id="nothing but a head"),
    ],
)
def test_a_broken_picture_is_refused_by_the_worker(server, tmp_path, change, words):
    path = prediction_clips.photo(tmp_path / "photo.png", prediction_clips.REAL_TINT)
    path.write_bytes(change(path.read_bytes()))
    done = server.wait(server.upload(path)[1]["id"])
    assert done["state"] == "failed" and words in done["result"]["error"] and "uploads" not in done["result"]["error"]


@pytest.mark.parametrize(
    "body, headers",
    [
        (b"nonsense", {"Content-Type": "multipart/form-data; boundary=x"}),
        (b"x", {"Content-Type": "multipart/form-data"}),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
            {"Content-Type": "multipart/form-data; boundary=x"},
        ),
    ],
)
def test_broken_forms(server, body, headers):
    assert server.json("POST", "/api/videos", body, headers)[0] == 400


def test_an_upload_that_breaks_off_leaves_nothing(server, clips):
    head = clips["real"].read_bytes()[:8000]
    with socket.create_connection((server.host, server.port)) as s:
        s.sendall(
            f"POST /api/videos?name=x.mp4 HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: 900000\r\n\r\n".encode()
            + head
        )
        time.sleep(0.3)
    for _ in range(50):
        if not list((server.store / "uploads").glob(".*")):
            break
        time.sleep(0.1)
    assert not list((server.store / "uploads").glob(".*"))
    assert "x.mp4" not in [v["name"] for v in server.json("GET", "/api/videos")[1]]


@pytest.mark.parametrize(
    "method, path, headers, status",
    [
        ("GET", "/api/health", {"Host": "evil.example"}, 421),
        ("POST", "/api/videos", {"Origin": "http://evil.example"}, 403),
        ("DELETE", "/api/videos/" + "0" * 32, {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "/api/videos", {"Origin": "null"}, 403),
        ("GET", "/api/videos/..%2f..%2fetc%2fpasswd", {}, 404),
        ("GET", "/api/videos/" + "g" * 32, {}, 404),
        ("GET", "/static/../app.py", {}, 404),
        ("GET", "/api/videos?limit=0", {}, 422),
        ("POST", "/api/videos?callback=https://evil.example/", {}, 403),
        ("PUT", "/api/videos", {}, 405),
    ],
)
def test_callers_that_are_refused(server, method, path, headers, status):
    assert server.call(method, path, b"x" if method != "GET" else None, headers)[0] == status


def test_everything_comes_from_this_machine(server):
    """Pages name no other host, and the policy would not let them."""
    for path in (
        "/",
        "/docs",
        "/static/app.css",
        "/static/app.js",
        "/static/icon.svg",
        "/favicon.ico",
        "/api/openapi.json",
        "/api/health",
    ):
        status, headers, body = server.call("GET", path)
        assert status == 200, path
        assert (
            "default-src 'none'" in headers["content-security-policy"]
            and headers["x-content-type-options"] == "nosniff"
        )
        foreign = set(re.findall(rb"(?:https?:)?//[\w.-]+\.\w+", body)) - {b"http://www.w3.org", b"http://127.0.0.1"}
        assert not foreign, (path, foreign)
        if path.startswith(("/static", "/api")):
            continue
        assert b"<script>" not in body and b" style=" not in body and b" onclick" not in body


def test_openapi_names_what_there_is(server):
    schema = server.json("GET", "/api/openapi.json")[1]
    assert {(m, p) for p, ms in schema["paths"].items() for m in ms} >= {
        ("post", "/api/videos"),
        ("get", "/api/videos/{id}"),
        ("delete", "/api/videos/{id}"),
        ("get", "/api/health"),
    }
    page = server.call("GET", "/docs")[2].decode()
    assert all(p in page for p in schema["paths"])


def test_health(server):
    status, health = server.json("GET", "/api/health")
    assert (
        status == 200
        and health["status"] == "ok"
        and health["model"].startswith("tiny 0")
        and health["limit_bytes"] == 5_000_000
    )


def test_parallel_uploads_are_all_judged(server, clips):
    names = ["real", "fake", "no_face", "two"] * 3
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        made = list(
            pool.map(lambda at: server.upload(clips[names[at]], name=f"{names[at]}-{at}.mp4"), range(len(names)))
        )
    assert [status for status, _ in made] == [202] * len(names)
    got = [server.wait(video["id"])["result"]["verdict"] for _, video in made]
    assert (
        got == ["REAL", "FAKE", "NO FACE", "UNSURE"] * 3
    )  # of two people the smaller one looks altered: doubt, no verdict


def test_a_full_queue_says_so_and_takes_more_later(start, tmp_path, tiny_model, clips):
    server = start(tmp_path / "store", tiny_model, "--workers", 1, "--queue", 2)
    got = [server.upload(clips["two"]) for _ in range(6)]
    statuses = [status for status, _ in got]
    assert set(statuses) == {202, 503} and "full" in got[statuses.index(503)][1]["detail"]
    for status, video in got:
        if status == 202:
            server.wait(video["id"])
    assert server.upload(clips["two"])[0] == 202


def test_killed_and_started_again_it_goes_on(start, tmp_path, tiny_model, clips):
    store = tmp_path / "store"
    server = start(store, tiny_model, "--workers", 1)
    made = [server.upload(clips["fake"])[1]["id"] for _ in range(3)]
    server.stop(kill=True)
    (store / "uploads" / f".{'e' * 32}.partial").write_bytes(b"rest of an upload")
    (store / "uploads" / ("f" * 32 + ".video")).write_bytes(b"nobody's")
    again = start(store, tiny_model, "--workers", 1)
    assert [again.wait(video)["result"]["verdict"] for video in made] == ["FAKE"] * 3
    assert list((store / "uploads").iterdir()) == []
    again.stop()


def test_what_was_kept_long_enough_is_deleted(start, tmp_path, tiny_model, clips):
    server = start(tmp_path / "store", tiny_model, "--workers", 1, "--keep-hours", 3 / 3600)
    video = server.upload(clips["real"])[1]["id"]
    for _ in range(400):
        if server.json("GET", f"/api/videos/{video}")[0] == 404:
            break
        time.sleep(0.1)
    assert server.json("GET", "/api/videos")[1] == [] and not list((tmp_path / "store" / "reports").iterdir())


def test_a_second_server_on_one_store_is_refused(server, tiny_model):
    import subprocess
    import sys
    from pathlib import Path

    project = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [
            sys.executable,
            str(project / "serve.py"),
            "--port",
            "0",
            "--store",
            str(server.store),
            "--model",
            str(tiny_model),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and "another server" in done.stderr and "Traceback" not in done.stderr
    taken = subprocess.run(
        [
            sys.executable,
            str(project / "serve.py"),
            "--port",
            str(server.port),
            "--store",
            str(server.store) + "2",
            "--model",
            str(tiny_model),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert taken.returncode == 2 and "cannot listen" in taken.stderr and "Traceback" not in taken.stderr


def test_callbacks_end_to_end(start, tmp_path, tiny_model, clips):
    """Signed, retried after a failure, and only to the host that was named."""
    import http.server
    import threading

    from deepfake_detection.web.callbacks import signature

    secret, got = "0123456789abcdef", []

    class Platform(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if len(got) == 1 else 204)
            self.end_headers()

        def log_message(self, *a):
            pass

    platform = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Platform)
    threading.Thread(target=platform.serve_forever, daemon=True).start()
    try:
        host = f"127.0.0.1:{platform.server_port}"
        server = start(
            tmp_path / "store",
            tiny_model,
            "--workers",
            1,
            "--callback-host",
            host,
            "--keep-hours",
            20 / 3600,
            secret=secret,
        )
        status, made = server.upload(clips["fake"], query=f"&callback=http://{host}/hook")
        assert status == 202
        assert server.upload(clips["fake"], query="&callback=http://127.0.0.1:1/hook")[0] == 403
        for _ in range(300):
            if len(got) == 2:
                break
            time.sleep(0.1)
        (first, body), (second, again) = got
        assert body == again and first["X-Deepfake-Delivery"] == second["X-Deepfake-Delivery"]
        assert second["X-Deepfake-Signature"] == signature(secret, second["X-Deepfake-Timestamp"], again)
        message = json.loads(body)
        assert message["id"] == made["id"] and message["verdict"] == "FAKE" and message["p_fake"] > 0.5
    finally:
        platform.shutdown()
        platform.server_close()


def test_version_1_has_rfc_3339_times_and_the_old_addresses_keep_theirs(server, clips):
    import datetime

    status, made = server.json(
        "POST",
        "/api/v1/videos?name=one.mp4&explain=none",
        clips["fake"].read_bytes(),
        {"Content-Type": "application/octet-stream"},
    )
    assert status == 202
    old = server.wait(made["id"])
    new = server.json("GET", f"/api/v1/videos/{made['id']}")[1]
    for name in ("created", "finished", "expires"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", new[name])
        assert datetime.datetime.fromisoformat(new[name]).timestamp() == pytest.approx(old[name], abs=1e-3)
    assert (
        new["report"] == f"/api/v1/videos/{made['id']}/report" and old["report"] == f"/api/videos/{made['id']}/report"
    )
    from deepfake_detection.web.schema import Report

    numbers = Report.model_validate(server.json("GET", new["report"] + ".json")[1], strict=True)
    assert numbers.verdict == "FAKE" and numbers.faces and numbers.faces[0].box[2] > 0
    assert {v["id"] for v in server.json("GET", "/api/v1/videos")[1]} == {
        v["id"] for v in server.json("GET", "/api/videos")[1]
    }
    assert server.call("DELETE", f"/api/v1/videos/{made['id']}")[0] == 204


@pytest.mark.parametrize("explain", ["lime", "", "gradcam", "NONE", "none;rm"])
def test_what_cannot_be_asked_for_is_refused(server, explain):
    assert server.call("POST", f"/api/v1/videos?explain={explain}", b"x")[0] == 422


def test_a_report_without_explanation_is_asked_for_by_upload(server, clips):
    """explain=none: no heat map is drawn, the report is there."""
    sizes = {}
    for explain in ("none", "occlusion"):
        video = server.json(
            "POST",
            f"/api/v1/videos?name=x.mp4&explain={explain}",
            clips["fake"].read_bytes(),
            {"Content-Type": "application/octet-stream"},
        )[1]["id"]
        server.wait(video)
        sizes[explain] = len(server.call("GET", f"/api/v1/videos/{video}/report")[2])
    assert 0 < sizes["none"] < sizes["occlusion"]


def test_the_table_of_all_videos(server, clips):
    import csv
    import io

    video = server.upload(clips["fake"], name="%3Dcmd%7C'a,b.mp4")[1]["id"]
    server.wait(video)
    status, headers, body = server.call("GET", "/api/v1/videos.csv")
    row = next(r for r in csv.DictReader(io.StringIO(body.decode())) if r["id"] == video)
    assert (
        status == 200
        and headers["content-type"].startswith("text/csv")
        and "attachment" in headers["content-disposition"]
    )
    assert (
        row["name"] == "./=cmd|'a,b.mp4"
        and row["verdict"] == "FAKE"
        and row["state"] == "done"
        and row["finished"].endswith("+00:00")
    )
    assert float(row["p_fake"]) > 0.5


@pytest.mark.parametrize("address", ["/api/v1/openapi.json", "/api/openapi.json"])
def test_the_schema_states_units(server, address):
    schema = server.json("GET", address)[1]
    models = schema["components"]["schemas"]
    assert (
        "pixels" in models["Face"]["properties"]["box"]["description"]
        and "seconds" in models["Person"]["properties"]["first_s"]["description"]
    )
    assert (
        models["Video"]["properties"]["created"]["format"] == "date-time"
        and schema["paths"]["/api/videos"]["get"]["deprecated"]
    )
    assert not schema["paths"]["/api/v1/videos"]["get"].get("deprecated")
