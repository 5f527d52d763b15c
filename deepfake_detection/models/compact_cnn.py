"""A compact convolutional network for 100-pixel faces, small enough to train from nothing on a laptop.

Input      (N, 100, 100, 3) RGB 0..255; scaled inside to 0..1
Layers     4 x (convolution, ReLU, batch normalisation, max pooling 2): 8 filters of 3x3, 8 of 5x5, 16 of 5x5, 16 of
           5x5; Dropout 0.5, Dense 16 ReLU, Dropout 0.5, Dense 1 sigmoid
Output     (N, 1) P(real)
Parameters 24,233
Source     The small network of the classic student recipes for this task; its layers are those of Meso4 (Afchar et al.,
           "MesoNet: a Compact Facial Video Forgery Detection Network", WIFS 2018, arXiv:1809.00888) with other sizes
           and pooling
"""

from __future__ import annotations

NAME = "compact_cnn"
KIND = "frame"
INPUT_SIZE = 100
MIN_INPUT_SIZE = 16
HAS_IMAGENET = False
PARAMETERS = 24_233

#: (filters, kernel) of each convolution.
CONVOLUTIONS = ((8, 3), (8, 5), (16, 5), (16, 5))


def build(input_size: int = INPUT_SIZE, weights: str = "none", dropout: float = 0.5):
    """A Keras model from faces (N, input_size, input_size, 3), RGB 0..255, to (N, 1) P(real).

    Raises:
        UserError: for any other weights than `"none"`.
    """
    import keras
    from keras import layers

    from .weights import refuse_imagenet

    refuse_imagenet(NAME, weights)
    image = keras.Input((input_size, input_size, 3), name="image")
    x = layers.Rescaling(1 / 255, name="scale")(image)
    for i, (filters, kernel) in enumerate(CONVOLUTIONS, 1):
        x = layers.Conv2D(filters, kernel, padding="same", activation="relu", name=f"conv2d_{i}")(x)
        x = layers.BatchNormalization(name=f"batch_normalization_{i}")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"max_pooling2d_{i}")(x)
    x = layers.Flatten(name="features")(x)
    x = layers.Dropout(dropout, name="dropout_1")(x)
    x = layers.Dense(16, activation="relu", name="dense_1")(x)
    x = layers.Dropout(dropout, name="dropout_2")(x)
    return keras.Model(image, layers.Dense(1, activation="sigmoid", dtype="float32", name="dense_2")(x), name=NAME)
