"""Callbacks to hosts that misbehave: each has one deadline, and none stands in another's way."""

import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from deepfake_detection.web import callbacks, store

SECRET = "0123456789abcdef"


@pytest.mark.parametrize(
    "given, sent",
    [
        pytest.param("http://127.0.0.1:9000/ü", "/%C3%BC", id="path"),
        pytest.param("http://127.0.0.1:9000/%C3%BC", "/%C3%BC", id="path encoded already"),
        pytest.param("http://127.0.0.1:9000/a?b=ü&c=%20", "/a?b=%C3%BC&c=%20", id="query"),
        pytest.param("http://127.0.0.1:9000/🎬/%zz", "/%F0%9F%8E%AC/%zz", id="emoji"),
    ],
)
def test_letters_outside_ascii_are_encoded(given, sent):
    assert callbacks.checked(given, ("127.0.0.1",), SECRET) == "http://127.0.0.1:9000" + sent


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000/\ud800",
        "https://münchen.example/",
        "http://127.0.0.1:9000/\u202e",
        "http://127.0.0.1:9000/\x7f",
        "http://[::1/",
        "http://127.0.0.1:٣/",
    ],
)
def test_addresses_that_cannot_be_sent_to_are_refused(url):
    with pytest.raises(callbacks.Refused):
        callbacks.checked(url, ("127.0.0.1", "münchen.example"), SECRET)


def drip(connection):
    """A byte of a status line now and then, for ever."""
    for byte in b"HTTP/1.1 200 OK\r\n" + b"x" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def flood(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-Header: " + b"y" * 60_000 + b"\r\n")


@pytest.fixture
def host():
    """Starts hosts that answer with a function of the connection; gives their port."""
    listening = []

    def start(answer):
        one = socket.create_server(("127.0.0.1", 0))
        listening.append(one)

        def talk(connection):
            try:
                answer(connection)
            except OSError:
                pass
            finally:
                connection.close()

        def accept():
            while True:
                try:
                    connection, _ = one.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return one.getsockname()[1]

    yield start
    for one in listening:
        one.close()


@pytest.mark.parametrize(
    "answer, scheme",
    [
        pytest.param(drip, "http", id="drips"),
        pytest.param(lambda c: time.sleep(30), "http", id="says nothing"),
        pytest.param(flood, "http", id="endless headers"),
        pytest.param(lambda c: c.sendall(b"\x16\x03\x03" * 2000), "https", id="no TLS"),
        pytest.param(drip, "https", id="drips where TLS should be"),
        pytest.param(lambda c: time.sleep(30), "https", id="silent TLS"),
        pytest.param(lambda c: c.sendall(b"HTTP/1.1 999999 \xff\xff\r\n\r\n"), "http", id="no status"),
        pytest.param(lambda c: c.sendall(b"\0" * 1000), "http", id="zeros"),
        pytest.param(lambda c: c.close(), "http", id="hangs up"),
        pytest.param(lambda c: c.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000), "http", id="continues for ever"),
    ],
)
def test_one_deadline_for_all_of_a_try(host, answer, scheme):
    done = []
    thread = threading.Thread(
        target=lambda: done.append(
            callbacks.deliver(f"{scheme}://127.0.0.1:{host(answer)}/", "{}", SECRET, "1", timeout_s=0.5)
        )
    )
    thread.start()
    thread.join(30)
    assert done and done[0][0] is False and done[0][1]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/ü",
        "http://127.0.0.1:1/ \r\nX: y",
        "http://\ud800/",
        "nonsense",
        "",
        "http://[",
        "https://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "gopher://127.0.0.1/",
    ],
)
def test_no_address_raises(url):
    """Also those that older servers took into the table."""
    assert callbacks.deliver(url, "{}", SECRET, "1", timeout_s=2)[0] is False


def test_a_look_up_that_hangs_is_left_behind(monkeypatch):
    hangs = threading.Event()
    monkeypatch.setattr(callbacks.socket, "getaddrinfo", lambda *a, **k: hangs.wait(60))
    assert callbacks.deliver("https://hooks.example.org/", "{}", SECRET, "1", timeout_s=0.2) == (
        False,
        "no answer in 0.2 s",
    )
    hangs.set()


def test_one_host_keeps_no_other_waiting(tmp_path, host):
    """The messages of a dripping host and of an address that cannot be sent to come first; the good one arrives all the
    same."""
    got = threading.Event()

    class Good(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            got.set()

        def log_message(self, *a):
            pass

    good = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Good)
    threading.Thread(target=good.serve_forever, daemon=True).start()
    table = store.Store(tmp_path)
    courier = callbacks.Courier(table, SECRET, lambda action: action(), timeout_s=20)
    try:
        video = store.new_id()
        for url in (
            f"http://localhost:{host(drip)}/",
            "http://\ud800x/".encode("utf-8", "replace").decode(),
            f"http://127.0.0.1:{good.server_port}/\u00fc",
        ):
            table.add_callback(video, url, "{}")
        courier.round()
        assert got.wait(10)
        for _ in range(100):
            if table.callback_of(video)["state"] == "delivered":
                break
            time.sleep(0.05)
        assert table.callback_of(video) == {"state": "delivered", "tries": 1, "answer": "status 204"}
        assert courier.round() in (0, 1), "what is under way is not sent twice"
    finally:
        good.shutdown()
        good.server_close()
        table.close()


def test_a_message_that_was_delivered_while_the_table_was_locked_is_sent_once(tmp_path):
    sent, tries, there = [], [], threading.Event()
    table = store.Store(tmp_path)

    def keep(action):
        tries.append(1)
        there.wait(10)
        return action()

    courier = callbacks.Courier(table, SECRET, keep)
    courier_deliver, callbacks.deliver = callbacks.deliver, lambda *a, **k: sent.append(1) or (True, "status 200")
    try:
        table.add_callback(store.new_id(), "https://hooks.example.org/", "{}")
        assert courier.round() == 1
        while not tries:
            time.sleep(0.01)
        assert courier.round() == 0 and len(sent) == 1
        there.set()
        for _ in range(100):
            if not table.due_callbacks(4e9):
                break
            time.sleep(0.02)
        assert courier.round() == 0 and len(sent) == 1 and not table.due_callbacks(4e9)
    finally:
        callbacks.deliver = courier_deliver
        table.close()


@pytest.mark.parametrize("trusted", [True, False])
def test_https_checks_the_certificate(host, tmp_path, monkeypatch, trusted):
    openssl = shutil.which("openssl") or pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def serve(connection):
        with context.wrap_socket(connection, server_side=True) as secure:
            got = b""
            while not got.endswith(b"{}"):
                got += secure.recv(10_000)
            assert got.startswith(b"POST /hook HTTP/1.1")
            secure.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    got = callbacks.deliver(f"https://localhost:{host(serve)}/hook", "{}", SECRET, "1", timeout_s=10)
    assert got == ((True, "status 204") if trusted else (False, "SSLCertVerificationError"))
