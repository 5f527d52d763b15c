"""Descriptors: one person in two lights is nearer than two people in one, turned or not."""

import cv2
import numpy as np
import pytest

from deepfake_detection.faces import descriptors, detectors, tracks
from deepfake_detection.faces.boxes import Face
from deepfake_detection.faces.crops import crop_face, turned_rectangle, widen
from deepfake_detection.video.decode import FrameReader
from deepfake_detection.video.picture import turned_by
from deepfake_detection.video.sampling import parse


@pytest.fixture(scope="module")
def seen(sample):
    """(frame, its largest face) of four clips."""
    detector = detectors.create("yunet")
    found = {}
    for name in ("man_at-the-door", "man_mountain-photo", "woman_phone-vertical", "woman_laughing"):
        image = next(FrameReader(sample / f"{name}.mp4", parse("even", 1))).image
        found[name] = image, max(detector.detect([image])[0], key=lambda f: f.width)
    return found


def chip(image, face, margin=0.3):
    crop = turned_by(cv2.cvtColor(crop_face(image, face, margin), cv2.COLOR_BGR2RGB), face.turned)
    return descriptors.aligned(crop, widen(face, margin, image.shape[1], image.shape[0])[:2], face)


def turned(image, face, turn):
    """The frame on its side or head, and the face in it, which is read upright."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = turned_rectangle((face.x, face.y, face.x + face.width, face.y + face.height), turn, width, height)
    points = tuple(turned_rectangle((x, y, x, y), turn, width, height)[:2] for x, y in face.points)
    return turned_by(image, turn), Face(x0, y0, x1 - x0, y1 - y0, 0.9, points, turned=-turn % 360)


def test_one_person_is_nearer_than_two(seen):
    door, mountain, phone, laughing = descriptors.Describer()([chip(*one) for one in seen.values()])
    between = [np.linalg.norm(man - woman) for man in (door, mountain) for woman in (phone, laughing)]
    assert np.linalg.norm(phone - laughing) < tracks.SAME_FACE
    assert np.linalg.norm(door - mountain) < tracks.OTHER_FACE < min(between)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_frame_gives_the_same_face(seen, turn):
    image, face = seen["man_at-the-door"]
    difference = chip(*turned(image, face, turn)).astype(int) - chip(image, face)
    assert np.abs(difference).mean() < 8  # a pixel aside
