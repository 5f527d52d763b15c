"""From scored faces to the verdict: who decides, who does not vote, stretches."""

from dataclasses import replace

import pytest

from deepfake_detection.aggregation import RULES, Thresholds, word_of
from deepfake_detection.detector.people import Decision, judge, lone, numbered
from deepfake_detection.detector.verdict import FaceScore, Prediction
from deepfake_detection.prediction.lines import line_of

THRESHOLDS = Thresholds(0.32, 0.70)


def faces(p_real, person="p1", *, side=100, fault="", start=0, gap_s=0.375):
    """A person's faces, one a frame from frame `start`."""
    return [
        FaceScore(
            person=person,
            frame=start + i,
            index=10 * (start + i),
            time_s=gap_s * (start + i),
            p_real=p,
            box=(0, 0, side, side),
            confidence=0.9,
            quality={"size_px": float(side)},
            votes=not fault,
            reason=fault,
            fault=fault,
        )
        for i, p in enumerate(p_real)
    ]


def judged(*parts, frames=32):
    return judge(
        sorted((f for part in parts for f in part), key=lambda f: f.frame),
        THRESHOLDS,
        Decision(),
        "mean",
        frames=frames,
    )


@pytest.mark.parametrize(
    "parts, verdict, words",
    [
        pytest.param([faces([0.9] * 32)], "REAL", "", id="untouched"),
        pytest.param([faces([0.1] * 32)], "FAKE", "", id="altered"),
        pytest.param([faces([0.5] * 32)], "UNSURE", "between 30 and 68 %", id="neither"),
        pytest.param(
            [faces([0.9] * 32), faces([0.05] * 32, "p2", side=60)],
            "UNSURE",
            "another person looks altered (p2)",
            id="small-fake-beside-real",
        ),
        pytest.param(
            [faces([0.9] * 32), faces([0.4] * 32, "p2", side=60)],
            "UNSURE",
            "another person may be altered (p2)",
            id="doubtful-one-beside-real",
        ),
        pytest.param([faces([0.9] * 32), faces([0.6] * 32, "p2", side=60)], "REAL", "", id="likely-real-beside-real"),
        pytest.param([faces([0.9] * 32, side=60), faces([0.05] * 32, "p2")], "FAKE", "", id="large-fake-beside-real"),
        pytest.param([faces([0.9] * 32), faces([0.2], "p2", side=60)], "REAL", "", id="a-passer-by-decides-nothing"),
        pytest.param(
            [faces([0.9] * 32), faces([0.01] * 32, "p2", side=300, fault="side")],
            "REAL",
            "",
            id="a-profile-decides-nothing",
        ),
        pytest.param([faces([0.05] * 32, side=28, fault="small")], "UNSURE", "too small (28 px)", id="too-small"),
        pytest.param([faces([0.05] * 32, fault="dark")], "UNSURE", "too dark", id="too-dark"),
        pytest.param(
            [faces([0.05] * 20, fault="side"), faces([0.05] * 12, fault="small", side=30, start=20)],
            "UNSURE",
            "seen from the side, too small (30 px)",
            id="two-reasons",
        ),
        pytest.param(
            [faces([0.05] * 28, fault="cut"), faces([0.05] * 4, start=28)], "UNSURE", "half outside", id="too-few-vote"
        ),
        pytest.param(
            [faces([0.9] * 14 + [0.05] * 2 + [0.9] * 16)],
            "UNSURE",
            "a stretch of 0.8 s looks altered",
            id="stretch-of-one-person",
        ),
        pytest.param(
            [faces([0.9] * 14), faces([0.05] * 3, "p2", start=14), faces([0.9] * 15, start=17)],
            "UNSURE",
            "looks altered",
            id="stretch-of-another",
        ),
        pytest.param([faces([0.9] * 14 + [0.05] + [0.9] * 17)], "REAL", "", id="one-frame-is-noise"),
    ],
)
def test_verdict_and_reason(parts, verdict, words):
    got = judged(*parts)
    assert got.verdict == verdict and (words in got.reason if words else got.reason == "")


def test_stretch_has_its_times():
    found = judged(faces([0.9] * 14 + [0.05] * 3 + [0.9] * 15)).stretches
    assert (
        len(found) == 1
        and found[0].start_s == pytest.approx(14 * 0.375 - 0.1875)
        and found[0].end_s == pytest.approx(16 * 0.375 + 0.1875)
    )


@pytest.mark.parametrize(
    "number, confidence, named",
    [
        pytest.param(2, 0.9, ["p1"], id="two-clear-ones"),
        pytest.param(3, 0.9, ["p1", "p2"], id="three-clear-ones"),
        pytest.param(8, 0.7, ["p1"], id="the-back-of-a-head"),
    ],
)
def test_a_few_bad_pictures_are_nobody(number, confidence, named):
    bad = [replace(f, confidence=confidence) for f in faces([0.1] * number, "p2", fault="small")]
    assert [p.id for p in judged(faces([0.9] * 32), bad).people] == named
    assert [p.id for p in judged(bad).people] == ["p2"]  # there is nobody else


def test_people_are_numbered_without_those_who_are_nobody():
    back = [replace(f, confidence=0.7) for f in faces([0.1] * 8, "p1", fault="small")]
    made = numbered([*back, *faces([0.9] * 32, "p2", start=1), *faces([0.8] * 32, "p3", start=2)], Decision())
    assert [f.person for f in made] == ["p3"] * 8 + ["p1"] * 32 + ["p2"] * 32
    assert [f.p_real for f in made] == [0.1] * 8 + [0.9] * 32 + [0.8] * 32
    assert numbered([], Decision()) == []


def test_decision_is_read_from_the_file_with_defaults():
    assert Decision.from_dict({"min_faces": 5, "unknown": 1}) == Decision(min_faces=5)
    assert Decision.from_dict(None) == Decision()


@pytest.mark.parametrize("rule", RULES)
def test_the_words_name_the_rule(rule):
    own = word_of(rule)
    assert own != "value" and (own == "average") == (rule == "mean")
    found = judge(faces([0.5, 0.45] * 16), THRESHOLDS, Decision(), rule, frames=32)
    if found.verdict == "UNSURE":
        assert found.reason.startswith(f"the {own} lies between 30 and 68 %") and found.people[0].reason == found.reason
    line = line_of(
        Prediction("a.mp4", "REAL", 0.9, 0.1, frame_range=(0.1, 0.2), settings={"aggregate": rule}).to_json()
    )
    assert f"0.100 ({own}; single frames 0.100 to 0.200)" in line


def test_one_face_has_no_average():
    found = judge(faces([0.5]), THRESHOLDS, Decision(), "mean", frames=1)
    said = "the fake probability lies between 30 and 68 %, where this detector does not decide"
    assert found.verdict == "UNSURE" and found.reason == found.people[0].reason == said


def test_without_intervals_the_verdict_is_the_same():
    some = faces([0.9, 0.8] * 16)
    quick = judge(some, THRESHOLDS, Decision(), "mean", intervals=False)
    whole = judge(some, THRESHOLDS, Decision(), "mean")
    assert quick.interval is quick.people[0].interval is None and whole.interval and whole.people[0].interval
    assert replace(whole, interval=None, people=()) == replace(quick, people=())


def again(p_real, at_s, gap_s=0.2):
    """Faces of frames that were looked at around `at_s`."""
    start = at_s - gap_s * (len(p_real) - 1) / 2
    made = [replace(f, again=True, frame=100 + i) for i, f in enumerate(faces(p_real))]
    return [replace(f, time_s=start + gap_s * i) for i, f in enumerate(made)]


@pytest.mark.parametrize(
    "around, verdict",
    [
        pytest.param([0.1] * 4, "UNSURE", id="a-stretch"),
        pytest.param([0.9, 0.9, 0.9, 0.9], "REAL", id="noise"),
        pytest.param([0.9, 0.1, 0.9, 0.9], "REAL", id="a-blur-of-0.3-s"),
    ],
)
def test_what_lies_around_a_lone_face_decides(around, verdict):
    """One face of 0.8 s apart looks altered; frames were looked at around it. The average is that of the others."""
    first = faces([0.95] * 10 + [0.05] + [0.95] * 21, gap_s=0.8)
    assert [f.frame for f in lone(first, Decision())] == [10]
    alone = judged(first)
    assert alone.verdict == "REAL"
    got = judge(
        sorted([*first, *again(around, 8.0, 0.2)], key=lambda f: f.time_s), THRESHOLDS, Decision(), "mean", frames=32
    )
    assert (got.verdict, got.p_real) == (verdict, alone.p_real)
    if verdict == "UNSURE":
        assert "a stretch of 0.8 s looks altered (7.6 to 8.4 s)" in got.reason


@pytest.mark.parametrize(
    "p_real, verdict",
    [(0.30, "UNSURE"), (0.17, "UNSURE"), (0.15, "FAKE"), (0.05, "FAKE"), (0.50, "UNSURE"), (0.90, "REAL")],
)
def test_faces_that_had_to_be_turned_are_fake_with_a_margin(p_real, verdict):
    """An untouched clip whose score lies near the threshold was FAKE upside down."""
    found = judged([replace(f, turned=180) for f in faces([p_real] * 32)])
    assert found.verdict == found.people[0].verdict == verdict
    assert ("not upright" in found.reason) == (0.16 <= p_real < 0.32)
    beside = judged(faces([0.9] * 32), [replace(f, turned=180) for f in faces([p_real] * 32, "p2", side=60)])
    assert beside.verdict == ("UNSURE" if p_real < 0.5 else "REAL")


@pytest.mark.parametrize(
    "count, p_real, verdict",
    [
        pytest.param(1, 0.15, "FAKE", id="one-surely"),
        pytest.param(1, 0.17, "UNSURE", id="one"),
        pytest.param(2, 0.17, "UNSURE", id="two"),
        pytest.param(3, 0.17, "FAKE", id="three"),
        pytest.param(1, 0.5, "UNSURE", id="one-between"),
        pytest.param(1, 0.9, "REAL", id="one-untouched"),
    ],
)
def test_so_few_faces_are_fake_with_a_margin(count, p_real, verdict):
    """A still picture is one face: of untouched portraits up to one in eight was FAKE."""
    found = judged(faces([p_real] * count), frames=count)
    assert found.verdict == found.people[0].verdict == verdict
    assert ("so few faces: only above 84 %" in found.reason) == (0.16 <= p_real < 0.32 and count < 3)


@pytest.mark.parametrize(
    "p_real, flicker, bits, side, verdict, cause",
    [
        pytest.param(0.2, -1.5, 0.1, 100, "FAKE", "", id="a video that kept its detail"),
        pytest.param(0.2, -1.5, 0.03, 100, "UNSURE", "strong compression", id="strongly compressed"),
        pytest.param(0.2, -1.5, 0.0, 100, "UNSURE", "strong compression", id="unknown"),
        pytest.param(0.2, -1.5, 0.1, 70, "UNSURE", "a small picture", id="small faces"),
        pytest.param(0.2, -0.2, 0.03, 100, "FAKE", "", id="altered without it too"),
        pytest.param(0.1, -2.5, 0.03, 100, "UNSURE", "strong compression", id="every face surely"),
        pytest.param(0.2, 0.0, 0.03, 70, "FAKE", "", id="no flicker"),
        pytest.param(0.2, 1.5, 0.03, 70, "FAKE", "", id="flicker speaks against it"),
        pytest.param(0.5, -1.5, 0.03, 100, "UNSURE", "", id="takes back REAL"),
        pytest.param(0.9, 1.5, 0.03, 70, "REAL", "", id="untouched"),
    ],
)
def test_flicker_alone_accuses_nobody_where_others_flicker_too(p_real, flicker, bits, side, verdict, cause):
    own = [replace(f, flicker=flicker) for f in faces([p_real] * 32, side=side)]
    found = judge(own, THRESHOLDS, Decision(), "mean", bits_per_pixel=bits)
    assert found.verdict == found.people[0].verdict == verdict and found.p_real == pytest.approx(p_real)
    assert (f"only by its flicker, which {cause} brings about too" in found.reason) == bool(cause)
    assert not found.stretches
