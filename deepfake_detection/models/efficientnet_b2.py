"""EfficientNet-B2 with the classifier of the published recipe; as a feature extractor it gives the 1408 numbers of its
global maximum.

Input      (N, 260, 260, 3) RGB 0..255; scaled inside by (x / 255 - mean) / standard deviation of ImageNet
Layers     EfficientNet-B2 without its top, global max pooling (1408), Dense 512 ReLU, Dropout 0.5, Dense 128 ReLU,
           Dense 1 sigmoid
Output     (N, 1) P(real)
Parameters 8,555,770 (7,768,569 of them in EfficientNet-B2)
Source     Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
           arXiv:1905.11946
"""

from __future__ import annotations

from .efficientnet_b0 import efficientnet, max_pooled

NAME = "efficientnet_b2"
KIND = "frame"
INPUT_SIZE = 260
PARAMETERS = 8_555_770


def build(input_size: int = INPUT_SIZE, weights: str = "none", dropout: float = 0.5):
    """A Keras model from faces (N, input_size, input_size, 3), RGB 0..255, to (N, 1) P(real); `weights`: `"none"` or
    `"imagenet"`.

    Raises:
        WeightsUnavailable: ImageNet weights cannot be downloaded.
    """
    return max_pooled(NAME, efficientnet("EfficientNetB2", input_size, weights), dropout)
