"""The detector that a training leaves: what it rests on, and that it says what stage 03a says."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepfake_detection.export import calibrate, own


def faces(videos, *, apart=2.0, per_group=1, seed=0, faces_each=6):
    """As scores.read_scores gives it: `videos` (reals, fakes), logits of both classes `apart`, sd 1 between videos."""
    rng, rows = np.random.default_rng(seed), []
    for label, count, middle in (("REAL", videos[0], apart / 2), ("FAKE", videos[1], -apart / 2)):
        for v in range(count):
            z = middle + rng.normal()
            for p in 1 / (1 + np.exp(-(z + 0.3 * rng.normal(size=faces_each)))):
                rows.append((f"{label}{v}", label, f"{label}g{v // per_group}", "p1", float(p)))
    return pd.DataFrame(rows, columns=["video", "label", "group", "person", "p_real"])


def means(table, found):
    from deepfake_detection.aggregation import Calibration

    p = Calibration.from_dict(found["calibration"]).apply(table["p_real"].to_numpy())
    return table.assign(p=p).groupby("video").agg(p=("p", "mean"), label=("label", "first"))


def test_with_many_groups_the_rates_hold():
    table = faces((200, 200))
    found = own.fit(table)
    videos, bounds = means(table, found), found["thresholds"]
    assert (videos.p[videos.label == "REAL"] < bounds["fake_below"] - 1e-9).mean() <= calibrate.FAKE_RATE
    assert (videos.p[videos.label == "FAKE"] >= bounds["real_above"]).mean() <= calibrate.ERROR_RATE
    assert 0 < bounds["fake_below"] <= 0.5 <= bounds["real_above"] < 1
    assert found["fitted_on"]["real_groups"] == found["fitted_on"]["fake_groups"] == 200


@pytest.mark.parametrize(
    "groups", [pytest.param(2, id="2"), pytest.param(3, id="3"), pytest.param(6, id="6"), pytest.param(20, id="20")]
)
def test_few_groups_seldom_call_an_untouched_stranger_fake(groups):
    """Over many small validation sets of one world: the share of new untouched videos that would be called FAKE."""
    from deepfake_detection.aggregation import Calibration

    strangers, rates = faces((1000, 0), seed=99, faces_each=1)["p_real"].to_numpy(), []
    for seed in range(30):
        found = own.fit(faces((groups, groups), seed=seed, faces_each=2))
        p = Calibration.from_dict(found["calibration"]).apply(strangers)
        rates.append((p < found["thresholds"]["fake_below"]).mean())
    assert np.mean(rates) <= calibrate.FAKE_RATE + 0.02


@pytest.mark.parametrize(
    "table, why",
    [
        pytest.param(faces((4, 4), apart=-6.0), "wrong way", id="scores of the wrong polarity"),
        pytest.param(faces((5, 0)), "both real and fake", id="no fake"),
    ],
)
def test_scores_that_support_no_threshold_leave_everything_unsure(table, why):
    found = own.fit(table)
    assert found["thresholds"] == {"fake_below": 0.0, "real_above": 1.0} and why in found["fitted_on"]["no_thresholds"]


def test_one_group_calls_nobody_fake():
    found = own.fit(faces((6, 6), apart=5.0, per_group=6))
    assert found["thresholds"] == {"fake_below": 0.0, "real_above": 1.0}
    assert found["fitted_on"]["real_groups"] == 1 and found["fitted_on"]["real_videos"] == 6


@pytest.mark.parametrize("sizes", [pytest.param((1, 1), id="1 + 1"), pytest.param((6, 6), id="6 + 6 of one group")])
def test_bounds_that_leave_everything_unsure_are_said_to(sizes):
    found = own.fit(faces(sizes, apart=5.0, per_group=6))
    found["fitted_on"]["set"] = "validation"
    said = "\n".join(own._lines(Path("detector"), found))
    assert "every verdict of it is UNSURE: so few people" in said and "FAKE below" not in said


def test_few_separated_videos_do_not_make_scores_certain():
    table = faces((3, 3), apart=20.0)
    videos = means(table, own.fit(table))
    assert videos.p.between(0.1, 0.9).all() and videos.p[videos.label == "REAL"].min() > 0.6


def test_every_video_weighs_alike():
    table = faces((30, 30))
    many = pd.concat([table, *[table[table.video == "REAL0"]] * 40], ignore_index=True)
    a, b = own.fit(table)["calibration"], own.fit(many)["calibration"]
    assert a["temperature"] == pytest.approx(b["temperature"], rel=1e-4)


FOUND = {"detector": "mtcnn_fast", "min_face_px": 20.0, "confidence": None}
LOOKED = {"sampling": "per-second", "frames": None, "scale": "published"}


@pytest.mark.parametrize(
    "cut, looked, wanted",
    [
        pytest.param(None, None, {}, id="no record"),
        pytest.param(FOUND, LOOKED, {}, id="the stages' defaults"),
        pytest.param(FOUND | {"detector": "mtcnn"}, LOOKED, {}, id="package mtcnn"),
        pytest.param(
            {"detector": "yunet", "min_face_px": 30.0, "confidence": 0.7},
            {"sampling": "keyframes", "frames": 9, "scale": 0.5},
            {
                "detector": "yunet",
                "min_face_px": 30.0,
                "confidence": 0.7,
                "sampling": "keyframes",
                "frames": 9,
                "scale": 0.5,
            },
            id="everything else",
        ),
        pytest.param(FOUND, None, {}, id="half a record"),
    ],
)
@pytest.mark.parametrize("source", ["frames", "video"])
def test_faces_are_found_as_for_the_training(tmp_path, cut, looked, wanted, source):
    """From the record of 01a after 00, and of 01a --direct; of two kinds of faces the more frequent."""
    for title, detector in (("a", None), ("b", None), ("c", "yunet")):
        if cut:
            (tmp_path / title / "faces").mkdir(parents=True)
            settings = cut | ({"detector": detector} if detector else {})
            record = {"settings": settings, "source": {source: {"settings": looked}}}
            (tmp_path / title / "faces" / "faces.json").write_text(json.dumps(record))
    assert own.making(tmp_path, ["a", "a", "b", "c"], 0.2) == own.Making(margin=0.2, **wanted)
    assert own.making(None, ["a"]) == own.Making()


@pytest.mark.parametrize("name, leaves", [("efficientnet_b0", True), ("mesonet", True), ("cnn_lstm", False)])
def test_a_notice_before_the_training_of_a_sequence_model(name, leaves):
    said = own.notice(name)
    assert (said == "") == leaves and (leaves or ("--model-dir" in said and "03a_load_model.py" in said))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Stage 03 on tiny pictures, from a model with a description: tighter than the faces, with the mirror image."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))
    from conftest import draw

    from deepfake_detection.training.settings import Settings
    from deepfake_detection.training.stage import run

    root = tmp_path_factory.mktemp("own")
    dataset = draw(root)
    settings = Settings(
        model="compact_cnn", weights="none", image_size=16, epochs=6, batch_size=8, augment="none", learning_rate=1e-2
    )
    run(dataset, root, settings)
    return root, dataset


def test_the_folder_says_what_03a_says(trained, tmp_path):
    """Of the same faces, and of crops as predict.py cuts them."""
    from deepfake_detection.detector.network import DetectorModel
    from deepfake_detection.faces import pictures
    from deepfake_detection.training import scoring

    out, dataset = trained
    lines = own.make(out, dataset)
    assert "--model-dir" in lines[0] and (out / "detector" / "detector.onnx").is_file()
    model = DetectorModel.load(out / "detector")
    assert model.config["name"] == "own-compact_cnn" and model.config["fitted_on"]["set"] == "validation"
    assert model.config["fitted_on"]["real_groups"] == 4 and model.config["agreement_with_keras"]["largest"] < 1e-4
    scoring.run(out / "detector" / "detector.keras", dataset / "test", tmp_path)
    rows = json.loads((tmp_path / "cnn_preds_values.json").read_text())
    crops = [np.ascontiguousarray(pictures.read(dataset / "test" / name)[:, :, ::-1]) for name, _ in rows]
    np.testing.assert_allclose(model.predict(crops), [p for _, p in rows], atol=5e-5)
    assert np.ptp([p for _, p in rows]) > 0.1


def test_it_stands_until_the_model_or_its_scores_change(trained):
    out, dataset = trained
    own.make(out, dataset)
    before = (out / "detector" / "detector.json").stat().st_mtime_ns
    own.make(out, dataset)
    assert (out / "detector" / "detector.json").stat().st_mtime_ns == before
    (out / "detector" / "detector.onnx").write_bytes(b"")
    own.make(out, dataset)
    assert (out / "detector" / "detector.onnx").stat().st_size > 1000


def test_it_sees_the_part_that_the_training_saw(trained, tmp_path):
    """A model that starts from one with a description sees a part of each face; in folds its mirror image too."""
    import shutil

    from deepfake_detection.detector.network import DetectorModel
    from deepfake_detection.faces import pictures
    from deepfake_detection.training import scoring

    out, dataset = trained
    for name in ("metrics.json", "tmp_checkpoint"):
        (shutil.copytree if (out / name).is_dir() else shutil.copy)(out / name, tmp_path / name)
    (tmp_path / "tmp_checkpoint" / "best_model.json").write_text(
        json.dumps({"margin": 0.1, "trim": {"top": 0.2, "bottom": 0.1}, "flip": True})
    )
    own.make(tmp_path, dataset)
    model = DetectorModel.load(tmp_path / "detector")
    assert model.config["margin"] == 0.3 and model.config["flip"]
    results = []
    for file in ("tmp_checkpoint/best_model.keras", "detector/detector.keras"):
        scoring.run(tmp_path / file, dataset / "test", tmp_path / "scores")
        results.append(json.loads((tmp_path / "scores" / "cnn_preds_values.json").read_text()))
    crops = [np.ascontiguousarray(pictures.read(dataset / "test" / name)[:, :, ::-1]) for name, _ in results[0]]
    np.testing.assert_allclose(model.predict_raw(crops), [p for _, p in results[0]], atol=1e-5)
    np.testing.assert_allclose(model.predict(crops), [p for _, p in results[1]], atol=5e-5)


def test_a_sequence_model_leaves_none_and_removes_the_one_before(trained, tmp_path):
    import shutil

    out, dataset = trained
    own.make(out, dataset)
    shutil.copytree(out / "detector", tmp_path / "detector")
    metrics = json.loads((out / "metrics.json").read_text())
    metrics["training"]["settings"]["model"] = "cnn_lstm"
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert own.make(tmp_path, dataset) == [] and not (tmp_path / "detector").exists()
