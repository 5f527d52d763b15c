"""Sequences: who is in which, padding and mask, the points, and features that are computed once."""

import numpy as np
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.faces import boxes
from deepfake_detection.names import title_of
from deepfake_detection.training import features, sequences
from deepfake_detection.training.face_list import Faces, find_faces


def faces_of(names, root=None):
    titles = tuple(title_of(n) for n in names)
    y = np.array([1 if n.startswith("real") else 0 for n in names], np.int64)
    return Faces(root, tuple(names), y, titles, titles)


def table_of(rows):
    """file -> person, as stage 01a's table; the points lie where the file's number says."""
    import pandas as pd

    lines = [
        {"file": file, "person": person, **{c: float(i + k) for k, c in enumerate(boxes.POINT_COLUMNS)}}
        for i, (file, person) in enumerate(rows.items())
    ]
    return pd.DataFrame(lines).set_index("file")


def slots_of(names, length, tables=None):
    made = sequences.make_sequences(faces_of(names), length, tables)
    return made, [[names[i] if i >= 0 else None for i in row] for row in made.slots]


def test_one_sequence_a_title_with_gaps_in_their_places():
    names = [f"fake/a-b-{n:03d}-00.png" for n in (3, 4, 6)] + ["real/z-000-00.png"]
    made, slots = slots_of(names, 5)
    assert (
        made.titles == ("z", "a-b")
        and list(made.y) == [1, 0]
        and made.names == ("real/z-000-00.png", "fake/a-b-003-00.png")
    )
    assert slots == [["real/z-000-00.png", None, None, None, None], [names[0], names[1], None, names[2], None]]


@pytest.mark.parametrize(
    "numbers, length, expected",
    [
        ((0, 1, 2, 3), 4, (0, 1, 2, 3)),
        ((0, 10, 20), 4, (0, 10, 20, None)),
        (tuple(range(10)), 4, (0, 3, 6, 9)),
        ((7,), 1, (7,)),
        ((2, 5), 1, (2,)),
    ],
)
def test_length(numbers, length, expected):
    _, slots = slots_of([f"real/t-{n:03d}-00.png" for n in numbers], length)
    assert slots == [[None if n is None else f"real/t-{n:03d}-00.png" for n in expected]]


def test_two_people_follow_their_track_and_not_their_number():
    names = ["real/t-000-00.png", "real/t-000-01.png", "real/t-001-00.png", "real/t-001-01.png"]
    persons = {
        "t-000-00.png": "p0",
        "t-000-01.png": "p1",
        "t-001-00.png": "p1",
        "t-001-01.png": "p0",
    }  # the surer face changes
    made, slots = slots_of(names, 2, {"t": table_of(persons)})
    assert made.persons == ("p0", "p1") and slots == [[names[0], names[3]], [names[1], names[2]]]


def test_untracked_people_are_not_joined(capsys):
    made, slots = slots_of(["real/t-000-00.png", "real/t-000-01.png", "real/t-001-01.png"], 2)
    assert slots == [["real/t-000-00.png", None]] and "not tracked" in capsys.readouterr().err
    with pytest.raises(UserError, match="no sequence"):
        sequences.make_sequences(faces_of(["real/t-000-01.png"]), 2)


def test_values_and_mask():
    made = sequences.make_sequences(faces_of(["real/a-000-00.png", "real/a-002-00.png", "fake/b-000-00.png"]), 3)
    store = sequences.SequenceStore(made, lambda i: np.float32(i)[:, None] + 10, (1,), "float32")
    values, mask = store.get(np.array([1, 0]))
    assert values[..., 0].tolist() == [[12, 0, 0], [10, 0, 11]] and mask.tolist() == [[1, 0, 0], [1, 0, 1]]
    (batch, batch_mask), y = next(iter(store.batches([1, 0], 2)))
    assert (
        batch.shape == (2, 3, 1) and batch_mask.numpy().tolist() == mask.tolist() and y.numpy().tolist() == [[0], [1]]
    )


def test_points_come_from_the_box_table(tmp_path):
    names = ["real/a-000-00.png", "real/a-001-00.png", "fake/b-000-00.png"]
    table = table_of({"a-000-00.png": "p0", "a-001-00.png": "p0"})
    table.loc["a-001-00.png", "nose_x"] = np.nan  # carried over: no points
    store = sequences.point_store(faces_of(names), 2, {"a": table})
    values, mask = store.get(np.array([0]))
    assert (
        len(store) == 1
        and mask.tolist() == [[1, 0]]
        and values[0, 0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    )
    with pytest.raises(UserError, match="no box table"):
        sequences.point_store(faces_of(names), 2, {})


def test_box_tables_are_found_below_the_frames(tmp_path):
    face = boxes.Face(1, 2, 3, 4, 0.9, tuple((float(i), float(i)) for i in range(5)), person="p3")
    (tmp_path / "a" / "faces").mkdir(parents=True)
    boxes.write_boxes(
        tmp_path / "a" / "faces" / "boxes.csv",
        [boxes.row(face, frame=0, time_s=0.0, number=0, file="a-000-00.png", crop=(0, 0, 4, 4))],
    )
    tables = sequences.box_tables(faces_of(["real/a-000-00.png", "fake/b-000-00.png"]), tmp_path)
    assert list(tables) == ["a"] and tables["a"].at["a-000-00.png", "person"] == "p3"
    assert sequences.tables_digest(tables) != sequences.tables_digest({}) == ""


class CountingNetwork:
    """Stands for a frozen network: the mean of each channel. Counts the faces it sees."""

    name, input_shape, output_shape = "counting", (None, 8, 8, 3), (None, 3)

    def __init__(self):
        self.seen = 0

    def get_weights(self):
        return [np.ones(3, np.float32)]

    def predict_on_batch(self, faces):
        self.seen += len(faces)
        return faces.mean((1, 2))


def test_features_are_computed_once(tiny_faces, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "FEATURE_BLOCK", 10)
    pixels = sequences.pixel_store(find_faces(tiny_faces / "test"), 3, 8)
    network = CountingNetwork()
    first = sequences.feature_store(pixels, network, tmp_path, batch_size=4)
    assert network.seen == 24
    block = max(tmp_path.rglob("*.npy"), key=lambda path: path.stat().st_size)  # a full one, of 10; the last has 4
    block.write_bytes(b"half")  # a damaged block is made again, and no other
    second = sequences.feature_store(pixels, network, tmp_path, batch_size=4)
    assert network.seen == 34
    values, mask = first.get(np.arange(8))
    np.testing.assert_array_equal(values, second.get(np.arange(8))[0])
    raw, _ = pixels.get(np.arange(8))
    np.testing.assert_allclose(values, raw.mean((2, 3)), rtol=1e-6)
    assert mask.min() == 1 and values.shape == (8, 3, 3)
