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
    return max_pooled(NAME, efficientnet("EfficientNetB0", input_size, weights), dropout)


def max_pooled(name: str, backbone, dropout: float):
    """The published model of a backbone: its global maximum, classified."""
    from keras import layers

    return with_classifier(name, backbone.input, layers.GlobalMaxPooling2D(name="features")(backbone.output), dropout)


def with_classifier(name: str, image, features, dropout: float):
    """The published classifier on features (N, F): Dense 512, Dropout, Dense 128, Dense 1."""
    import keras
    from keras import layers

    x = layers.Dense(512, activation="relu", name="dense_512")(features)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(128, activation="relu", name="dense_128")(x)
    return keras.Model(image, layers.Dense(1, activation="sigmoid", dtype="float32", name="p_real")(x), name=name)


def efficientnet(application: str, input_size: int, weights: str):
    """The `efficientnet` package's `application` without its top, RGB 0..255 in, with the same layers whatever the
    weights.

    The package's own layers (its swish, its dropout) become those of Keras that compute the same, so that a saved model
    opens with plain Keras. The network is that of `keras.applications`, with equal names: files of both load, and of
    both ImageNet weights the first that can be had are taken, the package's before those of Keras.
    """
    import keras
    from keras import layers

    package = _package()
    shape = (input_size, input_size, 3)
    made = getattr(package, application)(include_top=False, weights=None, input_shape=shape)
    outputs = {}

    def plain(layer):
        config = layer.get_config()
        if getattr(getattr(layer, "activation", None), "__name__", "") == "swish":
            config["activation"] = "silu"
        kind = layers.Dropout if isinstance(layer, layers.Dropout) else type(layer)
        return kind.from_config(config)

    def call(layer, *arguments, **options):
        outputs[layer.name] = layer(*arguments, **options)
        return outputs[layer.name]

    image = keras.Input(shape, name="image")
    scaled = layers.Normalization(name="normalization")(layers.Rescaling(1 / 255, name="rescaling")(image))
    keras.models.clone_model(made, input_tensors=scaled, clone_function=plain, call_function=call)
    backbone = keras.Model(image, outputs[made.layers[-1].name], name=application)
    if weights == "imagenet":
        source = weights_module.imagenet_backbone(application, shape, (package, keras.applications))
        weights_module.copy_by_name(source, backbone)
    weights_module.set_imagenet_scaling(backbone)
    return backbone


def _package():
    """The `efficientnet` package for this Keras, without the names that it adds to Keras' own: an activation called
    `swish` is Keras' in every file that is opened later."""
    from keras.utils import get_custom_objects

    before = dict(get_custom_objects())
    import efficientnet.keras

    get_custom_objects().clear()
    get_custom_objects().update(before)
    return efficientnet.keras
