"""People upside down or on their side without a tag are found, and read upright; upright ones cost nothing."""

import cv2
import numpy as np
import pandas as pd
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.faces import boxes, crop_stage, crops, detectors, extract, landmarks, quality, turns
from deepfake_detection.faces.boxes import Face
from deepfake_detection.video import frames as frames_stage
from deepfake_detection.video.decode import Frame, FrameReader
from deepfake_detection.video.picture import turned_by
from deepfake_detection.video.sampling import parse
from tests.clips import faces_of_video, pattern, scene, write_video

#: By how much a picture was turned clockwise -> by how much it must be turned to be upright.
BACK = {90: 270, 180: 180, 270: 90}
POINTS = ((30.0, 20.0), (50.0, 21.0), (40.0, 30.0), (33.0, 41.0), (48.0, 40.0))


@pytest.fixture(scope="module")
def project_clips(project):
    """Name -> eight frames of an untouched clip of the sample."""
    found = {}
    for name in ("man_selfie", "two-friends_walk-past", "curly_tall", "officer_tilted-phone"):
        reader = FrameReader(project / "train_sample_videos" / f"{name}.mp4", parse("even", 8))
        found[name] = [f.image for f in reader]
    return found


def found_in(images, detector, **options):
    frames = (Frame(i, i, float(i), image) for i, image in enumerate(images))
    return list(extract.faces_of_frames(frames, detector, **options))


class Counting:
    """A detector that counts the pixels it is given."""

    def __init__(self, detector):
        self.detector, self.pixels = detector, 0
        self.name, self.confidence = detector.name, detector.confidence

    def detect(self, images, min_face_px=None):
        self.pixels += sum(i.shape[0] * i.shape[1] for i in images)
        return self.detector.detect(images, min_face_px)


@pytest.mark.parametrize("turn", BACK)
@pytest.mark.parametrize(
    "name, detector",
    [
        ("man_selfie", "yunet"),
        ("two-friends_walk-past", "yunet"),
        ("curly_tall", "yunet"),
        ("officer_tilted-phone", "yunet"),
        ("man_selfie", "mtcnn_fast"),
        ("two-friends_walk-past", "mtcnn_fast"),
    ],
)
def test_turned_people_are_found_as_upright_ones(project_clips, name, detector, turn):
    """The same crops, bit by bit, and the same places once these are turned back."""
    images, detector = project_clips[name], detectors.create(detector)
    upright = found_in(images, detector)
    turned = found_in([turned_by(image, turn) for image in images], detector)
    assert sum(len(f.faces) for f in upright) >= 8
    for a, b in zip(upright, turned):
        assert [f.turned for f in b.faces] == [BACK[turn]] * len(a.faces)
        assert len(a.crops) == len(b.crops) and all(np.array_equal(c, d) for c, d in zip(a.crops, b.crops))
        for face, other in zip(a.faces, b.faces):
            corners = (other.x, other.y, other.x + other.width, other.y + other.height)
            at = crops.turned_rectangle(corners, BACK[turn], *b.size)
            assert at == pytest.approx((face.x, face.y, face.x + face.width, face.y + face.height), abs=0.01)
            assert other.person == face.person and other.confidence == face.confidence
            assert 0 <= other.x <= b.size[0] and 0 <= other.y + other.height <= b.size[1]
            roll = quality.measure(other, b.crops[0], (0, 0), b.size).roll
            assert roll == pytest.approx(quality.measure(face, a.crops[0], (0, 0), a.size).roll, abs=0.01)


@pytest.mark.parametrize("detector", ["yunet", "mtcnn_fast"])
@pytest.mark.parametrize("name", ["man_selfie", "two-friends_walk-past", "curly_tall"])
def test_upright_people_cost_nothing(project_clips, name, detector):
    images, counting = project_clips[name], Counting(detectors.create(detector))
    assert {f.turned for frame in found_in(images, counting) for f in frame.faces} == {0}
    assert counting.pixels == sum(i.shape[0] * i.shape[1] for i in images)


@pytest.mark.parametrize("length", [6, 200])
def test_videos_without_people_are_looked_at_a_few_times_only(length):
    counting = Counting(detectors.create("yunet"))
    images = list(pattern(length, 320, 240))
    assert not any(f.faces for f in found_in(images, counting))
    assert counting.pixels <= (length + 3 * 3 * (2 if length < 64 else 3)) * 320 * 240


def test_people_who_come_late():
    """Where nobody is, nothing is decided: some of the later chunks are looked at too."""
    upright, detector = scene([(320, 180)], 200), detectors.create("yunet")
    wall = scene([])
    images = [wall] * 40 + [cv2.rotate(upright, cv2.ROTATE_180)] * 40
    found = found_in(images, detector)
    assert [bool(f.faces) for f in found] == [False] * 40 + [False] * 11 + [True] * 29  # the third chunk ends at 51
    assert {face.turned for f in found for face in f.faces} == {180}


def test_one_picture(project_clips):
    image = project_clips["man_selfie"][3]
    for turn in BACK:
        ((face,),) = ([f.faces for f in found_in([turned_by(image, turn)], detectors.create("yunet"))],)
        assert [f.turned for f in face] == [BACK[turn]]


@pytest.mark.parametrize("turn", turns.TURNS)
def test_a_face_and_its_crop_go_there_and_back(turn):
    image = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    turned = turned_by(image, turn)
    face = Face(21.3, 12.4, 40.2, 45.7, 0.9, POINTS)
    own = turns.turned_back(face, turn, 70, 90)
    assert own.turned == turn
    corners = (own.x, own.y, own.x + own.width, own.y + own.height)
    assert crops.turned_rectangle(corners, turn, 70, 90) == pytest.approx((21.3, 12.4, 61.5, 58.1))
    for margin in (0.0, 0.3, 2.0):
        cut = turned_by(crops.crop_face(image, own, margin), turn)
        assert np.array_equal(cut, crops.crop_face(turned, face, margin))
    same = Face(*own.box, 0.9, own.points)
    assert quality.pose(own.points)[:2] == pytest.approx(quality.pose(POINTS)[:2], abs=1e-6)
    assert quality.measure(own, turned, (0, 0), (70, 90)).brightness == pytest.approx(
        quality.measure(same, image, (0, 0), (70, 90)).brightness
    )


@pytest.mark.parametrize("roll, fault", [(0, ""), (50, ""), (75, "turned"), (180, "turned"), (-90, "turned")])
def test_faces_that_nobody_turned_do_not_vote(roll, fault):
    q = quality.Quality(100, 1, 0, 0, roll, 0.5, 120, 50, 0, 0.95)
    assert quality.Bounds().fault(q) == fault
    assert not fault or "upside down" in quality.reason([fault], [100])


@pytest.fixture(scope="module")
def upside_down(project_clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("turned")
    write_video(folder / "v.mp4", [cv2.rotate(i, cv2.ROTATE_180) for i in project_clips["man_selfie"]], fps=1, crf=12)
    return folder


def test_every_path_reads_it_turned(upside_down, tmp_path):
    """Stages 00 and 01a, 01a --direct, 01b and the fused path: one mechanism."""
    columns = ["title", "video", "label", "dataset", "manipulation", "original", "group", "split", "error"]
    table = pd.DataFrame([{c: "" for c in columns} | {"title": "v", "video": "v.mp4"}], columns=columns)
    settings, rule = crop_stage.FaceSettings("yunet"), parse("per-second")
    frames_stage.convert(table, upside_down, tmp_path / "a", sampling=rule)
    account = crop_stage.crop_faces(table, upside_down, tmp_path / "a", settings).table()
    assert account["status"].item() == "ok" and "turned by 180 degrees" in account["detail"].item()
    crop_stage.crop_faces(table, upside_down, tmp_path / "b", settings, direct=True, sampling=rule)
    rows = boxes.read_boxes(tmp_path / "a/v/faces/boxes.csv")
    assert rows.equals(boxes.read_boxes(tmp_path / "b/v/faces/boxes.csv")) and set(rows["turned"]) == {180}
    _, fused = faces_of_video(upside_down / "v.mp4", sampling=rule, detector="yunet")
    landmarks.mark_faces(table, tmp_path / "a")
    for line, frame in zip(rows.to_dict("records"), fused, strict=True):
        stored = cv2.imread(str(tmp_path / "a/v/faces" / line["file"]))
        assert np.array_equal(stored, frame.crops[0][..., ::-1])
        whole = cv2.imread(str(tmp_path / "a/v" / f"v-{line['frame']:03d}.png"))
        cut = whole[line["crop_y0"] : line["crop_y1"], line["crop_x0"] : line["crop_x1"]]
        assert np.array_equal(cv2.rotate(cut, cv2.ROTATE_180), stored)
        assert boxes.face_of(line) == frame.faces[0]
        marked = cv2.imread(str(tmp_path / "a/v/marked_faces" / line["file"]))
        x = line["crop_x1"] - 1 - round(line["nose_x"])
        y = line["crop_y1"] - 1 - round(line["nose_y"])
        assert marked[y, x].tolist() == [0, 0, 255]


def test_the_verdict_is_that_of_the_upright_video(project, project_clips, upside_down, tmp_path):
    from deepfake_detection import Detector

    upright = write_video(tmp_path / "v.mp4", project_clips["man_selfie"], fps=1, crf=12)
    picture = tmp_path / "p.png"
    cv2.imwrite(str(picture), cv2.rotate(project_clips["man_selfie"][3], cv2.ROTATE_90_CLOCKWISE))
    detector = Detector()
    as_it_was, turned = detector.predict(upright), detector.predict(upside_down / "v.mp4")
    assert turned.p_real == pytest.approx(as_it_was.p_real, abs=0.06) and turned.verdict == as_it_was.verdict
    assert any("turned by 180 degrees" in w for w in turned.warnings) and as_it_was.verdict == "REAL"
    assert not any("turned" in w for w in as_it_was.warnings)
    assert any("turned by 270 degrees" in w for w in detector.predict(picture).warnings)


def test_tables_from_before(tmp_path):
    row = boxes.row(Face(1, 2, 3, 4, 0.9, POINTS), frame=0, time_s=0.0, number=0, file="a", crop=(0, 0, 9, 9))
    for value, right in ((90, True), ("", True), (45, False), ("x", False)):
        boxes.write_boxes(tmp_path / "boxes.csv", [row | {"turned": value}])
        if right:
            assert boxes.face_of(boxes.read_boxes(tmp_path / "boxes.csv").iloc[0]).turned == (value or 0)
        else:
            with pytest.raises(UserError, match="column turned"):
                boxes.read_boxes(tmp_path / "boxes.csv")
    pd.DataFrame([row]).drop(columns="turned").to_csv(tmp_path / "boxes.csv", index=False)
    assert list(boxes.read_boxes(tmp_path / "boxes.csv")["turned"]) == [0]
