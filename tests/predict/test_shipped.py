"""The shipped detector on the embedded sample: in a shot of two people, the altered one is named."""

import statistics

import pytest


@pytest.fixture(scope="module")
def shipped(project):
    if not (project / "models" / "detector.onnx").is_file():
        pytest.skip("needs the shipped detector (models/)")
    from deepfake_detection import Detector

    return Detector(frames=8)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_altered_one_of_two_is_named(shipped, sample, side):
    clip, original = sample / f"two-friends_walk-past_{side}-swapped.mp4", sample / "two-friends_walk-past.mp4"
    if not clip.is_file():
        pytest.skip("needs the embedded sample")
    got = shipped.predict(clip)
    assert len(got.people) == 2 and all(p.well_seen for p in got.people)
    middle = {
        p.id: statistics.median(f.box[0] + f.box[2] / 2 for f in got.faces if f.person == p.id) for p in got.people
    }
    most_fake, other = (p.id for p in sorted(got.people, key=lambda p: p.p_real))
    assert (middle[most_fake] < middle[other]) == (side == "left")
    assert got.verdict in ("FAKE", "UNSURE") and next(p for p in got.people if p.id == most_fake).verdict != "REAL"
    assert min(p.p_real for p in got.people) < min(p.p_real for p in shipped.predict(original).people)


def test_a_clip_without_a_face(shipped, sample):
    if not (sample / "no-face_coffee.mp4").is_file():
        pytest.skip("needs the embedded sample")
    assert shipped.predict(sample / "no-face_coffee.mp4").verdict == "NO FACE"
