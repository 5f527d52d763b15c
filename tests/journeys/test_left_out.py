"""`--max-videos`: the videos that it leaves out are no errors, in no stage, and come back when it is lifted."""

import shutil

import pandas as pd
import pytest

from deepfake_detection.datasets.manifest import COLUMNS
from deepfake_detection.datasets.prepare import prepare
from deepfake_detection.errors import UserError
from deepfake_detection.faces.crop_stage import FaceSettings, crop_faces
from deepfake_detection.faces.landmarks import mark_faces
from deepfake_detection.stage_report import LEFT_OUT_FILE, read_left_out
from deepfake_detection.video import frames as frames_stage
from deepfake_detection.video.sampling import parse

TITLES = [f"{label}{i}" for label in ("real", "fake") for i in range(4)]
SAMPLING = parse("even", 1)
YUNET = FaceSettings("yunet")


def row(title, **more):
    known = {"title": title, "video": f"{title}.mp4", "label": title[:4].upper(), "group": title}
    return dict.fromkeys(COLUMNS, "") | known | more


MANIFEST = pd.DataFrame([*map(row, TITLES), row("fake9", error="missing file")])


@pytest.fixture
def data(sample, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for title in TITLES:
        shutil.copy(sample / "woman_worried.mp4", folder / f"{title}.mp4")
    return folder


def accounts(data, out, most):
    """Stages 00 to 02: stage -> title -> status; and what stage 02 says."""
    frames = out / "frames"
    made = {
        "00": frames_stage.convert(MANIFEST, data, frames, sampling=SAMPLING, max_videos=most),
        "01a": crop_faces(MANIFEST, data, frames, YUNET),
        "01b": mark_faces(MANIFEST, frames),
    }
    summary = prepare(MANIFEST, frames, out, balance="none").summary
    statuses = {name: account.table().set_index("title")["status"].to_dict() for name, account in made.items()}
    table = pd.read_csv(out / "stage_reports" / "02_videos.csv", dtype=str).set_index("title")
    return statuses | {"02": table["status"].to_dict()}, summary


def test_what_is_left_out_is_no_error_in_any_stage(data, tmp_path):
    first, summary = accounts(data, tmp_path, 6)
    for stage, statuses in first.items():
        assert statuses == first["00"], stage
        assert sorted(statuses.values()) == ["error"] + ["left out"] * 2 + ["ok"] * 6, stage
        assert statuses["fake9"] == "error", stage  # a missing file stays one, and is not one of the chosen
    assert summary.count("1 left out") == 2 and summary.count("error: ") == 1
    for stage, statuses in accounts(data, tmp_path, None)[0].items():  # lifted: all of them
        assert sorted(statuses.values()) == ["error"] + ["ok"] * 8, stage
    assert accounts(data, tmp_path, 6)[0] == first  # and again, although the frames and faces of all stand


def test_the_videos_themselves_are_not_bound_by_an_earlier_stage_00(data, tmp_path):
    frames_stage.convert(MANIFEST, data, tmp_path, sampling=SAMPLING, max_videos=1)
    assert len(read_left_out(tmp_path)) == 7
    account = crop_faces(MANIFEST, data, tmp_path, YUNET, direct=True, sampling=SAMPLING)
    assert list(account.table()["status"]) == ["ok"] * 8 + ["error"] and not read_left_out(tmp_path)


def test_a_shard_of_nothing_else_ends_well(data, tmp_path):
    frames_stage.convert(MANIFEST, data, tmp_path, sampling=SAMPLING, max_videos=1)
    shard = MANIFEST[MANIFEST["title"].isin(read_left_out(tmp_path))].iloc[:2]
    account = crop_faces(shard, data, tmp_path, YUNET)
    account.require_success(tmp_path / "01a-0-of-4_videos.csv")
    assert list(account.table()["status"]) == ["left out"] * 2


def test_a_refusal_counts_the_videos_that_were_tried(data, tmp_path):
    for title in TITLES:
        (data / f"{title}.mp4").write_bytes(b"")
    account = frames_stage.convert(MANIFEST, data, tmp_path, sampling=SAMPLING, max_videos=2)
    with pytest.raises(UserError, match="none of 3 videos"):  # two tried, and the missing one
        account.require_success(tmp_path / "00_videos.csv")


@pytest.mark.parametrize("text", ["", "[]", "{"], ids=["empty", "a list", "cut"])
def test_a_broken_list_is_one_line(tmp_path, text):
    (tmp_path / LEFT_OUT_FILE).write_text(text)
    with pytest.raises(UserError, match="left out"):
        read_left_out(tmp_path)
