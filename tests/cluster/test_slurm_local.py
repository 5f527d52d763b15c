"""Runs the check on a real Slurm as a user would, and what of it needs no Slurm."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest


@pytest.mark.cluster
def test_array_job_preemption_and_requeue_on_a_real_slurm(project):
    # All stages in one job take minutes of training and are left to the script when run by hand.
    done = subprocess.run(
        [project / "tests" / "cluster" / "slurm_local.sh", "--without-pipeline"], capture_output=True, text=True
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same faces" in done.stdout and "requeued, the rest made" in done.stdout and "all well" in done.stdout


@pytest.mark.parametrize("name", ["pipeline.sbatch", "preprocess_array.sbatch"])
def test_batch_files_refuse_a_wrong_folder_in_one_line(project, tmp_path, name):
    done = subprocess.run(
        ["bash", project / "slurm" / name],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "1"},
    )
    assert done.returncode == 2
    assert (
        done.stderr.startswith("error: this is not the project's folder")
        and "hint:" in done.stderr
        and done.stderr.count("\n") == 1
    )


def test_an_array_with_gaps_is_refused(project):
    done = subprocess.run(
        ["bash", project / "slurm" / "preprocess_array.sbatch"],
        capture_output=True,
        text=True,
        env={
            "PATH": "/usr/bin:/bin",
            "SLURM_SUBMIT_DIR": str(project),
            "DEEPFAKE_VENV": sys.prefix,
            "SLURM_JOB_ID": "1",
            "SLURM_ARRAY_TASK_ID": "0",
            "SLURM_ARRAY_TASK_MIN": "0",
            "SLURM_ARRAY_TASK_MAX": "4",
            "SLURM_ARRAY_TASK_COUNT": "3",
        },
    )
    assert done.returncode == 2 and "the array has gaps" in done.stderr


def test_shards_together_are_one_run(project, sample, tmp_path):
    """Also when there are more shards than videos: the last one here has nothing to do."""
    names = ["astronaut_close-up_mirror.mp4", "curly_vertical_lip-sync.mp4", "no-face_coffee.mp4"]
    data = tmp_path / "data"
    data.mkdir()
    for name in names:
        shutil.copy(sample / name, data / name)
    (data / "metadata.json").write_text(
        json.dumps({name: {"label": "REAL", "split": "train", "original": None} for name in names})
    )

    def stage(out, *options):
        done = subprocess.run(
            [
                sys.executable,
                project / "01a_crop_faces_mtcnn.py",
                "--direct",
                "--face-detector",
                "yunet",
                "--data",
                data,
                "--out",
                tmp_path / out,
                "--frames-dir",
                tmp_path / out / "faces",
                "--workers",
                "1",
                *options,
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    def content(out):
        faces = tmp_path / out / "faces"
        return {
            p.relative_to(faces): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in faces.rglob("*")
            if p.is_file() and p.suffix != ".lock"
        }

    for index in range(4):
        stage("shards", "--shard", f"{index}/4")
    stage("plain")
    assert content("shards") == content("plain") and len(content("plain")) > 12
    stage("shards")  # completes the account, makes nothing again
    account = "stage_reports/01a_videos.csv"
    assert (tmp_path / "shards" / account).read_text() == (tmp_path / "plain" / account).read_text()


@pytest.mark.parametrize("shard", ["4/4", "-1/4", "a/b"])
def test_an_impossible_shard_is_refused(project, tmp_path, shard):
    done = subprocess.run(
        [sys.executable, project / "01a_crop_faces_mtcnn.py", f"--shard={shard}", "--data", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "--shard" in done.stderr and "Traceback" not in done.stderr
