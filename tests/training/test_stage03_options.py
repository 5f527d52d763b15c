"""Stage 03's options: what folds have no use for is said, and the margin is that of stage 01a's record."""

import importlib.util
import json
import shutil
import types

import pytest

from deepfake_detection import cli
from deepfake_detection.errors import UserError
from deepfake_detection.names import title_of
from deepfake_detection.training import cross_validation, margins, scoring, stage


def script(project, name):
    spec = importlib.util.spec_from_file_location(name, project / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(frames, **margin_of):
    for title, margin in margin_of.items():
        folder = frames / title / "faces"
        folder.mkdir(parents=True)
        text = margin if isinstance(margin, str) else json.dumps({"settings": {"margin": margin}, "faces": 3})
        (folder / "faces.json").write_text(text)


@pytest.mark.parametrize(
    "arguments, said",
    [
        pytest.param(["--folds", "3", "--epochs", "5"], "--epochs (--folds 0", id="epochs"),
        pytest.param(["--folds", "3", "--epochs", "20"], "--epochs (--folds 0", id="the value of its default"),
        pytest.param(["--folds", "3", "--augment=strong", "--ema", "0.9"], "--augment, --ema (", id="several"),
        pytest.param(["--folds", "3", "--batch-size", "8", "--image-size", "32"], "", id="those that have one"),
        pytest.param(["--folds", "0", "--epochs", "5"], "", id="no folds"),
    ],
)
def test_what_has_no_effect_in_folds_is_said(project, capsys, arguments, said):
    options, given = cli.parse_given(script(project, "03_train_cnn").parser(), arguments)
    options.dataset = project / "nowhere" / "split_dataset"
    cross_validation.resolve(options, given)
    error = capsys.readouterr().err
    assert said in error and bool(said) == ("no effect in folds" in error)


def test_no_option_of_a_training_is_forgotten(project):
    """Each option of stage 03 has an effect in folds, is said to have none, or is refused."""
    used = {"data", "out", "workers", "seed", "force", "dataset", "frames_dir", "cache_mb", "model"}
    used |= {"weights", "image_size", "folds", "batch_size", "plot_model", "seeds", "strategy"}
    options = vars(script(project, "03_train_cnn").parse([]))
    assert set(options) == used | set(cross_validation.WITHOUT_EFFECT)


def test_given_options_are_told_from_defaults_and_former_names_are_said_once(project, capsys):
    _, given = cli.parse_given(script(project, "03_train_cnn").parser(), ["--model", "mesonet", "--seed=1"])
    assert given == {"model", "seed"} and capsys.readouterr().err.count("is now called --architecture") == 1


@pytest.mark.parametrize(
    "records, margin",
    [
        pytest.param({"a": 0.1, "b": 0.1}, 0.1, id="all"),
        pytest.param({"b": 0.5}, 0.5, id="one of them"),
        pytest.param({}, None, id="none"),
        pytest.param({"z": 0.1}, None, id="of another video"),
        pytest.param({"a": 0.0}, 0.0, id="no margin at all"),
        pytest.param({"a": 0.1, "b": 0.3}, "several margins (0.1: 1 video, 0.3: 1 video)", id="several"),
        pytest.param({"a": "{"}, "record of the faces is broken", id="broken"),
        pytest.param({"a": '{"settings": {}}'}, "record of the faces is broken", id="without one"),
    ],
)
def test_the_recorded_margin(tmp_path, capsys, records, margin):
    record(tmp_path, **records)
    if isinstance(margin, str):
        with pytest.raises(UserError) as refused:
            margins.recorded(tmp_path, ["a", "b", "a"])
        assert margin in str(refused.value) and refused.value.hint
        return
    assert margins.recorded(tmp_path, ["a", "b", "a"]) == margin
    assert margins.of(["a", "b"], tmp_path) == (0.3 if margin is None else margin)
    assert ("0.3 is assumed" in capsys.readouterr().err) == (margin is None)


def test_faces_that_stage_01a_made_anew_since_are_refused(project, tmp_path, tiny_faces):
    frames, faces = tmp_path / "frames", sorted(tiny_faces.glob("t*/*/*.png"))
    first = {title_of(path.name): path for path in reversed(faces)}
    record(frames, **dict.fromkeys(first, 0.1))
    margins.of_split(tiny_faces, frames)  # pictures gone: the record is all there is
    for title, path in first.items():
        shutil.copy(path, frames / title / "faces")
    assert margins.of_split(tiny_faces, frames) == 0.1
    (frames / title / "marked_faces").mkdir()
    shutil.move(frames / title / "faces" / path.name, frames / title / "marked_faces")  # stage 02 took these
    (frames / title / "faces" / path.name).write_bytes(b"made with another margin")
    assert margins.of_split(tiny_faces, frames) == 0.1
    shutil.rmtree(frames / title / "marked_faces")
    for name, arguments in (
        ("03_train_cnn", ["--dataset", tiny_faces]),
        ("03a_load_model", ["--model-file", faces[0], "--faces-dir", tiny_faces / path.parts[-3]]),
    ):
        with pytest.raises(UserError, match="the faces of 1 video are not those in") as refused:
            script(project, name).main(
                [*map(str, arguments), "--out", str(tmp_path / "out"), "--frames-dir", str(frames)]
            )
        assert title in str(refused.value) and "stage 02 again" in refused.value.hint


@pytest.mark.parametrize(
    "arguments, where",
    [pytest.param(["--folds", "3"], cross_validation, id="folds"), pytest.param(["--folds", "0"], stage, id="split")],
)
def test_stage_03_uses_the_margin_of_the_record(project, tmp_path, tiny_faces, monkeypatch, arguments, where):
    record(tmp_path / "frames", **{"train-real-clip0": 0.1, "test-fake-clip1": 0.1})
    seen = {}
    monkeypatch.setattr(where, "run", lambda *a, **k: seen.update(k) or {})
    script(project, "03_train_cnn").main(["--dataset", str(tiny_faces), "--out", str(tmp_path), *arguments])
    assert seen["faces_margin"] == 0.1
    settings = json.loads((tmp_path / "stage_reports" / "03_train_cnn_settings.json").read_text())
    assert settings["faces_margin"] == 0.1


@pytest.mark.parametrize("given, used", [(None, 0.1), (0.4, 0.4)], ids=["recorded", "said"])
def test_stage_03a_uses_the_margin_of_the_record_unless_told_otherwise(tmp_path, tiny_faces, monkeypatch, given, used):
    record(tmp_path / "frames", **{"test-real-clip0": 0.1})
    (tmp_path / "m.keras").touch()
    seen = []

    def part(faces_margin, *_):
        seen.append(faces_margin)
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "part_of", part)
    monkeypatch.setattr(scoring, "card_of", lambda path: {"margin": 0.1, "trim": {}})
    monkeypatch.setattr(scoring, "load", lambda *a, **k: types.SimpleNamespace(output_shape=(None, 1)))
    monkeypatch.setattr(scoring.session, "start", lambda **k: None)
    with pytest.raises(KeyboardInterrupt):
        scoring.run(
            tmp_path / "m.keras", tiny_faces / "test", tmp_path / "out", faces_margin=given, frames=tmp_path / "frames"
        )
    assert seen == [used]
