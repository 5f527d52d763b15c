"""Stage 03 in folds: who is judged by what, that it repeats itself, and what it leaves."""

import json

import numpy as np
import pandas as pd
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.training import classifier, cross_validation, results
from deepfake_detection.training.settings import Settings


def rows(groups=8, videos=3, faces=2, features=12, seed=0, noise=1.0):
    """Videos of `groups` people, of both classes; the first feature tells the class, the others the person."""
    rng, made = np.random.default_rng(seed), []
    for g in range(groups):
        person = rng.normal(0, 2, features)
        for v in range(videos * 2):
            for _ in range(faces):
                x = person + rng.normal(0, noise, features)
                x[0] = (1.5 if v % 2 else -1.5) + rng.normal(0, noise)
                made.append((x, v % 2, f"g{g}v{v}", f"g{g}"))
    x, y, titles, group = zip(*made)
    return classifier.Rows(np.stack(x)[None], np.array(y), np.array(titles), np.array(group))


@pytest.mark.parametrize(
    "groups, k, folds",
    [
        pytest.param(8, 10, 8, id="fewer groups than folds"),
        pytest.param(12, 5, 5, id="more groups"),
        pytest.param(2, 10, 2, id="two groups"),
    ],
)
def test_no_group_is_in_two_folds_and_every_fold_can_be_learnt_from(groups, k, folds):
    made = rows(groups)
    fold = classifier.split(made.y, made.groups, k, seed=1)
    assert len(set(fold)) == folds
    assert all(len(set(fold[made.groups == g])) == 1 for g in set(made.groups))
    assert all(set(made.y[fold != f]) == {0, 1} for f in set(fold))
    np.testing.assert_array_equal(fold, classifier.split(made.y, made.groups, k, seed=1))


@pytest.mark.parametrize(
    "y, groups",
    [
        pytest.param([0, 1, 0, 1], ["a"] * 4, id="one group"),
        pytest.param([0, 0, 1, 1], ["a", "a", "b", "b"], id="a class in one group alone"),
    ],
)
def test_what_cannot_be_folded_is_refused(y, groups):
    with pytest.raises(UserError) as refused:
        classifier.split(np.array(y), np.array(groups), 5, seed=1)
    assert refused.value.hint


def test_every_face_is_judged_by_a_classifier_that_saw_nobody_of_its_group():
    """Where the label is the person, a classifier that saw the person is right, and out of fold it guesses."""
    made = rows(groups=10, noise=0.3)
    y = np.array([int(g[1:]) % 2 for g in made.groups])
    views = made.views.copy()
    views[..., 0] = 0  # nothing but the person is left
    made = classifier.Rows(views, y, made.titles, made.groups)
    fold = classifier.split(made.y, made.groups, 10, seed=1)
    p, fitted, _ = classifier.cross_validate(made, fold, seed=1)
    assert np.mean((classifier.score(fitted, views) >= 0.5) == (y == 1)) > 0.85
    assert np.mean((p >= 0.5) == (y == 1)) < 0.8


def test_a_sign_that_all_people_share_is_found_and_the_result_repeats_itself():
    from deepfake_detection.metrics import auc

    made = rows()
    fold = classifier.split(made.y, made.groups, 8, seed=1)
    p, _, history = classifier.cross_validate(made, fold, seed=1)
    assert auc(made.y, p) > 0.9 and [row["strength"] for row in history] == list(classifier.STRENGTHS)
    np.testing.assert_array_equal(p, classifier.cross_validate(made, fold, seed=1)[0])


def test_both_classes_and_all_videos_weigh_alike():
    y, titles = np.array([1, 1, 1, 0]), ["a", "a", "b", "c"]
    w = classifier.video_weights(y, titles)
    assert w.mean() == pytest.approx(1) and w[3] == pytest.approx(w[:3].sum()) and w[0] + w[1] == pytest.approx(w[2])


@pytest.fixture(scope="module")
def folded(tiny_faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("folds")
    settings = Settings(model="compact_cnn", weights="none", image_size=16, batch_size=8)
    return cross_validation.run(tiny_faces, out, settings, folds=5), out, settings


def test_the_stage_scores_every_video_once_and_keeps_a_model(folded, tiny_faces):
    import keras

    result, out, _ = folded
    faces = cross_validation.published(cross_validation.all_faces(tiny_faces))
    scored = json.loads((out / "cnn_preds_values.json").read_text())
    assert sorted(name for name, _ in scored) == sorted(faces.names) and all(0 <= p <= 1 for _, p in scored)
    videos = pd.read_csv(out / "video_scores.csv")
    assert set(videos.video) == set(faces.titles) and videos["set"].str.startswith("fold ").all()
    assert result["set"] == "out of fold" and results.in_folds(out)
    assert keras.models.load_model(out / "tmp_checkpoint" / "best_model.keras", compile=False).input_shape == (
        None,
        16,
        16,
        3,
    )
    for name in ("Confusion.png", "history.csv", "scores.csv"):
        assert (out / name).stat().st_size > 0, name


def test_a_finished_run_stands_and_a_forced_one_gives_the_same(folded, tiny_faces):
    result, out, settings = folded
    before = (out / "metrics.json").stat().st_mtime_ns
    assert (
        cross_validation.run(tiny_faces, out, settings, folds=5) == result
        and (out / "metrics.json").stat().st_mtime_ns == before
    )
    scores = (out / "cnn_preds_values.json").read_bytes()
    cross_validation.run(tiny_faces, out, settings, folds=5, force=True)
    assert (out / "cnn_preds_values.json").read_bytes() == scores


@pytest.mark.parametrize("text, value", [("auto", "auto"), ("0", 0), ("5", 5), ("1", ValueError), ("-2", ValueError)])
def test_folds_of_the_command_line(project, text, value):
    import argparse
    import importlib.util

    spec = importlib.util.spec_from_file_location("stage03", project / "03_train_cnn.py")
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)
    if value is ValueError:
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):
            stage.folds(text)
    else:
        assert stage.folds(text) == value


@pytest.mark.parametrize("text", ["[]", "null", "3", '"mark"', "{", "\x00"])
def test_results_that_are_no_object_do_not_stand(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    assert results.standing(tmp_path, "mark") is None and not results.in_folds(tmp_path)
