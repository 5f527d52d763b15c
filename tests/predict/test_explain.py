"""Attribution and its check, and the report they go into."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from deepfake_detection.detector import explain, maps
from deepfake_detection.errors import UserError
from deepfake_detection.reports import html

SIZE = 64


def face_with_patch(top, left, side=18):
    """A smooth face with one patch of fine traces, and a score that looks at the traces in that place and at nothing
    else."""
    random = np.random.default_rng(1)
    face = np.full((SIZE, SIZE, 3), 120, np.uint8) + random.integers(0, 30, (SIZE, SIZE, 1)).astype(np.uint8)
    face[top : top + side, left : left + side] = random.integers(0, 255, (side, side, 1))

    def score(faces, sign=1):
        traces = np.array([f[top : top + side, left : left + side].std() for f in faces])
        return 1 / (1 + np.exp(sign * (traces - 45) / 8))

    return face, score


@pytest.mark.parametrize("top, left", [(4, 4), (40, 8), (22, 40)])
def test_occlusion_marks_what_the_score_depends_on(top, left):
    face, score = face_with_patch(top, left)
    values = maps.occlusion(face, score)
    y, x = np.unravel_index(values.argmax(), values.shape)
    assert top <= y < top + 18 and left <= x < left + 18 and values.max() == 1.0
    found = maps.check(face, values, score)
    assert found.confirmed and found.marked < found.p_fake - 0.3 and found.elsewhere > found.marked + 0.2


def test_what_speaks_for_real_is_negative_and_confirmed_too():
    face, score = face_with_patch(22, 22)
    real = lambda faces: score(faces, sign=-1)
    values = maps.occlusion(face, real)
    assert values.min() == -1.0 and values[30, 30] < -0.5
    assert maps.check(face, values, real).confirmed


@pytest.mark.parametrize("seed", range(4))
def test_a_map_that_marks_something_else_is_not_confirmed(seed):
    face, score = face_with_patch(4, 4)
    wrong = np.zeros((SIZE, SIZE), np.float32)
    wrong[40:60, 30:60] = np.random.default_rng(seed).uniform(0.5, 1, (20, 30))
    assert not maps.check(face, wrong, score).confirmed
    flat = lambda faces: np.full(len(faces), 0.2)
    assert maps.check(face, maps.occlusion(face, flat), flat).word == maps.NOTHING


@pytest.mark.parametrize("sign, word", [(1, "nothing"), (-1, "confirmed")])
def test_a_map_that_has_nothing_of_the_sign_marks_no_place(sign, word):
    """A face judged FAKE whose map holds only what speaks for REAL: nothing of it may be drawn, or called confirmed."""
    face, score = face_with_patch(22, 22)
    values = -sign * np.abs(maps.occlusion(face, score))
    found = maps.check(face, values, score)
    assert (found.sign, found.word) == ("FAKE", word) and (found.marked == found.p_fake) == (word == "nothing")
    drawn = explain.overlay(face, values, found.sign).astype(int)
    assert (np.ptp(drawn, axis=2).max() > 40) == (word == "confirmed")


@pytest.mark.parametrize(
    "word, sign, said, not_said",
    [
        (
            "confirmed",
            "FAKE",
            "When the orange part is blurred, the fake probability falls from 92 % to 41 %",
            "no map",
        ),
        ("confirmed", "REAL", "When the blue part is blurred", "orange"),
        ("unconfirmed", "FAKE", "so no map is drawn", "orange"),
        ("nothing", "REAL", "No single part of this face speaks for REAL", "blue"),
    ],
)
def test_the_check_in_words(word, sign, said, not_said):
    head, sentence = html.checked({"p_fake": 0.92, "marked": 0.41, "elsewhere": 0.88, "sign": sign, "word": word})
    sentence = sentence.replace("\u00a0", " ")
    assert said in sentence and not_said not in sentence and (head == "No place stands out") == (word == "nothing")


def test_a_map_is_drawn_where_it_is_confirmed_and_nowhere_else(report):
    page, data = report
    drawn = sum(e["check"]["word"] == "confirmed" for e in data["evidence"])
    assert page.count('alt="The same face in grey') == drawn == page.count("Heat map: confirmed")


def test_the_report_names_the_file_and_nothing_of_this_machine(detector, clips, tmp_path):
    explain.write_report(detector.predict(clips["two"]), detector, tmp_path / "r.html", name=str(clips["two"]))
    page, data = (tmp_path / "r.html").read_text(), json.loads((tmp_path / "r.json").read_text())
    for text in (page, json.dumps(data)):
        assert str(clips["two"].parent) not in text and "two.mp4" in text
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", data["made"]) and data["made"] in page
    assert "320 × 200 px" in page and "mpeg4" in page and "bit/s" in page
    # One numbering: the ids of the JSON are the numbers of the names.
    for person in data["people"]:
        assert f"Person {person['id'][1:]}" in page and re.search(
            rf'alt="A frame of the video[^"]*Person {person["id"][1:]}', page
        )


def test_suspicious_stretches_and_zones():
    faces = [
        {"time_s": float(t), "p_real": p, "votes": v}
        for t, (p, v) in enumerate(
            [(0.1, True), (0.2, True), (0.9, True), (0.1, True), (0.5, True), (0.1, False), (0.2, True), (0.1, True)]
        )
    ]
    bounds = {"fake_below": 0.3, "real_above": 0.7}
    assert html.stretches(faces, bounds) == [(0.0, 1.0), (6.0, 7.0)]
    plot = html.timeline(faces, 8.0, bounds, "over time")
    assert (
        plot.count('class="stretch"') == 2
        and plot.count("dot fake") == 5
        and plot.count("dot no-face") == 1
        and plot.count("not counted") == 1
    )
    assert "dot fake" not in html.timeline(faces, 8.0, bounds, "over time", decided=False)
    assert "30 %" in html.zone_names(bounds) and "70 %" in html.zone_names(bounds)


def test_lime_agrees():
    pytest.importorskip("lime", reason="--explain lime needs the LIME package")
    face = np.full((SIZE, SIZE, 3), 120, np.uint8)
    face[:, 32:] = 170
    face[8:32:2, 40:60] = face[9:32:4, 40:60] = 140  # fine stripes, which a superpixel's mean colour wipes out
    score = lambda faces: np.array([1 / (1 + np.exp(f[8:32, 40:60].std() - 5)) for f in faces])
    assert score([face])[0] < 0.1
    values = maps.lime(face, score, samples=200)
    assert values[12:28, 44:56].mean() > 3 * abs(values[:, :28].mean())


def test_gradcam_of_a_keras_model(tmp_path, detector):
    """A network with one feature map that is bright where the face is blue: Grad-CAM must point there."""
    keras = pytest.importorskip("keras")
    inputs = keras.Input((SIZE, SIZE, 3))
    features = keras.layers.Conv2D(2, 4, strides=4, use_bias=False)(inputs)
    out = keras.layers.Dense(1, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(features))
    model = keras.Model(inputs, out)
    kernel = np.zeros((4, 4, 3, 2), np.float32)
    kernel[:, :, 2, 0] = 1 / 4000  # blue
    kernel[:, :, 0, 1] = 1 / 4000  # red
    model.layers[1].set_weights([kernel])
    model.layers[-1].set_weights([np.float32([[-8.0], [8.0]]), np.zeros(1, np.float32)])
    model.save(tmp_path / "detector.keras")
    face = np.full((SIZE, SIZE, 3), 40, np.uint8)
    face[8:24, 36:56] = (0, 0, 255)
    values = maps.GradCam(tmp_path / "detector.keras")(face)
    assert values.shape == (SIZE, SIZE) and values[12:20, 40:52].mean() > 0.8 and values[40:, :30].mean() < 0.3
    with pytest.raises(UserError, match="Keras model"):
        maps.GradCam(tmp_path / "none.keras")


def test_unknown_method(detector):
    with pytest.raises(UserError, match="unknown explanation"):
        maps.explainer("magic", detector)


@pytest.fixture(scope="module")
def report(detector, clips, tmp_path_factory):
    """(page, data) of the two-person clip, under a name that tries to break out."""
    path = tmp_path_factory.mktemp("report") / "two.html"
    explain.write_report(detector.predict(clips["two"]), detector, path, name='<script>alert(1)<b>".mp4')
    return path.read_text(), json.loads(path.with_suffix(".json").read_text())


def test_the_page_is_one_file_that_loads_and_runs_nothing(report):
    page, _ = report
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)[^"'>)]+""", page)
    assert "http://" not in page and "https://" not in page
    assert html.policy() in page.replace("&#39;", "'") and "default-src 'none'" in html.policy()
    # The stated hash is that of the style in the page: else a browser would show it bare.
    import base64
    import hashlib

    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in html.policy()


def test_the_page_says_what_was_found(report, detector):
    page, data = report
    assert (
        page.count('<svg class="plot"') == 2 and page.count("data:image/jpeg") >= 2 + 6
    )  # each person, each face, and the frame
    for words in (
        "FAKE",
        "Person 1",
        "Person 2",
        "Fake probability",
        "not a proof",
        detector.model,
        "SHA-256",
        data["file"]["sha256"],
        "prefers-color-scheme:dark",
        "@media print",
    ):
        assert words in page, words
    # The one who decides comes first; that another person looks altered makes UNSURE of a REAL.
    assert [p["verdict"] for p in data["people"]] == ["REAL", "FAKE"] and data["verdict"] == "UNSURE"
    assert "nother person looks altered" in page
    assert len(data["faces"]) == sum(p["frames"] for p in data["people"])
    assert all({"kind", "time_s", "p_fake", "check"} <= set(e) and "face" not in e for e in data["evidence"])


def test_the_most_suspicious_faces_are_the_most_suspicious(report):
    _, data = report
    for person in data["people"]:
        scores = [f["p_real"] for f in data["faces"] if f["person"] == person["id"]]
        shown = [e for e in data["evidence"] if e["person"] == person["id"]]
        assert max(e["p_fake"] for e in shown if e["kind"] == "suspicious") == pytest.approx(1 - min(scores))
        assert min(e["p_fake"] for e in shown if e["kind"] == "normal") == pytest.approx(1 - max(scores))
        assert len({e["time_s"] for e in shown}) == len(shown)


def test_a_report_without_a_face(detector, clips, tmp_path):
    explain.write_report(detector.predict(clips["no_face"]), detector, tmp_path / "r.html", name="no_face.mp4")
    page = (tmp_path / "r.html").read_text()
    assert "NO FACE" in page and "nothing to judge" in page and "<svg" not in page


def test_without_explanation(detector, clips, tmp_path):
    explain.write_report(detector.predict(clips["real"]), detector, tmp_path / "r.html", name="real.mp4", method="none")
    assert "speaks for FAKE" not in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("p, prior, expected", [(0.9, 0.5, 0.9), (0.9, 0.1, 0.5), (0.5, 0.01, 0.01), (0.99, 0.01, 0.5)])
def test_probability_at_another_share_of_fakes(p, prior, expected):
    assert html.at_prior(p, prior) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value, text", [(0, "under 1 %"), (0.004, "under 1 %"), (0.934, "93 %"), (0.995, "over 99 %"), (1, "over 99 %")]
)
def test_percent_never_claims_certainty(value, text):
    assert html.percent(value).replace("\u00a0", " ") == text


def test_a_span_whose_ends_read_the_same_is_one_number():
    assert (
        html.span((0.998, 0.999)) == html.percent(0.999)
        and html.span((0.841, 0.907)).replace("\u00a0", " ") == "84 % to 91 %"
    )


@pytest.mark.parametrize("seconds, text", [(0, "0:00.0"), (9.96, "0:09.9"), (75.25, "1:15.2"), (3599.9, "59:59.9")])
def test_clock(seconds, text):
    assert html.clock(seconds) == text


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="a machine with a GPU")
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(
            "from deepfake_detection.detector.maps import GradCam; GradCam(Path('detector.keras'))", id="gradcam"
        ),
        pytest.param("from deepfake_detection.faces import detectors; detectors.create('mtcnn')", id="mtcnn"),
    ],
)
def test_tensorflow_is_not_heard(tmp_path, project, use):
    keras = pytest.importorskip("keras")
    inputs = keras.Input((SIZE, SIZE, 3))
    features = keras.layers.Conv2D(2, 4, strides=4)(inputs)
    out = keras.layers.Dense(1, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(features))
    keras.Model(inputs, out).save(tmp_path / "detector.keras")
    code = f"import sys; sys.path.insert(0, {str(project)!r}); from pathlib import Path; {use}"
    environment = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr
