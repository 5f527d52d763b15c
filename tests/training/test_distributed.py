"""Data-parallel training takes the steps of one device: two logical CPUs, and two processes over the loopback
address."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.training import distributed

WORK = """
import json, os, sys
from pathlib import Path
from deepfake_detection.training import checkpoint, distributed, loop, session, start
from deepfake_detection.training.folders import FolderTraining
from deepfake_detection.training.face_list import find_faces
from deepfake_detection.training.input_pipeline import FaceStore
from deepfake_detection.training.settings import Settings
faces, out = Path(sys.argv[1]), Path(sys.argv[2])
base = Settings(model="compact_cnn", weights="none", image_size=16, epochs=int(sys.argv[4]), batch_size=8,
                learning_rate=3e-3, augment="none", dropout=0.0, ema=0.9)
session.quiet()
strategies = sys.argv[3].split(",")
distributed.prepare(strategies[-1], replicas=2)
for name in strategies:
    session.start(seed=1, announce=False)
    strategy = distributed.make(name)
    with distributed.scope(strategy):
        model, *_ = start.build_started(base)
    stores = [FaceStore(find_faces(faces / s), 16) for s in ("train", "val")]
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    training = FolderTraining(model, *stores, base, strategy=strategy, copies=checkpoint.Twin(model, base))
    progress = loop.fit(training, folder, mark="m")
    if distributed.is_chief():
        history = [{k: r[k] for k in ("loss", "accuracy", "val_loss", "val_auc")} for r in progress.history]
        (folder / "history.json").write_text(json.dumps(history))
"""


def start(faces, out, names, epochs=2, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", WORK, str(faces), str(out), names, str(epochs)],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def two_ports():
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0)), b.bind(("127.0.0.1", 0))
        return a.getsockname()[1], b.getsockname()[1]


def start_workers(faces, out, epochs):
    ports = two_ports()
    configs = [
        {"cluster": {"worker": [f"127.0.0.1:{p}" for p in ports]}, "task": {"type": "worker", "index": i}}
        for i in (0, 1)
    ]
    return [start(faces, out, "multi_worker", epochs, TF_CONFIG=json.dumps(config)) for config in configs]


def succeed(runs):
    try:
        said = [run.communicate(timeout=900)[0] for run in runs]  # a guard against a dead lock, not a measurement
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0] * len(runs), "\n".join(said)[-3000:]


def test_two_devices_and_two_workers_equal_one_device(tmp_path, tiny_faces):
    """The two workers stop after an epoch; two new ones go on from their checkpoint."""
    one_device = start(tiny_faces, tmp_path, "none,mirrored")
    succeed(start_workers(tiny_faces, tmp_path, epochs=1))
    assert len(json.loads((tmp_path / "multi_worker" / "history.json").read_text())) == 1
    succeed([one_device, *start_workers(tiny_faces, tmp_path, epochs=2)])
    histories = {
        name: json.loads((tmp_path / name / "history.json").read_text())
        for name in ("none", "mirrored", "multi_worker")
    }
    for name in ("mirrored", "multi_worker"):
        for one, other in zip(histories["none"], histories[name], strict=True):
            for key in one:
                assert other[key] == pytest.approx(one[key], rel=2e-3, abs=2e-4), f"{name} {key}"
    weights = {name: np.load(tmp_path / name / "training_state.npz") for name in histories}
    for name in ("mirrored", "multi_worker"):
        for key in weights["none"].files:
            if key != "progress":
                np.testing.assert_allclose(weights[name][key], weights["none"][key], rtol=0.02, atol=2e-3)
        assert (tmp_path / name / "best_model.keras").is_file()


@pytest.mark.parametrize(
    "text, hosts",
    [
        ("n1", ["n1"]),
        ("n1,n2", ["n1", "n2"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("gpu[08-10,20],login", ["gpu08", "gpu09", "gpu10", "gpu20", "login"]),
        ("r[1-2]c[1-2]-ib", ["r1c1-ib", "r1c2-ib", "r2c1-ib", "r2c2-ib"]),
    ],
)
def test_slurm_hosts(text, hosts):
    assert distributed.expand_hosts(text) == hosts


def test_cluster_from_slurm():
    config = distributed.config_from_slurm(
        {"SLURM_JOB_NODELIST": "a[1-2]", "SLURM_TASKS_PER_NODE": "2(x2)", "SLURM_PROCID": "3"}
    )
    port = distributed.SLURM_PORT
    assert config == {
        "cluster": {"worker": [f"a1:{port}", f"a1:{port + 1}", f"a2:{port}", f"a2:{port + 1}"]},
        "task": {"type": "worker", "index": 3},
    }
    assert distributed.check_config(json.dumps(config)) == config


def test_why_the_cluster_is_not_tensorflows_own(monkeypatch):
    """Slurm's first task runs on its first host, n9; TensorFlow's resolver gives it n10's address."""
    import tensorflow as tf

    environment = {"STEP_NODELIST": "n[9-10]", "STEP_TASKS_PER_NODE": "1(x2)", "STEP_NUM_TASKS": "2", "PROCID": "0"}
    environment = {f"SLURM_{name}": value for name, value in environment.items()}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    theirs = tf.distribute.cluster_resolver.SlurmClusterResolver(gpus_per_node=1, auto_set_gpu=False)
    assert theirs.cluster_spec().as_dict()["worker"][0].startswith("n10:") and theirs.task_id == 0
    assert distributed.config_from_slurm(environment)["cluster"]["worker"][0].startswith("n9:")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_NODELIST": "a", "SLURM_TASKS_PER_NODE": "x", "SLURM_PROCID": "0"},
        {"SLURM_JOB_NODELIST": "a,b", "SLURM_TASKS_PER_NODE": "1", "SLURM_PROCID": "0"},
    ],
)
def test_no_cluster_is_named(environment):
    with pytest.raises(UserError, match="cluster|task counts"):
        distributed.config_from_slurm(environment)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}']
)
def test_bad_tf_config_is_named(text):
    with pytest.raises(UserError, match="TF_CONFIG"):
        distributed.check_config(text)


@pytest.mark.parametrize(
    "config, chief",
    [
        (None, True),
        ({"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 0}}, True),
        ({"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 1}}, False),
        ({"cluster": {"chief": ["c"], "worker": ["a"]}, "task": {"type": "worker", "index": 0}}, False),
        ({"cluster": {"chief": ["c"], "worker": ["a"]}, "task": {"type": "chief", "index": 0}}, True),
    ],
)
def test_who_writes(monkeypatch, config, chief):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert distributed.is_chief() is chief
