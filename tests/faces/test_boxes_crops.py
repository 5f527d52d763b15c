"""The face table, and the one definition of a crop and of network input."""

import numpy as np
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.faces import boxes
from deepfake_detection.faces.boxes import Face
from deepfake_detection.faces.crops import crop_face, network_input, padded_crop, widen
from deepfake_detection.faces.extract import keep

POINTS = ((10.5, 11), (20, 11), (15, 16), (11, 22), (19, 22.25))


def face(x=5, y=6, w=20, h=25, c=0.99, **more):
    return Face(x, y, w, h, c, POINTS, **more)


@pytest.mark.parametrize(
    "box, margin, expected",
    [
        ((100, 100, 100, 200), 0.3, (70, 40, 230, 360)),
        ((100, 100, 100, 200), 0.0, (100, 100, 200, 300)),
        ((0, 0, 50, 50), 0.3, (0, 0, 65, 65)),  # clipped at the top left
        ((600, 330, 40, 30), 0.3, (588, 321, 640, 360)),  # and at the bottom right
        ((100.7, 100.7, 10.2, 10.2), 0.3, (97, 97, 113, 113)),
        ((639.5, 359.5, 3, 3), 0.0, (639, 359, 640, 360)),  # never empty
        ((-50, -50, 10, 10), 0.0, (0, 0, 1, 1)),
    ],
)
def test_widen(box, margin, expected):
    assert widen(box, margin, 640, 360) == expected


def test_crop_is_what_widen_says():
    frame = np.arange(360 * 640 * 3, dtype=np.uint32).astype(np.uint8).reshape(360, 640, 3)
    x0, y0, x1, y1 = widen(face(), 0.3, 640, 360)
    crop = crop_face(frame, face(), 0.3)
    assert np.array_equal(crop, frame[y0:y1, x0:x1]) and np.shares_memory(crop, frame)


@pytest.mark.parametrize("shape", [(300, 200, 3), (50, 40, 3), (224, 224, 3), (1, 1, 3), (10, 2000, 3)])
def test_network_input(shape):
    crop = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    made = network_input(crop, 224)
    assert made.shape == (224, 224, 3) and made.dtype == np.uint8 and made.flags.c_contiguous
    flat = network_input(np.full(shape, (10, 20, 30), np.uint8), 128)
    assert np.array_equal(
        flat, np.full((128, 128, 3), (10, 20, 30), np.uint8)
    )  # channels keep their order, no value moves


def test_shrinking_does_not_alias():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(network_input(stripes, 128).astype(int)) <= 1


@pytest.mark.parametrize(
    "confidences, kept",
    [([0.5], [0.5]), ([], []), ([0.99, 0.96, 0.95, 0.5], [0.99, 0.96]), ([0.9, 0.9], []), ([0.951, 0.2], [0.951])],
)
def test_published_rule(confidences, kept):
    assert [f.confidence for f in keep([face(c=c) for c in confidences])] == kept


def test_table_survives_a_round_trip(tmp_path):
    faces = [face(), face(c=0.0, source=boxes.CARRIED, person="p1")]
    rows = [
        boxes.row(f, frame=7, time_s=1.5, number=i, file=f"NA-007-{i:02d}.png", crop=(0, 0, 9, 9))
        for i, f in enumerate(faces)
    ]
    boxes.write_boxes(tmp_path / "boxes.csv", rows)
    table = boxes.read_boxes(tmp_path / "boxes.csv")
    assert tuple(table.columns) == boxes.COLUMNS
    assert [boxes.face_of(line) for line in table.to_dict("records")] == faces
    assert list(table["person"]) == ["", "p1"]


def test_empty_table(tmp_path):
    boxes.write_boxes(tmp_path / "boxes.csv", [])
    assert len(boxes.read_boxes(tmp_path / "boxes.csv")) == 0


@pytest.mark.parametrize("text", [None, "", "a,b\n1,2\n", "\x00\xff"])
def test_broken_table(tmp_path, text):
    if text is not None:
        (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(UserError):
        boxes.read_boxes(tmp_path / "boxes.csv")


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((40, 30, 20, 24), id="inside"),
        pytest.param((-6, 30, 20, 24), id="left"),
        pytest.param((90, 70, 20, 24), id="right and below"),
        pytest.param((-30, -30, 200, 200), id="larger than the frame"),
    ],
)
def test_a_padded_crop_is_whole(box):
    frame = np.random.default_rng(1).integers(0, 256, (80, 100, 3), np.uint8)
    crop = padded_crop(frame, box, 0.5)
    x, y, w, h = box
    assert abs(crop.shape[1] - 2 * w) <= 1 and abs(crop.shape[0] - 2 * h) <= 1
    x0, y0, x1, y1 = widen(box, 0.5, 100, 80)
    left, top = x0 - int(np.floor(x - w / 2)), y0 - int(np.floor(y - h / 2))
    assert np.array_equal(crop[top : top + y1 - y0, left : left + x1 - x0], frame[y0:y1, x0:x1])
    if left:
        assert (crop[top : top + y1 - y0, :left] == frame[y0:y1, x0 : x0 + 1]).all()
