"""predict.py: lines, tables, exit codes, and going on after a kill."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepfake_detection.detector import batch
from deepfake_detection.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]


def predict(*arguments, cwd=None):
    return subprocess.run([sys.executable, str(PROJECT / "predict.py"), *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, clips):
    """All kinds in one folder, some below, with names that are hard on tables."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "below").mkdir()
    for name, target in (("real", "=1+1.mp4"), ("fake", "below/fa,ke \"x\".mp4"), ("no_face", "nobody.mp4"), ("broken", "broken.mp4")):
        shutil.copy(clips[name], folder / target)
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden.mp4").write_text("not seen")
    return folder


@pytest.fixture(scope="module")
def run(folder, tiny_model, tmp_path_factory):
    """One run over the folder with every output."""
    out = tmp_path_factory.mktemp("out")
    done = predict(folder, "--model", tiny_model, "--frames", 4, "--workers", 2, "--json", out / "v.json", "--csv", out / "v.csv", "--report", out / "reports")
    return done, out


def rows_of(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def test_one_line_a_video_and_exit_code_1(run, folder):
    done, _ = run
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["REAL", "FAKE", "ERROR", "NO FACE"]        # =1+1, below/, broken, nobody
    assert "fake probability 0." in lines[0] and "1 face" in lines[0] and "4 of 4 frames with a face" in lines[0]
    assert "Traceback" not in done.stderr


def test_json(run, folder):
    objects = json.loads((run[1] / "v.json").read_text())
    assert [o["verdict"] for o in objects] == ["REAL", "FAKE", None, "NO FACE"]
    assert [bool(o["error"]) for o in objects] == [False, False, True, False]
    assert objects[0]["video"] == str(folder / "=1+1.mp4") and objects[0]["seconds"] > 0


def test_csv_is_in_input_order_and_agrees_with_json(run):
    objects, rows = json.loads((run[1] / "v.json").read_text()), rows_of(run[1] / "v.csv")
    assert [r["video"] for r in rows] == [o["video"] for o in objects]
    assert [r["verdict"] or None for r in rows] == [o["verdict"] for o in objects]
    assert [float(r["p_real"]) for r in rows[:2]] == pytest.approx([o["p_real"] for o in objects[:2]], abs=1e-6)


def test_reports_are_written_for_what_was_judged(run):
    assert sorted(p.name for p in (run[1] / "reports").iterdir()) == ["_1+1.html", "_1+1.json", "fa_ke _x_.html", "fa_ke _x_.json", "nobody.html", "nobody.json"] or \
        sorted(p.suffix for p in (run[1] / "reports").iterdir()) == [".html"] * 3 + [".json"] * 3


def test_resume_repairs_a_half_row_and_gives_the_same_bytes(run, folder, tiny_model, tmp_path):
    whole = (run[1] / "v.csv").read_bytes()
    lines = whole.splitlines(keepends=True)
    table = tmp_path / "v.csv"
    table.write_bytes(b"".join(lines[:2]) + lines[2][:17])          # header, one row, and a row cut by a kill
    arguments = (folder, "--model", tiny_model, "--frames", 4, "--workers", 1, "--csv", table)
    done = predict(*arguments)
    assert table.read_bytes() == whole and "1 of 4 videos already in" in done.stdout
    assert not list(tmp_path.glob(".*"))
    other = predict(folder, "--model", tiny_model, "--frames", 5, "--csv", table)
    assert other.returncode == 2 and "other settings" in other.stderr and table.read_bytes() == whole


def test_killed_in_the_middle_goes_on(folder, run, tiny_model, tmp_path):
    table = tmp_path / "v.csv"
    command = [sys.executable, str(PROJECT / "predict.py"), str(folder), "--model", str(tiny_model), "--frames", "4", "--workers", "1", "--csv", str(table)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert 1 <= len(rows_of(table)) <= 4
    subprocess.run(command, capture_output=True)
    assert table.read_bytes() == (run[1] / "v.csv").read_bytes()


@pytest.mark.parametrize("arguments, words", [
    ((), "no video given"), (("nowhere.mp4",), "no such file"), (("--bogus", "x"), "unrecognized"), (("--fram", "3", "x"), "unrecognized"),
    (("--frames", "0", "x"), "1 or more"), (("--url", "file:///etc/passwd"), "not an http"), (("--scale", "big", str(PROJECT / "predict.py")), "not a scale")])
def test_wrong_usage_is_exit_code_2_and_no_traceback(arguments, words, tmp_path):
    done = predict(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_a_missing_model_is_one_line(clips, tmp_path):
    done = predict(clips["real"], "--model", tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "hint:" in done.stderr and "Traceback" not in done.stderr


def test_a_video_that_takes_too_long_costs_its_own_row_only(clips, tiny_model, monkeypatch):
    settings = {"model": str(tiny_model), "frames": 2}
    jobs = [{"video": str(clips["real"]), "name": "a", "report": None}, {"video": str(clips["fake"]), "name": "b", "report": None}]
    results = dict(batch.results_of(jobs, settings, 1, time_limit_s=0.001))
    assert all("took longer than 0.001 s" in r["error"] for r in results.values()) and len(results) == 2


def test_a_worker_that_dies_costs_its_own_row_only(clips, tiny_model):
    """A decoder that crashes on a file must not take the others with it."""
    from deepfake_detection.detector.pool import Died, Worker
    worker = Worker({"model": str(tiny_model), "frames": 2})
    job = {"video": str(clips["real"]), "name": "a", "report": None}
    try:
        worker.wait_ready()
        os.kill(worker.pid, signal.SIGSEGV)
        with pytest.raises(Died, match="SIGSEGV"):
            worker.run(job)
        assert worker.run(job)["verdict"] == "REAL"
        first = worker.pid
        worker.run({**job, "name": "b"})
        assert worker.pid == first
    finally:
        worker.stop()


def test_a_worker_inherits_no_secret_and_ends_with_its_parent(clips, tiny_model, monkeypatch):
    from deepfake_detection.video.sandbox import environment
    monkeypatch.setenv("DEEPFAKE_CALLBACK_SECRET", "s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    assert "s3cret" not in environment().values()
    code = ("import sys\nfrom deepfake_detection.detector.pool import Worker\n"
            f"w = Worker({{'model': {str(tiny_model)!r}}}); w.wait_ready(); print(w.pid, flush=True); sys.stdin.read()")
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdin.close(), parent.stdout.close()
    for _ in range(100):
        try:
            # A zombie that nobody reaps still has a pid; its state says that it has ended.
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            os.kill(child, 0)
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its parent")


def test_find_videos(tmp_path, folder):
    assert [Path(v).name for v in batch.find_videos([folder, folder / "broken.mp4"])] == ["=1+1.mp4", "fa,ke \"x\".mp4", "broken.mp4", "nobody.mp4"]
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(UserError, match="no videos"):
        batch.find_videos([tmp_path])


def test_report_names_are_safe_and_distinct():
    names = batch.report_names(["a/x.mp4", "b/x.mp4", "../../x.avi", "<b>.mp4", "..mp4", "a/x.mkv"])
    assert len(set(names)) == 6 and all("/" not in n and not n.startswith(".") for n in names) and names[0] == "x" and names[1] == "b-x"


@pytest.mark.parametrize("text, safe", [("a.mp4", "a.mp4"), ("=1+1.mp4", "./=1+1.mp4"), ("-x", "./-x"), ("@x", "./@x"), ("+x", "./+x"), ("", "")])
def test_cells_are_no_formulas(text, safe):
    assert batch.cell(text) == safe


def test_two_runs_on_one_table(tmp_path):
    first = batch.CsvFile(tmp_path / "v.csv", "defaults")
    with pytest.raises(UserError, match="another run"):
        batch.CsvFile(tmp_path / "v.csv", "defaults")
    first.close()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not a table that predict.py wrote"):
        batch.CsvFile(tmp_path / "other.csv", "defaults")
    assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"


def test_url_from_a_local_server(clips, tiny_model, tmp_path):
    pytest.importorskip("yt_dlp", reason="--url is an optional extra: pip install yt-dlp")
    import functools
    import http.server
    import threading
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(clips["fake"].parent))
    handler.log_message = lambda *a: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        done = predict("--url", f"{address}/fake.mp4", "--model", tiny_model, "--frames", 3, "--json", tmp_path / "v.json")
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "v.json").read_text())[0]["verdict"] == "FAKE" and f"{address}/fake.mp4" in done.stdout
        missing = predict("--url", f"{address}/none.mp4", "--model", tiny_model)
        assert missing.returncode == 2 and "cannot download" in missing.stderr and "Traceback" not in missing.stderr
    finally:
        server.shutdown()
        server.server_close()
