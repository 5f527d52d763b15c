"""What looks at the rim of a face against its surroundings: added to what its own pixels say, once a person."""

import numpy as np
import pytest
import tiny_model as tiny

from deepfake_detection import Detector
from deepfake_detection.detector import explain
from deepfake_detection.detector.network import DetectorModel, moved
from deepfake_detection.errors import UserError
from tests.predict.prediction_clips import FPS, REAL_TINT, write

RIM = {"margin": 0.22, "input_size": tiny.SIZE, "every": 4}


@pytest.fixture(scope="module")
def with_rim(tmp_path_factory):
    return Detector(model=str(tiny.build(tmp_path_factory.mktemp("rim"), rim=RIM)), frames=8)


@pytest.mark.parametrize("clip", ["real", "fake"])
def test_it_moves_all_faces_of_a_person_alike(with_rim, detector, clips, clip):
    plain, seen = detector.predict(clips[clip]), with_rim.predict(clips[clip])
    logit = lambda p: np.log(p) - np.log1p(-p)  # noqa: E731
    moves = [logit(b.p_real) - logit(a.p_real) for a, b in zip(plain.faces, seen.faces, strict=True)]
    assert np.allclose(moves, moves[0], atol=1e-4)
    # Its network judges by colour too: a red face has a red rim.
    assert (moves[0] > 0.05) if clip == "real" else (moves[0] < -0.05)


def test_people_have_their_own(with_rim, detector, clips):
    plain, seen = detector.predict(clips["two"]), with_rim.predict(clips["two"])
    before, after = ({p.id: p.p_real for p in found.people} for found in (plain, seen))
    real, fake = sorted(before, key=before.get, reverse=True)
    assert after[real] > before[real] and after[fake] < before[fake]


@pytest.mark.parametrize("found, counted", [(0.4, 0.4), (-0.4, -0.4), (7.0, 1.0), (-7.0, -1.0)])
def test_it_alone_decides_nothing(tmp_path, clips, found, counted):
    built = Detector(model=str(tiny.build(tmp_path, rim=RIM)), frames=8)
    built._network.predict_rim = lambda windows: np.full(len(windows), found)
    (person,) = built.predict(clips["real"]).people
    assert person.rim == pytest.approx(counted)


@pytest.mark.parametrize("every", [pytest.param(1, id="each frame"), pytest.param(8, id="the first")])
def test_the_first_frame_is_always_looked_at(tmp_path, clips, every):
    built = Detector(model=str(tiny.build(tmp_path, rim={**RIM, "every": every})), frames=8)
    shown = []
    built._network.predict_rim = lambda windows, ask=built._network.predict_rim: (
        shown.append(len(windows)) or ask(windows)
    )
    built.predict(clips["real"])
    assert sum(shown) == 8 // every and shown[0] == 1


def test_the_order_and_number_of_windows_change_nothing(with_rim):
    windows = list(np.random.default_rng(1).integers(0, 256, (7, 70, 60, 3), np.uint8))
    model = with_rim._network
    together = model.predict_rim(windows)
    assert np.allclose(together, [model.predict_rim([w])[0] for w in windows], atol=1e-5)
    assert model.predict_rim([]).shape == (0,)


@pytest.mark.parametrize("what", ["missing", "another"])
def test_its_file_must_be_the_right_one(tmp_path, what):
    tiny.build(tmp_path, rim=RIM)
    if what == "missing":
        (tmp_path / "rim.onnx").unlink()
    else:
        (tmp_path / "rim.onnx").write_bytes(b"x")
    with pytest.raises(UserError) as caught:
        DetectorModel.load(tmp_path)
    assert "rim.onnx" in str(caught.value)


@pytest.mark.parametrize("p_real, shift, expected", [(0.5, 0.0, 0.5), (0.5, np.log(3), 0.75), (0.75, -np.log(3), 0.5)])
def test_moved(p_real, shift, expected):
    assert moved(p_real, shift) == pytest.approx(expected)


def test_another_network_for_the_rim_is_another_model(with_rim, detector, tmp_path):
    tiny.build(tmp_path, rim=RIM)
    other = Detector(model=str(tmp_path))
    assert other.model == with_rim.model != detector.model
    other.config["files"]["rim.onnx"] = "0" * 64
    assert other.model != with_rim.model


def test_frames_that_are_looked_at_again_change_no_score(tmp_path):
    """They count for stretches alone, and lie where a face looks altered: their rims would speak against it twice."""
    path = write(tmp_path / "clip.mp4", [(60, REAL_TINT)], 30 * FPS, (10.0, 10.8))
    judge = Detector(model=str(tiny.build(tmp_path / "model", rim={**RIM, "every": 1})))
    asked = []
    judge._network.predict_rim = lambda windows: asked.extend(windows) or np.full(len(windows), 0.5 - len(asked) / 100)
    seen = judge.predict(path)
    judge._to_look_again = lambda faces, reader: []
    asked.clear()
    plain = judge.predict(path)
    assert any(f.again for f in seen.faces) and not any(f.again for f in plain.faces)
    assert seen.people[0].rim == pytest.approx(plain.people[0].rim) and seen.p_real == pytest.approx(plain.p_real)


def test_a_heat_map_starts_from_the_score_of_its_face(tmp_path, clips):
    built = Detector(model=str(tiny.build(tmp_path, rim=RIM)), frames=8)
    built._network.predict_rim = lambda windows: np.full(len(windows), 0.7)
    shown = explain.evidence_of(built.predict(clips["real"]), built, "occlusion")
    assert shown and all(e["check"]["p_fake"] == pytest.approx(e["p_fake"], rel=0.05) for e in shown)
