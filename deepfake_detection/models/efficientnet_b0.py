"""EfficientNet-B0, the default of stage 03: the published recipe.

Input      (N, 128, 128, 3) RGB 0..255; scaled inside by (x / 255 - mean) / standard deviation of ImageNet
Layers     EfficientNet-B0 without its top (16 inverted-residual blocks with squeeze-and-excite, swish), global max
           pooling (1280), Dense 512 ReLU, Dropout 0.5, Dense 128 ReLU, Dense 1 sigmoid
Output     (N, 1) P(real)
Parameters 4,771,236 (4,049,571 of them in EfficientNet-B0)
Source     Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
           arXiv:1905.11946
"""

from __future__ import annotations

from . import weights as weights_module

NAME = "efficientnet_b0"
KIND = "frame"
INPUT_SIZE = 128
PARAMETERS = 4_771_236


def build(input_size: int = INPUT_SIZE, weights: str = "none", dropout: float = 0.5):
    """A Keras model from faces (N, input_size, input_size, 3), RGB 0..255, to (N, 1) P(real); `weights`: `"none"` or
    `"imagenet"`.

    Raises:
        WeightsUnavailable: ImageNet weights cannot be downloaded.
    """
    return with_classifier(NAME, efficientnet("EfficientNetB0", input_size, weights), dropout)


def with_classifier(name: str, backbone, dropout: float):
    """The published classifier on a backbone's feature map: global max pooling, Dense 512, Dropout, Dense 128, Dense
    1."""
    import keras
    from keras import layers

    x = layers.GlobalMaxPooling2D(name="features")(backbone.output)
    x = layers.Dense(512, activation="relu", name="dense_512")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(128, activation="relu", name="dense_128")(x)
    p_real = layers.Dense(1, activation="sigmoid", dtype="float32", name="p_real")(x)
    return keras.Model(backbone.input, p_real, name=name)


def efficientnet(application: str, input_size: int, weights: str):
    """`keras.applications.<application>` without its top, RGB 0..255 in, with the same layers whatever the weights.

    The layers carry the names that the `efficientnet` package uses too, so its ImageNet and noisy-student files load as
    well.
    """
    import keras

    shape = (input_size, input_size, 3)
    # Built in any case and filled by name: with weights="imagenet" Keras would add a layer, see set_imagenet_scaling.
    backbone = getattr(keras.applications, application)(include_top=False, weights=None, input_shape=shape)
    if weights == "imagenet":
        weights_module.copy_by_name(weights_module.imagenet_backbone(application, shape), backbone)
    weights_module.set_imagenet_scaling(backbone)
    return backbone
