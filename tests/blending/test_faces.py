"""The index of faces: what it refuses, and what is cut from pictures and videos of the embedded sample."""

import csv

import numpy as np
import pytest

from deepfake_detection.blending import faces
from deepfake_detection.errors import UserError
from deepfake_detection.faces.detectors import DATA

YUNET = DATA / "face_detection_yunet_2023mar.onnx"


def write(path, *rows):
    with open(path, "w", newline="") as f:
        writer = csv.DictWriter(f, faces.COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(
            {"label": "real", "source": "own", "group": "a", "split": "train", "window": "wide", "frames": 3, **row}
            for row in rows
        )
    return path


@pytest.mark.parametrize(
    "rows, said",
    [
        pytest.param([{"file": "a.mp4", "label": "REAL"}], "label 'REAL'", id="another word for the label"),
        pytest.param([{"file": "a.mp4", "split": "test"}], "split 'test'", id="another split"),
        pytest.param([{"file": "a.mp4", "window": "narrow"}], "window 'narrow'", id="another window"),
        pytest.param(
            [{"file": "a.mp4"}, {"file": "b.mp4", "split": "val"}], "group 'a' stands in two splits", id="a torn group"
        ),
    ],
)
def test_what_an_index_may_not_say(tmp_path, rows, said):
    with pytest.raises(UserError, match=said) as refused:
        faces.read_index(write(tmp_path / "index.csv", *rows))
    assert refused.value.hint


@pytest.mark.parametrize(
    "text", [pytest.param("file,label\na.mp4,real\n", id="columns missing"), pytest.param("\x00\x01", id="no table")]
)
def test_a_file_that_is_no_index(tmp_path, text):
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(UserError):
        faces.read_index(tmp_path / "index.csv")


@pytest.fixture(scope="module")
def cut(project, tmp_path_factory):
    import cv2

    folder, sample = tmp_path_factory.mktemp("cut"), project / "train_sample_videos"
    ok, frame = cv2.VideoCapture(str(sample / "man_selfie.mp4")).read()
    assert ok
    cv2.imwrite(str(folder / "still.png"), frame)
    cv2.imwrite(str(folder / "tight.png"), frame[100:300, 100:250])
    cv2.imwrite(str(folder / "wall.png"), np.full((200, 200, 3), 128, np.uint8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    index = write(
        folder / "index.csv",
        {"file": sample / "man_selfie.mp4"},
        {"file": "still.png", "group": "b"},
        {"file": "tight.png", "window": "tight", "group": "c", "split": "val", "label": "fake"},
        {"file": "wall.png", "group": "d"},
        {"file": "broken.jpg", "group": "e"},
    )
    return faces.prepare(index, folder / "work", YUNET, workers=1), folder, index


def test_faces_are_cut_and_every_file_is_accounted_for(cut):
    made, folder, _ = cut
    assert made.table.file.map(lambda f: f.rsplit("/", 1)[-1]).value_counts().to_dict() == {
        "man_selfie.mp4": 3,
        "still.png": 1,
        "tight.png": 1,
    }
    assert made.images.shape == (5, faces.SIDE, faces.SIDE, 3) and made.images.std() > 10
    left_out = (folder / "work" / "left_out.csv").read_text()
    assert "wall.png" in left_out and "broken.jpg" in left_out and "still.png" not in left_out
    assert (
        sorted(made.table.time_s[made.table.file.str.endswith(".mp4")])
        == made.table.time_s[made.table.file.str.endswith(".mp4")].tolist()
    )


def test_boxes_points_and_meshes_lie_on_the_face(cut):
    made, _, _ = cut
    wide = made.table[made.table.window == "wide"]
    box = wide[list(faces.BOX)].to_numpy()
    assert ((box > 0) & (box < 1.1)).all() and (box[:, 2:] - box[:, :2] > 0.4).all()  # a chin may lie below the frame
    points = wide[list(faces.POINTS)].to_numpy().reshape(-1, 5, 2)
    assert (points > box[:, None, :2]).all() and (points < box[:, None, 2:]).all()
    mesh = made.meshes[wide.index].astype(float)
    from deepfake_detection.faces.mesh import five

    for found, five_points in zip(mesh, points):
        np.testing.assert_allclose(five(found), five_points, atol=0.08)
    assert np.isnan(made.table.loc[made.table.window == "tight", "box_x0"]).all()


def test_what_stands_is_not_cut_again(cut, monkeypatch):
    made, folder, index = cut
    monkeypatch.setattr(faces, "ProcessPoolExecutor", None)
    again = faces.prepare(index, folder / "work", YUNET)
    np.testing.assert_array_equal(again.images, made.images)


@pytest.mark.parametrize("killed_at", ["faces.csv", "twins.csv"])
def test_faces_of_a_killed_run_are_not_taken_for_those_of_the_run_before(cut, tmp_path, monkeypatch, killed_at):
    made, folder, index = cut
    other = write(folder / "other.csv", {"file": "still.png", "group": "b"}, {"file": "wall.png", "group": "d"})
    write_csv, work = faces.write_csv, tmp_path / "work"
    faces.prepare(index, work, YUNET, workers=1)

    def killed(path, table):
        if path.name == killed_at:
            raise KeyboardInterrupt
        write_csv(path, table)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(faces, "write_csv", killed)
        faces.prepare(other, work, YUNET, workers=1)
    again = faces.prepare(index, work, YUNET, workers=1)
    assert again.table.equals(made.table)
    np.testing.assert_array_equal(again.images, made.images)
    np.testing.assert_array_equal(again.meshes, made.meshes)


@pytest.mark.parametrize(
    "row, said",
    [
        pytest.param({"file": "wall.png"}, "no file of the index shows a face", id="no face"),
        pytest.param({"file": "gone.mp4"}, "no file of the index shows a face", id="no file"),
        pytest.param({"file": "still.png", "frames": "two"}, "frames 'two'", id="frames in words"),
        pytest.param({"file": "still.png", "frames": "0"}, "frames '0'", id="no frame"),
        pytest.param(None, "no row", id="no row"),
    ],
)
def test_an_index_that_gives_nothing_is_one_line(cut, tmp_path, row, said):
    _, folder, _ = cut
    index = write(folder / "odd.csv", *([] if row is None else [row]))
    with pytest.raises(UserError, match=said) as refused:
        faces.prepare(index, tmp_path / "work", YUNET, workers=1)
    assert refused.value.hint


def test_twins_are_looked_for_among_all_faces_under_other_bounds(tmp_path, monkeypatch):
    """Also among those that were twins under the bounds before."""
    import cv2

    from deepfake_detection.blending import duplicates

    picture = np.random.default_rng(3).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "one.png"), cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC))
    (tmp_path / "two.png").write_bytes((tmp_path / "one.png").read_bytes())
    index = write(
        tmp_path / "index.csv",
        {"file": "one.png", "window": "tight"},
        {"file": "two.png", "window": "tight", "group": "b", "split": "val"},
    )

    def splits():
        return faces.prepare(index, tmp_path / "work", YUNET, workers=1).table.split.tolist()

    assert splits() == [faces.TWIN, "val"]
    monkeypatch.setattr(duplicates, "ALIKE", 0.99)
    assert splits() == [faces.TWIN, "val"]
