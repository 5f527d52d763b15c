"""EfficientNet-Lite0: the network of the shipped detector. Small, exact on every runtime, and fast on a CPU.

Lite0 is EfficientNet-B0 without squeeze-and-excite and with ReLU6 for swish (Tan & Le, "EfficientNet: Rethinking Model
Scaling for Convolutional Neural Networks", 2019; the Lite variants are Google's, 2020). It has only convolutions, batch
normalisation, ReLU6, additions and pooling, so Keras and ONNX Runtime compute the same numbers. 3.4 million
parameters.

The classifier sees more than the last layer: the means of an early block's channels and how far those of a late block
vary over the face. What a swap leaves in texture is gone at the top, where persons and cameras are told apart.

    from deepfake_detection.models import registry
    model = registry.build("efficientnet_lite0", input_size=128, weights="path/to/imagenet_notop.weights.h5")
"""

from __future__ import annotations

NAME = "efficientnet_lite0"
KIND = "frame"
INPUT_SIZE = 224
HAS_IMAGENET = False
PARAMETERS = 3_414_537

#: (kernel, stride of the first block, expansion, filters, repeats) of each stage: table 1 of the paper; Lite0 scales
#: none of them.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_FILTERS, HEAD_FILTERS = 32, 1280
BATCH_NORM_EPSILON = 1e-3

#: Blocks of which the classifier sees the means, and the spread (half the mean absolute deviation) over the face.
MEANS_OF, SPREAD_OF = "block4_add", "block14_add"
#: What the top, those means and that spread count where a classifier is fitted to all levels (`training.head`). Means
#: alone tell live swaps best and sharp fakes not at all.
LEVELS = (1.0, 0.5, 1.0)
#: The block in which the rim of a face is held against what surrounds it, and what that counts (`training.rim`).
RIM_OF = ("block5_bn2", 0.6)
#: Files of versions before 2.1 have the classifier of the last layer alone: the rows of the others are then 0.
GROWN = ("p_real",)


def build(
    input_size: int = INPUT_SIZE, weights: str = "none", dropout: float = 0.5, *, batch_norm_momentum: float = 0.99
):
    """A Keras model from faces (N, input_size, input_size, 3), RGB 0..255, to (N, 1) P(real).

    Args:
        input_size: side of the input in pixels, 32 or more. The weights fit every size.
        weights: `"none"`: random ones. Files are loaded by `registry.build`; nobody publishes ImageNet weights for
            Keras to download.
        dropout: share of the pooled features dropped before the last layer while training.
        batch_norm_momentum: of the moving averages; 0.99 is Keras' default.

    Raises:
        UserError: for any other weights than `"none"`.
    """
    import keras
    from keras import layers

    from .weights import refuse_imagenet

    refuse_imagenet(NAME, weights)
    image = keras.Input((input_size, input_size, 3), name="image")
    # The scaling is part of the model, so that nobody can forget it or do it in another way: (x - 127) / 128.
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scale")(image)
    # Layers are called one by one, not as a nested model: Grad-CAM and the ONNX export then see one flat graph.
    x, blocks = _backbone(batch_norm_momentum)(x)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    means = layers.GlobalAveragePooling2D(name="early_means")(blocks[MEANS_OF])
    x = layers.Concatenate(name="levels")([x, means, _spread(blocks[SPREAD_OF])])
    x = layers.Dropout(dropout, name="dropout")(x)
    p_real = layers.Dense(1, activation="sigmoid", dtype="float32", name="p_real")(x)
    return keras.Model(image, p_real, name=NAME)


def _spread(x):
    """(N, H, W, C) to (N, C): half the mean absolute deviation of each channel, of plain layers only."""
    from keras import layers

    mean = layers.GlobalAveragePooling2D(keepdims=True, name="late_means")(x)
    above = layers.ReLU(name="late_above")(layers.Subtract(name="late_differences")([x, mean]))
    return layers.GlobalAveragePooling2D(name="late_spread")(above)


def _backbone(momentum: float):
    """The feature extractor as a function of a tensor, which gives its output and those of the blocks. Layer names are
    those of the ImageNet file, which loads by them."""
    from keras import layers

    def conv_bn(x, layer, bn_name, relu_name=None):
        x = layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=momentum, name=bn_name)(layer(x))
        return layers.ReLU(max_value=6.0, name=relu_name)(x) if relu_name else x

    def block(x, name, kernel, stride, expand, filters):
        """Inverted residual: widen, filter each channel alone, narrow; added to its input where the shapes agree."""
        channels, skip = x.shape[-1], x
        if expand != 1:
            widen = layers.Conv2D(channels * expand, 1, use_bias=False, name=f"{name}_expand")
            x = conv_bn(x, widen, f"{name}_bn0", f"{name}_expand_relu")
        depthwise = layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_dw")
        x = conv_bn(x, depthwise, f"{name}_bn1", f"{name}_dw_relu")
        x = conv_bn(x, layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project"), f"{name}_bn2")
        return layers.Add(name=f"{name}_add")([x, skip]) if stride == 1 and channels == filters else x

    def features(x):
        stem = layers.Conv2D(STEM_FILTERS, 3, strides=2, padding="same", use_bias=False, name="stem_conv")
        x = conv_bn(x, stem, "stem_bn", "stem_relu")
        index, blocks = 0, {}
        for kernel, first_stride, expand, filters, repeats in STAGES:
            for repeat in range(repeats):
                x = block(x, f"block{index}", kernel, first_stride if repeat == 0 else 1, expand, filters)
                blocks[f"block{index}_add"] = x
                index += 1
        head = layers.Conv2D(HEAD_FILTERS, 1, use_bias=False, name="head_conv")
        return conv_bn(x, head, "head_bn", "head_relu"), blocks

    return features
