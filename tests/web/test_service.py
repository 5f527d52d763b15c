"""The queue's threads, with workers that answer whatever a test wants: none of it may end the queue or lose a
result."""

import os
import sqlite3
import threading
import time

import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.prediction import pool
from deepfake_detection.web import service, store

GOOD = {
    "video": "a.mp4",
    "verdict": "REAL",
    "p_real": 0.9,
    "p_fake": 0.1,
    "interval": [0.05, 0.2],
    "frames_decoded": 4,
    "frames_with_face": 4,
    "people": [
        {
            "id": "1",
            "p_real": 0.9,
            "verdict": "REAL",
            "first_s": 0.0,
            "last_s": 1.5,
            "frames": 4,
            "interval": None,
            "well_seen": True,
        }
    ],
    "seconds": 0.5,
    "model": "tiny 0",
    "error": None,
    "note": "",
}


class Fake:
    """A worker whose next answers are in `answers`: objects, or functions of the job and the callbacks."""

    answers, starts = [], []

    def __init__(self, *args, **kwargs):
        pass

    def wait_ready(self):
        if self.starts:
            raise self.starts.pop(0)
        return "tiny 0"

    def run(self, job, progress=None, early=None):
        answer = self.answers.pop(0) if self.answers else GOOD
        if callable(answer):
            answer = answer(job, progress, early)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def stop(self):
        pass

    def stop_from_outside(self):
        pass


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "Worker", Fake)
    monkeypatch.setattr(service, "RESTART_S", 0.05)
    monkeypatch.setattr(service, "RETRY_S", 0.02)
    monkeypatch.setattr(service, "COURIER_S", 0.05)
    monkeypatch.setattr(Fake, "answers", [])
    monkeypatch.setattr(Fake, "starts", [])
    running = []

    def start(**options):
        running.append(service.Service(service.Config(store=tmp_path / "store", **options)))
        running[-1].start()
        return running[-1]

    yield start
    for one in running:
        if not one._stopping.is_set():
            one.stop()


def add(running, callback=None):
    video = store.new_id()
    running.store.upload(video).write_bytes(b"x")
    running.store.add(video, "a.mp4", 1, callback)
    running.wake()
    return video


def until(condition, what):
    for _ in range(600):
        try:
            if condition():
                return
        except store.Unavailable:
            pass
        time.sleep(0.02)
    raise AssertionError(what)


def finished(running, video):
    until(lambda: running.store.get(video)["state"] in ("done", "failed"), "it is finished")
    return running.store.get(video)


class Odd(Exception):
    pass


WRONG = {
    "list": [],
    "text": "REAL",
    "nothing": None,
    "empty": {},
    "number": 7,
    "verdict of another kind": {**GOOD, "verdict": "MAYBE"},
    "NaN": {**GOOD, "p_real": float("nan")},
    "infinite": {**GOOD, "seconds": float("inf")},
    "p over 1": {**GOOD, "p_fake": 1.5},
    "p as text": {**GOOD, "p_real": "0.9"},
    "people no list": {**GOOD, "people": {"a": 1}},
    "a person is a number": {**GOOD, "people": [1]},
    "ten thousand people": {**GOOD, "people": GOOD["people"] * 10_000},
    "interval of three": {**GOOD, "interval": [0, 0.5, 1]},
    "endless name": {**GOOD, "video": "x" * 10_000},
    "endless extra": {**GOOD, "more": "x" * 10**6},
    "NaN in an extra": {**GOOD, "more": [float("nan")]},
    "verdict and error": {**GOOD, "error": "both"},
    "neither": {**GOOD, "verdict": None},
    "frames negative": {**GOOD, "frames_decoded": -1},
    "frames huge": {**GOOD, "frames_decoded": 10**30},
    "model a list": {**GOOD, "model": ["x"]},
    "deep": {**GOOD, "more": eval("[" * 90 + "]" * 90)},
    "lone surrogate": {**GOOD, "note": "\ud800"},
}


@pytest.mark.parametrize("answer", [pytest.param(v, id=k) for k, v in WRONG.items()])
def test_a_wrong_answer_is_one_videos_failure(run, answer):
    running = run()
    Fake.answers[:] = [answer]
    first, second = add(running), add(running)
    row = finished(running, first)
    assert finished(running, second)["result"] == GOOD and running.problems() == [] and running.store.list()
    from deepfake_detection.web import api

    for one in running.store.list():
        api._result(one).model_dump_json()
    if answer is not WRONG["deep"]:
        assert row["state"] == "failed" and "hint:" in row["result"]["error"]


@pytest.mark.parametrize(
    "error",
    [
        pool.Died("the decoder crashed (hint: x)"),
        UserError("no", hint="x"),
        OSError(11, "Resource temporarily unavailable"),
        Odd("a bug"),
        MemoryError(),
        KeyError("share"),
        UnicodeDecodeError("utf-8", b"", 0, 1, "x"),
        RecursionError(),
    ],
    ids=lambda e: type(e).__name__,
)
def test_whatever_a_worker_raises_the_queue_goes_on(run, error):
    running = run()
    Fake.answers[:] = [error]
    first, second = add(running), add(running)
    assert finished(running, second)["state"] == "done" and running.threads == len(running._threads)
    assert running.store.get(first)["state"] == "failed" and "hint" in running.store.get(first)["result"]["error"]
    until(lambda: running.problems() == [], "well again")


def test_workers_that_do_not_start_are_tried_again_and_reported(run):
    running = run()
    Fake.starts[:] = [OSError(11, "Resource temporarily unavailable")] * 3 + [pool.Died("exit code 1")] * 20
    first = add(running)
    finished(running, first)
    until(lambda: any("do not start" in p for p in running.problems()), "it is reported")
    assert finished(running, add(running))["state"] == "done"
    until(lambda: running.problems() == [], "well again")


def test_a_verdict_comes_before_its_report_and_outlives_it(run):
    """The page reads it while the report is made; a crash there costs the report only."""
    running, seen = run(), []

    def answer(job, progress, early):
        early(GOOD)
        seen.append(running.store.get(first))
        return pool.Died("took longer than 1 s")

    Fake.answers[:] = [answer]
    first = add(running)
    row = finished(running, first)
    assert seen[0]["state"] == "running" and seen[0]["result"] == GOOD
    assert (
        row["state"] == "done"
        and row["result"]["verdict"] == "REAL"
        and "report could not be made" in row["result"]["note"]
    )


def test_a_locked_table_costs_nothing(run, tmp_path):
    """Another program holds the table while a video is taken, judged, finished: reported meanwhile, and done
    afterwards."""
    running, go = run(), threading.Event()
    Fake.answers[:] = [lambda job, progress, early: go.wait(20) and GOOD]
    first, second = add(running), add(running)
    until(lambda: running.store.get(first)["state"] == "running", "it runs")
    other = sqlite3.connect(tmp_path / "store" / "queue.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    go.set()
    until(lambda: any("locked" in p for p in running.problems()), "health says so")
    assert running.threads == len(running._threads) and running.store.get(first)["state"] == "running"
    other.execute("ROLLBACK")
    other.close()
    assert finished(running, first)["result"] == GOOD and finished(running, second)["result"] == GOOD
    until(
        lambda: running.problems() == [] and not list((tmp_path / "store" / "uploads").iterdir()),
        "well again, no upload left",
    )


def test_a_full_disk_costs_nothing(run, tmp_path):
    running = run()
    first = add(running, "https://h/")
    finished(running, first)
    with running.store._lock:
        pages = running.store._db.execute("PRAGMA page_count").fetchone()[0]
        running.store._db.execute(f"PRAGMA max_page_count={pages + 2}")
    Fake.answers[:] = [{**GOOD, "more": "x" * 200_000}] * 2
    try:
        second = add(running)
        until(lambda: any("full" in p for p in running.problems()), "health says so")
        assert running.store.upload(second).exists(), "needed if the server ends now"
    finally:
        running.store._db.execute("PRAGMA max_page_count=1000000")
    assert finished(running, second)["state"] == "done"
    until(lambda: running.problems() == [], "well again")


def test_stopped_while_the_table_is_locked_it_goes_on_at_the_next_start(run, tmp_path):
    running = run()
    video = add(running)
    other = sqlite3.connect(tmp_path / "store" / "queue.sqlite3", isolation_level=None)
    finished(running, video)
    late = store.new_id()
    running.store.upload(late).write_bytes(b"x")
    running.store.add(late, "b.mp4", 1, None)
    other.execute("BEGIN IMMEDIATE")
    running.stop()
    other.close()
    assert finished(run(), late)["state"] == "done"


@pytest.mark.parametrize("broken", ["due_callbacks", "expired", "tidy"])
def test_retention_and_callbacks_do_not_end_each_other(run, monkeypatch, broken):
    monkeypatch.setattr(service, "SWEEP_S", 0.05)
    running = run(keep_s=1000.0, secret="0123456789abcdef", callback_hosts=("h",))

    def odd(*args, **kwargs):
        raise Odd("whatever")

    with monkeypatch.context() as patch:
        patch.setattr(running.store, broken, odd)
        until(lambda: any("Odd" in p for p in running.problems()), "reported")
        assert running.threads == len(running._threads)
    until(lambda: running.problems() == [], "well again")


def test_health_counts_living_threads(run):
    running = run(workers=2, secret="0123456789abcdef")
    assert running.threads == 4 and running.problems() == []
    dead = threading.Thread(target=lambda: None)
    dead.start()
    dead.join()
    running._threads["clearing up"] = dead
    assert running.threads == 3 and running.problems() == ["the thread for clearing up ended"]


def test_an_upload_that_cannot_be_removed_is_removed_later(run, monkeypatch):
    running = run()
    real, fail = os.unlink, [True]
    monkeypatch.setattr(
        "pathlib.Path.unlink",
        lambda self, missing_ok=False: (
            (_ for _ in ()).throw(OSError(5, "Input/output error"))
            if fail and self.suffix == ".video"
            else (real(self) if self.exists() else None)
        ),
    )
    video = add(running)
    until(lambda: any("Input/output" in p for p in running.problems()), "reported")
    fail.clear()
    until(lambda: not running.store.upload(video).exists() and running.problems() == [], "well again")
