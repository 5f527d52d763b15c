"""Every kind of the zoo through predict.py: a row and a line each, and the good clips scored as if they were alone."""

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import innermost

PROJECT = Path(__file__).resolve().parents[2]
GOOD = ("face", "half_a_face", "forty_faces", "good_1", "name_spaces")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """The folder of a detector of a few numbers."""
    pytest.importorskip("onnx", reason="the tiny test model is written with onnx")
    spec = importlib.util.spec_from_file_location(
        "robustness_tiny_model", PROJECT / "tests" / "predict" / "tiny_model.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build(tmp_path_factory.mktemp("tiny"))


def predict(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, PROJECT / "predict.py", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "80"},
        **options,
    )


@pytest.fixture(scope="module")
def run(zoo, tiny_model, tmp_path_factory):
    """(the process, rows of --csv by name, objects of --json by name) of one run over the whole zoo."""
    out = tmp_path_factory.mktemp("predict")
    unseen = [zoo.paths[name] for name, k in zoo.kinds.items() if name in zoo.paths and not k.seen and name != "folder"]
    done = predict(
        zoo.folder,
        *unseen,
        "--model-dir",
        tiny_model,
        "--frame-count",
        "4",
        "--workers",
        "2",
        "--csv",
        out / "v.csv",
        "--json",
        out / "v.json",
    )
    assert done.returncode == 1, done.stderr[-3000:]
    with open(out / "v.csv", newline="", encoding="utf-8") as f:
        rows = {Path(r["video"]).name: r for r in csv.DictReader(f)}
    return done, rows, {Path(r["video"]).name: r for r in json.loads((out / "v.json").read_text())}


def test_predict(run, zoo, kind):
    zoo.path(kind.name)
    _, rows, objects = run
    if kind.name == "folder":
        return
    name = os.fsencode(kind.file).decode("utf-8", "backslashreplace")
    row, result = rows[name], objects[name]
    assert row["verdict"] == (result["verdict"] or "") and row["error"] == (result["error"] or "")
    if result["error"]:
        assert re.search(f"{kind.refused}|no frame of this video" if kind.either else kind.refused, result["error"]), (
            result["error"]
        )
        assert kind.refused and result["error"].isprintable() and "hint:" in result["error"]
        assert result["verdict"] is None and result["p_real"] is None
    else:
        # still pictures are judged
        assert kind.frames is not None or kind.name in ("png", "jpeg", "webp"), "not refused"
        assert result["verdict"] in ("REAL", "FAKE", "UNSURE", "NO FACE") and result["frames_decoded"] > 0
        assert (result["verdict"] == "NO FACE") == (result["frames_with_face"] == 0) == (result["p_real"] is None)


def test_faces_are_found(run):
    _, _, objects = run
    assert objects["face.mp4"]["frames_with_face"] == 4
    assert len(objects["forty_faces.mp4"]["people"]) >= 30


def test_a_line_each_and_no_traceback(run, zoo):
    done, rows, _ = run
    assert len(done.stdout.strip().split("\n")) == len(rows)
    assert "Traceback" not in done.stderr
    assert not list(zoo.folder.glob("pwned"))


def test_good_clips_are_scored_as_if_alone(run, zoo, tiny_model, tmp_path):
    _, _, objects = run
    chosen = [zoo.paths[n] for n in GOOD if n in zoo.paths]
    done = predict(
        *chosen, "--model-dir", tiny_model, "--frame-count", "4", "--workers", "1", "--json", tmp_path / "v.json"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for result in json.loads((tmp_path / "v.json").read_text()):
        with_zoo = dict(objects[Path(result["video"]).name])
        for r in (result, with_zoo):
            r.pop("seconds")
        assert result == with_zoo


def test_no_formula_in_the_table(run):
    _, rows, _ = run
    for row in rows.values():
        assert not row["video"].startswith(("=", "+", "-", "@"))


def test_names_with_a_dash_first_need_no_trick(zoo, tiny_model, tmp_path):
    """`-rf.mp4` in the current folder: by `./`, or after `--`."""
    zoo.path("name_leading_dash")
    for argument in (["./-rf.mp4"], ["--", "-rf.mp4"]):
        done = predict("--model-dir", tiny_model, "--csv", tmp_path / f"{len(argument)}.csv", *argument, cwd=zoo.folder)
        assert done.returncode == 0, done.stderr
        assert "-rf.mp4  NO FACE" in done.stdout


def test_a_video_that_takes_too_long_costs_its_own_row(zoo, tiny_model, tmp_path):
    done = predict(
        zoo.path("forty_faces"),
        zoo.path("good_1"),
        "--model-dir",
        tiny_model,
        "--frame-count",
        "4",
        "--workers",
        "2",
        "--time-limit",
        "0.05",
        "--csv",
        tmp_path / "v.csv",
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"forty_faces.mp4  ERROR  took longer than 0.05 s", done.stdout)


def test_memory_of_a_worker_is_limited(zoo, tiny_model):
    """A frame of 8K in a worker that may have little more than it holds when it is ready: an answer or an end, and the
    next video is fine."""
    from deepfake_detection.prediction.pool import Died, Worker

    roomy = Worker({"model": str(tiny_model), "frames": 2})
    try:
        roomy.wait_ready()
        with open(f"/proc/{innermost(roomy.pid)}/statm") as f:
            held = int(f.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    finally:
        roomy.stop()
    tight = Worker({"model": str(tiny_model), "frames": 2}, limits={"memory_bytes": held + (64 << 20)})
    job = lambda name: {"video": str(zoo.path(name)), "name": name, "report": None}
    try:
        try:
            error = tight.run(job("8k"))["error"]
        except Died as e:
            error = str(e)
        assert error and error.isprintable()
        assert tight.run(job("good_1"))["verdict"] == "NO FACE"
    finally:
        tight.stop()
