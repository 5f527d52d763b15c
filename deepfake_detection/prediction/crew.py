"""Jobs shared out among worker processes (`pool`); a file that crashes its decoder costs that file's result only."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator

from .. import files
from ..errors import UserError
from .pool import Died, Worker, limits_of

#: Seconds that a video may take where nothing else is asked for: hours of video pass, a decoder that never ends does
#: not.
TIME_LIMIT_S = 3600.0

#: What a job may ask for beside the verdict.
OUTPUTS = ("report", "annotate")
#: Videos of which a worker holds the faces until it explains them: bounds its memory (some 3 MB a video).
KEPT = 16
#: Seconds between two looks at workers that are to end.
END_PAUSE_S = 0.2
#: Largest file that a worker may write where it writes videos.
VIDEO_BYTES = 16 << 30


def results_of(
    jobs: list[dict], settings: dict, workers: int, *, time_limit_s: float = TIME_LIMIT_S
) -> Iterator[tuple[int, dict]]:
    """Yields (position in `jobs`, result object) as jobs are done, in any order.

    A job that asks for a report or an annotated copy comes a second time when these are made; its "not_made" then says
    what could not be. Verdicts come first: what is asked for beside them is made for up to KEPT videos of a worker at a
    time.

    Raises:
        UserError: when the model or the settings are wrong, before the first result.
    """
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for item in enumerate(jobs):
        waiting.put(item)
    done: queue.SimpleQueue = queue.SimpleQueue()
    limits = limits_of(time_limit_s, threads=int(settings.get("threads", 1)))
    if any(job.get("annotate") for job in jobs):
        limits["file_bytes"] = VIDEO_BYTES
    crew = [Worker(settings, time_limit_s=time_limit_s, limits=limits) for _ in range(min(workers, len(jobs)))]
    threads: list[threading.Thread] = []
    ended = threading.Event()
    try:
        for worker in crew:  # all at once: each loads its model while the others do
            with contextlib.suppress(Died):  # `run` tries again, and the video's row says so
                worker.start()
        for worker in crew:
            thread = threading.Thread(target=_serve, args=(worker, waiting, done, ended), daemon=True)
            try:
                thread.start()
            except RuntimeError:  # "can't start new thread": as many as there are do the work
                if not threads:
                    raise UserError(
                        "the system starts no more threads", hint="end other programs, or raise the limit (ulimit -u)"
                    ) from None
                worker.stop()
                continue
            threads.append(thread)
        yield from _collected(jobs, done)
    finally:
        ended.set()
        while alive := [thread for thread in threads if thread.is_alive()]:  # after an early end, as Ctrl-C
            for worker in crew:  # again: one may have been between two processes
                worker.stop_from_outside()
            alive[0].join(END_PAUSE_S)
        for worker in crew:
            worker.stop()  # those that no thread served


def _collected(jobs: list[dict], done: queue.SimpleQueue) -> Iterator[tuple[int, dict]]:
    judged: set[int] = set()
    left = len(jobs)
    while left:
        at, result = done.get()
        if isinstance(result, BaseException):
            raise result
        left -= 1
        if at not in judged and not result["error"] and any(jobs[at].get(o) for o in OUTPUTS):
            left += 1
        judged.add(at)
        yield at, result


def _serve(worker: Worker, waiting: queue.SimpleQueue, done: queue.SimpleQueue, ended: threading.Event) -> None:
    """A worker's thread: jobs from one queue, results into the other; begins nothing once it has `ended`."""
    explained: list[tuple[int, dict]] = []  # judged by this worker, which still holds their faces
    try:
        while not ended.is_set():
            try:
                at, job = waiting.get_nowait()
            except queue.Empty:
                job = None
            if job is not None:
                asked = any(job.get(o) for o in OUTPUTS)
                result = _judged(worker, {**job, **dict.fromkeys(OUTPUTS), "keep": asked})
                done.put((at, result))
                if asked and not result["error"]:
                    explained.append((at, job))
            if job is None or len(explained) == KEPT:
                for at, held in explained:
                    if ended.is_set():
                        return
                    done.put((at, _judged(worker, {**held, "stamp": False})))
                explained = []
            if job is None:
                return
    except BaseException as e:  # a bug as well: who waits for the results must hear of it
        done.put((-1, e))
    finally:
        worker.stop()


def _judged(worker: Worker, job: dict) -> dict:
    """The job's result object; with `stamp` asked for and a verdict, its `source` is the stamp of the file that was
    judged.

    Read afterwards, so that a file which is refused at once costs no reading of its gigabytes; none if it changed
    meanwhile.
    """
    from ..detector.predictor import failed

    before = _stamp(job["video"]) if job.get("stamp") else None
    try:
        result = worker.run({k: v for k, v in job.items() if k != "stamp"})
    except Died as e:
        return failed(job["name"], str(e))
    if before and not result["error"] and (after := _stamp(job["video"], before)):
        result["source"] = after
    return result


def _stamp(video: str, before: dict | None = None) -> dict | None:
    try:
        return files.stamp_since(video, before) if before else files.source_stamp(video, content=False)
    except OSError:
        return None
