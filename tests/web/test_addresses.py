"""Videos by their address: off unless asked for, public hosts only wherever it leads, nothing left of what is
refused."""

import gzip
import http.server
import ipaddress
import socket
import tempfile
import threading
import urllib.parse

import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.prediction import fetch_apart
from deepfake_detection.web import addresses, uploads

pytest.importorskip("yt_dlp", reason="the extra `url`")


@pytest.mark.parametrize(
    "host, networks, may",
    [
        pytest.param("93.184.215.14", [], True, id="public"),
        pytest.param("2606:2800:21f::1", [], True, id="public IPv6"),
        *((host, [], False) for host in ("127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254")),
        *((host, [], False) for host in ("0.0.0.0", "100.64.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255")),
        *((host, [], False) for host in ("::", "::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:127.0.0.1")),
        *((host, [], False) for host in ("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1")),
        pytest.param("64:ff9b::5db8:d70e", [], True, id="public, translated"),
        *((host, [], False) for host in ("localhost", "example.org", "", None, "/run/docker.sock", b"x", "2130706433")),
        pytest.param("10.1.2.3", ["10.1.0.0/16"], True, id="an allowed network"),
        pytest.param("::ffff:10.1.2.3", ["10.1.0.0/16"], True, id="an allowed network, mapped"),
        pytest.param("10.2.2.3", ["10.1.0.0/16"], False, id="another network"),
    ],
)
def test_only_public_addresses_are_connected_to(host, networks, may):
    assert fetch_apart.may_connect(host, tuple(map(ipaddress.ip_network, networks))) == may


@pytest.mark.parametrize(
    "url",
    ["file:///x", "ftp://a/b", "http://", "clip.mp4", "https://me:secret@a.org/x", "http://a:port/", "http://[", ""],
)
def test_what_is_no_address(url):
    with pytest.raises(uploads.Refused) as refused:
        addresses.must_be_address(url)
    assert refused.value.status == 400 and "secret" not in refused.value.reason


@pytest.mark.parametrize(
    "url, title, name",
    [
        ("https://a.org/x/clip.mp4?y=1", "", "clip.mp4 (a.org)"),
        ("https://a.org/", "A talk / part 1", "A talk - part 1 (a.org)"),
        ("https://a.org", "", "(a.org)"),
    ],
)
def test_what_it_is_called(url, title, name):
    assert uploads.shown_name(addresses.name_of(url, title)) == name


@pytest.fixture(scope="module")
def host(clips):
    """A web server on 127.0.0.1, with redirects, a page, and a file that never ends."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = urllib.parse.urlsplit(self.path).path
            if path == "/away":
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.2:{self.server.server_port}/fake.mp4")
                self.end_headers()
            elif path == "/here":
                self.send_response(302)
                self.send_header("Location", "/fake.mp4")
                self.end_headers()
            elif path == "/fake.mp4":
                self.give("video/mp4", clips["fake"].read_bytes())
            elif path == "/drip.mp4":
                self.send_response(200)
                self.send_header("Content-Type", "video/mp4")
                self.end_headers()
                while not self.server.over.wait(0.1):
                    self.wfile.write(b"\0")
            elif path == "/packed.mp4":
                self.send_response(200)
                self.send_header("Content-Type", "video/mp4")
                self.send_header("Content-Encoding", "gzip")
                self.end_headers()
                self.wfile.write(gzip.compress(clips["fake"].read_bytes().ljust(40 << 20, b"\0")))
            elif path == "/page":
                self.give("text/html", b"<html><title>Nothing here</title><p>words</p></html>")
            elif path == "/list.m3u8":
                self.give("application/x-mpegurl", b"#EXTM3U\n#EXTINF:2,\nhttp://127.0.0.2:1/x.ts\n#EXT-X-ENDLIST\n")
            elif path == "/text.mp4":
                self.give("video/mp4", b"no video, whatever the name and type say. " * 200)
            elif path in ("/large.mp4", "/endless.mp4"):
                self.send_response(200)
                self.send_header("Content-Type", "video/mp4")
                if path == "/large.mp4":
                    self.send_header("Content-Length", str(50_000_000))
                self.end_headers()
                data = clips["fake"].read_bytes().ljust(1 << 20, b"\0")
                for _ in range(20):
                    self.wfile.write(data)
            else:
                self.send_error(404)

        def give(self, kind, data):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

        def handle(self):
            try:
                super().handle()
            except (BrokenPipeError, ConnectionResetError):
                pass

    running = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Answers)
    running.over = threading.Event()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.over.set()
    running.shutdown()


@pytest.fixture(scope="module")
def fetching(start, tmp_path_factory, tiny_model):
    """A server that fetches from public hosts and from 127.0.0.1, not from 127.0.0.2."""
    options = ("--workers", 1, "--limit-mb", 5, "--allow-urls", "--allow-url-network", "127.0.0.1/32")
    return start(tmp_path_factory.mktemp("fetching"), tiny_model, *options)


def post(server, url, more=""):
    return server.json("POST", f"/api/v1/videos/from-url?url={urllib.parse.quote(url, safe='')}{more}")


def test_off_unless_the_server_was_started_for_it(server, host):
    status, answer = post(server, f"{host}/fake.mp4")
    assert status == 403 and "--allow-urls" in answer["detail"]
    assert server.json("GET", "/api/v1/health")[1]["urls"] is False


@pytest.mark.parametrize("path", ["/fake.mp4", "/here"])
def test_a_video_by_its_address(fetching, host, path):
    status, made = post(fetching, host + path, "&explain=none")
    assert status == 202 and made["name"].endswith("(127.0.0.1)") and made["bytes"] > 1000, made
    done = fetching.wait(made["id"])
    assert done["state"] == "done" and done["result"]["verdict"] == "FAKE"
    assert not list((fetching.store / "uploads").iterdir())
    assert fetching.json("GET", "/api/v1/health")[1]["urls"] is True


@pytest.mark.parametrize(
    "path, status, words",
    [
        pytest.param("/away", 403, "private network", id="a redirect to a private network"),
        pytest.param("/list.m3u8", 403, "private network", id="a list with parts in a private network"),
        pytest.param("http://127.0.0.2:1/x.mp4", 403, "private network", id="a private network"),
        pytest.param("http://169.254.169.254/latest/meta-data/", 403, "private network", id="a cloud's secrets"),
        pytest.param("http://[::1]:1/x.mp4", 403, "private network", id="IPv6"),
        pytest.param("http://2130706434:1/x.mp4", 403, "private network", id="a number"),
        pytest.param("file:///etc/passwd", 400, "not an http", id="a file"),
        pytest.param("/none.mp4", 502, "404", id="nothing there"),
        pytest.param("/page", 502, "cannot download", id="a page without a video"),
        pytest.param("/text.mp4", 415, "", id="no video"),
        pytest.param("/large.mp4", 413, "larger than 5 MB", id="too large"),
        pytest.param("/endless.mp4", 413, "larger than 5 MB", id="too large, and does not say so"),
    ],
)
def test_what_is_refused_leaves_nothing(fetching, host, path, status, words):
    got, answer = post(fetching, path if "//" in path else host + path)
    assert got == status and words in answer["detail"], answer
    assert str(fetching.store) not in answer["detail"] and not list((fetching.store / "uploads").iterdir())


def test_an_other_sites_page_cannot_have_anything_fetched(fetching, host):
    path = f"/api/v1/videos/from-url?url={urllib.parse.quote(host, safe='')}/fake.mp4"
    assert fetching.call("POST", path, headers={"Origin": "https://evil.example"})[0] == 403


def test_the_api_page_and_the_schema_say_so(fetching):
    described = fetching.json("GET", "/api/v1/openapi.json")[1]["paths"]["/api/v1/videos/from-url"]["post"]
    assert {"400", "403", "413", "415", "502"} <= set(described["responses"])
    assert b"/api/v1/videos/from-url" in fetching.call("GET", "/docs")[2]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--allow-url-network", "10.0.0.0/8"], "goes with --allow-urls"),
        (["--allow-urls", "--allow-url-network", "intranet"], "does not appear to be an IPv4"),
    ],
)
def test_options_are_checked(project, options, words, monkeypatch, capsys):
    import importlib.util

    spec = importlib.util.spec_from_file_location("serve_script", project / "serve.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with pytest.raises(UserError, match=words):
        script.networks(script.options().parse_args(options))


def test_folders_of_a_server_that_was_killed_go(tmp_path):
    from deepfake_detection.web.store import Store, new_id

    store, video = Store(tmp_path), new_id()
    folder = store.uploads / f".{video}.fetch"
    for busy, there in ((frozenset({video}), True), (frozenset(), False)):
        folder.mkdir(exist_ok=True)
        (folder / "video.mp4.part").write_bytes(b"x")
        store.tidy(lambda busy=busy: busy)
        assert folder.exists() == there
    store.close()


# --- predict.py's own, which the person at the keyboard names
@pytest.mark.parametrize("path", ["/fake.mp4", "/here"])
def test_predict_fetches_what_it_is_told(host, clips, path, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with fetch_apart.fetched(host + path) as got:
        assert got.read_bytes() == clips["fake"].read_bytes()
    with fetch_apart.fetched(host.replace("127.0.0.1", "localhost") + path) as got:
        assert got.read_bytes() == clips["fake"].read_bytes()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "path, words",
    [
        pytest.param("/away", "private network", id="a redirect to a private network"),
        pytest.param("/list.m3u8", "private network", id="a list with parts in a private network"),
        pytest.param("/large.mp4", "larger than 5 MB", id="too large"),
        pytest.param("/endless.mp4", "larger than 5 MB", id="too large, and does not say so"),
        pytest.param("/packed.mp4", "larger than 5 MB", id="too large once unpacked"),
        pytest.param("/drip.mp4", "took longer than 8 s", id="never ends"),
    ],
)
def test_predict_fetches_no_more_than_it_may(host, path, words, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UserError, match=words), fetch_apart.fetched(host + path, max_bytes=5_000_000, wall_s=8):
        pass
    assert not list(tmp_path.iterdir())


def test_a_name_that_stands_for_a_private_address(host, monkeypatch):
    """Whoever sends a list of addresses chooses the names in it."""
    port = urllib.parse.urlsplit(host).port
    with (
        pytest.raises(UserError, match="private network"),
        fetch_apart.fetched(f"http://{socket.gethostname()}:{port}/fake.mp4"),
    ):
        pass


def test_predict_asks_the_proxy_of_its_surroundings(host, clips, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", host)
    with fetch_apart.fetched("http://video.example/fake.mp4") as got:
        assert got.read_bytes() == clips["fake"].read_bytes()
