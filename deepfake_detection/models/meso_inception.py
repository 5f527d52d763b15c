"""MesoInception4: Meso4 with its first two convolutions replaced by inception modules of dilated convolutions.

Input      (N, 256, 256, 3) RGB 0..255; scaled inside to 0..1
Layers     2 x inception module (four branches: 1x1; 1x1, 3x3; 1x1, 3x3 dilation 2; 1x1, 3x3 dilation 3; all ReLU), each
           followed by batch normalisation and max pooling 2; 2 x (16 filters of 5x5 with ReLU, batch normalisation, max
           pooling 2 and 4); Dropout 0.5, Dense 16, LeakyReLU 0.1, Dropout 0.5, Dense 1 sigmoid
Output     (N, 1) P(real)
Parameters 28,725
Source     Afchar, Nozick, Yamagishi & Echizen, "MesoNet: a Compact Facial Video Forgery Detection Network", WIFS 2018,
           arXiv:1809.00888. The published files (MesoInception_DF.h5, MesoInception_F2F.h5) load with `weights=PATH`.
"""

from __future__ import annotations

from .mesonet import classifier

NAME = "meso_inception"
KIND = "frame"
INPUT_SIZE = 256
HAS_IMAGENET = False
PARAMETERS = 28_725

#: Filters of the four branches of each inception module.
MODULES = ((1, 4, 4, 2), (2, 4, 4, 2))


def build(input_size: int = INPUT_SIZE, weights: str = "none", dropout: float = 0.5):
    """A Keras model from faces (N, input_size, input_size, 3), RGB 0..255, to (N, 1) P(real).

    Raises:
        UserError: for any other weights than `"none"`.
    """
    import keras
    from keras import layers

    from .weights import refuse_imagenet

    refuse_imagenet(NAME, weights)
    count = iter(range(1, 100))

    def convolution(filters: int, kernel: int, x, dilation: int = 1):
        # Numbered in the order in which the authors' code makes them: that is how the published files name them.
        return layers.Conv2D(
            filters, kernel, padding="same", dilation_rate=dilation, activation="relu", name=f"conv2d_{next(count)}"
        )(x)

    image = keras.Input((input_size, input_size, 3), name="image")
    x = layers.Rescaling(1 / 255, name="scale")(image)
    for i, (a, b, c, d) in enumerate(MODULES, 1):
        branches = [convolution(a, 1, x)]
        for filters, dilation in ((b, 1), (c, 2), (d, 3)):
            branches.append(convolution(filters, 3, convolution(filters, 1, x), dilation))
        x = layers.Concatenate(name=f"concatenate_{i}")(branches)
        x = layers.BatchNormalization(name=f"batch_normalization_{i}")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"max_pooling2d_{i}")(x)
    for i, pool in ((3, 2), (4, 4)):
        x = convolution(16, 5, x)
        x = layers.BatchNormalization(name=f"batch_normalization_{i}")(x)
        x = layers.MaxPooling2D(pool, padding="same", name=f"max_pooling2d_{i}")(x)
    return keras.Model(image, classifier(x, dropout), name=NAME)
