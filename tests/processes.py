"""Interrupting a command in the middle of its work, as a person does with Ctrl-C."""

import os
import shutil
import signal
import subprocess
import sys
import time


def heed_interrupts():
    """For a child: SIGINT as at a terminal. A shell's background job, as these tests may be, hands on to all its
    children that it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt_midway(command, results, sign, *, attempts=4, wait_s=120):
    """Runs `python *command`, sends SIGINT to its process group when `results` holds the first file that matches
    `sign`.

    A busy machine may let the command end before the signal comes; then nothing was interrupted, `results` is emptied
    and the command runs again.

    Returns:
        what it wrote to stderr, when it was interrupted.
    """
    for _ in range(attempts):
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )
        deadline = time.monotonic() + wait_s
        while not list(results.glob(sign)) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the whole group
        _, errors = process.communicate(timeout=60)
        if process.returncode != 0:
            assert process.returncode == 130 and "goes on from there" in errors and "Traceback" not in errors, errors
            return errors
        shutil.rmtree(results)
    raise AssertionError(f"{attempts} times the command ended before it could be interrupted")


def innermost(pid: int) -> int:
    """The process that works for `pid`: itself, or where it waits for one in a namespace of its own, that one."""
    while True:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            children = f.read().split()
        if len(children) != 1:
            return pid
        pid = int(children[0])
