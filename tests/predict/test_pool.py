"""Workers that misbehave: what they send is bounded and looked at, what they do not send is not waited for, and one row
says so."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import threading

import pytest

from deepfake_detection import Detector, files
from deepfake_detection.prediction import crew, messages, pool, worker
from tests.processes import innermost

GOOD = {
    "video": "x",
    "verdict": "REAL",
    "p_real": 0.75,
    "p_fake": 0.25,
    "interval": [0.2, 0.3],
    "frames_decoded": 4,
    "frames_with_face": 4,
    "people": [
        {
            "id": "p0",
            "p_real": 0.75,
            "verdict": "REAL",
            "first_s": 0.0,
            "last_s": 1.0,
            "frames": 4,
            "interval": None,
            "well_seen": True,
        }
    ],
    "seconds": 1.5,
    "model": "m",
    "error": None,
    "note": "",
}

#: A worker's program that is ready and then, asked for a video, does what a test says; `out` writes bytes, `good` is a
#: whole answer.
PROGRAM = """
import json, os, subprocess, sys, time
good = json.dumps({"result": json.loads(%r)}).encode() + b"\\n"
def out(data):
    sys.stdout.buffer.write(data); sys.stdout.buffer.flush()
%s
for line in sys.stdin:
    job = json.loads(line)
%s
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """hostile(code, first=...): workers run `code` at a job; `first` before it, by default saying that they are
    ready."""

    def make(code, first='out(b\'{"ready": "m"}\\n\')'):
        program = tmp_path / "worker.py"
        program.write_text(PROGRAM % (json.dumps(GOOD), first, "\n".join("    " + line for line in code.splitlines())))
        monkeypatch.setattr(pool, "COMMAND", [sys.executable, str(program)])
        monkeypatch.setattr(pool, "END_S", 0.5)

    return make


def jobs(*names):
    return [{"video": f"/{n}", "name": n, "report": None} for n in names]


def changed(**fields):
    return f"out({(json.dumps({'result': {**GOOD, **fields}}) + chr(10)).encode()!r})"


def lacking(field):
    return f"out({(json.dumps({'result': {k: v for k, v in GOOD.items() if k != field}}) + chr(10)).encode()!r})"


BAD = {
    "endless_line": "while True: out(b'x' * 65536)",
    "endless_line_of_json": 'out(b\'{"result": {"error": "\')\nwhile True: out(b\'a\' * 65536)',
    "no_json": "out(b'hello\\n')",
    "empty_line": "out(b'\\n')",
    "no_utf8": "out(b'{\"share\": \\xff}\\n')",
    "nul": "out(b'\\0' * 100 + b'\\n')",
    "deep": "out(b'[' * 100000 + b'\\n')",
    "deep_object": "out(b'{\"a\":' * 60 + b'1' + b'}' * 60 + b'\\n')",
    "digits": "out(b'{\"share\": ' + b'9' * 100000 + b', \"stage\": \"x\"}\\n')",
    "list": "out(b'[]\\n')",
    "number": "out(b'3\\n')",
    "null": "out(b'null\\n')",
    "empty_object": "out(b'{}\\n')",
    "nan": "out(good.replace(b'0.75', b'NaN'))",
    "infinity": "out(good.replace(b'0.75', b'1e999'))",
    "share_beyond": 'out(b\'{"share": 7, "stage": "x"}\\n\')',
    "share_text": 'out(b\'{"share": "1", "stage": "x"}\\n\')',
    "stage_number": 'out(b\'{"share": 0.5, "stage": 1}\\n\')',
    "refused_late": "out(b'{\"refused\": {}}\\n')",
    "result_list": "out(b'{\"result\": []}\\n')",
    "result_empty": "out(b'{\"result\": {}}\\n')",
    "verdict_unknown": changed(verdict="PERHAPS"),
    "verdict_list": changed(verdict=["REAL"]),
    "p_beyond": changed(p_real=1.5),
    "p_text": changed(p_real="0.5"),
    "p_true": changed(p_real=True),
    "real_without_p": changed(p_real=None, p_fake=None),
    "error_and_verdict": changed(error="x"),
    "error_object": changed(error={"a": 1}, verdict=None),
    "neither": changed(verdict=None),
    "interval_of_3": changed(interval=[1, 2, 3]),
    "interval_text": changed(interval="x"),
    "frames_negative": changed(frames_decoded=-1),
    "frames_float": changed(frames_with_face=1.5),
    "people_none": changed(people=None),
    "people_numbers": changed(people=[1]),
    "person_without_id": changed(people=[{**GOOD["people"][0], "id": 3}]),
    "note_list": changed(note=[]),
    "text_too_long": changed(note="x" * 100_000),
    "seconds_text": changed(seconds="1"),
    "many": changed(people=[], extra=[0] * 50_000),
    **{f"lacks_{field}": lacking(field) for field in ("verdict", "p_real", "error", "people", "frames_decoded")},
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_answer_costs_one_row(kind, hostile):
    """The next video has a fresh worker, and the one who reads took no memory for it."""
    hostile(
        "if job['name'] == 'good':\n    out(good)\nelse:\n"
        + "\n".join("    " + line for line in BAD[kind].splitlines())
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = dict(crew.results_of(jobs("bad", "good"), {}, 1, time_limit_s=60))
    assert "no answer" in results[0]["error"] and results[0]["error"].isprintable() and results[0]["video"] == "bad"
    assert results[1]["verdict"] == "REAL" and results[1]["video"] == "good"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize(
    "first",
    [
        "out(b'x' * (5 << 20))",
        "out(b'{}\\n')",
        "out(b'{\"refused\": []}\\n')",
        "out(b'{\"ready\": 1}\\n')",
        "out(b'\\n')",
    ],
)
def test_what_is_no_word_on_being_ready_is_the_same(first, hostile):
    hostile("out(good)", first)
    ((_, result),) = crew.results_of(jobs("a"), {}, 1, time_limit_s=60)
    assert "no answer" in result["error"]


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(600)",
        "out(b'half a line')\ntime.sleep(600)",
        'while True: out(b\'{"share": 0.5, "stage": "x"}\\n\'); time.sleep(0.01)',
        "while True: out(b'x'); time.sleep(0.05)",
    ],
    ids=["silent", "half", "chatty", "drip"],
)
def test_no_worker_is_waited_for_beyond_its_time(code, hostile):
    hostile(code)
    ((_, result),) = crew.results_of(jobs("a"), {}, 1, time_limit_s=1)
    assert "took longer than 1 s" in result["error"]


@pytest.mark.parametrize(
    "code, words",
    [
        ("os._exit(3)", "exit code 3"),
        ("os.abort()", "SIGABRT"),
        ("os.close(1); time.sleep(600)", "SIGKILL"),
        ("out(b'half'); os._exit(4)", "exit code 4"),
        # What it started holds its pipe: the end of the worker counts, not the end of the pipe.
        ("subprocess.Popen(['sleep', '30'], start_new_session=True); os._exit(5)", "exit code 5"),
    ],
    ids=["exit", "abort", "closes", "half", "daemon"],
)
def test_an_end_is_an_end(code, words, hostile):
    hostile(code)
    ((_, result),) = crew.results_of(jobs("a"), {}, 1, time_limit_s=120)
    assert words in result["error"]


def test_a_verdict_may_come_before_its_report(hostile):
    hostile(
        "out(b'{\"share\": 0.5, \"stage\": \"x\"}\\n'); out(good.replace(b'result', b'early').replace(b'0.75', "
        "b'0.5')); out(good)"
    )
    worker, seen = pool.Worker({}, time_limit_s=60), []
    try:
        assert worker.run(jobs("a")[0], early=seen.append)["p_real"] == 0.75
        assert [r["p_real"] for r in seen] == [0.5] and seen[0]["video"] == "a"
    finally:
        worker.stop()


@pytest.mark.parametrize(
    "early", [[], 1, None, {}, {**GOOD, "verdict": "PERHAPS"}], ids=["list", "number", "null", "empty", "no verdict"]
)
def test_an_early_verdict_is_looked_at_too(early, hostile):
    hostile(f"out({(json.dumps({'early': early}) + chr(10)).encode()!r}); out(good)")
    ((_, result),) = crew.results_of(jobs("a"), {}, 1, time_limit_s=60)
    assert "no answer" in result["error"]


def test_a_worker_that_starts_and_says_nothing_is_given_up(hostile, monkeypatch):
    monkeypatch.setattr(pool, "START_S", 1.0)
    hostile("out(good)", "time.sleep(600)")
    ((_, result),) = crew.results_of(jobs("a"), {}, 1, time_limit_s=60)
    assert "took too long to start" in result["error"]


def test_a_worker_that_does_not_read_does_not_stop_us(hostile):
    hostile("pass", 'out(b\'{"ready": "m"}\\n\' + good * 3); time.sleep(600)')
    worker = pool.Worker({}, time_limit_s=1)
    try:
        with pytest.raises(pool.Died, match="took longer"):
            worker.run({"name": "a", "video": "x" * (4 << 20)})
    finally:
        worker.stop()


def test_what_cannot_be_printed_comes_as_escapes_and_the_name_is_ours(hostile):
    hostile(changed(video="/etc/passwd", note="\x1b[2J\ud800 \u202e", model="a\nb"))
    ((_, result),) = crew.results_of(jobs("mine.mp4"), {}, 1, time_limit_s=60)
    assert result["video"] == "mine.mp4" and result["note"] == "\\x1b[2J\\ud800 \\u202e" and result["model"] == "a\\nb"


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE], ids=["EAGAIN", "ENOMEM", "EMFILE"])
@pytest.mark.parametrize("good", [0, 1], ids=["never", "the first only"])
def test_a_worker_that_cannot_start_is_a_row_and_an_end(hostile, monkeypatch, error, good):
    """`predict.py` waited for ever where a successor was refused by the system."""
    hostile("os._exit(1)")
    real, started = subprocess.Popen, []

    def popen(*arguments, **options):
        started.append(1)
        if len(started) > good:
            raise OSError(error, "Resource temporarily unavailable")
        return real(*arguments, **options)

    monkeypatch.setattr(pool.subprocess, "Popen", popen)
    monkeypatch.setattr(pool, "START_PAUSE_S", 0.01)
    results = dict(crew.results_of(jobs("a", "b", "c"), {}, 1, time_limit_s=60))
    assert [("cannot" in r["error"] or "can be started" in r["error"]) for _, r in sorted(results.items())] == [
        not good,
        True,
        True,
    ]


def test_a_thread_that_cannot_start_leaves_the_work_to_the_others(hostile, monkeypatch):
    hostile("out(good)")
    real, begun = threading.Thread.start, []

    def start(self):
        begun.append(1)
        if len(begun) > 1:
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert len(dict(crew.results_of(jobs("a", "b"), {}, 2, time_limit_s=60))) == 2


def test_a_bug_in_the_reader_is_raised_and_not_waited_for(hostile, monkeypatch):
    hostile("out(good)")
    monkeypatch.setattr(messages, "answer", lambda message: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(crew.results_of(jobs("a", "b"), {}, 1, time_limit_s=60))


def test_workers_of_predict_have_the_limits_of_the_page(hostile):
    """The limits are in the worker's argument, and the worker's own code sets them."""
    hostile(
        "limits = json.loads(sys.argv[1])['limits']\n"
        + "out(json.dumps({'result': {**json.loads(good)['result'], 'limits': limits}}).encode() + b'\\n')"
    )
    ((_, result),) = crew.results_of(jobs("a"), {"threads": 3}, 1)
    assert result["limits"] == pool.limits_of(crew.TIME_LIMIT_S, threads=3)
    assert result["limits"]["memory_bytes"] == pool.MEMORY_BYTES + 2 * pool.THREAD_BYTES


def test_a_worker_of_predict_cannot_take_more_memory(tiny_model, clips, monkeypatch):
    """A real worker: its limits as the kernel states them, set before the model is loaded, and its CPU time renewed for
    each job."""
    worker = pool.Worker({"model": str(tiny_model), "frames": 2}, limits=pool.limits_of(100))
    try:
        worker.wait_ready()
        of = lambda: {
            line[:26].strip(): line[26:].split()[:2] for line in open(f"/proc/{innermost(worker.pid)}/limits")
        }
        assert of()["Max address space"][0] == str(pool.MEMORY_BYTES) and of()["Max open files"][0] == str(
            pool.OPEN_FILES
        )
        assert of()["Max file size"][0] == str(pool.FILE_BYTES) and of()["Max core file size"] == ["0", "0"]
        for name in "ab":
            assert worker.run({"video": str(clips["real"]), "name": name, "report": None})["verdict"] == "REAL"
            assert 400 < int(of()["Max cpu time"][0]) < 500
    finally:
        worker.stop()


@pytest.mark.parametrize(
    "outputs",
    [
        pytest.param([], id="verdict-only"),
        pytest.param(["report"], id="report"),
        pytest.param(["annotate"], id="annotated"),
        pytest.param(["report", "annotate"], id="both"),
    ],
)
def test_progress_never_goes_back(detector, clips, tmp_path, outputs):
    from deepfake_detection.prediction import worker

    names = {"report": "r.html", "annotate": "a.mp4"}
    job = {"video": str(clips["two"]), "name": "two.mp4", **{what: str(tmp_path / names[what]) for what in outputs}}
    said = []
    result = worker.work(detector, job, said.append, {})
    shares = [message["share"] for message in said if "share" in message]
    assert not result["error"] and "not_made" not in result
    assert shares == sorted(shares) and 0 <= shares[0] and shares[-1] <= 1 and len(set(shares)) > 3
    at = [i for i, message in enumerate(said) if "early" in message]
    if outputs:  # what follows the verdict moves on
        before = [message["share"] for message in said[: at[0]] if "share" in message]
        assert max(before) <= worker.JUDGED


def test_an_early_end_begins_nothing_more(monkeypatch):
    """Ctrl-C: the worker is killed, and its videos are not judged again for their reports."""
    begun = []

    class Slow(crew.Worker):
        killed = threading.Event()

        def start(self):
            pass

        def stop_from_outside(self):
            self.killed.set()

        def run(self, job):
            begun.append(job["name"])
            if len(begun) > 2:
                self.killed.wait(20)
                raise crew.Died("killed")
            return {"video": job["name"], "error": None}

    monkeypatch.setattr(crew, "Worker", Slow)
    jobs = [{"video": "x", "name": str(i), "report": "r"} for i in range(5)]
    results = crew.results_of(jobs, {}, 1)
    assert [next(results)[0] for _ in range(2)] == [0, 1]
    results.close()
    assert begun in (["0", "1"], ["0", "1", "2"])


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_no_report_of_another_file_than_was_judged(clips, tiny_model, tmp_path, change):
    """It stated the SHA-256 of the new file, and the verdict on the old one."""
    video = shutil.copy2(clips["real"], tmp_path / "clip.mp4")
    detector, kept = Detector(model=str(tiny_model), frames=4), {}
    job = {"video": str(video), "name": "clip.mp4", "keep": True}
    assert worker.work(detector, job, lambda message: None, kept)["verdict"] == "REAL"
    video.unlink()
    if change != "removed":
        shutil.copy2(clips["fake"], video)
    outputs = {"report": str(tmp_path / "r.html"), "annotate": str(tmp_path / "a.mp4")}
    result = worker.work(detector, {**job, "keep": False, **outputs}, lambda message: None, kept)
    assert len(result["not_made"]) == 2 and all("changed or removed" in problem for problem in result["not_made"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ([] if change == "removed" else ["clip.mp4"])


def _in_place(new, video):
    """`cp -p new video`: what is opened stays the file, with another content."""
    was = video.stat().st_ctime_ns
    while video.stat().st_ctime_ns == was:  # the clock of file systems has ticks
        shutil.copy2(new, video)


def _renamed(new, video):
    shutil.copy2(new, video.with_name("new"))
    video.with_name("new").replace(video)


@pytest.mark.parametrize("replace", [_in_place, _renamed])
def test_no_row_and_report_of_a_file_that_took_the_place_of_the_judged_one(tmp_path, replace):
    """Of the same size and time: the row had the SHA-256 of the new one."""
    video, new = tmp_path / "clip.mp4", tmp_path / "other.mp4"
    video.write_bytes(b"untouched")
    new.write_bytes(b"a fake...")
    os.utime(new, ns=(video.stat().st_atime_ns, video.stat().st_mtime_ns))

    class Judging:
        def __init__(self, meanwhile):
            self.run = lambda job: (meanwhile(), dict(GOOD))[1]

    job, version = {"video": str(video), "name": "clip.mp4", "stamp": True}, worker._version(str(video))
    source = crew._judged(Judging(lambda: None), job)["source"]
    assert source == files.source_stamp(video)
    result = crew._judged(Judging(lambda: replace(new, video)), job)
    assert video.read_bytes() == new.read_bytes() and video.stat().st_mtime_ns == source["mtime_ns"]
    assert "source" not in result and worker._version(str(video)) != version
