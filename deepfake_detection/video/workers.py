"""Worker processes, one video a task: each single-threaded, at most one task under way in each, none able to stop the
run.

`concurrent.futures` gives up the whole pool when one process dies; a video that crashes a decoder or fills the memory
must cost one row of the account and no more, so here a dead worker is replaced and its task reported as failed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import Any

from ..errors import UserError, of_the_system, printable
from .sandbox import limit_self, out_of_memory

#: Address space of a worker process. The file is one that the user chose, but who made it?
MEMORY_BYTES = 6 << 30

#: So many processes beside two a worker may die one after the other; then it is the machine, not the tasks.
MOST_DEATHS = 6

#: Read by the numeric libraries when they are loaded, so they must be set before a worker imports anything.
_SINGLE_THREADED = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    )
}


class WorkerDied(Exception):
    """The process that worked on this task ended without an answer (crash of a native library, or out of memory)."""


class Bug(RuntimeError):
    """The program failed on this task: its result, raised when all are done. `what` is a line, the text a traceback."""

    def __init__(self, what: str, text: str):
        super().__init__(f"in a worker process:\n{text}")
        self.what = what


def run(
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
    workers: int,
    prepare: Callable[..., Any] | None = None,
    arguments: tuple = (),
    *,
    memory_bytes: int | None = MEMORY_BYTES,
) -> Iterator[tuple[Any, Any]]:
    """Yields (task, result) as tasks end, in any order. Closing the iterator (also by Ctrl-C) ends the processes.

    What the task's input did (`of_the_input`) is the task's result, and so are WorkerDied and Bug. One task never ends
    the others: a bug is raised here after the last of them.
    Tasks are drawn one by one as workers become free, so a generator of millions of tasks costs no memory.

    Args:
        function: importable; called in a worker with (state, task) if `prepare` is given, else with (task).
        tasks: picklable.
        workers: processes; with 1 as well the work is done in another process, so that a crash or a bomb does not end
            the run.
        prepare: importable; called once a worker with `arguments`; what it returns is `state` (e.g. a detector).
        memory_bytes: address space that each process may take; None: as much as this one.

    Raises:
        Bug: the first of the tasks' bugs, at the end. WorkerDied: processes die one after the other. UserError: of
            `prepare`.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, not {workers}")
    return _parallel(function, tasks, workers, prepare, arguments, memory_bytes)


def for_account(account, *arguments, **options) -> Iterator[tuple[Any, Any]]:
    """`run` for a stage: what ends it early, or is a bug, waits in the account (`Account.fail`) until it is written."""
    try:
        yield from run(*arguments, **options)
    except Bug as e:
        account.fail(e)
    except WorkerDied as e:
        account.fail(UserError(str(e), hint="is there enough memory? try fewer --workers"))


class _Worker:
    def __init__(self, context, *work):
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(far_end, *work), daemon=True)
        saved = {name: os.environ.get(name) for name in _SINGLE_THREADED}
        os.environ.update(_SINGLE_THREADED)  # inherited by the new process, and only by it
        try:
            self.process.start()
        finally:
            for name, value in saved.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        far_end.close()
        self.busy, self.task = False, None

    def give(self, task) -> None:
        self.busy, self.task = True, task
        try:
            self.pipe.send(task)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it died: its pipe answers with EOF, which names the task

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()


def _parallel(function, tasks, workers, prepare, arguments, memory_bytes=MEMORY_BYTES):
    # spawn: a forked copy of a process with threads (TensorFlow, OpenCV, tqdm) can hang.
    context = multiprocessing.get_context("spawn")
    tasks = iter(tasks)
    pool: list[_Worker] = []
    deaths_in_a_row = 0
    bug: Bug | None = None
    try:
        exhausted = False
        while True:
            while not exhausted:
                idle = next((w for w in pool if not w.busy), None)
                if idle is None and len(pool) == workers:
                    break
                try:
                    task = next(tasks)
                except StopIteration:
                    exhausted = True
                    break
                if idle is None:
                    idle = _Worker(context, function, prepare, arguments, memory_bytes)
                    pool.append(idle)
                idle.give(task)
            busy: dict[Any, _Worker] = {w.pipe: w for w in pool if w.busy}
            if not busy:
                if bug is not None:
                    raise bug
                return
            for pipe in wait(list(busy)):
                worker = busy[pipe]
                try:
                    kind, value = pipe.recv()
                except (EOFError, ConnectionResetError):
                    worker.process.join()
                    pool.remove(worker)
                    pipe.close()
                    deaths_in_a_row += 1
                    if deaths_in_a_row > 2 * workers + MOST_DEATHS:
                        code = worker.process.exitcode
                        raise WorkerDied(f"every worker process dies (last exit code {code})") from None
                    yield worker.task, WorkerDied(_how(worker.process.exitcode))
                    continue
                if kind == "bug":
                    value = Bug(*value)
                    bug = bug or value
                if kind == "unusable":  # `prepare` failed in a way the user can put right: no task can be done
                    raise value
                deaths_in_a_row = 0
                task, worker.busy, worker.task = worker.task, False, None
                yield task, value
    finally:
        for worker in pool:
            worker.stop()
        for worker in pool:
            worker.process.join()


def of_the_input(error: Exception) -> UserError | None:
    """What a task's input, the disk or the memory did, as the result of the task; None for a bug."""
    if isinstance(error, UserError):
        return error
    if out_of_memory(error):
        return UserError(
            "needs more memory than there is", hint="is it a real video? give a smaller one, or fewer --workers"
        )
    # Told by where it is defined: this module is loaded before those libraries are wanted.
    library = type(error).__module__.partition(".")[0]
    if library in ("av", "cv2"):
        name = {"av": "FFmpeg", "cv2": "OpenCV"}[library]
        said = getattr(error, "err", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
        return UserError(f"{name} fails on it ({said})", hint="is it damaged? play it, or download it again")
    return of_the_system(error) if isinstance(error, OSError) else None


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        return f"the worker process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"the worker process ended with exit code {exit_code}"


def _serve(pipe, function, prepare, arguments, memory_bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    import cv2

    cv2.setNumThreads(1)
    limit_self(memory_bytes=memory_bytes)
    state = None
    try:
        while True:
            try:
                task = pipe.recv()
            except (EOFError, OSError):
                return  # the parent is gone or has closed the pipe
            try:
                if prepare and state is None:
                    try:
                        state = (prepare(*arguments),)
                    except UserError as e:
                        pipe.send(("unusable", e))
                        return
                answer = ("done", function(*(state or ()), task))
            except Exception as e:
                known = of_the_input(e)
                what = f"the program failed on it ({printable(''.join(traceback.format_exception_only(e)).strip())})"
                answer = ("done", known) if known else ("bug", (what, traceback.format_exc()))
            pipe.send(answer)
    except (BrokenPipeError, ConnectionResetError):
        return
