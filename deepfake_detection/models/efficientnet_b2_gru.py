"""EfficientNet-B2 features of 25 frames and two small GRUs.

Input      faces (N, 25, 260, 260, 3) RGB 0..255 of one person in time order, mask (N, 25) 1 where there is a face
Layers     EfficientNet-B2 without its top, frozen, global max pooling: 25 x 1408; GRU 16, GRU 8 (both masked), Dropout
           0.4, Dense 8 ReLU, Dense 1 sigmoid. Any registered frame model can take the place of EfficientNet-B2
           (`features=NAME`)
Output     (N, 1) P(real)
Parameters 7,837,722 (69,153 of them are trained)
Source     As `inception_v3_gru`, with the frame network of Tan & Le, ICML 2019, arXiv:1905.11946
"""

from __future__ import annotations

from .sequence import feature_gru

NAME = "efficientnet_b2_gru"
KIND = "sequence"
INPUT_SIZE = 260
LENGTH = 25
FEATURES = "efficientnet_b2"
PARAMETERS = 7_837_722


def build(
    input_size: int | None = INPUT_SIZE,
    weights: str = "none",
    dropout: float = 0.4,
    *,
    length: int = LENGTH,
    features: str = FEATURES,
):
    """A Keras model from faces (N, length, input_size, input_size, 3) and mask (N, length) to (N, 1) P(real).

    Args and Raises: as `inception_v3_gru.build`.
    """
    return feature_gru(NAME, features, input_size=input_size, weights=weights, dropout=dropout, length=length)
