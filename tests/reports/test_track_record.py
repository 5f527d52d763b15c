"""How often a verdict is wrong: from counts to words."""

import json
import shutil

import pytest

from deepfake_detection.reports import track_record

BOUNDS = {"fake_below": 0.32, "real_above": 0.70}
BIG = {
    "name": "phones",
    "height": 1080,
    "bits_per_pixel": 0.04,
    "real": {"videos": 1000, "REAL": 800, "UNSURE": 140, "FAKE": 60},
    "fake": {"videos": 1000, "REAL": 100, "UNSURE": 180, "FAKE": 720},
}
SMALL = {
    "name": "tiny",
    "height": 360,
    "bits_per_pixel": 0.005,
    "real": {"videos": 14, "REAL": 6, "UNSURE": 6, "FAKE": 2},
    "fake": {"videos": 36, "REAL": 3, "UNSURE": 7, "FAKE": 26},
}
TABLE = {"model": "m 1", "materials": [BIG, SMALL]}
PHONE, LOW = (
    {"width": 1080, "height": 1920, "bits_per_pixel": 0.05},
    {"width": 640, "height": 360, "bits_per_pixel": 0.004},
)


@pytest.mark.parametrize(
    "verdict, facts, model, said, not_said",
    [
        pytest.param(
            "FAKE",
            PHONE,
            "m 1",
            [
                "phones",
                "6 of 100 (60 of 1,000) untouched videos were called FAKE too",
                "about 8 of 100 FAKE verdicts",
                "one in ten is, about 43",
            ],
            "another version",
            id="fake",
        ),
        pytest.param(
            "REAL",
            PHONE,
            "m 1",
            [
                "10 of 100 (100 of 1,000) altered videos were called REAL too",
                "about 11 of 100 REAL verdicts",
                "about 1.",
            ],
            "untouched",
            id="real",
        ),
        pytest.param("FAKE", LOW, "m 1", ["tiny", "2 of only 14 untouched"], "verdicts are wrong", id="few: no rate"),
        pytest.param(
            "UNSURE",
            PHONE,
            "m 1",
            ["between 30 and 68 %", "14 of 100 (140 of 1,000) untouched", "18 of 100"],
            "called",
            id="unsure",
        ),
        pytest.param(
            "FAKE", {**PHONE, "bits_per_pixel": 0.9}, "m 1", ["not much like it"], "another version", id="unlike all"
        ),
        pytest.param(
            "FAKE", PHONE, "m 2", ["another version of the detector (m 1)"], "not much like", id="other weights"
        ),
        pytest.param("FAKE", {}, "m 1", ["called FAKE too"], "not much like", id="nothing known of the file"),
    ],
)
def test_sentences(verdict, facts, model, said, not_said):
    text = " ".join(track_record.sentences(TABLE, verdict, facts, model, BOUNDS))
    assert all(words in text for words in said) and not_said not in text, text


def test_without_a_table_or_a_face():
    assert track_record.sentences(TABLE, "NO FACE", PHONE, "m 1", BOUNDS) == []
    assert "not measured" in track_record.sentences(None, "FAKE", PHONE, "m 1", BOUNDS)[0]
    assert "between 30 and 68 %" in track_record.sentences(None, "UNSURE", PHONE, "m 1", BOUNDS)[0]


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        json.dumps({"errors_by_material": {"materials": [{"name": "x"}]}}),
        json.dumps(
            {"errors_by_material": {"materials": [{**BIG, "real": {"videos": 5, "REAL": 1, "UNSURE": 1, "FAKE": 1}}]}}
        ),
    ],
)
def test_a_broken_table_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / track_record.FILE).write_text(content)
    assert track_record.load({}, tmp_path) is None


def test_detector_json_goes_before_the_file_beside_it(tmp_path, project):
    shutil.copy(project / "models" / track_record.FILE, tmp_path)
    assert (
        track_record.load({}, tmp_path)["materials"] and track_record.load({track_record.KEY: TABLE}, tmp_path) is TABLE
    )
