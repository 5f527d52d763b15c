"""How a face changes from one frame to the next: added to what its pixels say, once a person."""

import cv2
import numpy as np
import pytest
import tiny_model as tiny

from deepfake_detection import Detector
from deepfake_detection.detector import explain, looks
from deepfake_detection.faces import flicker
from tests.clips import write_video
from tests.predict.prediction_clips import FAKE_TINT, HEIGHT, REAL_TINT, WIDTH, photo, portrait, tinted

FLICKER = {"every": 1, "weights": [0.0] * flicker.COUNT, "bias": 0.5, "most": 0.8}


def moving(path, tints, frames=64, fps=25, altered=range(0)):
    """A clip of people who move in every frame, before a camera that makes noise; blue in the frames of `altered`."""
    random, face = np.random.default_rng(1), cv2.resize(portrait(), (120, 140), interpolation=cv2.INTER_AREA)
    looks = {tint: tinted(face, tint) for tint in (*tints, FAKE_TINT)}

    def pictures():
        for i in range(frames):
            frame = np.full((HEIGHT, WIDTH, 3), 120, np.float32)
            for number, tint in enumerate(tints):
                x, y = 20 + 160 * number + round(8 * np.sin(i / 4)), 30 + i % 2
                frame[y : y + 140, x : x + 120] = looks[FAKE_TINT if i in altered else tint]
            yield np.clip(frame + random.normal(0, 6, frame.shape), 0, 255).astype(np.uint8)

    return write_video(path, pictures(), fps=fps, crf=12)


@pytest.fixture(scope="module")
def moves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moves")
    people = {"real": [REAL_TINT], "fake": [FAKE_TINT], "two": [REAL_TINT, FAKE_TINT]}
    return {name: moving(folder / f"{name}.mp4", tints) for name, tints in people.items()}


@pytest.fixture(scope="module")
def with_flicker(tmp_path_factory):
    return Detector(model=str(tiny.build(tmp_path_factory.mktemp("flicker"), flicker=FLICKER)), frames=8)


@pytest.mark.parametrize("clip", ["real", "fake", "two"])
def test_it_moves_all_faces_of_a_person_alike(with_flicker, detector, moves, clip):
    plain, seen = detector.predict(moves[clip]), with_flicker.predict(moves[clip])
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
    path = moving(tmp_path / "clip.mp4", [REAL_TINT], 30 * 25, altered=range(10 * 25, 10 * 25 + 20))
    weights = list(np.linspace(-1, 1, flicker.COUNT))
    judge = Detector(model=str(tiny.build(tmp_path / "model", flicker={**FLICKER, "weights": weights})))
    seen = judge.predict(path)
    judge._to_look_again = lambda faces, reader: []
    plain = judge.predict(path)
    assert any(f.again for f in seen.faces) and not any(f.again for f in plain.faces)
    assert seen.people[0].flicker == pytest.approx(plain.people[0].flicker) and plain.people[0].flicker != 0


@pytest.mark.parametrize("fps, said", [pytest.param(15, False, id="slow"), pytest.param(50, True, id="fast")])
def test_of_a_slow_video_nothing_is_said(with_flicker, tmp_path, fps, said):
    seen = with_flicker.predict(moving(tmp_path / "clip.mp4", [REAL_TINT], 64 * fps // 25, fps))
    assert (seen.people[0].flicker != 0) == said


def test_another_line_is_another_model(with_flicker, detector, tmp_path):
    other = Detector(model=str(tiny.build(tmp_path, flicker={**FLICKER, "bias": 0.4})))
    assert len({other.model, with_flicker.model, detector.model}) == 3


def test_a_heat_map_starts_from_the_score_of_its_face(with_flicker, moves):
    prediction = with_flicker.predict(moves["real"])
    shown = explain.evidence_of(prediction, with_flicker, "occlusion")
    assert prediction.people[0].flicker and shown
    assert all(e["check"]["p_fake"] == pytest.approx(e["p_fake"], rel=0.05) for e in shown)


@pytest.mark.parametrize("sampling", ["even", "per-second", "keyframes"])
def test_threads_change_nothing(tmp_path, moves, sampling):
    model = str(tiny.build(tmp_path, flicker={**FLICKER, "weights": [0.3] * flicker.COUNT, "most": 9}))
    found = [Detector(model=model, threads=n, sampling=sampling).predict(moves["real"]) for n in (1, 2)]
    assert found[0].people[0].flicker == found[1].people[0].flicker
    assert [f.p_real for f in found[0].faces] == pytest.approx([f.p_real for f in found[1].faces], abs=1e-5)
