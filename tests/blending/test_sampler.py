"""What a batch holds: pairs through one window, of the training split alone, the same for the same seed and step."""

from dataclasses import replace

import numpy as np
import pytest

from deepfake_detection.blending.faces import BOX, Faces
from deepfake_detection.blending.recipe import PAIRS
from deepfake_detection.blending.sampler import Sampler, Settings, alike
from deepfake_detection.training import judge

PLAIN = Settings(size=64, degrade=False, copies=0)


@pytest.fixture(scope="module")
def sampler(cut_faces):
    return Sampler(cut_faces, Settings(size=64))


def test_a_batch_is_a_function_of_seed_and_step(sampler, cut_faces):
    a, b = sampler(3), sampler(4)
    assert a.shape == (2 * sampler.pairs + 4, 64, 64, 3) and a.dtype == np.uint8
    assert sampler.pairs == PAIRS
    np.testing.assert_array_equal(a, Sampler(cut_faces, Settings(size=64))(3))
    assert (a != b).any() and (a != Sampler(cut_faces, Settings(size=64, seed=2))(3)).any()


@pytest.mark.parametrize("split", ["val", "unseen"])
def test_nothing_but_the_training_split_is_read(cut_faces, split):
    images = cut_faces.images.copy()
    images[cut_faces.rows(split=split)] = 255
    changed = Faces(cut_faces.table, images, cut_faces.meshes)
    for step in range(3):
        np.testing.assert_array_equal(Sampler(cut_faces, PLAIN)(step), Sampler(changed, PLAIN)(step))


def test_a_source_that_is_left_out_is_in_no_picture(cut_faces):
    """Not as a base, not inside a swap."""
    images = cut_faces.images.copy()
    images[cut_faces.rows(source="utkface")] = 255
    settings = Settings(size=64, degrade=False, copies=0, without=("utkface",))
    for step in range(3):
        np.testing.assert_array_equal(
            Sampler(cut_faces, settings)(step),
            Sampler(Faces(cut_faces.table, images, cut_faces.meshes), settings)(step),
        )


def test_both_of_a_pair_are_seen_through_one_window(cut_faces):
    """A blend differs from its base inside the face and hardly at the rim of the picture."""
    batch = Sampler(cut_faces, PLAIN)(0).astype(int)
    pairs = batch.reshape(-1, 2, 64, 64, 3)[:10]
    rim = np.abs(pairs[:, 0, :4] - pairs[:, 1, :4]).mean((1, 2, 3))
    middle = np.abs(pairs[:, 0, 24:40, 24:40] - pairs[:, 1, 24:40, 24:40]).mean((1, 2, 3))
    assert (middle > 0).all() and np.median(rim) < np.median(middle) / 2


def test_a_fake_stands_beside_its_own_original(cut_faces):
    """Each file gets a colour of its own: the two of a given pair show colours that belong together."""
    table, images = cut_faces.table, cut_faces.images.copy()
    files = {f: i for i, f in enumerate(sorted(set(table.file)))}
    for row, file in enumerate(table.file):
        images[row] = files[file]
    shares = (("blend", {"ffhq": 1.0}, 2), ("given", {"ffpp": 1.0}, 4))
    settings = Settings(size=64, degrade=False, copies=0, shares=shares)
    batch = Sampler(Faces(table, images, cut_faces.meshes), settings)(0).reshape(-1, 2, 64, 64, 3)
    name = {i: f for f, i in files.items()}
    for untouched, fake in batch[2:]:
        a, b = name[int(untouched[32, 32, 0])], name[int(fake[32, 32, 0])]
        assert a.endswith("_real.mp4") and b == a.replace("_real", "_fake")


def test_copies_are_made_of_faces_of_the_batch(cut_faces):
    batch = Sampler(cut_faces, Settings(size=64, degrade=False, copies=6))(0)
    own = [batch[2 * i + i % 2] for i in range(6)]
    assert [max(alike(copy, face) for copy in batch[-6:]) > 0.5 for face in own] == [True] * 6


@pytest.mark.parametrize("name", judge.VIEWS)
def test_a_face_is_learnt_from_in_the_window_that_it_is_judged_in(cut_faces, name):
    """Colours say where in the cut picture one is: on average training sees the part that `judge.view` shows."""
    place = np.zeros(cut_faces.images.shape[1:], np.uint8)
    place[..., 0], place[..., 1] = np.arange(256), np.arange(256)[:, None]
    images = np.broadcast_to(place, cut_faces.images.shape)
    settings = replace(PLAIN, shares=(("given", {"ffpp": 1.0}, 60),), wide=float(name == "wide"))
    learnt = Sampler(Faces(cut_faces.table, images, cut_faces.meshes), settings)(0)
    row = cut_faces.rows(source="ffpp", split="train")[0]
    judged = judge.seen_in(place, cut_faces.table.loc[row, list(BOX)].to_numpy(float), name, 64)

    def edges(pictures):  # left, right, top, bottom; some are mirrored
        x, y = pictures[:, 32, :, 0].astype(float), pictures[:, :, 32, 1].astype(float)
        return np.mean([x.min(1), x.max(1), y.min(1), y.max(1)], 1)

    np.testing.assert_allclose(edges(learnt), edges(judged[None]), atol=5)


def test_without_the_wide_window_less_is_seen(cut_faces):
    """White rims around the faces are seen through the wide window alone."""
    images = cut_faces.images.copy()
    for row in np.flatnonzero(cut_faces.table.window == "wide"):
        images[row, :20], images[row, -20:], images[row, :, :20], images[row, :, -20:] = 255, 255, 255, 255
    changed = Faces(cut_faces.table, images, cut_faces.meshes)

    def white(wide):
        batch = Sampler(changed, Settings(size=64, degrade=False, copies=0, wide=wide))(1).reshape(-1, 2, 64, 64, 3)[
            :16, 0
        ]
        return (batch > 250).all(-1).mean()

    assert white(True) > 3 * white(False)
