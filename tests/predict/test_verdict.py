"""Detector: a clip in, the right verdict with its evidence out."""

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from deepfake_detection import Detector
from deepfake_detection.aggregation import RULES
from deepfake_detection.detector.annotate import frame_picture
from deepfake_detection.detector.predictor import fake_interval
from deepfake_detection.errors import UserError
from deepfake_detection.reports.people import person_name
from tests.predict.prediction_clips import FPS, REAL_TINT, write


@pytest.mark.parametrize(
    "name, verdict, people", [("real", "REAL", 1), ("fake", "FAKE", 1), ("two", "UNSURE", 2), ("no_face", "NO FACE", 0)]
)
def test_verdict(detector, clips, name, verdict, people):
    got = detector.predict(clips[name])
    assert (got.verdict, len(got.people), got.error) == (verdict, people, None)
    assert got.frames_decoded == 8 and got.duration_s == pytest.approx(2.4, abs=0.2)
    if people:
        assert got.p_fake == pytest.approx(1 - got.p_real) and got.interval[0] <= got.p_fake <= got.interval[1]
        assert got.frames_with_face == 8 and 7 * people <= len(got.faces) <= 8 * people
    else:
        assert got.p_real is got.p_fake is got.interval is None and got.frames_with_face == 0


@pytest.mark.parametrize("seconds, start_s", [(12, 5.0), (30, 10.0), (30, 10.4), (30, 28.9)], ids=str)
def test_a_stretch_of_0_8_s_is_found(tiny_model, tmp_path, seconds, start_s):
    end_s = start_s + 0.8
    path = write(tmp_path / "clip.mp4", [(60, REAL_TINT)], seconds * FPS, (start_s, end_s))
    got = Detector(model=str(tiny_model)).predict(path)
    assert got.verdict == "UNSURE" and "looks altered" in got.reason and got.p_real > 0.5
    assert len(got.stretches) == 1
    stretch = got.stretches[0]
    assert start_s - 0.4 <= stretch.start_s < stretch.end_s <= end_s + 0.4 and stretch.end_s - stretch.start_s >= 0.5


def test_nothing_is_looked_at_again_where_nothing_looks_altered(tiny_model, tmp_path):
    got = Detector(model=str(tiny_model)).predict(write(tmp_path / "clip.mp4", [(60, REAL_TINT)], 30 * FPS))
    assert got.verdict == "REAL" and got.frames_decoded == 38 and not any(f.again for f in got.faces)


def test_looking_again_measures_and_describes_no_face_twice(tiny_model, tmp_path, monkeypatch):
    """A lone altered face makes the frames around it be looked at; the first ones are not measured anew."""
    from deepfake_detection.faces import quality

    measured, described = [], []
    measure = quality.measure
    monkeypatch.setattr(quality, "measure", lambda face, *rest: measured.append(face.box) or measure(face, *rest))
    path = write(tmp_path / "clip.mp4", [(60, REAL_TINT)], 30 * FPS, (10.0, 10.8))
    judge = Detector(model=str(tiny_model))
    inner = judge._describer
    monkeypatch.setattr(judge, "_describer", lambda cut: described.extend(c.tobytes() for c in cut) or inner(cut))
    got = judge.predict(path)
    assert any(f.again for f in got.faces) and len(measured) == len(got.faces)
    assert len(described) == len(set(described))


def test_two_people_are_judged_each_and_the_altered_one_is_named(detector, clips):
    got = detector.predict(clips["two"])
    real, fake = got.people  # both are as large, the one that leads in more frames comes first
    assert (fake.verdict, real.verdict) == ("FAKE", "REAL") and min(fake.frames, real.frames) >= 7
    # The altered face is the right one: its boxes lie right of the middle in every frame.
    assert all((f.box[0] > 160) == (f.person == fake.id) for f in got.faces)
    assert got.verdict == "UNSURE" and "another person looks altered" in got.reason and fake.id in got.reason


def test_json_object(detector, clips):
    got = json.loads(json.dumps(detector.predict(clips["fake"]).to_json(), allow_nan=False))
    assert set(got) >= {
        "video",
        "verdict",
        "p_real",
        "p_fake",
        "interval",
        "frames_decoded",
        "frames_with_face",
        "people",
        "seconds",
        "model",
        "error",
    }
    assert set(got["people"][0]) >= {"id", "p_real", "verdict", "first_s", "last_s", "frames"}
    assert got["model"].startswith("tiny 0 (")


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_rule_is_applied_to_the_faces_that_are_returned(tiny_model, clips, rule):
    got = Detector(model=str(tiny_model), frames=5, aggregate=rule).predict(clips["real"])
    assert got.p_real == pytest.approx(RULES[rule](np.array([f.p_real for f in got.faces])))


def test_scores_are_those_of_the_network_on_the_crops(detector, clips):
    got = detector.predict(clips["real"])
    assert detector.score([f.crop for f in got.faces]) == pytest.approx([f.p_real for f in got.faces], abs=1e-6)


def test_a_cut_file_is_judged_by_what_decodes_and_says_so(tmp_path, detector, clips):
    import av

    cut = tmp_path / "cut.mkv"
    with av.open(str(clips["real"])) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    got = detector.predict(cut)
    assert got.verdict == "REAL" and 0 < got.frames_decoded <= 8


@pytest.mark.parametrize(
    "settings, word",
    [
        ({"aggregate": "worst"}, "aggregation"),
        ({"frame": 3}, "unknown setting"),
        ({"sampling": "all"}, "sampling"),
        ({"model": "/nowhere"}, "no detector here"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(tiny_model, settings, word):
    with pytest.raises(UserError, match=word) as e:
        Detector(**{"model": str(tiny_model), **settings})
    assert "\n" not in str(e.value) and e.value.hint


@pytest.mark.parametrize("content", [b"", b"not a video", b"#EXTM3U\n/etc/passwd\n"])
def test_what_is_no_video_raises(tmp_path, detector, content):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match="x.mp4"):
        detector.predict(path)


def test_interval_over_frames():
    mean = RULES["mean"]
    assert fake_interval([0.2, 0.3], mean) is None
    assert fake_interval([0.2] * 9, mean) == pytest.approx((0.8, 0.8))
    scores = np.random.default_rng(3).uniform(0.1, 0.5, 40)
    low, high = fake_interval(scores, mean)
    # The bootstrap of a mean agrees with the normal interval of a mean.
    half = 1.96 * scores.std(ddof=1) / math.sqrt(40)
    assert (low, high) == pytest.approx((1 - scores.mean() - half, 1 - scores.mean() + half), abs=0.01)
    assert fake_interval(scores, mean) == (low, high)
    assert fake_interval(scores[:10], mean)[1] - fake_interval(scores[:10], mean)[0] > high - low


def test_no_heavy_package_on_this_path(tiny_model, clips):
    """Cold start: neither TensorFlow nor pandas, SciPy or matplotlib is imported for a verdict."""
    code = (
        "import sys\nfrom deepfake_detection import Detector\n"
        f"assert Detector(model={str(tiny_model)!r}, frames=2).predict({str(clips['real'])!r}).verdict == 'REAL'\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'scipy', 'matplotlib', 'sklearn', 'pyspark', 'skimage', 'mtcnn', "
        "'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_frame_of_a_report_shows_no_one_who_is_nobody(detector, clips):
    """A few bad pictures of a face are among the faces and not among the people."""
    found = detector.predict(clips["two"])
    alone = dataclasses.replace(found, people=found.people[:1])
    assert len(frame_picture(found, detector)["people"]) == 2
    assert frame_picture(alone, detector)["people"] == [person_name(found.people[0].id)]


@pytest.mark.parametrize(
    "setting, values",
    [
        pytest.param(name, values, id=name)
        for name, values in {
            "frames": [0, -3, "8", 2.5, True],
            "confidence": [7, "x", -1],
            "min_face_px": [0, "20", float("nan")],
            "scale": ["big", 0, float("inf")],
            "detector": ["foo", 3],
            "min_share": ["x", -1, 9],
            "max_seconds": [0, -1, float("nan"), "3"],
            "threads": [0, -5, "2"],
            "seed": [-1, "x", 2**32, 1.5],
            "sampling": ["foo"],
            "aggregate": ["foo", 3],
        }.items()
    ],
)
def test_a_setting_that_means_nothing_is_refused(tiny_model, setting, values):
    """Some were taken in silence, others a traceback at the first video."""
    for value in values:
        with pytest.raises(UserError):
            Detector(model=str(tiny_model), **{setting: value})


def test_numbers_of_numpy_are_numbers(tiny_model):
    Detector(model=str(tiny_model), frames=np.int64(4), confidence=np.float32(0.5), seed=np.uint8(3))
