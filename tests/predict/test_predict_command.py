"""predict.py: lines, tables, exit codes, and going on after a kill."""

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest

from deepfake_detection import files
from deepfake_detection.errors import UserError
from deepfake_detection.prediction import crew, csv_table, inputs, outputs

PROJECT = Path(__file__).resolve().parents[2]


def predict(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, str(PROJECT / "predict.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, clips):
    """All kinds in one folder, some below, with names that are hard on tables."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "below").mkdir()
    for name, target in (
        ("real", "=1+1.mp4"),
        ("fake", 'below/fa,ke "x".mp4'),
        ("no_face", "nobody.mp4"),
        ("broken", "broken.mp4"),
    ):
        shutil.copy(clips[name], folder / target)
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden.mp4").write_text("not seen")
    return folder


@pytest.fixture(scope="module")
def run(folder, tiny_model, tmp_path_factory):
    """One run over the folder with every output."""
    out = tmp_path_factory.mktemp("out")
    done = predict(
        folder,
        "--model",
        tiny_model,
        "--frames",
        4,
        "--workers",
        2,
        "--json",
        out / "v.json",
        "--csv",
        out / "v.csv",
        "--report",
        out / "reports",
    )
    return done, out


def rows_of(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def without_reports(path) -> bytes:
    """The table as a run without --report leaves it."""
    import io

    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, csv_table.CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "report": ""} for row in rows_of(path))
    return out.getvalue().encode()


def test_one_line_a_video_and_exit_code_1(run, folder):
    done, _ = run
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("  ")[1] for line in lines] == [
        "REAL",
        "FAKE",
        "ERROR",
        "NO FACE",
    ]  # =1+1, below/, broken, nobody
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
    reports = run[1] / "reports"
    assert sorted(p.suffix for p in reports.iterdir() if p.stem != "index") == [".html"] * 3 + [".json"] * 3
    rows = rows_of(run[1] / "v.csv")
    assert [bool(r["report"]) for r in rows] == [True, True, False, True]
    assert all(Path(r["report"]).is_file() for r in rows if r["report"])


def test_the_index_has_a_row_for_every_video_and_loads_nothing(run):
    page = (run[1] / "reports" / "index.html").read_text()
    assert [page.count(f'data-verdict="{word}"') for word in ("REAL", "FAKE", "NO FACE", "ERROR")] == [1, 1, 1, 1]
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) == 3 and all((run[1] / "reports" / urllib.parse.unquote(link)).is_file() for link in links)
    assert (
        str(run[1]) not in page
        and "http:" not in page
        and "https:" not in page
        and "default-src 'none'" in page.replace("&#39;", "'")
    )
    script = re.search(r"<script>(.*?)</script>", page, re.S)[1]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in page.replace("&#43;", "+")


def test_the_verdict_comes_before_the_explanation(clips, tiny_model, tmp_path):
    """Lines, rows and JSON of all videos are there when the first report is begun."""
    command = [
        sys.executable,
        str(PROJECT / "predict.py"),
        str(clips["real"]),
        str(clips["fake"]),
        "--model",
        str(tiny_model),
        "--frames",
        "3",
        "--workers",
        "1",
        "--report",
        str(tmp_path / "r"),
        "--csv",
        str(tmp_path / "v.csv"),
        "--json",
        str(tmp_path / "v.json"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        words = [process.stdout.readline().split("  ")[1] for _ in range(2)]
        reports = list((tmp_path / "r").glob("*.html"))
        assert words == ["REAL", "FAKE"] and len(reports) < 2 and len(rows_of(tmp_path / "v.csv")) == 2
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.stdout.close()
    assert len(list((tmp_path / "r").glob("*.html"))) == 3 and len(json.loads((tmp_path / "v.json").read_text())) == 2


@pytest.mark.parametrize("what", ["report", "annotate"])
def test_a_report_that_cannot_be_made_costs_no_verdict(clips, tiny_model, tmp_path, what):
    target = tmp_path / ("r/real.html" if what == "report" else "r/real.mp4")
    target.mkdir(parents=True)
    (target / "in the way").write_text("")
    done = predict(
        clips["real"], "--model", tiny_model, "--frames", 2, f"--{what}", tmp_path / "r", "--csv", tmp_path / "v.csv"
    )
    assert (
        done.returncode == 1
        and "REAL" in done.stdout
        and "could not be made" in done.stdout
        and "Traceback" not in done.stderr
    )
    (row,) = rows_of(tmp_path / "v.csv")
    assert row["verdict"] == "REAL" and not row["error"] and not row["report"]


def test_json_to_standard_output(clips, tiny_model):
    done = predict(clips["real"], clips["broken"], "--model", tiny_model, "--frames", 2, "--json", "-")
    assert [o["verdict"] for o in json.loads(done.stdout)] == ["REAL", None] and done.returncode == 1
    assert "REAL" in done.stderr and "ERROR" in done.stderr


@pytest.mark.parametrize("alphabet", ["ascii", "latin-1", "utf-8"])
def test_names_that_the_locale_has_no_letters_for(tmp_path, tiny_model, monkeypatch, alphabet):
    monkeypatch.setenv("PYTHONIOENCODING", alphabet)
    video = tmp_path / "\N{GREEK SMALL LETTER PI}.mp4"
    video.touch()
    for options in ([], ["--json", "-"]):
        done = predict(video, "--model-dir", tiny_model, *options)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert json.loads(done.stdout)[0]["video"] == str(video)


@pytest.mark.parametrize(
    "target, word", [pytest.param("out.mp4", "h264", id="file"), pytest.param("folder", "h264", id="folder")]
)
def test_annotated_copy(clips, tiny_model, tmp_path, target, word):
    import av

    done = predict(clips["two"], "--model", tiny_model, "--frames", 4, "--annotate", tmp_path / target)
    assert done.returncode == 0, done.stderr
    made = tmp_path / target if target.endswith(".mp4") else tmp_path / target / "two.mp4"
    with av.open(str(made)) as out, av.open(str(clips["two"])) as source:
        stream = out.streams.video[0]
        assert stream.codec_context.name == word and not out.streams.audio
        frames, originals = ([f.to_ndarray(format="rgb24") for f in c.decode(video=0)] for c in (out, source))
    assert len(frames) == len(originals) and frames[0].shape == originals[0].shape
    # The frame around the altered face (right) is orange, the other one's blue: read where the plain grey ground was.
    strongest = lambda x0, x1, c: max(
        int((f[20:170, x0:x1, c].astype(int) - f[20:170, x0:x1, 2 - c]).max()) for f in frames
    )
    assert strongest(160, 320, 0) > 90 and strongest(0, 160, 2) > 60
    assert not [p for p in made.parent.iterdir() if p != made]


@pytest.mark.parametrize("suffix", outputs.VIDEO_SUFFIXES)
def test_an_annotated_copy_is_made_again_over_itself(clips, tiny_model, tmp_path, suffix):
    for count in (2, 3):
        done = predict(
            clips["real"], "--model-dir", tiny_model, "--frame-count", count, "--annotate", tmp_path / f"a{suffix}"
        )
        assert done.returncode == 0, done.stderr


def test_annotated_copies_of_a_folder(folder, tiny_model, tmp_path):
    done = predict(folder, "--model", tiny_model, "--frames", 2, "--annotate", tmp_path / "a")
    assert done.returncode == 1 and sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "_1+1.mp4",
        "fa_ke _x_.mp4",
        "nobody.mp4",
    ]


@pytest.mark.parametrize(
    "target, word",
    [
        ("self", "never written to"),
        ("inside", "among the videos"),
        ("one.mp4", "name a folder"),
        ("out.avi", "not .avi"),
    ],
)
def test_annotated_copies_never_lie_over_a_source(clips, tiny_model, tmp_path, target, word):
    (tmp_path / "in").mkdir()
    videos = [shutil.copy(clips["real"], tmp_path / "in" / "real.mp4")] + (
        [shutil.copy(clips["fake"], tmp_path / "in" / "fake.mp4")] if target == "one.mp4" else []
    )
    before = {p: p.read_bytes() for p in (tmp_path / "in").iterdir()}
    path = {"self": videos[0], "inside": tmp_path / "in"}.get(target, tmp_path / target)
    done = predict(*([tmp_path / "in"] if target == "inside" else videos), "--model", tiny_model, "--annotate", path)
    assert done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr
    assert {p: p.read_bytes() for p in (tmp_path / "in").iterdir()} == before


@pytest.mark.parametrize(
    "options, word",
    [
        pytest.param("--json in/real.mp4", "never written to", id="json on a source"),
        pytest.param("--json link.mp4", "never written to", id="json on a link to it"),
        pytest.param("--csv in/real.mp4 --force", "never written to", id="table on a source"),
        pytest.param("--json x --csv ./x", "the same file", id="json on the table"),
        pytest.param("--json r/real.json --report r", "the same file", id="json on a report"),
        pytest.param("--csv r/index.html --report r", "the same file", id="table on the index"),
        pytest.param("--json x.mp4 --annotate x.mp4", "the same file", id="json on a copy"),
        pytest.param("--report in", "not ours", id="report on a file beside its video"),
        pytest.param("--report pages", "not ours", id="report on another page of that name"),
        pytest.param("--report site", "not ours", id="index on another page"),
        pytest.param("--report site --force", "not ours", id="index on another page, by force"),
        pytest.param("--annotate other", "not ours", id="copy on another video of that name"),
        pytest.param("--annotate other/real.mp4 --force", "not ours", id="copy on another video"),
        pytest.param("--json in", "writes a file", id="json a folder"),
        pytest.param("--csv in", "writes a file", id="table a folder"),
        pytest.param("--report folders", "writes a file", id="index on a folder"),
        pytest.param("--json pipe", "writes a file", id="json a pipe"),
        pytest.param("--json in/real.mp4/x", "cannot write", id="json below a file"),
        pytest.param("--json /proc/x", "cannot write", id="json where nothing can be made"),
        pytest.param(f"--json {'x' * 256}", "cannot write", id="json of a long name"),
    ],
)
def test_outputs_lie_over_nothing_else(clips, tmp_path, options, word):
    (tmp_path / "in").mkdir()
    shutil.copy(clips["real"], tmp_path / "in" / "real.mp4")
    (tmp_path / "in" / "real.json").write_text('{"label": "REAL"}')
    (tmp_path / "link.mp4").symlink_to("in/real.mp4")
    (tmp_path / "folders" / "index.html").mkdir(parents=True)
    for page in ("pages/real.html", "site/index.html"):
        (tmp_path / page).parent.mkdir()
        (tmp_path / page).write_text("<!doctype html>\n<title>Mine</title>\n")
    (tmp_path / "other").mkdir()
    shutil.copy(clips["fake"], tmp_path / "other" / "real.mp4")
    os.mkfifo(tmp_path / "pipe")
    stand = lambda: {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}  # noqa: E731
    before = stand()
    done = predict("in/real.mp4", "--model-dir", "nowhere", *options.split(), cwd=tmp_path)
    assert done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert stand() == before


@pytest.mark.parametrize("page", ["real.html", "index.html"])
def test_pages_of_ours_are_made_again(clips, tiny_model, tmp_path, page):
    command = (clips["real"], "--model-dir", tiny_model, "--frame-count", 2, "--explain", "none", "--report", tmp_path)
    for _ in range(2):
        done = predict(*command)
        assert done.returncode == 0, done.stderr
    (tmp_path / page).write_bytes((tmp_path / page).read_bytes()[200:])
    assert "not ours" in predict(*command).stderr


def test_resume_repairs_a_half_row_and_gives_the_same_bytes(run, folder, tiny_model, tmp_path):
    whole = without_reports(run[1] / "v.csv")
    lines = whole.splitlines(keepends=True)
    table = tmp_path / "v.csv"
    table.write_bytes(b"".join(lines[:2]) + lines[2][:17])  # header, one row, and a row cut by a kill
    arguments = (folder, "--model", tiny_model, "--frames", 4, "--workers", 1, "--csv", table)
    done = predict(*arguments)
    assert table.read_bytes() == whole and "1 of 4 videos already in" in done.stdout
    assert not list(tmp_path.glob(".*"))
    other = predict(folder, "--model", tiny_model, "--frames", 5, "--csv", table)
    assert other.returncode == 2 and "other settings" in other.stderr and table.read_bytes() == whole


def test_killed_in_the_middle_goes_on(folder, run, tiny_model, tmp_path):
    table = tmp_path / "v.csv"
    command = [
        sys.executable,
        str(PROJECT / "predict.py"),
        str(folder),
        "--model",
        str(tiny_model),
        "--frames",
        "4",
        "--workers",
        "1",
        "--csv",
        str(table),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert 1 <= len(rows_of(table)) <= 4
    subprocess.run(command, capture_output=True)
    assert table.read_bytes() == without_reports(run[1] / "v.csv")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("x", "--csv", "-"), "standard output"),
        ((), "no video given"),
        (("nowhere.mp4",), "no such file"),
        (("--bogus", "x"), "unrecognized"),
        (("--fram", "3", "x"), "unrecognized"),
        (("--frames", "0", "x"), "1 or more"),
        (("--url", "file:///etc/passwd"), "not an http"),
        (("--url", "http://127.0.0.1:1/clip.mp4"), "cannot download"),
        (("--scale", "big", "x"), "invalid scale value"),
        (("--scale", "0", "x"), "more than 0"),
        (("--scale", "nan", "x"), "more than 0"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_no_traceback(arguments, words, tmp_path):
    done = predict(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("hint:") < 2 + done.stderr.count("note:"), done.stderr


def test_root_is_warned(clips, tmp_path):
    """The walls around a decoder do not keep root's files."""
    command = [sys.executable, str(PROJECT / "predict.py"), str(clips["broken"]), "--model-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr.count("running as root") == (os.geteuid() == 0)


def test_a_missing_model_is_one_line(clips, tmp_path):
    done = predict(clips["real"], "--model-dir", tmp_path)
    assert (
        done.returncode == 2
        and done.stderr.splitlines()[-1].startswith("error: ")
        and "hint:" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_a_video_that_takes_too_long_costs_its_own_row_only(clips, tiny_model, monkeypatch):
    settings = {"model": str(tiny_model), "frames": 2}
    jobs = [
        {"video": str(clips["real"]), "name": "a", "report": None},
        {"video": str(clips["fake"]), "name": "b", "report": None},
    ]
    results = dict(crew.results_of(jobs, settings, 1, time_limit_s=0.001))
    assert all("took longer than 0.001 s" in r["error"] for r in results.values()) and len(results) == 2


def test_a_worker_that_dies_costs_its_own_row_only(clips, tiny_model):
    """A decoder that crashes on a file must not take the others with it."""
    from deepfake_detection.prediction.pool import Died, Worker

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
    code = (
        "import sys\nfrom deepfake_detection.prediction.pool import Worker\n"
        f"w = Worker({{'model': {str(tiny_model)!r}}}); w.wait_ready(); print(w.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    )
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
    assert [Path(v).name for v in inputs.find_videos([folder, folder / "broken.mp4"])] == [
        "=1+1.mp4",
        'fa,ke "x".mp4',
        "broken.mp4",
        "nobody.mp4",
    ]
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(UserError, match="no videos"):
        inputs.find_videos([tmp_path])


def test_find_videos_by_links_and_past_what_may_not_be_read(somebody, capsys):
    for name in ("data/sub/a.mp4", "data/secret/b.mp4", "far/c.mp4", "locked/d.mp4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    Path("data/far").symlink_to("../far")
    Path("data/loop").symlink_to(".")
    for name in ("data/secret", "locked"):
        os.chmod(name, 0)
    assert inputs.find_videos(["data", "locked/d.mp4"]) == ["data/far/c.mp4", "data/sub/a.mp4", "locked/d.mp4"]
    assert "data/secret" in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot read this folder"):
        inputs.find_videos(["data", "locked"])


def test_report_names_are_safe_and_distinct():
    names = outputs.report_names(
        ["a/x.mp4", "b/x.mp4", "../../x.avi", "<b>.mp4", "..mp4", "a/x.mkv", "index.mp4", "A/X.mp4", "é" * 120 + ".mp4"]
    )
    assert (
        len({n.lower() for n in names}) == 9
        and "index" not in names
        and all(len(n.encode()) <= 200 for n in names)
        and all("/" not in n and not n.startswith(".") for n in names)
        and names[0] == "x"
        and names[1] == "b-x"
    )


@pytest.mark.parametrize(
    "text, safe",
    [("a.mp4", "a.mp4"), ("=1+1.mp4", "./=1+1.mp4"), ("-x", "./-x"), ("@x", "./@x"), ("+x", "./+x"), ("", "")],
)
def test_cells_are_no_formulas(text, safe):
    assert files.csv_name(text) == safe


def test_two_runs_on_one_table(tmp_path):
    first = csv_table.CsvFile(tmp_path / "v.csv", "defaults")
    with pytest.raises(UserError, match="another run"):
        csv_table.CsvFile(tmp_path / "v.csv", "defaults")
    first.close()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not a table that predict.py wrote"):
        csv_table.CsvFile(tmp_path / "other.csv", "defaults")
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
        done = predict(
            "--url", f"{address}/fake.mp4", "--model", tiny_model, "--frames", 3, "--json", tmp_path / "v.json"
        )
        assert done.returncode == 0, done.stderr
        assert (
            json.loads((tmp_path / "v.json").read_text())[0]["verdict"] == "FAKE"
            and f"{address}/fake.mp4" in done.stdout
        )
        # An address is taken where a file is, and one that cannot be had costs its own row only.
        mixed = predict(
            f"{address}/fake.mp4?key=secret",
            f"{address}/none.mp4",
            clips["real"],
            "--model",
            tiny_model,
            "--frames",
            3,
            "--report",
            tmp_path / "r",
        )
        assert [line.split("  ")[1] for line in mixed.stdout.splitlines()] == [
            "REAL",
            "FAKE",
            "ERROR",
        ] and mixed.returncode == 1
        assert all("secret" not in p.read_text() for p in (tmp_path / "r").iterdir() if p.is_file())
        missing = predict("--url", f"{address}/none.mp4", "--model", tiny_model)
        assert missing.returncode == 2 and "cannot download" in missing.stderr and "Traceback" not in missing.stderr
    finally:
        server.shutdown()
        server.server_close()


def _row(path, video, error=""):
    """A table of one row, as an earlier run left it."""
    result = {
        "video": str(video),
        "verdict": "REAL",
        "p_real": 0.9,
        "p_fake": 0.1,
        "interval": None,
        "frames_decoded": 4,
        "frames_with_face": 4,
        "people": [],
        "model": "m",
        "error": error,
        "source": files.source_stamp(video),
    }
    table = csv_table.CsvFile(path, "s")
    table.append(csv_table.csv_row(result, "s"))
    table.finish([str(video)])


@pytest.mark.parametrize(
    "change, stands",
    [
        pytest.param(lambda v: None, True, id="untouched"),
        pytest.param(lambda v: os.utime(v, (1, 1)), True, id="touched"),
        pytest.param(lambda v: v.write_bytes(b"a fake of another size"), False, id="other size"),
        pytest.param(
            lambda v: (lambda s: (v.write_bytes(b"x" * s.st_size), os.utime(v, ns=(s.st_atime_ns, s.st_mtime_ns))))(
                v.stat()
            ),
            False,
            id="cp -p",
        ),
        pytest.param(lambda v: v.unlink(), False, id="gone"),
    ],
)
def test_a_row_stands_as_long_as_its_file_is_the_same(tmp_path, change, stands):
    video = tmp_path / "v.mp4"
    video.write_bytes(b"a video, as it were")
    _row(tmp_path / "v.csv", video)
    change(video)
    table = csv_table.CsvFile(tmp_path / "v.csv", "s")
    try:
        assert table.stands(str(video), video) is stands
    finally:
        table.close()


def test_a_second_close_leaves_the_next_runs_lock(tmp_path):
    first = csv_table.CsvFile(tmp_path / "v.csv", "s")
    first.close()
    second = csv_table.CsvFile(tmp_path / "v.csv", "s")
    first.close()
    with pytest.raises(UserError, match="another run"):
        csv_table.CsvFile(tmp_path / "v.csv", "s")
    second.close()
    assert [p.name for p in tmp_path.iterdir()] == ["v.csv"]


@pytest.mark.parametrize("name", ["v.csv", "x" * 251 + ".csv"], ids=["short", "255 bytes"])
def test_a_planted_lock_of_a_table_is_never_written_through(tmp_path, name):
    (tmp_path / "precious.txt").write_text("years of work")
    csv_table._lock_of(tmp_path / name).symlink_to("precious.txt")
    with pytest.raises(UserError, match="where our lock should be"):
        csv_table.CsvFile(tmp_path / name, "s")
    assert (tmp_path / "precious.txt").read_text() == "years of work"
