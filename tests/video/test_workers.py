"""Worker processes: order, errors, crashes, memory of the queue."""

import os
import signal

import cv2
import numpy as np
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.video import workers


def work(task):
    if task == "bad":
        raise UserError("bad input", file="x", hint="none")
    if task == "bug":
        raise ZeroDivisionError("a bug")
    if task == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "leave":
        os._exit(3)
    if task == "bomb":
        return len(bytearray(8 << 30))
    if task == "picture bomb":
        return cv2.resize(np.zeros((1000, 1000, 3), np.uint8), (60000, 60000)).shape
    return task, cv2.getNumThreads(), os.environ.get("OMP_NUM_THREADS")


def prepare(value):
    if value == "unusable":
        raise UserError("no model", hint="none")
    return value


def work_with(state, task):
    return state + task


@pytest.mark.parametrize("count", [1, 2])
def test_every_task_has_a_result(count):
    results = dict(workers.run(work, ["a", "bad", "b", "c"], count))
    assert isinstance(results.pop("bad"), UserError)
    assert [results[t][0] for t in "abc"] == ["a", "b", "c"]
    assert all(threads == 1 for _, threads, _ in results.values())
    assert all(omp == "1" for _, _, omp in results.values())
    assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "1" or count


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("bomb", ["bomb", "picture bomb"])
def test_a_bomb_costs_one_task(bomb, count):
    """It may not take the memory, and what says so (Python, OpenCV) is the task's result."""
    results = dict(workers.run(work, ["a", bomb, "b"], count))
    assert isinstance(results[bomb], UserError) and "memory" in results[bomb].what
    assert [results[t][0] for t in "ab"] == list("ab")


@pytest.mark.parametrize("count", [1, 2])
def test_a_crash_costs_one_task(count):
    results = dict(workers.run(work, ["a", "crash", "b", "leave", "c", "d"], count))
    assert isinstance(results["crash"], workers.WorkerDied) and "SIGSEGV" in str(results["crash"])
    assert isinstance(results["leave"], workers.WorkerDied) and "exit code 3" in str(results["leave"])
    assert [results[t][0] for t in "abcd"] == list("abcd")


@pytest.mark.parametrize("count", [1, 2])
def test_a_bug_is_raised(count):
    with pytest.raises((ZeroDivisionError, RuntimeError), match="a bug"):
        list(workers.run(work, ["a", "bug", "b"], count))


def test_state_is_made_once_a_worker():
    assert sorted(r for _, r in workers.run(work_with, [1, 2, 3], 2, prepare, (10,))) == [11, 12, 13]
    for count in (1, 2):
        with pytest.raises(UserError, match="no model"):
            list(workers.run(work_with, [1, 2], count, prepare, ("unusable",)))


def test_tasks_are_drawn_as_workers_become_free():
    drawn = []

    def tasks():
        for i in range(50):
            drawn.append(i)
            yield str(i)

    for number, _ in enumerate(workers.run(work, tasks(), 2), 1):
        assert len(drawn) <= number + 3


def test_closing_ends_the_processes():
    import multiprocessing

    run = workers.run(work, map(str, range(1000)), 2)
    next(run)
    assert multiprocessing.active_children()
    run.close()
    assert not multiprocessing.active_children()


def test_every_worker_dying_ends_the_run():
    with pytest.raises(workers.WorkerDied, match="every worker"):
        list(workers.run(work, ["leave"] * 100, 2))


@pytest.mark.parametrize(
    "error, word",
    [
        pytest.param(UserError("bad", hint="none"), "bad", id="input"),
        pytest.param(MemoryError(), "memory", id="Python's memory"),
        pytest.param(OSError(28, "No space left on device"), "room", id="full disk"),
        pytest.param(PermissionError(13, "Permission denied", "x"), "refuses", id="permission"),
        pytest.param(ZeroDivisionError("a bug"), None, id="bug"),
        pytest.param(OSError(22, "Invalid argument"), None, id="nameless"),
    ],
)
def test_what_is_the_inputs(error, word):
    known = workers.of_the_input(error)
    assert known is None if word is None else word in known.what and "\n" not in str(known)


def test_errors_of_the_decoders_are_the_inputs():
    import av

    for fails in (
        lambda: cv2.resize(np.zeros((0, 0), np.uint8), (3, 3)),
        lambda: av.open("/dev/null"),
        lambda: av.error.err_check(-1094995529),
    ):  # AVERROR_INVALIDDATA
        with pytest.raises(Exception) as caught:
            fails()
        known = workers.of_the_input(caught.value)
        assert isinstance(known, UserError) and "fails on it" in known.what and "\n" not in str(known)


class Kept:
    """What `for_account` needs of an account."""

    failure = None

    def fail(self, failure):
        self.failure = failure


@pytest.mark.parametrize(
    "tasks, done, failure",
    [
        pytest.param(["a", "bug", "b", "bug", "c"], 5, workers.Bug, id="bugs"),
        pytest.param(["a", *["crash"] * 6, "b"], 8, None, id="six crashes in a row"),
        pytest.param(["leave"] * 40, 8, UserError, id="the machine"),
    ],
)
def test_one_task_never_ends_the_others(tasks, done, failure):
    account = Kept()
    results = list(workers.for_account(account, work, tasks, 1))
    assert len(results) == done and {t for t, r in results if not isinstance(r, Exception)} == set(tasks) & set("abc")
    assert account.failure is None if failure is None else isinstance(account.failure, failure)
    for task, result in results:
        if task == "bug":
            assert "ZeroDivisionError" in result.what and "\n" not in result.what
