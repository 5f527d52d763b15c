"""Who may call: names, the token, the form on the page, secrets that stay secret, HEAD, versions."""

import http.client
import os
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.web import access

PROJECT = Path(__file__).resolve().parents[2]
TOKEN = "correct-horse-battery-staple"


def refused(*arguments, store):
    """What serve.py says, which must not start."""
    sys.path.insert(0, str(PROJECT))
    import serve

    mask = os.umask(0o077)
    try:
        with pytest.raises(UserError) as e:
            serve.main(["--port", "0", "--store", str(store), *arguments])
    finally:
        os.umask(mask)
    return str(e.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "::", "", "0x0", "00.0.0.0", "::ffff:0.0.0.0", "[::]"])
def test_all_addresses_need_a_name(tmp_path, host):
    said = refused("--host", host, store=tmp_path / "store")
    assert "--name" in said or "cannot listen" in said
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "options, hint",
    [
        pytest.param("--host nowhere.invalid", "--host", id="no such name"),
        pytest.param("--host 203.0.113.1", "--host", id="another computer's address"),
        pytest.param(f"--host {'x' * 64}.example", "--host", id="no name"),
        pytest.param("--port 65536", "--port", id="no port"),
    ],
)
def test_what_cannot_be_listened_on_is_what_the_hint_names(tmp_path, options, hint):
    said = refused(*options.split(), store=tmp_path / "store")
    assert "cannot listen" in said and hint in said.partition("(hint: ")[2]


@pytest.mark.parametrize("name", ["http://a.example", "a.example:80", "*", "", "a b", "a/b"])
def test_a_name_is_a_host(tmp_path, name):
    assert "no host name" in refused("--host", "0.0.0.0", "--name", name, store=tmp_path / "store")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("short", id="short"),
        pytest.param("a" * 20 + "\n" + "b" * 20, id="two lines"),
        pytest.param("pässword-pässword-pässword", id="not ASCII"),
        pytest.param("x" * 5000, id="endless"),
    ],
)
def test_tokens_that_are_none(tmp_path, text):
    (tmp_path / "token").write_text(text)
    assert "access token" in refused("--token-file", str(tmp_path / "token"), store=tmp_path / "store")


@pytest.mark.parametrize("path", ["missing", "."])
def test_a_token_file_that_cannot_be_read(tmp_path, path):
    assert "access token cannot be read" in refused("--token-file", str(tmp_path / path), store=tmp_path / "store")


@pytest.fixture(scope="module")
def guarded(start, tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(TOKEN + "\n")
    return start(
        folder / "store",
        tiny_model,
        "--workers",
        1,
        "--host",
        "0.0.0.0",
        "--name",
        "deepfake.example.org",
        "--token-file",
        folder / "token",
    )


BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "headers, status",
    [
        pytest.param({}, 401, id="nothing"),
        pytest.param(BEARER, 200, id="token"),
        pytest.param({"Authorization": f"bearer  {TOKEN} "}, 200, id="small letters"),
        pytest.param({"Authorization": "Bearer " + TOKEN[:-1]}, 401, id="nearly"),
        pytest.param({"Authorization": "Bearer "}, 401, id="empty"),
        pytest.param({"Authorization": TOKEN}, 401, id="no Bearer"),
        pytest.param({"Authorization": "Basic " + TOKEN}, 401, id="Basic"),
        pytest.param({"Authorization": b"Bearer \xff\xfe"}, 401, id="no text"),
        pytest.param({"Cookie": f"{access.COOKIE}={TOKEN}"}, 401, id="token as a cookie"),
        pytest.param({"Cookie": f"{access.COOKIE}=99999999999.{'0' * 64}"}, 401, id="made up session"),
        pytest.param(
            {"Cookie": f"{access.COOKIE}={access.Token('another-token-of-some-length').session()}"},
            401,
            id="session of another token",
        ),
        pytest.param(
            {"Cookie": f"{access.COOKIE}={access.Token(TOKEN).session(now=1)}"}, 401, id="session of long ago"
        ),
        pytest.param({"Cookie": f"a=b; {access.COOKIE}={access.Token(TOKEN).session()}"}, 200, id="session"),
        pytest.param({**BEARER, "Host": "evil.example"}, 421, id="foreign name"),
        pytest.param({**BEARER, "Host": "deepfake.example.org:8000"}, 200, id="our name"),
        pytest.param({**BEARER, "Host": ""}, 421, id="no name"),
    ],
)
def test_what_opens(guarded, headers, status):
    for path in (
        "/api/v1/videos",
        "/api/videos",
        "/api/v1/health",
        "/docs",
        "/",
        "/api/v1/openapi.json",
        "/static/app.js",
    ):
        assert guarded.call("GET", path, headers=headers)[0] == status, path


@pytest.mark.parametrize(
    "method, path",
    [
        ("POST", "/api/v1/videos"),
        ("DELETE", "/api/v1/videos/" + "0" * 32),
        ("HEAD", "/api/v1/videos"),
        ("GET", "/nothing"),
        ("OPTIONS", "/api/v1/videos"),
        ("GET", "//login"),
        ("GET", "/login/"),
        ("GET", "/static/../api/v1/videos"),
        ("GET", "/%6cogin/../api/v1/videos"),
        ("POST", "/logout"),
    ],
)
def test_nothing_else_is_open(guarded, method, path):
    assert guarded.call(method, path)[0] == 401


def show(server, token, headers=None, wanted="/"):
    body = urllib.parse.urlencode({"token": token, "next": wanted})
    return server.call("POST", "/login", body, {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})})


def test_the_form_on_the_page_gives_a_session(guarded):
    status, headers, page = guarded.call("GET", "/docs", headers={"Accept": "text/html"})
    assert (
        status == 401
        and b'action="/login"' in page
        and b'name="next" value="/docs"' in page
        and "form-action 'self'" in headers["content-security-policy"]
    )
    status, headers, _ = show(guarded, TOKEN, wanted="/docs")
    assert status == 303 and headers["location"] == "/docs"
    cookie = headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(re.split("; ", cookie)) and TOKEN not in cookie
    session = {"Cookie": cookie.split(";")[0]}
    assert guarded.call("GET", "/docs", headers=session)[0] == 200
    status, headers, _ = guarded.call("POST", "/logout", headers=session)
    assert status == 303 and re.search("Max-Age=0|1970", headers["set-cookie"])


def test_a_wrong_token_gives_none(guarded):
    status, headers, page = show(guarded, "wrong")
    assert status == 403 and "set-cookie" not in headers and b"not the token" in page


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "/\r\nSet-Cookie: a=b",
        "",
        "/ü",
    ],
)
def test_the_form_leads_nowhere_else(guarded, wanted):
    assert show(guarded, TOKEN, wanted=wanted)[1]["location"] == "/"


@pytest.mark.parametrize(
    "headers, status",
    [({"Origin": "http://evil.example"}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Origin": "null"}, 403)],
)
def test_no_other_site_shows_the_token(guarded, headers, status):
    assert show(guarded, TOKEN, headers)[0] == status


def test_a_form_too_long_is_refused(guarded):
    try:
        assert show(guarded, "x" * 100_000)[0] == 413
    except (BrokenPipeError, ConnectionResetError):
        pass


def test_without_a_token_there_is_no_form(server):
    assert server.call("GET", "/login")[0] == 303 and show(server, "x")[0] == 303


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/api/v1/health",
        "/api/v1/videos",
        "/static/app.css",
        "/api/v1/openapi.json",
        "/favicon.ico",
        "/api/health",
    ],
)
def test_head_is_get_without_the_body(server, path):
    get, head = server.call("GET", path), server.call("HEAD", path)
    assert (
        head[0] == get[0] == 200
        and head[2] == b""
        and head[1]["content-length"] == get[1]["content-length"]
        and head[1]["content-type"] == get[1]["content-type"]
    )


def test_head_of_nothing(server):
    assert server.call("HEAD", "/api/v1/videos/" + "0" * 32)[0] == 404


def test_docs_show_the_address(server):
    page = server.call("GET", "/docs")[2].decode()
    assert f"{server.address}/api/v1/videos" in page and "127.0.0.1:8000" not in page and "Bearer" not in page
    named = server.call("GET", "/docs", headers={"Host": f"localhost:{server.port}"})[2].decode()
    assert f"http://localhost:{server.port}/api/v1/videos" in named


def test_docs_show_the_token(guarded):
    assert "Authorization: Bearer $TOKEN" in guarded.call("GET", "/docs", headers=BEARER)[2].decode()


@pytest.mark.parametrize("how", ["environment", "file", "descriptor"])
def test_the_callback_secret_is_not_in_the_environment(tmp_path, tiny_model, how):
    """Nor in the command line; a pipe is read once."""
    secret = "very-secret-" + "x" * 20
    (tmp_path / "secret").write_text(secret)
    read, write = os.pipe()
    os.write(write, secret.encode())
    os.close(write)
    more = {
        "environment": [],
        "file": ["--callback-secret-file", str(tmp_path / "secret")],
        "descriptor": ["--callback-secret-file", f"/dev/fd/{read}"],
    }[how]
    environment = {**os.environ, **({"DEEPFAKE_CALLBACK_SECRET": secret} if how == "environment" else {})}
    process = subprocess.Popen(
        [
            sys.executable,
            str(PROJECT / "serve.py"),
            "--port",
            "0",
            "--store",
            str(tmp_path / "store"),
            "--model",
            str(tiny_model),
            "--workers",
            "1",
            "--callback-host",
            "127.0.0.1:9",
            *more,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        pass_fds=[read],
    )
    try:
        port = int(re.search(r":(\d+) ", process.stdout.readline())[1])
        for name in ("environ", "cmdline"):
            assert secret.encode() not in Path(f"/proc/{process.pid}/{name}").read_bytes()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/api/v1/videos?callback=http://127.0.0.1:9/x", b"no video")
        assert connection.getresponse().status == 415, "the callback was taken, so the secret is there"
    finally:
        process.terminate()
        _, said = process.communicate(timeout=30)
        os.close(read)
    assert ("running as root" in said) == (os.geteuid() == 0) and secret not in said


def test_a_secret_is_needed_for_callbacks(tmp_path, monkeypatch):
    monkeypatch.delenv("DEEPFAKE_CALLBACK_SECRET", raising=False)
    assert "--callback-secret-file" in refused("--callback-host", "h.example", store=tmp_path / "store")
    monkeypatch.setenv("DEEPFAKE_CALLBACK_SECRET", "short")
    assert "--callback-secret-file" in refused("--callback-host", "h.example", store=tmp_path / "store")


def test_a_secret_that_others_can_read_is_told(tmp_path, caplog):
    (tmp_path / "secret").write_text("x" * 20)
    os.chmod(tmp_path / "secret", 0o644)
    assert access.read_secret(tmp_path / "secret", "access token", 12) == "x" * 20 and "chmod 600" in caplog.text
    with pytest.raises(UserError):
        access.read_secret(tmp_path / "secret", "access token", 30)
