"""Worker processes as seen by the one who holds the queue: start, send a job, read progress, survive its death.

Used by the batch prediction (a worker serves many videos) and the web queue (a worker serves one).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Callable

from ..errors import UserError

#: What a worker may inherit. Secrets come in by the environment, so everything else stays outside.
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONUTF8",
                  "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES", "SYSTEMROOT")

#: Containers a file may be, by FFmpeg's names: no playlists, no image sequences, no concatenations.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,gif,mxf,m4v,mpegvideo,h264,hevc"


class Died(Exception):
    """The worker ended in the middle of a job; str() says how, in words for a person."""


def environment(threads: int) -> dict[str, str]:
    """The environment of a worker: named variables only, FFmpeg held to the file it is given and to real containers."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": str(threads),
            "OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8", "TF_CPP_MIN_LOG_LEVEL": "3",
            "OPENCV_FFMPEG_CAPTURE_OPTIONS": f"protocol_whitelist;file|format_whitelist;{CONTAINERS}|threads;{threads}"}


class Worker:
    """One worker process. `start` it (or let `run` do it), `run` jobs one at a time, `stop` it.

    Args:
        settings: fields of `predictor.Settings`.
        limits: `worker.LIMITS` by name, e.g. {"memory_bytes": 4 << 30}.
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
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(self._threads),
                                         encoding="utf-8", bufsize=1)

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
            process.kill()
            process.wait()
            process.stdin.close() if not process.stdin.closed else None
            process.stdout.close()

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
            return f"the decoder crashed on this file ({signal.Signals(-code).name}) (hint: re-encode the video)"
        return f"the program failed on this video (exit code {code}) (hint: the messages of the program say where; please report it)"
