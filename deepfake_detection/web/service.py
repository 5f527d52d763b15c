"""The workers behind the page: as many as cores, one process a video, started ahead so that nobody waits for a model to
load.

A video from a stranger gets a process of its own with limits on memory, time and files, which ends with it. What a
hostile file could reach there is gone before the next video comes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..prediction.pool import MEMORY_BYTES, Died, Worker, limits_of
from . import callbacks, schema
from .store import Store, Unavailable

log = logging.getLogger("deepfake_detection.web")

#: Seconds between two rounds of clearing up.
SWEEP_S = 20.0
#: Seconds between two looks for callbacks that are due.
COURIER_S = 1.0
#: Seconds before a worker that does not start is tried again.
RESTART_S = 5.0
#: Seconds between two tries to write to a table that is locked or full: the first and the longest.
RETRY_S, LONGEST_RETRY_S = 0.1, 5.0
#: Uploads that may be under way at once, of all callers and of one; they take no place in the queue before they are
#: whole.
MOST_UPLOADS, MOST_UPLOADS_OF_ONE = 96, 32


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
        hosts: names by which the server may be called (the Host header).
        callback_hosts: where callbacks may go.
        secret: signs callbacks; None: no callbacks.
        token: what callers must show; None: nothing.
        urls: whether addresses are fetched.
        url_networks: private networks from which they are fetched, besides public hosts.
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
    token: str | None = field(default=None, repr=False)
    urls: bool = False
    url_networks: tuple[str, ...] = ()


class Stopping(Exception):
    """The server ends; what was tried is left for its next start."""


class Service:
    """Takes videos from the store, has them judged, stores the results.

    Raises:
        UserError: in `start`, when the model or the settings are wrong.
    """

    def __init__(self, config: Config):
        self.config, self.store = config, Store(config.store)
        self.model: str | None = None
        self.arriving: dict[str, str] = {}  # ids of uploads under way, and whose they are
        self.fetching: set[str] = set()  # of those, what is fetched from an address
        self._progress: dict[str, tuple[float, str]] = {}
        self._working: dict[str, Worker] = {}
        self._lock = threading.Lock()
        self._wake = threading.Condition()
        self._stopping = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._troubles: dict[str, str] = {}
        self._courier = callbacks.Courier(self.store, config.secret, self._keep)

    # -- life ----------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Recovers the queue, loads one worker to see that it works, starts all."""
        try:
            requeued = self.store.recover()
        except Unavailable as e:
            raise UserError(
                str(e), file=self.store.folder, hint="end the program that holds it, or make room on the disk"
            ) from None
        if requeued:
            log.info("%d videos that were being worked on are queued again", requeued)
        first = self._worker()
        try:
            self.model = first.wait_ready()
        except Died as e:
            raise UserError(f"the worker does not start: {e}", hint="run predict.py on a video to see why") from None
        ready = [first]

        def serve() -> None:
            try:
                worker = ready.pop()
            except IndexError:
                worker = self._worker()
            self._serve(worker)

        for number in range(self.config.workers):
            self._thread(f"worker {number + 1}", serve)
        self._thread("clearing up", self._sweep)
        if self.config.secret:
            self._thread("callbacks", self._send)

    def stop(self) -> None:
        """Ends the workers; what they were at is queued again."""
        self._stopping.set()
        with self._wake:
            self._wake.notify_all()
        with self._lock:
            working = list(self._working.values())
        for worker in working:
            worker.stop_from_outside()
        for thread in self._threads.values():
            thread.join(timeout=10)
        self.store.close()

    def _thread(self, name: str, turn: Callable[[], None]) -> None:
        """Starts a thread that takes its turn over and over until the server ends, whatever a turn runs into."""

        def live() -> None:
            while not self._stopping.is_set():
                try:
                    turn()
                    self._works(name)
                except Stopping:
                    return
                except Exception as e:
                    # A video, a message or the disk may bring anything; the next one must be served all the same.
                    what = e if isinstance(e, (Unavailable, OSError)) else type(e).__name__
                    self._trouble(name, f"{name}: {what}", e)
                    self._stopping.wait(RETRY_S * 10)

        self._threads[name] = threading.Thread(target=live, name=name, daemon=True)
        self._threads[name].start()

    def _trouble(self, key: str, text: str, error: BaseException | None = None) -> None:
        with self._lock:
            known = self._troubles.get(key)
            self._troubles[key] = text
        if known != text:
            log.error(
                "%s",
                text,
                exc_info=error if error is not None and not isinstance(error, (Unavailable, OSError)) else None,
            )

    def _works(self, key: str) -> None:
        with self._lock:
            gone = self._troubles.pop(key, None)
        if gone:
            log.info("works again: %s", gone)

    def _keep(self, action: Callable):
        """Does something with the table again and again until it is done: a result must not be lost for a lock or a
        full disk.

        Raises:
            Stopping: the server ends first.
        """
        wait, key = RETRY_S, f"table, {threading.current_thread().name}"
        while True:
            try:
                done = action()
            except (Unavailable, OSError) as e:
                self._trouble(key, str(e))
                if self._stopping.wait(wait):
                    raise Stopping from None
                wait = min(wait * 2, LONGEST_RETRY_S)
            else:
                self._works(key)
                return done

    def _worker(self) -> Worker:
        c = self.config
        return Worker(
            {"threads": 1, **c.settings},
            time_limit_s=c.time_limit_s,
            limits=limits_of(c.time_limit_s, memory_bytes=c.memory_bytes),
        )

    # -- work ----------------------------------------------------------------------------------------------------------
    def wake(self) -> None:
        """Says that there is a new video."""
        with self._wake:
            self._wake.notify()

    def _next(self) -> dict:
        while not self._stopping.is_set():
            row = self._keep(self.store.take)
            if row:
                return row
            with self._wake:
                self._wake.wait(timeout=5)
        raise Stopping

    def _serve(self, worker: Worker) -> None:
        """One video, by a worker of its own that is ready before the video comes."""
        try:
            try:
                worker.wait_ready()
            except (Died, UserError, OSError) as e:
                self._trouble("starts", f"workers do not start: {e}")
                self._stopping.wait(RESTART_S)
                return
            self._works("starts")
            self._judge(worker, self._next())
        finally:
            worker.stop()

    def _judge(self, worker: Worker, row: dict) -> None:
        video, early = row["id"], []
        with self._lock:
            self._working[video] = worker
            self._progress[video] = (0.0, "starting")
        try:
            result = self._result(worker, row, early)
            if self._stopping.is_set() and result.get("error"):
                self._keep(lambda: self.store.put_back(video))
                return
            finished = self._keep(lambda: self.store.finish(video, result, callbacks.body_of))
        finally:
            with self._lock:
                self._working.pop(video, None)
                self._progress.pop(video, None)
        if finished is None:  # deleted meanwhile: what the worker wrote since then goes too
            self._keep(self.tidy)
            return
        self._keep(lambda: self.store.upload(video).unlink(missing_ok=True))
        log.info("%s %s", video, result.get("verdict") or "failed")

    def _result(self, worker: Worker, row: dict, early: list) -> dict:
        """The checked result of one video. `early` gets the verdict that came before the report."""
        from ..detector.predictor import failed

        video = row["id"]

        def verdict(result: dict) -> None:
            if early:  # once a video: each costs a write
                return
            early.append(self._checked(result))
            try:
                self.store.note(video, early[-1])  # for those who look; the end of the work writes it again
            except Unavailable:
                pass

        try:
            return self._checked(
                worker.run(
                    {
                        "video": str(self.store.upload(video)),
                        "name": row["name"],
                        "report": str(self.store.report(video)),
                        "explain": row["explain"] or self.config.explain,
                    },
                    early=verdict,
                    progress=lambda share, stage: self._tell(video, share, stage),
                )
            )
        except Died as e:
            if early and not self._stopping.is_set():
                note = "; ".join(filter(None, (early[-1].get("note"), f"the report could not be made: {e}")))
                return {**early[-1], "note": note}
            return failed(row["name"], str(e), model=self.model)
        except UserError as e:
            return failed(row["name"], str(e), model=self.model)
        except Exception as e:  # a bug or the system: this video's failure, and told, not the queue's end
            log.exception("%s", video)
            what = getattr(e, "strerror", None) or type(e).__name__
            return failed(
                row["name"],
                f"the server failed on this video ({what}) (hint: upload it again; its log says more)",
                model=self.model,
            )

    @staticmethod
    def _checked(result: dict) -> dict:
        try:
            return schema.checked(result)
        except ValueError as e:
            log.error("a worker's answer was refused: %s", str(e).splitlines()[0])
            raise Died(
                "the process that decodes this video gave no result of the known form "
                "(hint: the file may be made to attack decoders; re-encode it)"
            ) from None

    def _tell(self, video: str, share: float, stage: str) -> None:
        with self._lock:
            self._progress[video] = (share, stage)

    def progress(self, video: str) -> tuple[float, str]:
        """(share 0..1, what is being done) of a running video."""
        with self._lock:
            return self._progress.get(video, (0.0, "starting"))

    def delete(self, video: str) -> bool:
        """Forgets a video in any state, also in the middle of the work."""
        there = self.store.delete(video) > 0
        with self._lock:
            worker = self._working.get(video)
        if worker:
            worker.stop_from_outside()
        return there

    def problems(self) -> list[str]:
        """What does not work, in words; empty when the queue moves."""
        with self._lock:
            found = list(dict.fromkeys(self._troubles.values()))
        found += [f"the thread for {name} ended" for name, thread in self._threads.items() if not thread.is_alive()]
        return found + (["the server ends"] if self._stopping.is_set() else [])

    @property
    def threads(self) -> int:
        """How many of the server's threads live."""
        return sum(thread.is_alive() for thread in self._threads.values())

    def full(self) -> bool:
        """Whether no more videos may wait."""
        return self.store.counts()["queued"] >= self.config.queue

    # -- clearing up ---------------------------------------------------------------------------------------------------
    def _sweep(self) -> None:
        self._stopping.wait(SWEEP_S if self.config.keep_s > SWEEP_S else max(self.config.keep_s / 4, 0.2))
        if not self._stopping.is_set():
            self.sweep()

    def sweep(self, now: float | None = None) -> int:
        """Deletes what was kept long enough. Returns how many."""
        old = self.store.expired((time.time() if now is None else now) - self.config.keep_s)
        if old:
            self.store.delete(*old)
        self.tidy()
        self.store.scrub()
        return len(old)

    def tidy(self) -> None:
        """Removes files that are nobody's."""
        self.store.tidy(self._busy)

    def _busy(self) -> frozenset:
        with self._lock:
            return frozenset(self._working) | frozenset(self.arriving.copy())

    def _send(self) -> None:
        if not self._stopping.wait(COURIER_S):
            self._courier.round()
