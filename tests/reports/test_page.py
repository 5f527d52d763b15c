"""What the report's page says of data that lack something, or hold it."""

import pytest

from deepfake_detection.reports import html
from tests.reports.test_print import data_of


@pytest.mark.parametrize("name", [*html.FILE_FIELDS, "all of it"])
def test_what_is_not_known_of_the_file_is_left_out(name):
    data = data_of(1)
    data["file"] = {} if name == "all of it" else {k: v for k, v in data["file"].items() if k != name}
    page = html.video_report(data)
    assert "None" not in page and "UNSURE" in page and data["file"].get("codec", "UNSURE") in page


@pytest.mark.parametrize("sign", html.SIGNS)
@pytest.mark.parametrize(
    "adds, said",
    [
        pytest.param(0.5, "speaks for REAL", id="real"),
        pytest.param(-0.5, "speaks for FAKE", id="fake"),
        pytest.param(0.1, None, id="hardly"),
        pytest.param(None, None, id="a detector without"),
    ],
)
def test_what_counts_beside_the_pixels_is_named(sign, adds, said):
    data = data_of(1)
    data["people"] = [{**person, **({} if adds is None else {sign: adds})} for person in data["people"]]
    page = html.video_report(data)
    assert (html.SIGNS[sign] in page) == (said is not None)
    assert said is None or f"{html.SIGNS[sign]} {said}; " in page


def test_one_frame_of_a_video_has_no_average_and_no_chart():
    data = data_of(1)
    one = {"interval": None, "frame_range": None}
    data |= {"frames_with_face": 1, "faces": data["faces"][:1], "evidence": data["evidence"][:1], **one}
    data["people"] = [{**person, "frames": 1, "faces_that_vote": 1, **one} for person in data["people"]]
    page = html.video_report(data)
    assert "of one frame." in page and "The person in the video" in page and "The face</b>, 0:00.0" in page
    for word in ("average <b>", "over time", "too few frames", 'class="plot"', "As a table"):
        assert word not in page
