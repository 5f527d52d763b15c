"""The workers behind the page: as many as cores, one process a video, started ahead so that nobody waits for a model to load.

A video from a stranger gets a process of its own with limits on memory, time and files, which ends with it. What a hostile file
could reach there is gone before the next video comes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..detector.pool import MEMORY_BYTES, Died, Worker, limits_of
from ..errors import UserError
from . import callbacks
from .store import Store

log = logging.getLogger("deepfake_detection.web")

#: Seconds between two rounds of clearing up.
SWEEP_S = 20.0
#: Seconds before a worker that does not start is tried again.
RESTART_S = 5.0


@dataclass(frozen=True)
class Config:
    """How the server works.

    Attributes:
        store: folder of the queue, uploads and reports.
        settings: fields of `predictor.Settings`.
        workers: videos judged at once.
        limit_bytes: largest upload.
        queue: videos that may wait; more are refused with 503.
        keep_s: seconds that a result and its report are kept; the upload itself goes as soon as its verdict is there.
        time_limit_s: wall time a video may take.
        memory_bytes: address space a worker may use.
        explain: how reports explain.
        hosts: names by which the server may be called (the Host header); empty: any.
        callback_hosts: where callbacks may go.
        secret: signs callbacks; None: no callbacks.
    """

    store: Path
    settings: dict = field(default_factory=dict)
    workers: int = 1
    limit_bytes: int = 200_000_000
    queue: int = 100
    keep_s: float = 24 * 3600.0
    time_limit_s: float = 300.0
    memory_bytes: int = MEMORY_BYTES
    explain: str = "auto"
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    callback_hosts: tuple[str, ...] = ()
    secret: str | None = field(default=None, repr=False)


class Service:
    """Takes videos from the store, has them judged, stores the results.

    Raises:
        UserError: in `start`, when the model or the settings are wrong.
    """

    def __init__(self, config: Config):
        self.config, self.store = config, Store(config.store)
        self.model: str | None = None
        self.uploading = 0
        self._progress: dict[str, tuple[float, str]] = {}
        self._working: dict[str, Worker] = {}
        self._lock = threading.Lock()
        self._wake = threading.Condition()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._starts_fail = 0
        self._sending = threading.Lock()

    # -- life ----------------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Recovers the queue, loads one worker to see that it works, starts all."""
        requeued = self.store.recover()
        if requeued:
            log.info("%d videos that were being worked on are queued again", requeued)
        first = self._worker()
        try:
            self.model = first.wait_ready()
        except Died as e:
            raise UserError(f"the worker does not start: {e}", hint="run predict.py on a video to see why") from None
        for number in range(self.config.workers):
            self._thread(self._serve, first if number == 0 else None)
        self._thread(self._sweep)

    def stop(self) -> None:
        """Ends the workers; what they were at is queued again."""
        self._stopping.set()
        with self._wake:
            self._wake.notify_all()
        with self._lock:
            working = list(self._working.values())
        for worker in working:
            worker.stop_from_outside()
        for thread in self._threads:
            thread.join(timeout=10)
        self.store.close()

    def _thread(self, target, *arguments) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _worker(self) -> Worker:
        c = self.config
        return Worker({"threads": 1, **c.settings}, time_limit_s=c.time_limit_s,
                      limits=limits_of(c.time_limit_s, memory_bytes=c.memory_bytes))

    # -- work ----------------------------------------------------------------------------------------------------------------
    def wake(self) -> None:
        """Says that there is a new video."""
        with self._wake:
            self._wake.notify()

    def _next(self) -> dict | None:
        with self._wake:
            while not self._stopping.is_set():
                row = self.store.take()
                if row:
                    return row
                self._wake.wait(timeout=5)
        return None

    def _serve(self, worker: Worker | None) -> None:
        while not self._stopping.is_set():
            worker = worker or self._worker()
            try:
                worker.wait_ready()
            except (Died, UserError, OSError) as e:
                log.error("a worker does not start: %s", e)
                worker = None
                with self._lock:
                    self._starts_fail += 1
                self._stopping.wait(RESTART_S)
                continue
            with self._lock:
                self._starts_fail = 0
            row = self._next()
            if row:
                self._judge(worker, row)
            worker.stop()
            worker = None

    def _judge(self, worker: Worker, row: dict) -> None:
        video = row["id"]
        with self._lock:
            self._working[video] = worker
            self._progress[video] = (0.0, "starting")
        try:
            result = worker.run({"video": str(self.store.upload(video)), "name": row["name"], "report": str(self.store.report(video)),
                                 "explain": self.config.explain}, progress=lambda share, stage: self._tell(video, share, stage))
        except Died as e:
            from ..detector.predictor import failed
            result = failed(row["name"], str(e), model=self.model)
        except (UserError, OSError) as e:
            result = {"error": str(e), "video": row["name"], "verdict": None}
        finally:
            with self._lock:
                self._working.pop(video, None)
                self._progress.pop(video, None)
        if self._stopping.is_set() and result.get("error"):
            self.store.put_back(video)
            return
        row = self.store.finish(video, result)
        if row is None:         # deleted meanwhile: what the worker wrote since then goes too
            self.store.remove_files(video)
            return
        self.store.upload(video).unlink(missing_ok=True)
        if row["callback"]:
            self.store.add_callback(video, row["callback"], callbacks.body_of(row))
            self._thread(self._send)
        log.info("%s %s", video, result.get("verdict") or "failed")

    def _tell(self, video: str, share: float, stage: str) -> None:
        with self._lock:
            self._progress[video] = (share, stage)

    def progress(self, video: str) -> tuple[float, str]:
        """(share 0..1, what is being done) of a running video."""
        with self._lock:
            return self._progress.get(video, (0.0, "starting"))

    def delete(self, video: str) -> bool:
        """Forgets a video in any state, also in the middle of the work."""
        there = self.store.delete(video)
        with self._lock:
            worker = self._working.get(video)
        if worker:
            worker.stop_from_outside()
        return there

    @property
    def healthy(self) -> bool:
        """Whether workers start and the queue moves."""
        with self._lock:
            return not self._stopping.is_set() and any(t.is_alive() for t in self._threads) and self._starts_fail == 0

    def full(self) -> bool:
        counts = self.store.counts()
        return counts["queued"] + self.uploading >= self.config.queue

    # -- clearing up ---------------------------------------------------------------------------------------------------------
    def _sweep(self) -> None:
        while not self._stopping.wait(SWEEP_S if self.config.keep_s > SWEEP_S else max(self.config.keep_s / 4, 0.2)):
            self.sweep()
            self._send()

    def sweep(self, now: float | None = None) -> int:
        """Deletes what was kept long enough. Returns how many."""
        old = self.store.expired((time.time() if now is None else now) - self.config.keep_s)
        for video in old:
            self.store.delete(video)
        return len(old)

    def _send(self) -> None:
        # One sender at a time, or a message would be sent twice.
        with self._sending:
            if not self._stopping.is_set():
                callbacks.send_due(self.store, self.config.secret)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
