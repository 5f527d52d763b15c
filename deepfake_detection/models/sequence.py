"""What the sequence models share: their inputs, a frame network applied to every frame, and the recurrent classifier.

A sequence is one person's faces in time order, padded to a fixed length, with a mask: 1 where there is a face, 0 where
the face was not found or the sequence had ended. Masked frames never reach a recurrent state, whatever they hold.
"""

from __future__ import annotations


def face_inputs(length: int, input_size: int):
    """(faces (N, length, size, size, 3) RGB 0..255, mask (N, length) 0 or 1), both symbolic."""
    import keras

    return keras.Input((length, input_size, input_size, 3), name="faces"), keras.Input((length,), name="mask")


def each_frame(network, faces):
    """Applies a frame network (N, S, S, 3) -> (N, F) to faces (N, T, S, S, 3): (N, T, F).

    As one batch of N x T faces. Keras' TimeDistributed copies the network's graph T times instead, which for 20 frames
    of an Inception takes minutes to build.
    """
    import keras

    length, *picture = faces.shape[1:]
    features = network(keras.ops.reshape(faces, (-1, *picture)))
    return keras.ops.reshape(features, (-1, length, features.shape[-1]))


def boolean(mask):
    """The mask as Keras' recurrent layers want it."""
    import keras

    return keras.ops.greater(mask, 0.5)


def gru_head(length: int, features: int, dropout: float):
    """The model `head`, features (N, T, F) and mask (N, T) to P(real): GRU 16, GRU 8, Dropout, Dense 8, Dense 1."""
    import keras
    from keras import layers

    values, mask = keras.Input((length, features), name="features"), keras.Input((length,), name="mask")
    there = boolean(mask)
    x = layers.GRU(16, return_sequences=True, name="gru_16")(values, mask=there)
    x = layers.GRU(8, name="gru_8")(x, mask=there)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(8, activation="relu", name="dense_8")(x)
    p_real = layers.Dense(1, activation="sigmoid", dtype="float32", name="p_real")(x)
    return keras.Model([values, mask], p_real, name="head")


def feature_gru(name: str, extractor: str, *, input_size: int | None, weights: str, dropout: float, length: int):
    """A frozen frame network and `gru_head` over its features, as one model from faces and mask to P(real).

    Args:
        name: of the model.
        extractor: a registered frame model; its classifier is cut off.
        weights: of the extractor: `"none"`, `"imagenet"` or a file.
    """
    import keras

    from . import registry

    network = registry.features(registry.build(extractor, input_size=input_size, weights=weights))
    network.trainable = False
    size = network.input_shape[1]
    faces, mask = face_inputs(length, size)
    head = gru_head(length, network.output_shape[-1], dropout)
    return keras.Model([faces, mask], head([each_frame(network, faces), mask]), name=name)


def extractor_and_head(model):
    """The frozen frame network and trainable head of a model of `feature_gru`; (None, model) for any other."""
    inner = {layer.name: layer for layer in model.layers}
    if "head" not in inner:
        return None, model
    return next(layer for layer in model.layers if layer.name.endswith("_features")), inner["head"]
