"""Inception-v3 with the classifier of the published recipe; as a feature extractor it gives the 2048 numbers of its
global average.

Input      (N, 299, 299, 3) RGB 0..255; scaled inside to -1..1
Layers     Inception-v3 without its top, global average pooling (2048), Dense 512 ReLU, Dropout 0.5, Dense 128 ReLU,
           Dense 1 sigmoid
Output     (N, 1) P(real)
Parameters 22,917,665 (21,802,784 of them in Inception-v3)
Source     Szegedy, Vanhoucke, Ioffe, Shlens & Wojna, "Rethinking the Inception Architecture for Computer Vision", CVPR
           2016, arXiv:1512.00567
"""

from __future__ import annotations

from . import weights as weights_module
from .efficientnet_b0 import with_classifier

NAME = "inception_v3"
KIND = "frame"
INPUT_SIZE = 299
MIN_INPUT_SIZE = 75
PARAMETERS = 22_917_665


def build(input_size: int = INPUT_SIZE, weights: str = "none", dropout: float = 0.5):
    """A Keras model from faces (N, input_size, input_size, 3), RGB 0..255, to (N, 1) P(real); `weights`: `"none"` or
    `"imagenet"`.

    Raises:
        WeightsUnavailable: ImageNet weights cannot be downloaded.
    """
    import keras
    from keras import layers

    image = keras.Input((input_size, input_size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image)
    backbone = keras.applications.InceptionV3(include_top=False, weights=None, input_tensor=x)
    if weights == "imagenet":
        downloaded = weights_module.imagenet_backbone("InceptionV3", (input_size, input_size, 3))
        # Keras numbers this network's layers anew in each process, so they are matched by order: same code, same order.
        weights_module.copy_in_order(downloaded, backbone)
    features = layers.GlobalAveragePooling2D(name="features")(backbone.output)
    return with_classifier(NAME, image, features, dropout)
