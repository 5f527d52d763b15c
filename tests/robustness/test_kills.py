"""Ten SIGKILLs at random moments, and two runs on one folder at once. The long version: tests/robustness/kills.py."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def _kills():
    spec = importlib.util.spec_from_file_location("robustness_kills", PROJECT / "tests" / "robustness" / "kills.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kills = _kills()


@pytest.mark.parametrize("number", [{"00": 4, "01a": 3}, {"predict": 3}], ids=["stages", "predict"])
def test_ten_kills(number):
    pytest.importorskip("onnx", reason="the tiny test model is written with onnx")
    pytest.importorskip("skimage", reason="its portrait is the face of the test videos")
    counts = kills.run(number, seed=5)
    assert {name: count.problems for name, count in counts.items()} == {name: [] for name in number}
    assert {name: count.kills for name, count in counts.items()} == number


@pytest.mark.nightly
def test_a_hundred_kills():
    counts = kills.run(kills.NIGHTLY)
    assert {name: count.problems for name, count in counts.items() if count.problems} == {}
    assert sum(count.kills for count in counts.values()) >= 100


def test_the_harness_sees_half_files(tmp_path):
    """A stage that writes its output in place is caught: the check can fail."""
    out, extra, before = tmp_path / "work", tmp_path / "extra", tmp_path / "before"
    before.mkdir()
    extra.mkdir()
    kills.shutil.copytree(before, out)
    script = tmp_path / "bad.py"
    script.write_text(
        "import sys, time\nwith open(sys.argv[1] + '/table.csv', 'w') as f:\n"
        "    for i in range(60):\n        f.write(f'{i}\\n' * 3); f.flush(); time.sleep(0.02)\n"
    )
    stage = kills.Stage("bad", lambda out, extra: [str(script), str(out)])
    count = kills.torture(stage, out, extra, before, 6, kills.random.Random(1))
    assert any("half a file: table.csv" in p for p in count.problems)


def test_the_harness_looks_on_where_a_folder_vanishes(tmp_path, monkeypatch):
    """A worker that outlives its killed stage by a moment renames its folder while the harness walks through it."""
    for name in ("a/one", ".b.partial-1/two", "c/three"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    scandir = kills.os.scandir

    def vanish(path):
        if ".partial-" in str(path):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(kills.os, "scandir", vanish)
    assert (
        {path.name for path, _ in kills.signature(tmp_path)}
        == {"one", "three"}
        == {path.name for path in kills.tree(tmp_path).values()}
    )


def test_two_runs_on_one_folder(zoo, tmp_path):
    """The second says so in one line and touches nothing."""
    from deepfake_detection.files import folder_lock
    from deepfake_detection.video.frames import LOCK

    data = tmp_path / "videos"
    data.mkdir()
    (data / "a.mp4").write_bytes(zoo.path("good_1").read_bytes())
    command = [
        sys.executable,
        PROJECT / "00_convert_video_to_image.py",
        "--data",
        data,
        "--frames-dir",
        tmp_path / "frames",
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
    ]
    with folder_lock(tmp_path / "frames", LOCK):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2
        assert (
            done.stderr.strip().splitlines()[-1].startswith("error: another run of") and "Traceback" not in done.stderr
        )
        assert not (tmp_path / "frames" / "a").exists()
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert (tmp_path / "frames" / "a" / "frames.csv").exists()


def test_two_predictions_into_one_table(zoo, tmp_path):
    pytest.importorskip("onnx", reason="the tiny test model is written with onnx")
    import fcntl

    table = tmp_path / "v.csv"
    with open(tmp_path / ".v.csv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [sys.executable, PROJECT / "predict.py", zoo.path("good_1"), "--csv", table], capture_output=True, text=True
        )
    assert (
        done.returncode == 2
        and ("another run is writing to this table") in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not table.exists()
