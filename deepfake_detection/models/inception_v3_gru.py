"""Inception-v3 features of 20 frames and two small GRUs: the classic recipe for classifying short videos.

Input      faces (N, 20, 299, 299, 3) RGB 0..255 of one person in time order, mask (N, 20) 1 where there is a face
Layers     Inception-v3 without its top, frozen, global average pooling: 20 x 2048; GRU 16, GRU 8 (both masked), Dropout
           0.4, Dense 8 ReLU, Dense 1 sigmoid. Any registered frame model can take the place of Inception-v3
           (`features=NAME`)
Output     (N, 1) P(real)
Parameters 21,902,657 (99,873 of them are trained)
Source     Guera & Delp, "Deepfake Video Detection Using Recurrent Neural Networks", AVSS 2018 (Inception-v3 and a
           recurrent network); the layers are those of the Keras example "Video Classification with a CNN-RNN
           Architecture" (Paul, 2021)
"""

from __future__ import annotations

from .sequence import feature_gru

NAME = "inception_v3_gru"
KIND = "sequence"
INPUT_SIZE = 299
MIN_INPUT_SIZE = 32
LENGTH = 20
FEATURES = "inception_v3"
PARAMETERS = 21_902_657


def build(
    input_size: int | None = INPUT_SIZE,
    weights: str = "none",
    dropout: float = 0.4,
    *,
    length: int = LENGTH,
    features: str = FEATURES,
):
    """A Keras model from faces (N, length, input_size, input_size, 3) and mask (N, length) to (N, 1) P(real).

    Args:
        weights: of the frame network: `"none"`, `"imagenet"` or a file of it.
        length: faces a sequence.
        features: the frame network, one of `registry.names("frame")`.

    Raises:
        UserError: unknown frame network, or weights that are not there or do not fit it.
    """
    return feature_gru(NAME, features, input_size=input_size, weights=weights, dropout=dropout, length=length)
