"""Tiny faces that a tiny network can tell apart."""

import cv2
import numpy as np
import pytest


def draw(root, per_class=(24, 12, 12)):
    """`root/split_dataset/{train,val,test}/{real,fake}`: reddish pictures are real, striped ones fake. Three frames a
    title."""
    rng = np.random.default_rng(0)
    for split, count in zip(("train", "val", "test"), per_class):
        for label in ("real", "fake"):
            folder = root / "split_dataset" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(0, 120, (24, 20, 3), dtype=np.uint8)
                if label == "real":
                    picture[:, :, 2] += 100
                else:
                    picture[::3, :, 1] += 130
                cv2.imwrite(str(folder / f"{split}-{label}-clip{i // 3}-{i % 3:03d}-00.png"), picture)
    return root / "split_dataset"


@pytest.fixture(scope="session")
def tiny_faces(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("faces"))


@pytest.fixture
def draw_faces():
    return draw
