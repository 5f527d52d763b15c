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


def test_nothing_of_it_is_left_after_the_wall_time():
    """Also what the child started itself."""
    mark = f"61.{os.getpid()}"
    with pytest.raises(LimitExceeded):
        run_limited(subprocess.getoutput, f"exec sleep {mark}", wall_s=2)
    assert _ends(mark)


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


def test_it_dies_with_its_parent():
    mark = f"62.{os.getpid()}"
    code = (
        "import subprocess; from deepfake_detection.video.sandbox import run_limited\n"
        f"run_limited(subprocess.getoutput, 'sleep {mark}; true')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env=sandbox.environment())
    deadline = time.monotonic() + 30
    while f"sleep {mark}" not in _commands().splitlines() and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert _ends(mark)


def _commands() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout


def _ends(mark: str) -> bool:
    """Whether no process has this in its command line any more. Numbers would be those of another namespace."""
    deadline = time.monotonic() + 10
    while mark in _commands() and time.monotonic() < deadline:
        time.sleep(0.05)
    return mark not in _commands()


def _able(what: str) -> bool:
    """Whether this system lets a process do `sandbox.<what>()`."""
    probe = (
        f"from deepfake_detection.video import sandbox; sandbox.leave_network(); print(sandbox.{what}(), flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=sandbox.environment())
    return done.stdout.strip() == "True"


@pytest.mark.parametrize(
    "daemon",
    [
        pytest.param("setsid sleep 63 &", id="own-session"),
        pytest.param("(setsid sh -c 'trap \"\" TERM HUP INT; sleep 63' &) &", id="twice-removed"),
    ],
)
def test_a_daemon_ends_with_its_worker(daemon):
    if not _able("leave_processes"):
        pytest.skip("this system forbids process namespaces to this user")
    mark = f"63.{os.getpid()}"
    run_limited(subprocess.getoutput, daemon.replace("63", mark).replace(" &", " >/dev/null 2>&1 &"))
    assert _ends(mark)


def test_it_can_send_signals_to_nobody_else():
    if not _able("leave_processes"):
        pytest.skip("this system forbids process namespaces to this user")
    with pytest.raises(RuntimeError, match="ProcessLookupError"):
        run_limited(os.kill, os.getpid(), 0)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root has rights to give up")
@pytest.mark.parametrize(
    "file",
    [pytest.param("ns/net", id="network"), pytest.param("environ", id="secrets"), pytest.param("mem", id="memory")],
)
def test_root_keeps_no_way_into_other_processes(file):
    with subprocess.Popen(["sleep", "300"]) as other:
        try:
            theirs = f"/proc/{other.pid}/{file}"
            with open(theirs, "rb"):
                pass
            with pytest.raises(RuntimeError, match="PermissionError"):
                run_limited(os.open, theirs, os.O_RDONLY)
            for command in (f"nsenter -t {other.pid} -n true", "mount -t tmpfs none /mnt", f"sudo -n cat {theirs}"):
                assert run_limited(subprocess.getstatusoutput, command)[0] != 0
        finally:
            other.kill()


def test_root_reads_files_of_any_user(tmp_path):
    path = tmp_path / "theirs"
    path.write_text("here")
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    path.chmod(0o600)
    assert run_limited(subprocess.getoutput, f"cat {path}") == "here"


def test_an_unfinished_file_is_marked_with_the_pid_that_others_see():
    """Workers of two runs were both pid 2 inside: each took the other's unfinished file for its own."""
    code = """import os; from deepfake_detection import files; from deepfake_detection.video import sandbox
outer = os.getpid(); sandbox.close_in(); print(f"-{outer}.mp4" in files.partial_name(files.Path("a.mp4")).name)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr
