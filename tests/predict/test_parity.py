"""The same clip, the same p_real, whichever way it goes: stages 00, 01a, 03a, 04; predict.py; the web queue's worker;
Spark."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4
FRAMES = 6


def stage(script, *arguments, cwd):
    done = subprocess.run(
        [sys.executable, str(PROJECT / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
    )
    assert done.returncode == 0, f"{script}: {done.stderr[-2000:]}"
    return done


@pytest.fixture(scope="module")
def twin_model(tmp_path_factory):
    """The tiny detector as Keras saw it and as ONNX, without what 03a leaves to the shipped detector: trimming and
    calibration."""
    pytest.importorskip("keras")
    import keras
    import tiny_model

    folder = tiny_model.build(tmp_path_factory.mktemp("twin"), trim={"top": 0.0, "bottom": 0.0})
    inputs = keras.Input((tiny_model.SIZE, tiny_model.SIZE, 3))
    out = keras.layers.Dense(1, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, out)
    model.layers[-1].set_weights([np.float32([[1 / 12], [0], [-1 / 12]]), np.zeros(1, np.float32)])
    model.save(folder / "detector.keras")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One person, tinted so little that p_real is nowhere near 0 or 1, where every way would agree."""
    import prediction_clips

    folder = tmp_path_factory.mktemp("data")
    prediction_clips.write(folder / "one.mp4", [(100, (1.10, 1.0, 0.93))], frames=30)
    return folder


@pytest.fixture(scope="module")
def by_predict(data, twin_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("predict") / "v.json"
    stage(
        "predict.py",
        data / "one.mp4",
        "--model-dir",
        twin_model,
        "--sampling",
        "even",
        "--frame-count",
        FRAMES,
        "--face-detector",
        "mtcnn_fast",
        "--json",
        out,
        cwd=out.parent,
    )
    got = json.loads(out.read_text())[0]
    assert 0.05 < got["p_real"] < 0.95 and got["frames_with_face"] == FRAMES and len(got["people"]) == 1
    return got["p_real"]


def scores_by_stages(data, folder, model_file, finding, judging=()):
    """p_real of the clip's faces by stages 00, 01a and 03a, (FRAMES,); `finding` and `judging` are options of 01a and
    03a."""
    stage(
        "00_convert_video_to_image.py",
        "--data",
        data,
        "--frames-dir",
        folder / "frames",
        "--out",
        folder,
        "--sampling",
        "even",
        "--frame-count",
        FRAMES,
        cwd=folder,
    )
    stage(
        "01a_crop_faces_mtcnn.py",
        "--data",
        data,
        "--frames-dir",
        folder / "frames",
        "--out",
        folder,
        *finding,
        cwd=folder,
    )
    for name in ("real", "fake"):  # what stage 02 makes of labelled videos; this one has no label
        (folder / "faces" / name).mkdir(parents=True)
    for face in (folder / "frames" / "one" / "faces").glob("*.png"):
        shutil.copy(face, folder / "faces" / "real")
    stage(
        "03a_load_model.py",
        "--data",
        data,
        "--model-file",
        model_file,
        "--faces-dir",
        folder / "faces",
        "--out",
        folder,
        *judging,
        cwd=folder,
    )
    return np.array([p for _, p in json.loads((folder / "cnn_preds_values.json").read_text())])


def test_numbered_stages(data, twin_model, by_predict, tmp_path):
    scores = scores_by_stages(data, tmp_path, twin_model / "detector.keras", ["--face-detector", "mtcnn_fast"])
    assert len(scores) == FRAMES and np.mean(scores) == pytest.approx(by_predict, abs=TOLERANCE)
    if not shutil.which("java"):
        pytest.skip("stage 04 needs Java")
    stage(
        "04_mapreduce_video_preds.py",
        "--preds",
        tmp_path / "cnn_preds_values.json",
        "--out",
        tmp_path,
        "--workers",
        1,
        cwd=tmp_path,
    )
    import pandas

    videos = pandas.read_csv(tmp_path / "video_predictions.csv")
    assert videos["p_real"].tolist() == pytest.approx([by_predict], abs=TOLERANCE)


def test_numbered_stages_with_the_shipped_detector(data, tmp_path):
    """Its own face finder, margin, trim, calibration and mirrored second look, from its description beside the
    weights. Cut faces do not show what surrounds them: what `predict.py` saw there is added."""
    models, out = PROJECT / "models", tmp_path / "v.json"
    stage("predict.py", data / "one.mp4", "--sampling", "even", "--frame-count", FRAMES, "--json", out, cwd=tmp_path)
    got = json.loads(out.read_text())[0]
    description = json.loads((models / "detector.json").read_text())
    margin = description["margin"]
    scores = scores_by_stages(
        data,
        tmp_path,
        models / "detector.keras",
        ["--face-detector", "yunet", "--margin", margin],
        ["--faces-margin", margin],
    )
    from deepfake_detection.aggregation import aggregate
    from deepfake_detection.detector.network import moved

    assert len(scores) == FRAMES == got["frames_with_face"]
    (person,) = got["people"]
    assert person["rim"] != 0
    whole = np.array([moved(p, person["rim"] + person["flicker"]) for p in scores])
    assert aggregate(whole, description["aggregation"]) == pytest.approx(got["p_real"], abs=1e-3)


def test_spark_faces(data, twin_model, by_predict, tmp_path):
    if not shutil.which("java"):
        pytest.skip("Spark needs Java")
    import cv2
    import pyarrow.parquet

    from deepfake_detection import Detector

    stage(
        "spark_preprocess.py",
        "--data",
        data,
        "--out",
        tmp_path,
        "--master",
        "local[1]",
        "--sampling",
        "even",
        "--frame-count",
        FRAMES,
        cwd=tmp_path,
    )
    rows = pyarrow.parquet.read_table(tmp_path / "spark_faces").to_pylist()
    crops = [
        cv2.cvtColor(cv2.imdecode(np.frombuffer(r["image"], np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        for r in rows
        if r["image"]
    ]
    assert len(crops) == FRAMES
    assert np.mean(Detector(model=str(twin_model)).score(crops)) == pytest.approx(by_predict, abs=TOLERANCE)


def test_library_and_web(data, twin_model, by_predict, tmp_path):
    from deepfake_detection import Detector

    settings = {"model": str(twin_model), "sampling": "even", "frames": FRAMES, "detector": "mtcnn_fast"}
    assert Detector(**settings).predict(data / "one.mp4").p_real == pytest.approx(by_predict, abs=1e-6)
    pytest.importorskip("fastapi")
    import time

    from deepfake_detection.web import service, store

    running = service.Service(service.Config(store=tmp_path / "store", settings=settings, workers=1))
    try:
        running.start()
        video = store.new_id()
        shutil.copy(data / "one.mp4", running.store.upload(video))
        running.store.add(video, "one.mp4", 1, None)
        running.wake()
        end = time.monotonic() + 120
        while not running.store.get(video)["result"] and time.monotonic() < end:
            time.sleep(0.1)
        assert running.store.get(video)["result"]["p_real"] == pytest.approx(by_predict, abs=TOLERANCE)
    finally:
        running.stop()
