"""People: linked by place and looks, never by number; carry-over uses the past only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfake_detection.faces import tracks
from deepfake_detection.faces.boxes import Face
from deepfake_detection.faces.crops import crop_face
from tests.clips import scene


def face(x, y=100.0, side=60.0, confidence=0.99):
    return Face(float(x), float(y), float(side), float(side) * 1.2, confidence, tuple((x + i, y + i) for i in range(5)))


def shot(places, people, order=None):
    """(faces, crops) of a frame with portraits at `places`; `order` permutes the faces, as confidences do."""
    image = scene(places, 140, people=people)[..., ::-1]
    faces = [face(x - 35, y - 50, 70) for x, y in places]
    faces = [faces[i] for i in (order or range(len(faces)))]
    return faces, [crop_face(image, f, 0.3) for f in faces]


def link(frames, crops=None):
    """Every frame's faces with their person; by place only without crops."""
    linker = tracks.Linker()
    return [linker.update(faces, crops and [tracks.look(c) for c in crops[i]]) for i, faces in enumerate(frames)]


def names(shots):
    linked = link([f for f, _ in shots], [c for _, c in shots])
    return [[f.person for f in faces] for faces in linked]


def test_the_order_of_faces_does_not_matter():
    shots = [shot([(150, 180), (450, 180)], [False, True], [i % 2, 1 - i % 2]) for i in range(6)]
    assert names(shots) == [["p1", "p2"] if i % 2 == 0 else ["p2", "p1"] for i in range(6)]


def test_two_people_who_change_places():
    """Between two frames a second apart they swapped sides: place alone would mix them."""
    shots = [
        shot([(150, 180), (450, 180)], [False, True]),
        shot([(150, 180), (450, 180)], [True, False]),
        shot([(250, 180), (400, 180)], [True, False]),
        shot([(450, 180)], [True]),
    ]
    assert names(shots) == [["p1", "p2"], ["p2", "p1"], ["p2", "p1"], ["p2"]]


def test_crossing_step_by_step():
    shots = []
    for i in range(9):
        a, b = (120 + 50 * i, 180), (520 - 50 * i, 180)
        shots.append(
            shot([a, b] if i != 4 else [b], [False, True] if i != 4 else [True], None if i % 2 or i == 4 else [1, 0])
        )
    seen = names(shots)
    first, second = seen[0][1], seen[0][0]
    for i, row in enumerate(seen):
        assert row == ([second] if i == 4 else [first, second] if i % 2 else [second, first])


def test_a_cut_to_another_person_at_the_same_place():
    shots = [shot([(300, 180)], [False])] * 3 + [shot([(300, 180)], [True])] * 2 + [shot([(310, 180)], [False])]
    assert names(shots) == [["p1"]] * 3 + [["p2"]] * 2 + [["p1"]]


def test_a_third_person_is_new():
    shots = [shot([(120, 180)], [False]), shot([(120, 180), (420, 180)], [False, True])]
    assert names(shots) == [["p1"], ["p1", "p2"]]


def test_without_crops_place_decides():
    frames = [[face(100), face(400)], [face(395), face(110)], [], [face(120)]]
    assert [[f.person for f in r] for r in link(frames)] == [["p1", "p2"], ["p2", "p1"], [], ["p1"]]


def test_nothing_to_link():
    assert link([]) == [] and link([[], []]) == [[], []]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 600), st.integers(0, 300), st.integers(10, 200)), max_size=6), max_size=12
    )
)
def test_linking_is_causal_and_unique(places):
    frames = [[face(x, y, s) for x, y, s in row] for row in places]
    whole = link(frames)
    for faces, row in zip(frames, whole):
        assert len({f.person for f in row}) == len(row)  # one person is not twice in a frame
        assert [f.box for f in row] == [f.box for f in faces]  # nothing else is changed
    for end in range(len(frames)):
        assert link(frames[:end]) == whole[:end]  # later frames change nothing


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_assignment_is_the_best(rows, columns, seed):
    from scipy.optimize import linear_sum_assignment

    cost = np.random.default_rng(seed).random((rows, columns))
    pairs = tracks._assign(cost)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs) == min(rows, columns)
    assert sum(cost[p] for p in pairs) == pytest.approx(cost[linear_sum_assignment(cost)].sum())


# -- carry-over --------------------------------------------------------------------------------------------------------
def carry(frames, mean_of=3, most_frames=2):
    memory = tracks.Memory(mean_of, most_frames)
    return [memory.fill(faces) for faces in link(frames)]


def test_carries_the_mean_of_the_past():
    filled = carry([[face(100)], [face(110)], [face(120)], [face(130)], [], []])
    assert [f.source for row in filled for f in row] == ["detected"] * 4 + ["carried"] * 2
    assert filled[4][0].x == 125 and filled[4][0].person == "p1" and filled[4][0].confidence == 0  # frames 2 and 3
    assert filled[4][0].points[0] == (125.0, 100.0)
    assert filled[5][0].x == 130  # only frame 3 is recent enough
    assert carry([[face(100)], [face(110)], [face(120)], [face(130)], []], mean_of=3, most_frames=9)[4][0].x == 120


def test_no_face_is_older_than_allowed():
    filled = carry([[face(100)], [], [], [], []], most_frames=2)
    assert [len(r) for r in filled] == [1, 1, 1, 0, 0]


def test_nothing_before_the_first_face_and_nothing_from_the_future():
    frames = [[], [], [face(100)], [], [face(500, 10)], []]
    whole = carry(frames)
    assert whole[:2] == [[], []]
    for end in range(len(frames)):
        assert carry(frames[:end]) == whole[:end]
    assert whole[3][0].x == 100


def test_each_person_is_carried():
    filled = carry([[face(100), face(400)], [], [face(105)], []])
    assert {(f.person, f.source) for f in filled[1]} == {("p1", "carried"), ("p2", "carried")}
    assert [f.person for f in filled[2]] == ["p1"]  # a frame with a face is left as it is


@pytest.mark.parametrize("arguments", [(0, 1), (1, 0)])
def test_refuses_nonsense(arguments):
    with pytest.raises(ValueError):
        tracks.Memory(*arguments)


@pytest.mark.parametrize(
    "looks, shares_a_frame, people",
    [
        pytest.param((0.0, 0.0), False, 1, id="same-look-after-a-gap"),
        pytest.param((0.0, 1.0), False, 2, id="another-look"),
        pytest.param((0.0, 0.0), True, 2, id="twins-in-one-frame"),
    ],
)
def test_merge_joins_broken_tracks(looks, shares_a_frame, people):
    def vector(kind):
        v = np.zeros(448, np.float32)
        v[int(kind * 5)] = 1
        v[256:] = kind
        return v

    def face(name, x):
        return Face(x, 10, 50, 50, 0.9, ((0, 0),) * 5, person=name)

    frames = [[face("p1", 0)], [face("p1", 0)], [], [face("p2", 500)], [face("p2", 500)]]
    seen = [[vector(looks[0])], [vector(looks[0])], [], [vector(looks[1])], [vector(looks[1])]]
    if shares_a_frame:
        frames[1].append(face("p2", 500))
        seen[1].append(vector(looks[1]))
    merged = tracks.merge(frames, seen)
    names = {f.person for faces in merged for f in faces}
    assert names == {f"p{i + 1}" for i in range(people)} and [len(f) for f in merged] == [len(f) for f in frames]


@pytest.mark.parametrize(
    "alike, apart, good, people",
    [
        pytest.param(False, 0.3, 1.0, 1, id="one-face-in-another-light"),
        pytest.param(False, 0.5, 1.0, 2, id="neither"),
        pytest.param(True, 0.5, 1.0, 1, id="neither-and-looks-agree"),
        pytest.param(True, 0.8, 1.0, 2, id="two-faces-that-look-alike"),
        pytest.param(True, 0.8, 0.0, 1, id="too-bad-to-be-described"),
    ],
)
def test_descriptors_go_before_looks(alike, apart, good, people):
    looks = np.zeros((2, 448), np.float32)
    looks[0, 0] = looks[1, 0 if alike else 5] = 1
    looks[1, 256:] = not alike
    frames = [[Face(100.0 + 400 * i, 10, 50, 50, 0.9, ((0, 0),) * 5, person=f"p{i + 1}")] for i in (0, 0, 1, 1)]
    asked = []

    def describe(places):
        asked.extend(places)
        return np.array([[apart * (number > 1), 0.0] for number, _ in places])

    merged = tracks.merge(frames, [[looks[0]], [looks[0]], [looks[1]], [looks[1]]], describe, lambda i, j: good)
    assert len({f.person for faces in merged for f in faces}) == people
    assert sorted(asked) == ([(i, 0) for i in range(4)] if good else [])


@pytest.mark.parametrize("away, people", [(0.3, 1), (0.6, 2)], ids=["one-person", "two"])
def test_tracks_are_compared_by_their_means_over_time(away, people):
    """Single faces of a track are far apart (pose, expression): only their means tell. Each part of its time is asked
    for its best face."""
    looks = np.zeros((2, 448), np.float32)
    looks[0, 0] = looks[1, 5] = looks[1, 256] = 1
    frames = [[Face(100, 10, 50, 50, 0.9, ((0, 0),) * 5, person=f"p{1 + (i >= 10)}")] for i in range(20)]
    asked = []

    def describe(places):
        asked.extend(number for number, _ in places)
        return np.array([[away * (number >= 10), 0.5 * (-1) ** k] for k, (number, _) in enumerate(places)])

    seen = [[looks[0]]] * 10 + [[looks[1]]] * 10
    merged = tracks.merge(frames, seen, describe, lambda i, j: 1.0 + i % 2)
    assert len({f.person for faces in merged for f in faces}) == people
    assert asked == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]


def test_nothing_is_described_where_nobody_can_be_joined():
    frames = [[face(100), face(400)], [face(100), face(400)]]
    linked = link(frames)
    merged = tracks.merge(linked, [[np.zeros(448, np.float32)] * 2] * 2, lambda places: 1 / 0, lambda i, j: 1.0)
    assert merged == linked
