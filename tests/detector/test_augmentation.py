import numpy as np
import pytest

from deepfake_detection.errors import UserError
from deepfake_detection.training.augmentation import NAMES, augment


@pytest.fixture(scope="module")
def faces():
    import synthetic

    rng = np.random.default_rng(2)
    return np.stack([synthetic.face(rng)[:96, :96] for _ in range(6)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_shape_range_and_repeatability(faces, name, kind):
    import tensorflow as tf

    change = augment(name, seed=3)
    made = [change(faces.astype(kind), tf.constant(step)).numpy() for step in (4, 5, 4)]
    for x in made:
        assert x.shape == faces.shape and x.dtype == np.float32
        assert x.min() >= 0 and x.max() <= 255 and np.isfinite(x).all()
    np.testing.assert_array_equal(made[0], made[2])
    if name == "none":
        np.testing.assert_array_equal(made[0], faces.astype(np.float32))
    else:
        assert (made[0] != made[1]).any()
        # Faces of one batch are changed each in its own way.
        same = change(np.repeat(faces[:1], 6, 0), tf.constant(4)).numpy()
        assert (np.abs(same - same[:1]).mean((1, 2, 3))[1:] > 0.5).all()


def test_seed_decides(faces):
    import tensorflow as tf

    step = tf.constant(0)
    assert (augment("strong", 1)(faces, step).numpy() != augment("strong", 2)(faces, step).numpy()).any()


def test_without_a_step_the_draws_go_on(faces):
    first, second = augment("published", 1), augment("published", 1)
    a, b = first(faces).numpy(), first(faces).numpy()
    assert (a != b).any()
    np.testing.assert_array_equal(second(faces).numpy(), a)


@pytest.mark.parametrize("name", NAMES)
def test_in_a_dataset_at_another_size(faces, name):
    import tensorflow as tf

    change = augment(name, 1)
    data = tf.data.Dataset.from_tensor_slices(faces).batch(3).enumerate().map(lambda step, x: change(x, step, 64))
    made = np.concatenate(list(data.as_numpy_iterator()))
    assert made.shape == (6, 64, 64, 3) and data.element_spec.shape[1:] == (64, 64, 3)


def test_movement_keeps_the_picture_in_place_on_average(faces):
    """Mirrored, turned and shifted both ways alike: an error of sign in the transform would show as a drift of the
    middle."""
    import tensorflow as tf

    spot = np.zeros((200, 65, 65, 3), np.float32)
    spot[:, 31:34, 31:34] = 255
    made = augment("published", 1)(spot, tf.constant(0)).numpy()[..., 0]
    weight = made.sum((1, 2))
    kept = weight > 0
    y = (made * np.arange(65)[None, :, None]).sum((1, 2))[kept] / weight[kept]
    x = (made * np.arange(65)[None, None, :]).sum((1, 2))[kept] / weight[kept]
    assert kept.mean() > 0.95
    assert abs(x.mean() - 32) < 2.5 and abs(y.mean() - 32) < 2.5
    assert x.std() > 3 and y.std() > 3


def test_unknown_name_is_refused():
    with pytest.raises(UserError, match="no augmentation"):
        augment("wild", 1)


def test_published_moves_as_far_as_published_and_no_further():
    """Rotation 10 degrees, shifts and zoom 0.1 of each axis: read off two spots on a line through the middle."""
    import tensorflow as tf

    side, arm, count = 129, 30, 400
    image = np.zeros((count, side, side, 3), np.float32)
    image[:, 63:66, 64 - arm - 1 : 64 - arm + 2, 0] = 255
    image[:, 63:66, 64 + arm - 1 : 64 + arm + 2, 1] = 255
    made = augment("published", 1)(image, tf.constant(0)).numpy()
    grid = np.arange(side)
    weight = made[..., :2].sum((1, 2))
    y = (made[..., :2] * grid[None, :, None, None]).sum((1, 2)) / weight
    x = (made[..., :2] * grid[None, None, :, None]).sum((1, 2)) / weight
    mirrored = x[:, 0] > x[:, 1]
    assert 0.4 < mirrored.mean() < 0.6
    across, down = x[:, 1] - x[:, 0], y[:, 1] - y[:, 0]
    angle = np.degrees(np.arctan2(down, across * np.where(mirrored, -1, 1)))  # a mirrored line runs backwards
    angle = np.abs(np.where(mirrored, -angle, angle))
    assert 8 < angle.max() < 12.5, "10 degrees, and up to a fifth more where width is zoomed in against height"
    length = np.hypot(across, down) / (2 * arm)
    assert 0.88 < length.min() < 0.94 and 1.06 < length.max() < 1.13
    for middle in (x.mean(1) - 64, y.mean(1) - 64):
        assert 0.08 < np.abs(middle).max() / side < 0.125


@pytest.mark.parametrize("name", ["strong", "none"])
def test_a_map_goes_where_its_pixels_go(faces, name):
    """A bright square and a map of it: after the same movement the map still lies over the square, and the picture is
    what it is without a map."""
    import tensorflow as tf

    images = np.full((8, 96, 96, 3), 40, np.uint8)
    images[:, 20:50, 30:70] = 220
    maps = np.where(images[..., :1] > 100, 255, 0).astype(np.uint8)
    change = augment(name, seed=1)
    both = change(np.concatenate([images, maps], -1), tf.constant(2), 64).numpy()
    np.testing.assert_array_equal(both[..., :3], change(images, tf.constant(2), 64).numpy())
    moved = both[..., 3]
    assert moved.shape == (8, 64, 64) and moved.min() >= 0 and moved.max() > 250
    # Cut-out boxes and noise hide some squares; the brightness of most still tells the map.
    agree = [np.corrcoef(image.mean(-1).ravel(), where.ravel())[0, 1] for image, where in zip(both[..., :3], moved)]
    assert np.median(agree) > 0.9
    if name == "strong":
        assert (np.abs(np.diff(moved, axis=0)).max((1, 2)) > 100).all()  # each face moved in its own way
