"""The child process that decodes: its limits hold, it inherits no secret, it has no network, its death is one line."""

import math
import operator
import os
import socket
import subprocess
import sys
import time

import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.video import containers, sandbox
from deepfake_detection.video.sandbox import LimitExceeded, run_limited


def test_result_comes_back():
    assert run_limited(math.hypot, 3, 4) == 5.0
    assert run_limited(os.path.join, "é", "\n") == "é/\n"


def test_what_the_function_raises_comes_back(zoo):
    with pytest.raises(UserError) as caught:
        run_limited(containers.check, str(zoo.path("web_page")))
    assert caught.value.what == "not a video: a web page" and caught.value.hint
    assert run_limited(containers.check, str(zoo.path("good_1"))) == "mov"
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run_limited(operator.truediv, 1, 0)


@pytest.mark.parametrize(
    "limit, call",
    [
        ("wall", dict(function=time.sleep, args=(60,), wall_s=0.5)),
        ("cpu", dict(function=math.factorial, args=(10**8,), cpu_s=1, wall_s=60)),
        ("memory", dict(function=operator.mul, args=("x" * 1024, 1 << 20), memory_bytes=512 << 20)),
        ("crash", dict(function=os.abort, args=())),
        ("crash", dict(function=os._exit, args=(3,))),
    ],
)
def test_limits(limit, call):
    call = dict(call)
    function, args = call.pop("function"), call.pop("args")
    with pytest.raises(LimitExceeded) as caught:
        run_limited(function, *args, **call)
    assert caught.value.limit == limit
    assert "\n" not in str(caught.value)


def test_files_it_writes_are_limited(tmp_path):
    with pytest.raises((LimitExceeded, RuntimeError)):
        run_limited(os.truncate, _touched(tmp_path / "big"), 1 << 20, file_bytes=1000)
    assert (tmp_path / "big").stat().st_size == 0


def _touched(path):
    path.touch()
    return str(path)


def test_nothing_of_it_is_left_after_the_wall_time(tmp_path):
    """Also what the child started itself."""
    note = tmp_path / "pid"
    with pytest.raises(LimitExceeded):
        run_limited(subprocess.getoutput, f"echo $$ > {note}; exec sleep 61", wall_s=2)
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{note.read_text().strip()}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{note.read_text().strip()}")


def test_secrets_stay_outside(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("DEEPFAKE_PASSWORD", "canary")
    seen = run_limited(subprocess.getoutput, "env; cat /proc/self/environ | tr '\\0' '\\n'")
    assert "canary" not in seen and "PATH=" in seen


def test_no_network(tmp_path):
    """With the network left to it the child reaches us; without it does not."""
    probe = "import sys; from deepfake_detection.video import sandbox; print(sandbox.leave_network())"
    able = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, env=sandbox.environment()
    ).stdout.strip()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        address = f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 3)"
        command = f"{sys.executable} -c \"import socket; {address}; print('through')\""
        assert "through" in run_limited(subprocess.getoutput, command, network=True)
        server.accept()[0].close()
        if able != "True":
            pytest.skip("this system forbids network namespaces to this user")
        assert "through" not in run_limited(subprocess.getoutput, command)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_files_can_still_be_written_without_network(tmp_path):
    """A user namespace without a map of its user could create no file."""
    run_limited(os.mkdir, str(tmp_path / "made"))
    assert (tmp_path / "made").is_dir()


def test_what_it_prints_does_not_disturb_the_answer():
    assert run_limited(os.system, "echo noise; echo more noise >&2") == 0


def test_it_dies_with_its_parent(tmp_path):
    note = tmp_path / "pid"
    code = (
        "import subprocess; from deepfake_detection.video.sandbox import run_limited\n"
        f"run_limited(subprocess.getoutput, 'echo $PPID > {note}; sleep 62')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env=sandbox.environment())
    deadline = time.monotonic() + 30
    while not (note.exists() and note.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = note.read_text().strip()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
