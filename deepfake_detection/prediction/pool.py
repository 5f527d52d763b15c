"""Worker processes as seen by the one who holds the queue: start, send a job, read progress, survive its death.

Used by the batch prediction (a worker serves many videos) and the web queue (a worker serves one). What a worker says
is read with bounds and looked at first (`messages`): it decoded a file from a stranger.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from ..errors import UserError
from ..video import sandbox
from ..video.workers import MEMORY_BYTES as WORKER_MEMORY_BYTES
from . import messages

COMMAND = [sys.executable, "-P", "-m", "deepfake_detection.prediction.worker"]
#: Limits of a worker, the page's and predict.py's: address space, bytes of a file it writes, open files.
MEMORY_BYTES, FILE_BYTES, OPEN_FILES = WORKER_MEMORY_BYTES, 64 << 20, 256
#: Address space that each further thread may take: its stack and its arena of the allocator.
THREAD_BYTES = 128 << 20
#: CPU seconds for each second of wall time that a job may take: a decoder and a network have threads.
CPU_PER_SECOND = 4
#: Seconds that a worker may take to load its model.
START_S = 300.0
#: Seconds that a worker which says no more has until it is killed.
END_S = 5.0
#: A process that cannot be started is tried again so often, so many seconds apart: others' processes end.
START_TRIES, START_PAUSE_S = 3, 0.5


class Died(Exception):
    """The worker ended in the middle of a job; str() says how, in words for a person."""


def limits_of(time_limit_s: float, *, memory_bytes: int = MEMORY_BYTES, threads: int = 1) -> dict:
    """The limits of a worker, for `Worker(limits=...)`.

    Args:
        time_limit_s: wall time a job may take.
        threads: of one prediction.
    """
    return {
        "memory_bytes": memory_bytes + (threads - 1) * THREAD_BYTES,
        "file_bytes": FILE_BYTES,
        "open_files": OPEN_FILES,
        "job_cpu_s": math.ceil(time_limit_s * max(CPU_PER_SECOND, threads)),
    }


class Worker:
    """One worker process. `start` it (or let `run` do it), `run` jobs one at a time, `stop` it.

    Args:
        settings: fields of `predictor.Settings`.
        limits: of `limits_of`, or of `sandbox.limit_self`, e.g. {"memory_bytes": 4 << 30}; `job_cpu_s` is for each job.
        time_limit_s: wall time a job may take; the process is killed beyond it.
    """

    def __init__(self, settings: dict, *, limits: dict | None = None, time_limit_s: float | None = None):
        self._argument = json.dumps({"settings": settings, "limits": limits or {}})
        self._threads = int(settings.get("threads", 1))
        self.time_limit_s = time_limit_s
        self._lines: messages.Lines | None = None  # of the process, while there is one
        self._begun = 0.0
        self._model: str | None = None  # what it says when it is ready

    @property
    def pid(self) -> int | None:
        lines = self._lines  # another thread may stop it meanwhile
        return lines.process.pid if lines else None

    def start(self) -> messages.Lines:
        """Starts the process without waiting until it is ready.

        Raises:
            Died: the system starts no process now (too many of them, no memory).
        """
        self._model = None
        for attempt in range(1, START_TRIES + 1):
            try:
                process = subprocess.Popen(
                    [*COMMAND, self._argument],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,
                    # No GPU: nothing here is faster on it, and CUDA reserves more than the limit of memory.
                    env=sandbox.environment(OMP_NUM_THREADS=str(self._threads), CUDA_VISIBLE_DEVICES="-1"),
                )
                break
            except OSError as e:
                if attempt == START_TRIES:
                    raise Died(
                        f"no worker process can be started ({e.strerror}) (hint: fewer --workers, or end other "
                        "programs)"
                    ) from None
                time.sleep(START_PAUSE_S)
        self._lines, self._begun = messages.Lines(process), time.monotonic()
        return self._lines

    def wait_ready(self) -> str:
        """Waits until the model is loaded and returns its name.

        Raises:
            UserError: what the worker says is wrong with the model or the settings.
            Died: when it ended without a word, or does not start.
        """
        return self._ready()[1]

    def _ready(self) -> tuple[messages.Lines, str]:
        """The lines of a process that has loaded its model, and the model's name."""
        lines, model = self._lines or self.start(), self._model
        if model is None:
            message = self._read(lines, messages.started, self._begun + START_S, "took too long to start")
            if "refused" in message:
                self.stop()
                refused = message["refused"]
                raise UserError(refused["what"], file=refused["file"], hint=refused["hint"])
            self._model = model = str(message["ready"])
        return lines, model

    def run(
        self,
        job: dict,
        progress: Callable[[float, str], None] | None = None,
        early: Callable[[dict], None] | None = None,
    ) -> dict:
        """Runs one job and returns its result object.

        Args:
            progress: called with (share 0..1, what is being done).
            early: called with the result object as soon as there is a verdict, while its report is being made.

        Raises:
            Died: when the process crashed, ran out of a limit or out of time, or sent what is no answer. The next `run`
                starts a fresh one.
            UserError: as `wait_ready`.
        """
        lines, _ = self._ready()
        deadline = time.monotonic() + self.time_limit_s if self.time_limit_s else None
        late = (
            f"took longer than {self.time_limit_s or 0:g} s and was stopped (hint: a shorter clip, or a longer "
            "time limit)"
        )
        try:
            messages.send(lines.process, job, deadline)
        except BrokenPipeError:
            raise Died(self._cause(lines.process)) from None
        except TimeoutError:
            self.stop()
            raise Died(late) from None
        while True:
            message = self._read(lines, messages.answer, deadline, late)
            if "result" in message:
                # The row is of the video that was asked for, whatever a worker that was taken over would like to name.
                return {**message["result"], "video": job["name"]}
            if "early" in message:
                if early:
                    early({**message["early"], "video": job["name"]})
            elif progress:
                progress(message["share"], message["stage"])

    def stop(self) -> None:
        """Ends the process at once."""
        lines, self._lines = self._lines, None
        if lines is not None:
            sandbox.kill_group(lines.process)

    def stop_from_outside(self) -> None:
        """Kills the process from another thread than the one in `run`, which then raises Died."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def _read(self, lines: messages.Lines, check: Callable[[dict], dict], deadline: float | None, late: str) -> dict:
        try:
            line = lines.next(deadline)
            if line is not None:
                return check(messages.parse(line))
        except TimeoutError:
            self.stop()
            raise Died(late) from None
        except messages.BadMessage as e:
            self.stop()
            raise Died(
                f"the worker sent what is no answer ({e}) and was stopped (hint: this file may be an attack; please "
                "report it)"
            ) from None
        raise Died(self._cause(lines.process))

    def _cause(self, process: subprocess.Popen) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may have closed its output and live on
            process.wait(END_S)
        self.stop()
        code = process.returncode
        if code == -signal.SIGXCPU:
            return "needs more computing time than a worker may take (hint: a shorter clip)"
        if code < 0:
            return f"the decoder crashed on this file ({sandbox.ended(code)}) (hint: re-encode the video)"
        return (
            f"the program failed on this video (exit code {code}) (hint: the messages of the program say where; "
            "please report it)"
        )
