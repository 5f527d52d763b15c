"""How a face changes from one frame to the next: added to what its pixels say, once a person."""

import numpy as np
import pytest
import tiny_model as tiny

from deepfake_detection import Detector
from deepfake_detection.detector import explain, looks
from deepfake_detection.faces import flicker
from tests.predict.prediction_clips import FPS, REAL_TINT, photo, write

FLICKER = {"every": 1, "weights": [0.0] * flicker.COUNT, "bias": 0.5, "most": 0.8}


@pytest.fixture(scope="module")
def with_flicker(tmp_path_factory):
    return Detector(model=str(tiny.build(tmp_path_factory.mktemp("flicker"), flicker=FLICKER)), frames=8)


@pytest.mark.parametrize("clip", ["real", "fake", "two"])
def test_it_moves_all_faces_of_a_person_alike(with_flicker, detector, clips, clip):
    plain, seen = detector.predict(clips[clip]), with_flicker.predict(clips[clip])
    logit = lambda p: np.log(p) - np.log1p(-p)  # noqa: E731
    moves = [logit(b.p_real) - logit(a.p_real) for a, b in zip(plain.faces, seen.faces, strict=True)]
    assert np.allclose(moves, 0.5, atol=1e-4)
    assert {person.flicker for person in seen.people} == {0.5} and {person.flicker for person in plain.people} == {0}


@pytest.mark.parametrize(
    "moments, said",
    [
        pytest.param([0.1] * 4, 0.6, id="what all say"),
        pytest.param([0.0, 0.1, 0.1, 0.1, -99.0], 0.6, id="their median"),
        pytest.param([9.0] * 4, 0.8, id="at most"),
        pytest.param([-9.0] * 4, -0.8, id="at least"),
        pytest.param([0.1] * 3, 0.0, id="too few"),
        pytest.param([], 0.0, id="none"),
    ],
)
def test_what_a_person_adds(moments, said):
    rule = looks.Flicker.from_dict({**FLICKER, "weights": [1.0] + [0.0] * (flicker.COUNT - 1)})
    assert rule.of([np.full(flicker.COUNT, z) for z in moments]) == pytest.approx(said)


def test_a_picture_has_none(with_flicker, tmp_path):
    seen = with_flicker.predict(photo(tmp_path / "one.png", REAL_TINT))
    assert seen.people and seen.people[0].flicker == 0


def test_frames_that_are_looked_at_again_change_no_score(tmp_path):
    path = write(tmp_path / "clip.mp4", [(60, REAL_TINT)], 30 * FPS, (10.0, 10.8))
    weights = list(np.linspace(-1, 1, flicker.COUNT))
    judge = Detector(model=str(tiny.build(tmp_path / "model", flicker={**FLICKER, "weights": weights})))
    seen = judge.predict(path)
    judge._to_look_again = lambda faces, reader: []
    plain = judge.predict(path)
    assert any(f.again for f in seen.faces) and not any(f.again for f in plain.faces)
    assert seen.people[0].flicker == pytest.approx(plain.people[0].flicker)


def test_another_line_is_another_model(with_flicker, detector, tmp_path):
    other = Detector(model=str(tiny.build(tmp_path, flicker={**FLICKER, "bias": 0.4})))
    assert len({other.model, with_flicker.model, detector.model}) == 3


def test_a_heat_map_starts_from_the_score_of_its_face(with_flicker, clips):
    shown = explain.evidence_of(with_flicker.predict(clips["real"]), with_flicker, "occlusion")
    assert shown and all(e["check"]["p_fake"] == pytest.approx(e["p_fake"], rel=0.05) for e in shown)


@pytest.mark.parametrize("sampling", ["even", "per-second", "keyframes"])
def test_threads_change_nothing(tmp_path, clips, sampling):
    model = str(tiny.build(tmp_path, flicker={**FLICKER, "weights": [0.3] * flicker.COUNT, "most": 9}))
    found = [Detector(model=model, threads=n, sampling=sampling).predict(clips["real"]) for n in (1, 2)]
    assert found[0].people[0].flicker == found[1].people[0].flicker
    assert [f.p_real for f in found[0].faces] == pytest.approx([f.p_real for f in found[1].faces], abs=1e-5)
