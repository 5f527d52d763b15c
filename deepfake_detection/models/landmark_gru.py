"""Two small GRUs over the movement of the five facial points; it sees no pixel.

Input      points (N, 60, 5, 2) in pixels (left eye, right eye, nose, left and right corner of the mouth) of one person
           in time order, mask (N, 60) 1 where there is a face
Layers     inside the model: positions relative to the middle of the eyes, in units of the sequence's mean eye distance,
           averaged over three frames (masked frames left out), and their change from frame to frame; two GRU 32
           (positions; changes), each with Dropout 0.5 and Dense 1 sigmoid; P(real) is the mean of the two
Output     (N, 1) P(real)
Parameters 8,514
Source     Sun, Han, Hua, Ruan & Jia, "Improving the Efficiency and Robustness of Deepfakes Detection Through Precise
           Geometric Features" (LRNet), CVPR 2021, arXiv:2104.04480. There 68 points, aligned and denoised by optical
           flow; here the five that a face detector gives, smoothed, so it is a much weaker relative
"""

from __future__ import annotations

NAME = "landmark_gru"
KIND = "sequence"
INPUT_SIZE = 0
MIN_INPUT_SIZE = 0
LENGTH = 60
HAS_IMAGENET = False
UNITS = 32
PARAMETERS = 8_514

#: Changes between frames are a few hundredths of the eye distance; so multiplied they are as large as the positions.
CHANGE_SCALE = 20.0


def build(input_size: int = 0, weights: str = "none", dropout: float = 0.5, *, length: int = LENGTH):
    """A Keras model from points (N, length, 5, 2) and mask (N, length) to (N, 1) P(real). `input_size` has no meaning
    here.

    Raises:
        UserError: for any other weights than `"none"`.
    """
    import keras
    from keras import layers, ops

    from .weights import refuse_imagenet

    refuse_imagenet(NAME, weights)
    points, mask = keras.Input((length, 5, 2), name="points"), keras.Input((length,), name="mask")
    there = ops.expand_dims(mask, -1)  # (N, T, 1)
    left, right = points[:, :, 0], points[:, :, 1]  # (N, T, 2)
    distance = ops.sqrt(ops.sum(ops.square(right - left), axis=-1, keepdims=True) + 1e-6)  # (N, T, 1) px
    # One distance for the sequence: dividing by each frame's own would turn its error into movement of every point.
    mean_distance = ops.sum(distance * there, axis=1, keepdims=True) / (ops.sum(there, axis=1, keepdims=True) + 1e-6)
    middle = ops.expand_dims((left + right) / 2, 2)
    positions = layers.Reshape((length, 10))(points - middle) / (mean_distance + 1e-6) * there

    # Mean over the frames t-1, t, t+1 that are there.
    average = lambda x: layers.AveragePooling1D(3, strides=1, padding="same")(x)
    positions = average(positions) / (average(there) + 1e-6) * there
    # x of the frame before, 0 for the first.
    before = lambda x: layers.Cropping1D((0, 1))(layers.ZeroPadding1D((1, 0))(x))
    both = there * before(there)
    changes = CHANGE_SCALE * (positions - before(positions)) * both

    def branch(values, its_mask, name: str):
        x = layers.GRU(UNITS, name=f"gru_{name}")(values, mask=ops.greater(ops.squeeze(its_mask, -1), 0.5))
        x = layers.Dropout(dropout, name=f"dropout_{name}")(x)
        return layers.Dense(1, activation="sigmoid", dtype="float32", name=f"p_real_{name}")(x)

    p_real = layers.Average(name="p_real", dtype="float32")(
        [branch(positions, there, "positions"), branch(changes, both, "changes")]
    )
    return keras.Model([points, mask], p_real, name=NAME)
