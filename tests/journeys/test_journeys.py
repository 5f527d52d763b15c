"""A user's whole tasks as commands, each from a folder of its own. The install into a fresh environment: -m nightly
(needs a network)."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def run(*command, cwd, code=0):
    done = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": ""},
    )
    assert done.returncode == code, f"{command}: {done.stdout[-800:]}{done.stderr[-1500:]}"
    assert "Traceback" not in done.stderr
    return done


def stage(name, *options, cwd, code=0):
    return run(sys.executable, PROJECT / name, *options, cwd=cwd, code=code)


def tree(folder):
    return sorted((str(p.relative_to(folder)), p.stat().st_mtime_ns) for p in folder.rglob("*"))


@pytest.fixture
def videos(sample, tmp_path):
    return videos_of(tmp_path, sample)


def videos_of(parent, sample):
    """Six clips of the sample with names and folders of their own: three people, each real and altered."""
    folder = parent / "videos"
    (folder / "second").mkdir(parents=True)
    for source, name in (
        ("woman_worried", "anna"),
        ("woman_worried_self-blend", "anna_swap"),
        ("curly_vertical", "second/ben"),
        ("curly_vertical_mirror", "second/ben_swap"),
        ("astronaut_close-up", "carl"),
        ("astronaut_close-up_mirror", "carl_swap"),
    ):
        shutil.copy(sample / f"{source}.mp4", folder / f"{name}.mp4")
    return folder


LABELS = (
    "path,label,person\nanna.mp4,original,Anna\nanna_swap.mp4,deepfake,Anna\nben.mp4,real,Ben\nben_swap.mp4,manipulated,Ben\n"
    "carl.mp4,genuine,Carl\ncarl_swap.mp4,fake,Carl\n"
)


def test_one_clip(videos, tmp_path):
    done = stage("predict.py", videos / "anna.mp4", "--frame-count", 4, "--json", tmp_path / "v.json", cwd=tmp_path)
    assert any(word in done.stdout for word in ("REAL", "FAKE", "UNSURE"))


def test_a_folder(videos, tmp_path):
    stage("predict.py", videos, "--frame-count", 4, "--csv", tmp_path / "v.csv", cwd=tmp_path)
    assert len(list(csv.DictReader((tmp_path / "v.csv").open(encoding="utf-8")))) == 6
    (tmp_path / "mine.csv").write_text(LABELS)
    done = stage("evaluate.py", "v.csv", "--data", videos, "--labels", "mine.csv", "--out", "r", cwd=tmp_path)
    assert "by its own thresholds" in done.stdout
    found = json.loads((tmp_path / "r" / "evaluation.json").read_text())["verdicts"][0]
    assert found["real"]["videos"] == found["fake"]["videos"] == 3


def test_own_labels_to_a_split(videos, tmp_path):
    """Frames, faces and a split without leaks, from a list of labels, the videos and their folder untouched."""
    labels, out = tmp_path / "mine.csv", tmp_path / "out"
    labels.write_text(LABELS)
    before = tree(videos)
    common = ("--data", videos, "--labels", labels, "--out", out, "--workers", 1)
    done = stage("00_convert_video_to_image.py", *common, "--need-labels", cwd=tmp_path)
    assert "no label" not in done.stdout
    stage("01a_crop_faces_mtcnn.py", *common, "--face-detector", "yunet", cwd=tmp_path)
    stage("01b_mark_landmarks.py", *common, cwd=tmp_path)
    stage("02_prepare_dataset.py", *common, "--ratio", "50:25:25", cwd=tmp_path)
    assert tree(videos) == before
    assert (out / "frames" / "anna" / "faces" / "boxes.csv").is_file() and any(
        (out / "frames" / "ben" / "marked_faces").iterdir()
    )
    rows = list(csv.DictReader((out / "split_manifest.csv").open(encoding="utf-8")))
    assert {(r["title"], r["label"]) for r in rows} >= {("anna", "REAL"), ("ben_swap", "FAKE")}
    assert all(len({r["set"] for r in rows if r["title"].startswith(who)}) == 1 for who in ("anna", "ben", "carl"))


@pytest.fixture(scope="module")
def own(sample, tmp_path_factory):
    """A tiny network trained on six clips through stages 00 to 03: (videos, results, what 03 said)."""
    folder = tmp_path_factory.mktemp("own")
    videos_of(folder, sample)
    (folder / "videos" / "labels.csv").write_text(LABELS)
    where = ("--data", folder / "videos", "--out", folder / "out", "--workers", 1)
    stage("00_convert_video_to_image.py", *where, cwd=folder)
    stage("01a_crop_faces_mtcnn.py", *where, cwd=folder)
    stage("02_prepare_dataset.py", *where, "--ratio", "50:25:25", cwd=folder)
    tiny = ("--architecture", "compact_cnn", "--weights", "none", "--image-size", 32, "--epochs", 2, "--batch-size", 8)
    done = stage("03_train_cnn.py", "--out", folder / "out", "--workers", 1, *tiny, cwd=folder)
    return folder / "videos", folder / "out", done.stdout


def test_own_model_on_own_videos(own, tmp_path):
    """The folder that stage 03 leaves judges videos, and says of them what stage 03a says of their faces."""
    videos, out, said = own
    assert f"predict.py --model-dir {out / 'detector'}" in said
    stage("predict.py", videos, "--model-dir", out / "detector", "--json", tmp_path / "v.json", cwd=tmp_path)
    verdicts = {Path(v["video"]).stem: v for v in json.loads((tmp_path / "v.json").read_text())}
    assert len(verdicts) == 6 and all(v["model"].startswith("own-compact_cnn ") for v in verdicts.values())
    where = ("--faces-dir", out / "frames", "--data", videos, "--out", tmp_path, "--workers", 1)
    stage("03a_load_model.py", "--model-file", out / "detector" / "detector.keras", *where, cwd=tmp_path)
    scores = {}
    for name, p in json.loads((tmp_path / "cnn_preds_values.json").read_text()):
        folder, title, *_ = Path(name).parent.name, *Path(name).name.rsplit("-", 2)
        assert folder == ("fake" if title.endswith("_swap") else "real")
        scores.setdefault(title, []).append(p)
    compared = 0
    for title, verdict in verdicts.items():
        people = verdict["people"]
        assert len(scores[title]) == sum(p["frames"] for p in people)
        if len(people) == 1 and people[0]["faces_that_vote"] == len(scores[title]):
            assert verdict["p_real"] == pytest.approx(sum(scores[title]) / len(scores[title]), abs=1e-4)
            compared += 1
    assert compared >= 2


def test_own_model_on_the_page(own, tmp_path):
    """serve.py with the folder that stage 03 leaves: a clip is uploaded by curl and judged by this model, whose name
    and version stand in the answer and in the report."""
    videos, out, _ = own
    said = json.loads((out / "detector" / "detector.json").read_text())
    process = subprocess.Popen(
        [sys.executable, PROJECT / "serve.py", "--model-dir", out / "detector", "--port", "0", "--store", "store"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = re.search(r"http://[\d.]+:\d+", process.stdout.readline())[0]

        def curl(path, *options):
            return run("curl", "-sS", "--max-time", 60, *options, f"{address}{path}", cwd=tmp_path).stdout

        sent = json.loads(curl("/api/v1/videos?name=anna.mp4", "--data-binary", f"@{videos / 'anna.mp4'}"))
        end = time.monotonic() + 300
        while (got := json.loads(curl(f"/api/v1/videos/{sent['id']}")))["state"] not in ("done", "failed"):
            assert time.monotonic() < end, got
            time.sleep(0.2)
        model = f"{said['name']} {said['version']} "
        assert got["state"] == "done" and got["result"]["verdict"] in ("REAL", "FAKE", "UNSURE")
        assert got["result"]["model"].startswith(model) and model.startswith("own-compact_cnn ")
        assert model.strip() in curl(f"/api/v1/videos/{sent['id']}/report")
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def test_missing_labels_are_said_before_the_hours(videos, tmp_path):
    done = stage(
        "00_convert_video_to_image.py",
        "--data",
        videos,
        "--out",
        tmp_path / "out",
        "--need-labels",
        cwd=tmp_path,
        code=2,
    )
    assert (
        "no video has a label" in done.stderr
        and "--labels" in done.stderr
        and not (tmp_path / "out" / "frames").exists()
    )


def test_a_read_only_folder_of_videos(videos, tmp_path):
    """As a user without rights: root may write everywhere."""
    for folder in (videos, videos / "second"):
        folder.chmod(0o555)
    try:
        before = tree(videos)
        stage("00_convert_video_to_image.py", "--data", videos, "--out", tmp_path / "out", "--workers", 1, cwd=tmp_path)
        assert tree(videos) == before and (tmp_path / "out" / "frames" / "anna" / "anna-000.png").is_file()
    finally:
        for folder in (videos, videos / "second"):
            folder.chmod(0o755)


def test_frames_of_an_earlier_version_are_found(videos, tmp_path):
    """In the data folder, where versions before 2.0 put them; under the old option's name, which says the new one."""
    (videos / "labels.csv").write_text(LABELS)
    common = ("--data", videos, "--out", tmp_path / "out", "--workers", 1)
    done = stage("00_convert_video_to_image.py", *common, "--frames-out", videos, cwd=tmp_path)
    assert done.stderr.count("--frames-out is now called --frames-dir") == 1
    done = stage("01a_crop_faces_mtcnn.py", *common, "--detector", "yunet", cwd=tmp_path)
    assert f"using the frames in {videos}" in done.stderr and "--detector is now called --face-detector" in done.stderr
    assert (videos / "anna" / "faces" / "boxes.csv").is_file() and not (tmp_path / "out" / "frames").exists()
    done = stage("00_convert_video_to_image.py", *common, cwd=tmp_path)
    assert (
        "frames of an earlier version lie in" in done.stderr
        and (tmp_path / "out" / "frames" / "anna" / "frames.csv").is_file()
    )


@pytest.mark.nightly
def test_install_into_a_fresh_environment(videos, tmp_path):
    """`pip install .` for judging, then the command and the import from another folder."""
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    bin_ = tmp_path / "env" / "bin"
    run(bin_ / "pip", "install", "-q", "-c", PROJECT / "constraints.txt", f"{PROJECT}[predict]", cwd=tmp_path)
    listed = run(bin_ / "pip", "list", cwd=tmp_path).stdout.lower()
    assert not any(name in listed for name in ("tensorflow", "pyspark", "scipy", "pandas"))
    assert run(bin_ / "deepfake-detect", "--version", cwd=tmp_path).stdout.startswith("deepfake-detect ")
    run(bin_ / "deepfake-detect", "predict", videos / "anna.mp4", "--report", tmp_path / "reports", cwd=tmp_path)
    code = (
        "from deepfake_detection import Detector; "
        f"print(Detector(frames=4).predict({str(videos / 'anna.mp4')!r}).verdict)"
    )
    assert run(bin_ / "python", "-c", code, cwd="/").stdout.strip() in ("REAL", "FAKE", "UNSURE")
