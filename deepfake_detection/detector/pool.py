"""Worker processes as seen by the one who holds the queue: start, send a job, read progress, survive its death.

Used by the batch prediction (a worker serves many videos) and the web queue (a worker serves one).
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from typing import Callable

from ..errors import UserError
from ..video import sandbox

class Died(Exception):
    """The worker ended in the middle of a job; str() says how, in words for a person."""


class Worker:
    """One worker process. `start` it (or let `run` do it), `run` jobs one at a time, `stop` it.

    Args:
        settings: fields of `predictor.Settings`.
        limits: of `sandbox.limit_self`, e.g. {"memory_bytes": 4 << 30}.
        time_limit_s: wall time a job may take; the process is killed beyond it.
    """

    def __init__(self, settings: dict, *, limits: dict | None = None, time_limit_s: float | None = None):
        self._argument = json.dumps({"settings": settings, "limits": limits or {}})
        self._threads = int(settings.get("threads", 1))
        self.time_limit_s = time_limit_s
        self._process: subprocess.Popen | None = None
        self._ready = False
        self._late = False
        self.model: str | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the process without waiting until it is ready."""
        self._ready = self._late = False
        self._process = subprocess.Popen([sys.executable, "-P", "-m", "deepfake_detection.detector.worker", self._argument],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=sandbox.environment(OMP_NUM_THREADS=str(self._threads)),
                                         encoding="utf-8", bufsize=1, start_new_session=True)

    def wait_ready(self) -> str:
        """Waits until the model is loaded and returns its name.

        Raises:
            UserError: what the worker says is wrong with the model or the settings.
            Died: when it ended without a word.
        """
        if self._process is None:
            self.start()
        if not self._ready:
            message = self._read()
            if "refused" in message:
                self.stop()
                refused = message["refused"]
                raise UserError(refused["what"], file=refused["file"], hint=refused["hint"])
            self.model, self._ready = message["ready"], True
        return self.model

    def run(self, job: dict, progress: Callable[[float, str], None] | None = None) -> dict:
        """Runs one job and returns its result object.

        Raises:
            Died: when the process crashed, ran out of a limit or out of time. The next `run` starts a fresh one.
            UserError: as `wait_ready`.
        """
        self.wait_ready()
        timer = threading.Timer(self.time_limit_s, self._too_late) if self.time_limit_s else None
        if timer:
            timer.daemon = True
            timer.start()
        try:
            try:
                self._process.stdin.write(json.dumps(job) + "\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                raise Died(self._cause()) from None
            while True:
                message = self._read()
                if "result" in message:
                    return message["result"]
                if progress:
                    progress(message["share"], message["stage"])
        finally:
            if timer:
                timer.cancel()

    def stop(self) -> None:
        """Ends the process at once."""
        process, self._process = self._process, None
        if process is not None:
            sandbox.kill_group(process)

    def stop_from_outside(self) -> None:
        """Kills the process from another thread than the one in `run`, which then raises Died."""
        process = self._process
        if process is not None:
            process.kill()

    def _too_late(self) -> None:
        self._late = True
        self.stop_from_outside()

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise Died(self._cause())
        return json.loads(line)

    def _cause(self) -> str:
        code = self._process.wait()
        self.stop()
        if self._late:
            return f"took longer than {self.time_limit_s:g} s and was stopped (hint: a shorter clip, or a longer time limit)"
        if code == -signal.SIGXCPU:
            return "needs more computing time than a worker may take (hint: a shorter clip)"
        if code < 0:
            return f"the decoder crashed on this file ({sandbox.ended(code)}) (hint: re-encode the video)"
        return f"the program failed on this video (exit code {code}) (hint: the messages of the program say where; please report it)"
