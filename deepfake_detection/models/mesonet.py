"""Meso4: the small network that looks at the mesoscopic level, between pixel noise and meaning.

Input      (N, 256, 256, 3) RGB 0..255; scaled inside to 0..1
Layers     4 x (convolution with ReLU, batch normalisation, max pooling): 8 filters of 3x3, 8 of 5x5, 16 of 5x5, 16 of
           5x5, pooling 2, 2, 2, 4; Dropout 0.5, Dense 16, LeakyReLU 0.1, Dropout 0.5, Dense 1 sigmoid
Output     (N, 1) P(real)
Parameters 28,073
Source     Afchar, Nozick, Yamagishi & Echizen, "MesoNet: a Compact Facial Video Forgery Detection Network", WIFS 2018,
           arXiv:1809.00888. The published files (Meso4_DF.h5, Meso4_F2F.h5) load with `weights=PATH`; they too give
           P(real).
"""

from __future__ import annotations

NAME = "mesonet"
KIND = "frame"
INPUT_SIZE = 256
HAS_IMAGENET = False
PARAMETERS = 28_073

#: (filters, kernel, pooling) of each stage.
STAGES = ((8, 3, 2), (8, 5, 2), (16, 5, 2), (16, 5, 4))

#: The authors' slope; it has no weights, so a file does not tell. Keras' default is 0.3 (0.2 in TensorFlow).
LEAKY_SLOPE = 0.1


def build(input_size: int = INPUT_SIZE, weights: str = "none", dropout: float = 0.5):
    """A Keras model from faces (N, input_size, input_size, 3), RGB 0..255, to (N, 1) P(real).

    The published weights need the input size 256: the first Dense layer sees every position.

    Raises:
        UserError: for any other weights than `"none"`.
    """
    import keras
    from keras import layers

    from .weights import refuse_imagenet

    refuse_imagenet(NAME, weights)
    image = keras.Input((input_size, input_size, 3), name="image")
    x = layers.Rescaling(1 / 255, name="scale")(image)
    for i, (filters, kernel, pool) in enumerate(STAGES, 1):
        x = layers.Conv2D(filters, kernel, padding="same", activation="relu", name=f"conv2d_{i}")(x)
        x = layers.BatchNormalization(name=f"batch_normalization_{i}")(x)
        x = layers.MaxPooling2D(pool, padding="same", name=f"max_pooling2d_{i}")(x)
    return keras.Model(image, classifier(x, dropout), name=NAME)


def classifier(x, dropout: float):
    """The classifier that both MesoNets share: a feature map to (N, 1) P(real)."""
    from keras import layers

    x = layers.Flatten(name="features")(x)
    x = layers.Dropout(dropout, name="dropout_1")(x)
    x = layers.Dense(16, name="dense_1")(x)
    x = layers.LeakyReLU(negative_slope=LEAKY_SLOPE, name="leaky_re_lu_1")(x)
    x = layers.Dropout(dropout, name="dropout_2")(x)
    return layers.Dense(1, activation="sigmoid", dtype="float32", name="dense_2")(x)
