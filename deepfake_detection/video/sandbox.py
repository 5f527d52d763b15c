"""A function in a process of its own: limited CPU time, memory, wall time and file size, no network, no inherited
secrets.

    run_limited(probe_json, "clip.mp4", cpu_s=30, memory_bytes=2 << 30, wall_s=60)

Decoders are written in C and are fed files from strangers. A crash, a bomb or a hang there must cost one row, and code
that takes over the process must find no password in its environment and no way out. Arguments and result travel as
JSON, because to unpickle what such a process sends would be to run its code in ours. The pieces (`environment`,
`limit_self`, `close_in`, `die_with_parent`) also serve the long-lived workers of `prediction.worker`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import files
from ..errors import UserError

#: What a child may inherit. Secrets come by the environment, so everything else stays outside.
KEPT_VARIABLES = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONUTF8",
    "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES", "SYSTEMROOT",
)  # fmt: skip

_LIMITS = {
    "memory_bytes": resource.RLIMIT_AS,
    "cpu_s": resource.RLIMIT_CPU,
    "file_bytes": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
}

#: OpenCV's Error::StsNoMem.
_CV_NO_MEMORY = -4

_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_CAPABILITY_VERSION_3 = 0x20080522
#: Capabilities that a worker of root keeps: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, to read videos of any user.
_KEPT_CAPABILITIES = 1 << 1 | 1 << 2
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


class LimitExceeded(Exception):
    """The child ran into a limit, or crashed; str() says how, in words for a person.

    Attributes:
        limit: "cpu", "memory", "wall" or "crash".
    """

    def __init__(self, limit: str, what: str):
        self.limit = limit
        super().__init__(what)


def run_limited(
    function: Callable,
    *args: Any,
    cpu_s: float | None = None,
    memory_bytes: int | None = None,
    wall_s: float | None = None,
    file_bytes: int | None = None,
    network: bool = False,
) -> Any:
    """Calls `function(*args)` in a child process and returns its result.

    Args:
        function: importable by its module and name.
        args: JSON values.
        cpu_s: CPU seconds (RLIMIT_CPU), rounded up to whole ones.
        memory_bytes: address space (RLIMIT_AS): what the child may reserve, libraries included; 1 GiB is little.
        wall_s: seconds until it is killed.
        file_bytes: size of a file it writes.
        network: leave it the network.

    Raises:
        LimitExceeded: a limit, or a crash of the child.
        UserError: what the function raised.
        RuntimeError: any other exception of the function, with its text.
    """
    limits = {"cpu_s": math.ceil(cpu_s) if cpu_s else None, "memory_bytes": memory_bytes, "file_bytes": file_bytes}
    task = {"module": function.__module__, "name": function.__qualname__, "args": args}
    text = json.dumps({**task, "limits": limits, "network": network}, allow_nan=False)
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "deepfake_detection.video.sandbox"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(text.encode(), timeout=wall_s)
    except subprocess.TimeoutExpired:
        raise LimitExceeded("wall", f"took longer than {wall_s:g} s") from None
    finally:
        kill_group(child)
    if child.returncode == -signal.SIGXCPU or child.returncode == -signal.SIGKILL and cpu_s:
        raise LimitExceeded("cpu", f"needs more than {cpu_s:g} s of computing time")
    if child.returncode:
        raise LimitExceeded("crash", f"the decoder crashed on this file ({ended(child.returncode)})")
    answer = json.loads(output)
    if "user_error" in answer:
        what, file, hint = answer["user_error"]
        raise UserError(what, file=file, hint=hint)
    if "memory" in answer:
        raise LimitExceeded("memory", f"needs more than {(memory_bytes or 0) >> 20} MiB of memory")
    if "exception" in answer:
        raise RuntimeError(answer["exception"])
    return answer["result"]


def ended(code: int) -> str:
    """`SIGSEGV` or `exit code 3` of a process' return code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def kill_group(child: subprocess.Popen) -> None:
    """Kills a child that was started with `start_new_session` and whatever it started, and waits for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def environment(**extra: str) -> dict[str, str]:
    """The environment of a child that decodes: named variables only, and this package on its path."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONIOENCODING": "utf-8",
        "OPENCV_LOG_LEVEL": "SILENT",
        "OPENCV_FFMPEG_LOGLEVEL": "-8",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **extra,
    }


def limit_self(**limits: float | None) -> None:
    """Lowers this process' own limits (never raises them) and switches core files off.

    Args:
        limits: memory_bytes, cpu_s, file_bytes, open_files; None leaves one as it is.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, value in limits.items():
        if value is None:
            continue
        soft, hard = resource.getrlimit(_LIMITS[name])
        value = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        # CPU: the hard limit a second later, so that the kernel's SIGXCPU (which says what happened) comes before its
        # SIGKILL.
        margin = 1 if name == "cpu_s" and (hard == resource.RLIM_INFINITY or value < hard) else 0
        resource.setrlimit(_LIMITS[name], (value, value + margin))


def limit_cpu_from_now(seconds: float) -> None:
    """This process gets SIGXCPU after so many more CPU seconds: for a worker of many tasks, each with its own share."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy, OpenCV or TensorFlow says with this exception that there is no memory left."""
    # Told by their names: this module is loaded before those libraries are wanted.
    name = type(error).__name__
    return (
        isinstance(error, MemoryError)
        or name == "ResourceExhaustedError"
        or name == "error"
        and getattr(error, "code", None) == _CV_NO_MEMORY
    )


def die_with_parent() -> None:
    """Linux: this process is killed when its parent ends, also by SIGKILL; and no program it starts gains rights."""
    libc = _libc()
    if libc is not None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def leave_network() -> bool:
    """Linux: puts this process into a network of its own that has no interface, not even loopback. Call it before any
    thread.

    Needs root or user namespaces; some systems and containers forbid both.

    Returns:
        whether it worked.
    """
    libc = _libc()
    if libc is None or threading.active_count() > 1:
        return False
    # Tried in a throw-away process first: where a policy lets a user namespace be made but not be mapped, we would be
    # stuck in it.
    trial = os.fork()
    if trial == 0:
        os._exit(0 if _unshare_network(libc) else 1)
    return os.waitpid(trial, 0)[1] == 0 and _unshare_network(libc)


def _unshare_network(libc) -> bool:
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWNET) == 0:
        return True
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    try:
        # Ourselves only; without this map no file could be created.
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    except OSError:
        return False
    return True


def close_in() -> bool:
    """All walls that the system grants to this process, for good: `leave_network`, `leave_processes`, `drop_rights`.

    Call it before any thread, and after `die_with_parent`. What follows runs in a process of its own where there may be
    one; the caller's waits for it and ends as it ends.

    Returns:
        whether there is no network.
    """
    alone = leave_network()
    leave_processes()
    drop_rights()
    return alone


def leave_processes() -> bool:
    """Linux: goes on in a child, in a process namespace of its own: whatever it starts ends with it, and it can send
    signals to nobody else. This process waits, and ends as the child ends.

    Needs root or user namespaces (`leave_network` makes one).

    Returns:
        whether it worked; then this is the child.

    Raises:
        OSError: no process can be started.
    """
    libc = _libc()
    if libc is None or threading.active_count() > 1 or libc.unshare(_CLONE_NEWPID) != 0:
        return False
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    near, far = os.pipe()
    outer = os.getpid()
    first = os.fork()
    if first:
        os.close(far)
        _close_channels()
        status = os.read(near, 4)
        os.waitpid(first, 0)
        _end_as(int.from_bytes(status, "little") if status else int(signal.SIGKILL))
    # The first process of a namespace ends all others of it when it ends, and the kernel spares it some signals (no
    # SIGXCPU), so that it only waits, and the work is done by a second one.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.close(near)
    worker = os.fork()
    if not worker:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.close(far)
        files.outer_pid = outer
        return True
    _close_channels()
    while True:
        over, status_of = os.wait()
        if over == worker:
            os.write(far, status_of.to_bytes(4, "little"))
            os._exit(0)


def _close_channels() -> None:
    """Leaves stdin and stdout to the worker: who waits for the end of its output must not wait for ours."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def _end_as(status: int) -> None:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def drop_rights() -> bool:
    """Linux: gives up what root may and others may not, all but reading and writing files of any user: no entering of
    namespaces, no looking into other processes, no mounting. `die_with_parent` has seen to it that no program gives
    them back.

    Returns:
        whether it worked.
    """
    libc = _libc()
    if libc is None:
        return False
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then their upper halves
    if libc.capget(header, sets) != 0:
        return False
    kept = sets[1] & _KEPT_CAPABILITIES
    return libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)) == 0


def _libc():
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _child() -> None:
    """The child's side: one task on stdin, one answer on stdout."""
    task = json.load(sys.stdin)
    die_with_parent()
    if not task["network"]:
        close_in()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not reach the channel
    function: Any = importlib.import_module(task["module"])
    for part in task["name"].split("."):
        function = getattr(function, part)
    limit_self(**task["limits"])
    try:
        answer = {"result": function(*task["args"])}
        text = json.dumps(answer, allow_nan=False)
    except UserError as e:
        text = json.dumps({"user_error": [e.what, None if e.file is None else str(e.file), e.hint]})
    except MemoryError:
        text = json.dumps({"memory": True})
    except Exception as e:  # told to the parent, which raises it
        text = json.dumps({"exception": f"{type(e).__name__}: {e}"})
    channel.write(text)
    channel.flush()


if __name__ == "__main__":
    _child()
