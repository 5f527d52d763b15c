"""Stage 03: a training that was interrupted ends in the weights of one that was not, and its outputs are what they
say."""

import dataclasses
import json

import numpy as np
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.names import title_of
from deepfake_detection.training import checkpoint, loop, results, scoring, session, stage, start
from deepfake_detection.training.face_list import find_faces
from deepfake_detection.training.folders import FolderTraining
from deepfake_detection.training.input_pipeline import FaceStore, epoch_order
from deepfake_detection.training.settings import Settings
from deepfake_detection.training.stores import card_of, part_of

TINY = Settings(
    model="compact_cnn", weights="none", image_size=16, epochs=3, batch_size=8, learning_rate=3e-3, augment="published"
)


@pytest.fixture(scope="module")
def dataset(tiny_faces):
    return tiny_faces


@pytest.fixture(scope="module")
def stores(dataset):
    session.start(seed=1, announce=False)
    return {s: FaceStore(find_faces(dataset / s), 16) for s in ("train", "val")}


def trained(folder, settings, stores, **options):
    folder.mkdir(parents=True, exist_ok=True)
    session.start(seed=settings.seed, precision=settings.precision, announce=False)
    model, *_ = start.build_started(settings)
    training = FolderTraining(model, stores["train"], stores["val"], settings)
    progress = loop.fit(training, folder, mark="m", **options)
    with np.load(folder / "training_state.npz") as state:
        arrays = {k: state[k] for k in state.files if k != "progress"}
    return progress, arrays


@pytest.mark.parametrize(
    "change",
    [
        {},
        {
            "ema": 0.9,
            "schedule": "cosine",
            "warmup_epochs": 1.0,
            "optimizer": "adamw",
            "balance": "sample",
            "freeze": "backbone",
            "unfreeze_after": 2,
            "label_smoothing": 0.1,
        },
    ],
    ids=["published", "everything"],
)
def test_a_resumed_training_equals_an_undisturbed_one(tmp_path, stores, change):
    settings = dataclasses.replace(TINY, **change)
    whole, expected = trained(tmp_path / "whole", settings, stores)
    trained(tmp_path / "parts", settings, stores, stop_after=2)  # "everything": on the edge between two phases
    resumed, got = trained(tmp_path / "parts", settings, stores)
    assert [r["val_loss"] for r in resumed.history] == [r["val_loss"] for r in whole.history]
    assert (resumed.best_epoch, resumed.wait, resumed.epoch) == (whole.best_epoch, whole.wait, whole.epoch)
    assert expected.keys() == got.keys()
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])


@pytest.mark.parametrize("dropout, same", [pytest.param(0.0, True, id="none"), pytest.param(0.5, False, id="dropout")])
def test_what_keras_backup_alone_restores(tmp_path, dropout, same):
    """Why `checkpoint` is not Keras' BackupAndRestore: that one loses the state of the dropout generators."""
    import keras

    x = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)

    def weights(*epochs):
        for count in epochs:
            keras.utils.set_random_seed(1)
            layers = [keras.layers.Dense(8), keras.layers.Dropout(dropout), keras.layers.Dense(1, activation="sigmoid")]
            model = keras.Sequential([keras.Input((8,)), *layers])
            model.compile("adam", "binary_crossentropy")
            backup = keras.callbacks.BackupAndRestore(tmp_path / str(epochs), delete_checkpoint=False)
            model.fit(x, x[:, :1] > 0, epochs=count, shuffle=False, verbose=0, callbacks=[backup])
        return model.get_weights()

    assert all(np.array_equal(a, b) for a, b in zip(weights(4), weights(2, 4), strict=True)) is same


def test_what_an_average_of_keras_leaves_after_a_fit():
    """Why `loop.WeightAverage` is not Keras' `use_ema`: after an epoch the weights would be their average."""
    import keras

    x = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)

    def weights(**options):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, activation="sigmoid")])
        model.compile(keras.optimizers.SGD(0.1, **options), "binary_crossentropy")
        model.fit(x, x[:, :1] > 0, batch_size=8, shuffle=False, verbose=0)
        return model.get_weights()[0]

    assert not np.allclose(weights(), weights(use_ema=True, ema_momentum=0.9), atol=1e-3)


@pytest.mark.parametrize(
    "warm, expected",
    [pytest.param(False, [1.0, 1.1, 1.29], id="plain"), pytest.param(True, [0.9, 1.8, 2.7], id="warm")],
)
def test_averages_of_a_weight(warm, expected):
    """Of the weight 1, 2, 3, which was 0 before: plain from the first step's on, as Keras averages."""
    import keras

    weight = keras.Variable(0.0)
    average = loop.WeightAverage([weight], 0.9, warm=warm)
    for value, wanted in zip((1.0, 2.0, 3.0), expected):
        weight.assign(value)
        average.update()
        with average:
            assert float(weight) == pytest.approx(wanted)
        assert float(weight) == value


def test_an_interrupt_in_the_middle_of_an_epoch_loses_that_epoch_only(tmp_path, stores, monkeypatch):
    _, expected = trained(tmp_path / "whole", TINY, stores)
    calls = iter(range(10**6))
    get = FaceStore.get

    def interrupted(self, indices):
        if self is stores["train"] and next(calls) == 8:  # six batches an epoch: in the second one
            raise KeyboardInterrupt
        return get(self, indices)

    monkeypatch.setattr(FaceStore, "get", interrupted)
    with pytest.raises(BaseException):  # noqa: B017 (TensorFlow wraps it, or not)
        trained(tmp_path / "parts", TINY, stores)
    monkeypatch.undo()
    assert checkpoint.read_progress(tmp_path / "parts" / "training_state.npz").epoch == 1
    _, got = trained(tmp_path / "parts", TINY, stores)
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])


def test_a_training_of_other_settings_or_a_broken_state_starts_anew(tmp_path, stores, capsys):
    trained(tmp_path, TINY, stores, stop_after=2)
    session.start(seed=1, announce=False)
    model, *_ = start.build_started(TINY)
    training = FolderTraining(model, stores["train"], stores["val"], dataclasses.replace(TINY, epochs=1))
    progress = loop.fit(training, tmp_path, mark="other")
    assert progress.epoch == 1 and "starting anew" in capsys.readouterr().err
    (tmp_path / "training_state.npz").write_bytes(b"PK broken")
    assert checkpoint.read_progress(tmp_path / "training_state.npz") is None


def test_early_stopping_counts_over_a_restart(tmp_path, stores):
    settings = dataclasses.replace(
        TINY, epochs=20, patience=2, augment="none", learning_rate=1e-9
    )  # nothing improves for long
    whole, _ = trained(tmp_path / "whole", settings, stores)
    assert whole.wait == 2 and whole.epoch < 20
    trained(tmp_path / "parts", settings, stores, stop_after=whole.epoch - 1)
    resumed, _ = trained(tmp_path / "parts", settings, stores)
    assert resumed.epoch == whole.epoch


def test_the_stage_end_to_end(tmp_path, dataset, capsys, monkeypatch):
    import keras

    settings = dataclasses.replace(TINY, epochs=8, augment="none", learning_rate=1e-2)
    result = stage.run(dataset, tmp_path, settings)
    for name in (
        "tmp_checkpoint/best_model.keras",
        "tmp_checkpoint/best_model.h5",
        "history.csv",
        "Loss.png",
        "Accuracy.png",
        "Confusion.png",
        "ROC.png",
        "metrics.json",
        "cnn_preds_values.json",
        "stage_reports/03_train_cnn_videos.csv",
    ):
        assert (tmp_path / name).stat().st_size > 0, name
    assert list((tmp_path / "logs" / "train").glob("events.out.tfevents.*"))
    assert result == json.loads((tmp_path / "metrics.json").read_text())
    assert result["faces"]["count"] == 24 and result["videos"]["count"] == 8
    assert result["faces"]["auc"]["value"] > 0.9 and result["videos"]["auc"]["value"] > 0.9
    rows = json.loads((tmp_path / "cnn_preds_values.json").read_text())
    assert rows[0][0] == "real/test-real-clip0-000-00.png" and len(rows) == 24

    # Plain Keras opens both files, and they say what stage 03 wrote.
    test = FaceStore(find_faces(dataset / "test"), 16)
    for name in ("best_model.keras", "best_model.h5"):
        model = keras.models.load_model(tmp_path / "tmp_checkpoint" / name)
        np.testing.assert_allclose(
            model.predict(test.get(np.arange(24)), verbose=0)[:, 0], [p for _, p in rows], atol=1e-6
        )

    # 03a: the same numbers from the file, whatever the batch size.
    again = scoring.run(tmp_path / "tmp_checkpoint" / "best_model.h5", dataset / "test", tmp_path / "a", batch_size=5)
    np.testing.assert_allclose(
        [p for _, p in json.loads((tmp_path / "a" / "cnn_preds_values.json").read_text())],
        [p for _, p in rows],
        atol=1e-6,
    )
    assert again["faces"]["auc"] == result["faces"]["auc"]

    # A finished run is not repeated; a result that was removed is made again without training.
    monkeypatch.setattr(loop, "fit", None)
    assert stage.run(dataset, tmp_path, settings) == result
    assert "finished" in capsys.readouterr().err
    before = (tmp_path / "cnn_preds_values.json").read_bytes()
    (tmp_path / "cnn_preds_values.json").unlink()
    stage.run(dataset, tmp_path, settings)
    assert (tmp_path / "cnn_preds_values.json").read_bytes() == before


def script(project, name):
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, project / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_scripts(project, tmp_path, dataset, capsys):
    common = ["--out", str(tmp_path), "--workers", "1"]
    script(project, "03_train_cnn").main(
        [
            *common,
            "--dataset",
            str(dataset),
            "--architecture",
            "compact_cnn",
            "--weights",
            "none",
            "--image-size",
            "16",
            "--epochs",
            "1",
            "--batch-size",
            "8",
            "--augment",
            "none",
            "--max-steps",
            "2",
            "--seeds",
            "2",
        ]
    )
    said = capsys.readouterr().out
    assert "faces_auc" in said and "learning_rate" in said
    rows = (tmp_path / "seeds.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["seed", "1", "2", "mean", "std"]
    model = tmp_path / "seed_2" / "tmp_checkpoint" / "best_model.keras"
    script(project, "03a_load_model").main([*common, "--model-file", str(model), "--faces-dir", str(dataset / "val")])
    assert "24 faces (12 real, 12 fake, 8 groups)" in capsys.readouterr().out
    assert (tmp_path / "stage_reports" / "03a_load_model_videos.csv").is_file()


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("03_train_cnn", ["--epochs", "0"]),
        ("03_train_cnn", ["--epoch", "3"]),
        ("03a_load_model", ["--faces-margin", "x"]),
    ],
)
def test_bad_options_are_refused(project, name, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        script(project, name).main(arguments)
    assert stop.value.code == 2


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.parametrize(
    "options, said",
    [
        pytest.param({"model": "resnet50"}, "holds a compact_cnn, not a resnet50", id="another architecture"),
        pytest.param({"image_size": 32}, "faces of 16 x 16 pixels, not 32", id="another size"),
        pytest.param({"model": "compact_cnn", "image_size": 16}, "", id="what it is"),
    ],
)
def test_a_whole_model_that_is_another_than_was_said(tmp_path, name, options, said):
    session.start(seed=1, announce=False)
    start.build_started(TINY)[0].save(tmp_path / name)
    if not said:
        assert scoring.load(tmp_path / name, **options).input_shape == (None, 16, 16, 3)
        return
    with pytest.raises(UserError, match=said) as refused:
        scoring.load(tmp_path / name, **options)
    assert refused.value.hint


def test_an_architecture_says_nothing_of_a_whole_model_of_others(tmp_path, capsys):
    import keras

    session.start(seed=1, announce=False)
    model = keras.models.clone_model(start.build_started(TINY)[0])
    keras.Model(model.inputs, model.outputs, name="theirs").save(tmp_path / "m.keras")
    scoring.load(tmp_path / "m.keras", model="resnet50")
    assert "note: --architecture does nothing here" in capsys.readouterr().err


def test_predicting_unlabelled_faces_and_others_names(tmp_path, dataset):
    import shutil

    faces = tmp_path / "mine"
    faces.mkdir()
    for i, path in enumerate(sorted((dataset / "test" / "real").iterdir())[:3]):
        shutil.copy(path, faces / ("holiday.png" if i == 0 else f"holiday-{i:03d}-00.png"))
    session.start(seed=1, announce=False)
    model, *_ = start.build_started(TINY)
    model.save(tmp_path / "m.keras")
    result = scoring.run(tmp_path / "m.keras", faces, tmp_path / "out")
    assert "faces" not in result and not (tmp_path / "out" / "ROC.png").exists()
    names = [name for name, _ in json.loads((tmp_path / "out" / "cnn_preds_values.json").read_text())]
    assert names == ["holiday-001-00.png", "holiday-002-00.png", "holiday-000-00.png"]


@pytest.fixture
def by_title(tmp_path):
    """A frames folder as stage 01a leaves it: two faces a title, one title without a face, frames beside the faces."""
    import cv2

    for title in ("ann", "ben-2-x", "nobody"):
        folder = tmp_path / "out" / "frames" / title / "faces"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder.parent / f"{title}-000.png"), np.zeros((40, 40, 3), np.uint8))
        (folder / "boxes.csv").write_text("frame\n")
        for i in range(0 if title == "nobody" else 2):
            cv2.imwrite(str(folder / f"{title}-{i:03d}-00.png"), np.full((20, 20, 3), 100 * i, np.uint8))
    return tmp_path / "out"


@pytest.mark.parametrize(
    "where, names",
    [
        pytest.param(
            "frames",
            ["real/ann-000-00.png", "real/ann-001-00.png", "ben-2-x-000-00.png", "ben-2-x-001-00.png"],
            id="folder of titles",
        ),
        pytest.param("frames/ann", ["real/ann-000-00.png", "real/ann-001-00.png"], id="one title"),
        pytest.param("frames/ben-2-x/faces", ["ben-2-x-000-00.png", "ben-2-x-001-00.png"], id="its faces"),
    ],
)
def test_faces_as_stage_01a_writes_them(by_title, where, names):
    """Named as score files name them, with the labels that are known, and never the frames beside the faces."""
    faces = find_faces(by_title / where, truth={"ann": 1}, groups={"ann": "Ann"})
    assert list(faces.names) == names and faces.y.tolist() == [1 if n.startswith("real/") else -1 for n in names]
    assert all(path.is_file() for path in faces.paths()) and set(faces.titles) <= {"ann", "ben-2-x"}
    assert faces.groups[0] == ("Ann" if faces.titles[0] == "ann" else "ben-2-x")
    assert faces.take([1]).paths() == faces.paths()[1:2]
    with pytest.raises(UserError, match="no face picture"):
        find_faces(by_title / "frames" / "nobody")


@pytest.mark.parametrize("labelled", [True, False], ids=["01a's account", "no account"])
def test_03a_scores_the_frames_folder(project, tmp_path, by_title, labelled):
    session.start(seed=1, announce=False)
    start.build_started(TINY)[0].save(tmp_path / "m.keras")
    if labelled:
        (by_title / "stage_reports").mkdir()
        (by_title / "stage_reports" / "01a_videos.csv").write_text(
            "title,video,label,status\nann,ann.mp4,REAL,ok\nben-2-x,b.mp4,FAKE,ok\nnobody,n.mp4,FAKE,no face\n"
        )
    script(project, "03a_load_model").main(
        [f"--model-file={tmp_path / 'm.keras'}", f"--faces-dir={by_title / 'frames'}", f"--out={tmp_path / 'r'}"]
    )
    rows = json.loads((tmp_path / "r" / "cnn_preds_values.json").read_text())
    word = lambda name: f"{name}/" if labelled else ""
    assert [name for name, _ in rows] == [
        *(f"{word('real')}ann-{i:03d}-00.png" for i in (0, 1)),
        *(f"{word('fake')}ben-2-x-{i:03d}-00.png" for i in (0, 1)),
    ]
    account = (tmp_path / "r" / "stage_reports" / "03a_load_model_videos.csv").read_text().splitlines()
    assert account[-1] == ("nobody,FAKE,,no face,0," if labelled else "nobody,,,no face,0,") and len(account) == 4
    metrics = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert ("videos" in metrics) == labelled


def test_03a_scores_no_video_that_stage_00_left_out_since(project, tmp_path, by_title):
    from deepfake_detection import stage_report

    session.start(seed=1, announce=False)
    start.build_started(TINY)[0].save(tmp_path / "m.keras")
    stage_report.write_left_out(by_title / "frames", ["ann", "never"])
    script(project, "03a_load_model").main(
        [f"--model-file={tmp_path / 'm.keras'}", f"--faces-dir={by_title / 'frames'}", f"--out={tmp_path / 'r'}"]
    )
    rows = json.loads((tmp_path / "r" / "cnn_preds_values.json").read_text())
    assert [name for name, _ in rows] == [f"ben-2-x-{i:03d}-00.png" for i in (0, 1)]
    account = (tmp_path / "r" / "stage_reports" / "03a_load_model_videos.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0::3][:2] for line in account] == [
        ["ben-2-x", "ok"],
        ["nobody", "no face"],
        ["ann", "left out"],
        ["never", "left out"],
    ]


def test_03a_knows_the_groups_of_stage_02(by_title):
    from deepfake_detection.training import known

    (by_title / "stage_reports").mkdir()
    (by_title / "stage_reports" / "01a_videos.csv").write_text("title,label\nann,REAL\nben-2-x,FAKE\nnobody,\n")
    (by_title / "split_manifest.csv").write_text("title,group\nann,ann\nben-2-x,ann\n")
    assert known.recorded(by_title) == {"ann": (1, "ann"), "ben-2-x": (0, "ann"), "nobody": (-1, "nobody")}


@pytest.mark.parametrize(
    "broken, message",
    [
        ("no folder", "no such folder of faces"),
        ("no class", "class folder fake is missing"),
        ("empty class", "the class 'fake' has no face"),
        ("no face decodes", "no face of the class 'fake' can be decoded"),
    ],
)
def test_bad_datasets_are_named(tmp_path, draw_faces, broken, message):
    import shutil

    data = draw_faces(tmp_path, (3, 3, 3))
    fake = data / "train" / "fake"
    if broken == "no folder":
        shutil.rmtree(data / "train")
    elif broken == "no face decodes":
        for path in fake.iterdir():
            path.write_bytes(b"not a picture")
    else:
        shutil.rmtree(fake)
        if broken == "empty class":
            fake.mkdir()
    with pytest.raises(UserError, match=message):
        stage.run(data, tmp_path / "out", TINY)


def test_an_unreadable_face_is_named_and_left_out(dataset, tmp_path, capsys):
    import shutil

    shutil.copytree(dataset / "val", tmp_path / "val")
    broken = sorted((tmp_path / "val" / "real").iterdir())[2]
    broken.write_bytes(b"")
    for cache in (None, 0):
        store = FaceStore(find_faces(tmp_path / "val"), 16, cache_bytes=cache)
        assert store.unreadable == [f"real/{broken.name}"] and len(store) == 23
        assert broken.name in capsys.readouterr().err
        np.testing.assert_array_equal(
            store.get(np.array([2]))[0], FaceStore(find_faces(dataset / "val"), 16).get(np.array([3]))[0]
        )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": "vgg"}, "no model named"),
        ({"weights": "/nowhere.h5"}, "no such weights file"),
        ({"optimizer": "rmsprop"}, "--optimizer"),
        ({"unfreeze_after": 2}, "none are frozen"),
        ({"image_size": 8}, "at least 16 pixels"),
        ({"ema": 1.0}, "--ema"),
        ({"weight_decay": -1.0}, "--weight-decay"),
        ({"replicas": 2}, "--replicas"),
        ({"features": "mesonet"}, "no feature extractor"),
        ({"sequence_length": 3}, "no sequence model"),
        ({"freeze": "conv9"}, "no layer named 'conv9'"),
    ],
)
def test_bad_settings_are_named(tmp_path, dataset, change, message):
    with pytest.raises(UserError, match=message):
        stage.run(dataset, tmp_path, dataclasses.replace(TINY, **change))


def test_the_architecture_is_drawn(tmp_path, monkeypatch):
    pytest.importorskip("pydot")
    monkeypatch.setenv("PATH", "")  # without Graphviz: the drawing's source, which is there in any case
    path = start.plot_model(TINY, tmp_path)
    assert path.name == "architecture.dot" and "conv2d_4" in path.read_text()


def test_order_of_an_epoch():
    y = np.array([1] * 10 + [0] * 30)
    orders = [epoch_order(y, seed=3, epoch=e) for e in (0, 0, 1)]
    assert (orders[0] == orders[1]).all() and (orders[0] != orders[2]).any() and sorted(orders[2]) == list(range(40))
    balanced = epoch_order(y, seed=3, epoch=0, balance=True)
    assert len(balanced) == 40 and y[balanced].sum() == 20
    counts = np.bincount(balanced, minlength=40)
    assert set(counts[:10]) == {2} and set(counts[10:]) <= {0, 1}


@pytest.mark.parametrize(
    "name, title",
    [
        ("real/abc-004-01.png", "abc"),
        ("fake/my-clip-2-010-00.png", "my-clip-2"),
        ("x/aabq.jpg", "aabq"),
        ("a-1.png", "a-1"),
        ("fake/id0_id1_0000-003-00.jpg", "id0_id1_0000"),
    ],
)
def test_title_of_a_face(name, title):
    assert title_of(name) == title


def test_metrics_refuse_what_the_data_does_not_support(dataset):
    faces = find_faces(dataset / "test")
    reals = faces.take(np.flatnonzero(faces.y == 1))
    result = results.metrics_of(reals, np.full(len(reals), 0.7))
    assert "refused" in result["faces"]["auc"] and result["faces"]["accuracy"]["value"] == 1.0
    assert any("not computed" in line for line in results.summary(result))


@pytest.mark.parametrize(
    "faces_margin, model_margin, trim, part",
    [
        (0.3, 0.3, {}, (0, 0, 1, 1)),
        (0.3, 0.1, {}, (0.125, 0.125, 0.875, 0.875)),
        (0.1, 0.3, None, (0, 0, 1, 1)),
        (0.3, 0.0, {"top": 0.2, "bottom": 0.1}, (0.1875, 0.3125, 0.8125, 0.75)),
    ],
)
def test_the_part_of_a_crop_that_a_tighter_model_sees(faces_margin, model_margin, trim, part):
    assert part_of(faces_margin, model_margin, trim) == pytest.approx(part)


@pytest.mark.parametrize("flip", [False, True])
def test_a_model_with_a_description_sees_its_part_and_is_calibrated(tmp_path, dataset, flip):
    session.start(seed=1, announce=False)
    model, *_ = start.build_started(TINY)
    model.save(tmp_path / "m.keras")
    card = {
        "margin": 0.0,
        "trim": {"top": 0.2, "bottom": 0.1},
        "calibration": {"temperature": 2.0, "bias": 0.5},
        "flip": flip,
    }
    (tmp_path / "m.json").write_text(json.dumps(card))
    scoring.run(tmp_path / "m.keras", dataset / "test", tmp_path / "out")
    got = [p for _, p in json.loads((tmp_path / "out" / "cnn_preds_values.json").read_text())]
    store = FaceStore(find_faces(dataset / "test"), 16, part=(0.1875, 0.3125, 0.8125, 0.75))
    faces = store.get(np.arange(24))
    raw = model.predict(faces, verbose=0)[:, 0]
    if flip:
        mirrored = model.predict(faces[:, :, ::-1], verbose=0)[:, 0]
        assert np.abs(raw - mirrored).max() > 1e-5
        raw = (raw + mirrored) / 2
    np.testing.assert_allclose(got, scoring.calibrated(raw, card["calibration"]), atol=1e-6)
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(UserError, match="description"):
        card_of(tmp_path / "m.keras")
