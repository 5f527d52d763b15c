"""Disks that are full, folders that cannot be written, links in circles: one clear line, nothing half, and the run goes
on later."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).resolve().parents[2]


def stage(script, *arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, PROJECT / script, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        **options,
    )


def one_line(done, code: int = 2) -> str:
    """The error line of a run that must end with one."""
    assert done.returncode == code, done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ") and "(hint: " in line
    return line


@contextlib.contextmanager
def mounted(folder: Path, options: str):
    """A small file system of its own on `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs a small file system, which only root can mount ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def videos(zoo, tmp_path) -> Path:
    data = tmp_path / "videos"
    data.mkdir()
    for n in range(6):
        (data / f"v{n}.mp4").write_bytes(zoo.path("face").read_bytes())
    return data


def test_full_disk(videos, tmp_path):
    """A disk of 1 MB: videos without room are errors of their own, nothing half stays, and with room the same command
    finishes."""
    with mounted(tmp_path / "small", "size=1m") as small:
        arguments = ["--data", videos, "--frames-dir", small / "frames", "--out", tmp_path / "out", "--workers", "1"]
        first = stage("00_convert_video_to_image.py", *arguments)
        assert "Traceback" not in first.stderr, first.stderr[-2000:]
        table = pd.read_csv(tmp_path / "out" / "stage_reports" / "00_videos.csv", keep_default_na=False)
        assert len(table) == 6 and set(table["status"]) <= {"ok", "error"} and (table["status"] == "error").any()
        assert table[table["status"] == "error"]["detail"].str.contains("(?i)disk|space|cannot write").all(), table[
            "detail"
        ].tolist()
        assert not [p for p in small.rglob("*") if ".partial-" in p.name]
        whole = {p.name for p in (small / "frames").iterdir() if p.is_dir()}
        assert whole == set(table[table["status"] == "ok"]["title"])
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        again = stage("00_convert_video_to_image.py", *arguments)
        assert again.returncode == 0, again.stderr[-2000:]
        assert set(pd.read_csv(tmp_path / "out" / "stage_reports" / "00_videos.csv")["status"]) == {"ok"}


def test_full_disk_for_the_table_of_verdicts(videos, tmp_path):
    pytest.importorskip("onnx", reason="the tiny test model is written with onnx")
    sys.path.insert(0, str(PROJECT / "tests" / "predict"))
    import tiny_model

    model = tiny_model.build(tmp_path / "tiny")
    with mounted(tmp_path / "small", "size=16k") as small:
        (small / "fill").write_bytes(bytes(8 << 10))
        for option in ("--csv", "--json"):
            (small / "fill").write_bytes(bytes(8 << 10))
            with contextlib.suppress(OSError):
                with open(small / "fill", "ab") as f:
                    f.write(bytes(64 << 10))
            line = one_line(
                stage(
                    "predict.py",
                    videos,
                    "--model-dir",
                    model,
                    "--frame-count",
                    "2",
                    "--workers",
                    "1",
                    option,
                    small / "v",
                )
            )
            assert "space" in line or "cannot write" in line
            assert not [p for p in small.iterdir() if ".partial-" in p.name]


def test_read_only_output(videos, tmp_path):
    with mounted(tmp_path / "ro", "size=1m,ro") as ro:
        for place in (
            ["--frames-dir", ro, "--out", tmp_path / "out"],
            ["--frames-dir", tmp_path / "frames", "--out", ro],
        ):
            line = one_line(stage("00_convert_video_to_image.py", "--data", videos, *place, "--workers", "1"))
            assert "cannot write" in line and str(ro) in line


def test_read_only_data(videos, tmp_path):
    """Results elsewhere: the data folder needs no write permission, and gets none of our files."""
    with mounted(tmp_path / "data", "size=16m") as data:
        (data / "v.mp4").write_bytes((videos / "v0.mp4").read_bytes())
        subprocess.run(["mount", "-o", "remount,ro", data], check=True)
        done = stage(
            "00_convert_video_to_image.py",
            "--data",
            data,
            "--frames-dir",
            tmp_path / "frames",
            "--out",
            tmp_path / "out",
            "--workers",
            "1",
        )
        assert done.returncode == 0, done.stderr[-1000:]
        assert [p.name for p in data.iterdir()] == ["v.mp4"]


def test_folders_linked_in_a_circle(videos, tmp_path):
    (videos / "loop").symlink_to(videos)
    (videos / "deep").mkdir()
    (videos / "deep" / "up").symlink_to("..")
    (videos / "deep" / "self").symlink_to("self")
    done = stage(
        "00_convert_video_to_image.py",
        "--data",
        videos,
        "--frames-dir",
        tmp_path / "frames",
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert len(pd.read_csv(tmp_path / "out" / "stage_reports" / "00_videos.csv")) == 6


def test_an_output_folder_that_is_a_file(videos, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (
        ["--frames-dir", tmp_path / "file", "--out", tmp_path / "out"],
        ["--frames-dir", tmp_path / "frames", "--out", tmp_path / "file"],
    ):
        one_line(stage("00_convert_video_to_image.py", "--data", videos, *place, "--workers", "1"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_title_that_is_a_link_elsewhere(videos, tmp_path):
    """A folder of frames that someone made a link out of the output: what it leads to is not touched."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.txt").write_text("mine")
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "v0").symlink_to(elsewhere)
    done = stage(
        "00_convert_video_to_image.py",
        "--data",
        videos,
        "--frames-dir",
        tmp_path / "frames",
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
    )
    assert "Traceback" not in done.stderr
    assert (elsewhere / "precious.txt").read_text() == "mine" and len(list(elsewhere.iterdir())) == 1


# --- metadata.json ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "content, line",
    [
        ('{"v0.mp4": {"label": "REAL"}', "not valid JSON"),
        ("", "not valid JSON"),
        ("[1, 2]", "holds a list"),
        ("[" * 100_000, "nested too deep"),
        ('{"v0.mp4": {"label": ' + "9" * 10_000 + "}}", "thousands of digits"),
        (b"\xff\xfe\x00", "not UTF-8"),
        ("null", "holds a NoneType"),
    ],
)
def test_metadata_that_cannot_be_read(videos, tmp_path, content, line):
    (videos / "metadata.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert line in one_line(
        stage(
            "00_convert_video_to_image.py",
            "--data",
            videos,
            "--frames-dir",
            tmp_path / "frames",
            "--out",
            tmp_path / "out",
        )
    )


def test_metadata_that_leads_outside(videos, tmp_path):
    """Path traversal in names: rows with an error, and not one file outside of the output."""
    (tmp_path / "secret.mp4").write_bytes((videos / "v0.mp4").read_bytes())
    names = [
        "../secret.mp4",
        "../../x.mp4",
        str(tmp_path / "secret.mp4"),
        "..",
        ".",
        "",
        "a/../../secret.mp4",
        "..\\secret.mp4",
        "C:\\secret.mp4",
        "n\u0000ul.mp4",
        "x" * 300 + ".mp4",
        '=HYPERLINK("http://x").mp4',
        "v0.mp4",
    ]
    content = {name: {"label": "FAKE", "original": "../secret.mp4" if name == "v0.mp4" else None} for name in names}
    content |= {
        "v1.mp4": [],
        "v2.mp4": {"label": ["REAL"]},
        "v3.mp4": {"label": "MAYBE"},
        "v4.mp4": {"label": None},
        "missing.mp4": {"label": "REAL"},
    }
    (videos / "metadata.json").write_text(json.dumps(content))
    before = sorted(p for p in tmp_path.rglob("*"))
    done = stage(
        "00_convert_video_to_image.py",
        "--data",
        videos,
        "--frames-dir",
        tmp_path / "out" / "frames",
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
    )
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    table = pd.read_csv(tmp_path / "out" / "stage_reports" / "00_videos.csv", keep_default_na=False, dtype=str)
    assert set(table["status"]) <= {"ok", "error"}
    bad = table[table["detail"].str.contains("unsafe")]
    assert len(bad) >= 11 and (bad["status"] == "error").all()
    assert set(table[table["status"] == "ok"]["video"]) == {"v4.mp4", "v5.mp4"}
    for column in table.columns:
        assert not table[column].str.startswith(("=", "+", "-", "@")).any()
    new = {p for p in tmp_path.rglob("*")} - set(before)
    assert all(tmp_path / "out" in p.parents or p == tmp_path / "out" for p in new)
    assert not [p for p in (tmp_path / "out" / "frames").iterdir() if "secret" in p.name and p.is_dir()]


def test_metadata_that_is_huge(videos, tmp_path):
    """50 MB of entries and of one key repeated: read, in bounded time, each video with its row."""
    from deepfake_detection.datasets.manifest import read_manifest

    entries = [f'"v{n}.mp4": {{"label": "REAL"}}' for n in range(6)] + ['"twice.mp4": {"label": "FAKE"}'] * 20_000
    entries += [f'"d{n % 3000}.mp4": {{"label": "REAL"}}' for n in range(6000)] + [
        '"pad": {"label": "' + "x" * 10_000_000 + '"}'
    ]
    (videos / "metadata.json").write_text("{" + ",\n".join(entries) + "}")
    table = read_manifest(videos)
    assert set(table[table["error"] == ""]["video"]) == {f"v{n}.mp4" for n in range(6)}
    assert (table[table["video"] == "twice.mp4"]["error"].str.contains("more than once")).all()
    assert table["error"].str.len().max() < 300
