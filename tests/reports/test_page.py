"""The report's page of data that lack what could not be found out."""

import pytest

from deepfake_detection.reports import html
from tests.reports.test_print import data_of


@pytest.mark.parametrize("name", [*html.FILE_FIELDS, "all of it"])
def test_what_is_not_known_of_the_file_is_left_out(name):
    data = data_of(1)
    data["file"] = {} if name == "all of it" else {k: v for k, v in data["file"].items() if k != name}
    page = html.video_report(data)
    assert "None" not in page and "UNSURE" in page and data["file"].get("codec", "UNSURE") in page
