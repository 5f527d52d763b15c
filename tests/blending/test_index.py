"""An index from folders of videos and pictures, what it refuses, recipes, and a detector trained from folders alone."""

import csv
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from deepfake_detection.blending import index, recipe, sampler
from deepfake_detection.blending.faces import read_index
from deepfake_detection.blending.sampler import Sampler, Settings
from deepfake_detection.detector.network import DetectorModel
from deepfake_detection.errors import UserError

PEOPLE = ("longhair_zoom-call", "sunglasses_old-phone", "curly_vertical", "astronaut_close-up")


@pytest.fixture(scope="module")
def folders(sample, tmp_path_factory):
    """Two folders of labelled videos (four people, each untouched and altered) and one of portraits."""
    root = tmp_path_factory.mktemp("given")
    for name, people in (("one", PEOPLE[:2]), ("two", PEOPLE[2:])):
        (root / name).mkdir()
        with open(root / name / "labels.csv", "w", newline="") as f:
            table = csv.writer(f)
            table.writerow(("path", "label", "person", "original", "manipulation"))
            for who in people:
                for clip, label in ((who, "real"), (f"{who}_mirror", "fake")):
                    shutil.copy(sample / f"{clip}.mp4", root / name)
                    fake = label == "fake"
                    table.writerow((f"{clip}.mp4", label, who, f"{who}.mp4" * fake, "mirror" * fake))
    (root / "portraits" / "deeper").mkdir(parents=True)
    for number, clip in enumerate(("man_selfie", "woman_worried")):
        ok, frame = cv2.VideoCapture(str(sample / f"{clip}.mp4")).read()
        assert ok and cv2.imwrite(str(root / "portraits" / ("deeper" * number) / f"{clip}.png"), frame)
    return root


def test_an_index_of_folders(folders, tmp_path):
    data, portraits = [folders / "one", folders / "two"], [folders / "portraits"]
    table = read_index(index.write(tmp_path / "index.csv", data, portraits))
    clips = table[table.frames != ""]
    assert clips.groupby("source").size().to_dict() == {"one": 4, "two": 4}
    assert clips.groupby("split").label.nunique().to_dict() == {"train": 2, "val": 2, "unseen": 2}
    fakes = clips[clips.label == "fake"]
    assert [f.replace("_mirror", "") for f in fakes.file] == list(fakes.original) and set(fakes.manipulation) == {
        "mirror"
    }
    stills = table[table.source == "portraits"]
    assert set(stills.split) == {"train"} and set(stills.label) == {"real"} and stills.group.nunique() == 2
    again = index.write(tmp_path / "again.csv", data, portraits)
    assert again.read_bytes() == (tmp_path / "index.csv").read_bytes()


def test_folders_of_one_name_are_two_sources(folders, tmp_path):
    shutil.copytree(folders / "two", tmp_path / "one")
    table = read_index(index.write(tmp_path / "index.csv", [folders / "one", tmp_path / "one"]))
    assert table.groupby("source").size().to_dict() == {"one": 4, "one-2": 4}


@pytest.mark.parametrize(
    "data, real_faces, said",
    [
        pytest.param(["portraits"], [], "no videos", id="no videos"),
        pytest.param(["one"], [], "too few identity groups", id="too few people"),
        pytest.param(["one", "one"], [], "named twice", id="a folder twice"),
        pytest.param(["one", "two"], ["gone"], "no such folder", id="no such folder of pictures"),
        pytest.param(["one", "two"], ["empty"], "no pictures", id="an empty one"),
    ],
)
def test_folders_that_give_no_index(folders, tmp_path, data, real_faces, said):
    (folders / "empty").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=said) as refused:
        index.write(tmp_path / "i.csv", [folders / f for f in data], [folders / f for f in real_faces])
    assert refused.value.hint and not (tmp_path / "i.csv").exists()


def test_the_usual_shares_are_of_stills_clips_and_fakes(cut_faces):
    table = sampler.trained_on(cut_faces).copy()
    table.loc[table.source == "ffhq", "time_s"] = 0.0
    shares = recipe.usual(table)
    assert [(kind, count) for kind, _, count in shares] == [("blend", 10), ("blend", 10), ("given", 10)]
    assert set(shares[0][1]) == {"ffhq"} and "ffhq" not in shares[1][1]
    assert set(shares[2][1]) == set(table.source[table.label == "fake"])
    assert sum(count for *_, count in recipe.usual(table[table.label == "real"])) == recipe.PAIRS
    assert Sampler(cut_faces, Settings(size=32)).pairs == recipe.PAIRS


def test_the_shipped_recipe(cut_faces, project):
    made = recipe.read(project / "recipes" / "detector.json")
    assert sum(count for *_, count in made.shares) == 30 and made.least_sharpness == {"utkface": 50.0}
    assert all(sum(sources.values()) == pytest.approx(1) for _, sources, _ in made.shares)
    settings = Settings(size=32, degrade=False, copies=0)
    one, other = Sampler(cut_faces, replace(settings, shares=made.shares))(0), Sampler(cut_faces, settings)(0)
    assert one.shape == other.shape and (one != other).any()


@pytest.mark.parametrize(
    "text, said",
    [
        pytest.param("[", "cannot be read", id="no JSON"),
        pytest.param('{"least_sharpness": {}}', "cannot be read", id="no shares"),
        pytest.param('{"shares": [{"kind": "swap", "pairs": 1, "sources": {"a": 1}}]}', "kind 'swap'", id="kind"),
        pytest.param('{"shares": [{"kind": "blend", "pairs": 0, "sources": {"a": 1}}]}', "0 pairs", id="no pairs"),
        pytest.param('{"shares": [{"kind": "blend", "pairs": 1, "sources": {}}]}', "of {}", id="no sources"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, text, said):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(UserError, match=said) as refused:
        recipe.read(tmp_path / "r.json")
    assert refused.value.hint


def test_a_recipe_of_sources_that_are_not_there(cut_faces):
    train = sampler.trained_on(cut_faces)
    wanted = (("blend", {"ffpp": 1.0}, 2), ("given", {"ffhq": 1.0}, 1))
    with pytest.raises(UserError, match="no fake training faces of the source ffhq"):
        recipe.shares_of(train, wanted)
    assert recipe.shares_of(train, wanted, without=("ffhq",)) == wanted[:1]
    with pytest.raises(UserError, match="no untouched face"):
        recipe.shares_of(train[train.label == "fake"])


def test_a_detector_trained_from_folders_judges_a_video(folders, tmp_path, monkeypatch, sample):
    import train_detector
    from deepfake_detection import Detector
    from deepfake_detection.training import pairs

    monkeypatch.setattr(index, "FRAMES", 2)
    monkeypatch.setattr(pairs, "EPOCH", 2)
    given = ["--real-faces", folders / "portraits", "--work", tmp_path / "work", "--out", tmp_path / "own"]
    for folder in ("one", "two"):
        given += ["--data", folders / folder]
    tiny = "--architecture compact_cnn --size 32 --steps 2 --freeze none --learn-norms --no-degrade --workers 1".split()
    assert train_detector.main([*map(str, given), *tiny]) == 0
    log = pd.read_csv(tmp_path / "work" / "main" / "history.csv")
    assert {"val_auc", "unseen_auc", "wide_val_auc"} <= set(log)
    said = json.loads((tmp_path / "own" / "detector.json").read_text())
    assert [kind for kind, *_ in said["training"]["batches"]["shares"]] == ["blend", "blend", "given"]
    judged = Detector(model=tmp_path / "own").predict(sample / "man_selfie.mp4")
    assert judged.verdict in ("REAL", "FAKE", "UNSURE") and 0 <= judged.p_real <= 1


def test_a_network_that_stands_still_gets_another_classifier(folders, tmp_path, monkeypatch):
    import train_detector
    from deepfake_detection.models import registry

    monkeypatch.setattr(index, "FRAMES", 2)
    registry.build("efficientnet_lite0", input_size=48).save(tmp_path / "old.keras")
    given = [
        "--data",
        folders / "one",
        "--data",
        folders / "two",
        "--work",
        tmp_path / "work",
        "--out",
        tmp_path / "own",
    ]
    tiny = "--size 48 --steps 0 --head 2 --rim 2 --window tight --no-degrade --workers 1".split()
    assert train_detector.main([*map(str, given), *tiny, "--weights", str(tmp_path / "old.keras")]) == 0
    made = json.loads((tmp_path / "own" / "detector.json").read_text())
    said = made["training"]
    assert set(made["files"]) == {"detector.keras", "detector.onnx", "rim.onnx"} and made["rim"]["input_size"] == 48
    assert DetectorModel.load(tmp_path / "own").predict_rim([np.zeros((60, 50, 3), np.uint8)]).shape == (1,)
    assert said["head"] == said["rim"] == 2 and said["steps"] == 0 and "learning_rate" not in said
    assert not (tmp_path / "work" / "main" / "history.csv").exists()


@pytest.mark.parametrize("option", [("--steps", "0"), ("--interpolate", "0.5")])
def test_what_needs_a_file_to_begin_at_says_so_first(tmp_path, option):
    import train_detector

    with pytest.raises(UserError, match="need a file to begin at"):
        train_detector.main(["--index", "x.csv", "--work", str(tmp_path / "work"), *option])


def test_pictures_of_untouched_faces_go_with_folders(tmp_path):
    import train_detector

    with pytest.raises(UserError, match="goes with --data"):
        train_detector.main(["--index", "x.csv", "--real-faces", str(tmp_path), "--work", str(tmp_path / "work")])


def test_a_rim_that_nothing_shows_is_refused_before_the_training(folders, tmp_path, monkeypatch):
    import train_detector
    from deepfake_detection.training import rim

    def nothing(settings, faces):
        raise UserError("no source of fakes shows what surrounds a face", hint="leave --rim out")

    monkeypatch.setattr(index, "FRAMES", 2)
    monkeypatch.setattr(rim, "batches_of", nothing)
    monkeypatch.setattr(train_detector, "trained", lambda *_: pytest.fail("it had begun to train"))
    with pytest.raises(UserError, match="no source of fakes"):
        given = ["--data", folders / "one", "--data", folders / "two", "--work", tmp_path / "work", "--rim", "2"]
        train_detector.main([*map(str, given), "--out", str(tmp_path / "own"), "--workers", "1"])


@pytest.mark.parametrize(
    "options, said",
    [
        pytest.param("--architecture nonsense", "no model named 'nonsense'", id="no such architecture"),
        pytest.param("--architecture cnn_lstm", "sequence model", id="a sequence model"),
        pytest.param("--architecture compact_cnn --freeze none --head 2", "one level only", id="one level"),
        pytest.param("--architecture compact_cnn --freeze none --rim 2 --out OUT", "names no block", id="no rim"),
        pytest.param("--freeze nolayer", "no layer named 'nolayer'", id="no such layer"),
        pytest.param("--weights gone.keras", "gone.keras", id="no such weights"),
        pytest.param("--size 16", "at least", id="too small a face"),
        pytest.param("--size 32 --rim 2 --out OUT", "too small to tell their rim", id="too small for a rim"),
        pytest.param(
            "--interpolate 0.5 --weights TOP", "not of one architecture", id="half a file to interpolate from"
        ),
    ],
)
def test_what_would_end_the_run_later_is_refused_first(folders, tmp_path, monkeypatch, options, said):
    import keras

    import train_detector
    from deepfake_detection.models import registry

    if "TOP" in options:
        network = registry.build("efficientnet_lite0", input_size=48)
        keras.Model(network.inputs, network.get_layer("avg_pool").output).save(tmp_path / "TOP.keras")
    options = options.replace("TOP", f"{tmp_path}/TOP.keras").replace("OUT", str(tmp_path / "own"))
    monkeypatch.setattr(train_detector, "cut_faces", lambda *_: pytest.fail("it had begun"))
    with pytest.raises(UserError, match=said) as refused:
        train_detector.main(["--data", str(folders / "one"), "--work", str(tmp_path / "work"), *options.split()])
    assert refused.value.hint and not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    "options, said",
    [
        pytest.param("--rim 2", "note: without --out, --rim does nothing", id="a rim that is shipped nowhere"),
        pytest.param(
            "--flicker", "note: without --out, --flicker does nothing", id="a flicker that is shipped nowhere"
        ),
        pytest.param("--label x --window tight", "note: without --out, --label, --window do nothing", id="two"),
        pytest.param("--head 2 --window tight", "", id="a head has a window"),
        pytest.param("--out own --rim 2", "", id="shipped"),
        pytest.param("--steps 0 --learning-rate 1 --freeze none --learn-norms", "note: with --steps 0", id="no step"),
        pytest.param("--layout dfdc", "note: with --index, --layout does nothing", id="a layout of no folder"),
    ],
)
def test_options_that_do_nothing_beside_the_others_are_named(options, said, capsys):
    import train_detector

    train_detector.parse(["--index", "x.csv", *options.split()])
    told = capsys.readouterr().err
    assert told.startswith(said) and bool(told) == bool(said)


def test_pictures_that_show_no_face_are_said(folders, tmp_path, monkeypatch, capsys):
    import train_detector
    from deepfake_detection.blending.recipe import Recipe

    monkeypatch.setattr(index, "FRAMES", 1)
    (tmp_path / "some").mkdir()
    (tmp_path / "broken").mkdir()
    shutil.copy(folders / "portraits" / "man_selfie.png", tmp_path / "some")
    for folder in ("some", "broken"):
        (tmp_path / folder / "cut.png").write_bytes((folders / "portraits" / "man_selfie.png").read_bytes()[:900])
    given = ["--workers", "1", "--work", tmp_path / "work", "--real-faces", tmp_path / "some"]
    given = [*map(str, given), "--data", str(folders / "one"), "--data", str(folders / "two")]
    for _ in range(2):  # cut, and standing
        train_detector.cut_faces(train_detector.parse(given), Recipe())
        assert "note: 1 of 10 files show no face" in capsys.readouterr().err
    given += ["--real-faces", str(tmp_path / "broken")]
    with pytest.raises(UserError, match="no file of the source broken"):
        train_detector.cut_faces(train_detector.parse(given), Recipe())
    train_detector.cut_faces(train_detector.parse([*given, "--without", "broken"]), Recipe())


def test_two_runs_at_once_in_one_work_folder(folders, tmp_path):
    import train_detector
    from deepfake_detection.files import folder_lock

    given = ["--data", str(folders / "one"), "--work", str(tmp_path), "--architecture", "compact_cnn", "--size", "32"]
    with folder_lock(tmp_path, "train_detector"), pytest.raises(UserError, match="another run") as refused:
        train_detector.main([*given, "--freeze", "none"])
    assert "--work" in refused.value.hint
