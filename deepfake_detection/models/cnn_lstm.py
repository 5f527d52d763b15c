"""A small convolutional network on every frame and an LSTM over its features, trained together.

Input      faces (N, 20, 80, 80, 3) RGB 0..255 of one person in time order, mask (N, 20) 1 where there is a face
Layers     on every frame: 3 x (convolution 3x3 with ReLU, batch normalisation, max pooling 2) with 16, 32 and 64
           filters, global average pooling (64); LSTM 32 (masked), Dropout 0.5, Dense 1 sigmoid
Output     (N, 1) P(real)
Parameters 36,481
Source     Donahue et al., "Long-term Recurrent Convolutional Networks for Visual Recognition and Description", CVPR
           2015, arXiv:1411.4389, in the size of the student recipes for this task
"""

from __future__ import annotations

NAME = "cnn_lstm"
KIND = "sequence"
INPUT_SIZE = 80
MIN_INPUT_SIZE = 16
LENGTH = 20
HAS_IMAGENET = False
FILTERS = (16, 32, 64)
PARAMETERS = 36_481


def build(input_size: int = INPUT_SIZE, weights: str = "none", dropout: float = 0.5, *, length: int = LENGTH):
    """A Keras model from faces (N, length, input_size, input_size, 3) and mask (N, length) to (N, 1) P(real).

    Raises:
        UserError: for any other weights than `"none"`.
    """
    import keras
    from keras import layers

    from .sequence import boolean, each_frame, face_inputs
    from .weights import refuse_imagenet

    refuse_imagenet(NAME, weights)
    image = keras.Input((input_size, input_size, 3), name="image")
    x = layers.Rescaling(1 / 255, name="scale")(image)
    for i, filters in enumerate(FILTERS, 1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv2d_{i}")(x)
        x = layers.BatchNormalization(name=f"batch_normalization_{i}")(x)
        x = layers.MaxPooling2D(2, name=f"max_pooling2d_{i}")(x)
    frame = keras.Model(image, layers.GlobalAveragePooling2D(name="features")(x), name="frame")

    faces, mask = face_inputs(length, input_size)
    x = layers.LSTM(32, name="lstm_32")(each_frame(frame, faces), mask=boolean(mask))
    x = layers.Dropout(dropout, name="dropout")(x)
    p_real = layers.Dense(1, activation="sigmoid", dtype="float32", name="p_real")(x)
    return keras.Model([faces, mask], p_real, name=NAME)
