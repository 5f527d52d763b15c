"""Twins across splits are found whatever was done to the file, and faces that only resemble each other are not."""

import dataclasses

import cv2
import numpy as np
import pytest
from synthetic import cut_faces, face

from deepfake_detection.blending import duplicates


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def smaller(image):
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def faces():
    """Drawn faces with a smooth ground of their own each."""
    made, rng = cut_faces(videos=2), np.random.default_rng(5)
    grounds = [cv2.resize(rng.integers(0, 255, (4, 4, 3)).astype(np.uint8), (256, 256)) for _ in made.images]
    return dataclasses.replace(
        made, images=np.stack([a // 2 + b // 2 for a, b in zip(made.images, grounds, strict=True)])
    )


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: x, id="the same picture"),
        pytest.param(lambda x: jpeg(x, 25), id="compressed"),
        pytest.param(smaller, id="half as large"),
        pytest.param(lambda x: np.clip(x * 0.9 + 12, 0, 255).astype(np.uint8), id="brighter"),
    ],
)
@pytest.mark.parametrize("split", ["val", "unseen"])
def test_a_twin_is_found(faces, split, change):
    row = int(faces.rows(split="train", source="utkface")[0])
    twin = int(faces.rows(split=split)[-1])
    images = faces.images.copy()
    images[twin] = change(images[row])
    found = duplicates.across_splits(dataclasses.replace(faces, images=images))
    assert found[["row", "twin", "twin_split"]].to_numpy().tolist() == [[row, faces.table.file[twin], split]]


def test_others_are_not(faces):
    """Also not a picture of the same group, which `read_index` has an eye on, and not another face on the same
    ground."""
    images, table = faces.images.copy(), faces.table.copy()
    row, same, near = (int(faces.rows(split=s)[0]) for s in ("train", "val", "unseen"))
    images[same], table.loc[same, "group"] = images[row], table["group"][row]
    ground = cv2.resize(np.random.default_rng(9).integers(0, 255, (4, 4, 3)).astype(np.uint8), (256, 256))
    rng = np.random.default_rng(10)
    images[row], images[near] = (face(rng) // 2 + ground // 2 for _ in range(2))
    images[same] = images[row]
    found = duplicates.across_splits(dataclasses.replace(faces, images=images, table=table))
    assert not len(found), found


def test_a_face_without_any_light_is_no_twin(faces):
    images = faces.images.copy()
    images[:] = 0
    assert not len(duplicates.across_splits(dataclasses.replace(faces, images=images)))
