"""ResNet-50 with the classifier of the published recipe.

Input      (N, 224, 224, 3) RGB 0..255; inside turned to BGR minus the ImageNet mean, as its weights were trained
Layers     ResNet-50 without its top (16 bottleneck blocks), global average pooling (2048), Dense 512 ReLU, Dropout 0.5,
           Dense 128 ReLU, Dense 1 sigmoid
Output     (N, 1) P(real)
Parameters 24,702,593 (23,587,712 of them in ResNet-50)
Source     He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385
"""

from __future__ import annotations

from . import weights as weights_module
from .efficientnet_b0 import with_classifier

NAME = "resnet50"
KIND = "frame"
INPUT_SIZE = 224
PARAMETERS = 24_702_593

#: ImageNet mean of the blue, green and red channel in 0..255, in the order of the published (Caffe) weights.
MEAN_BGR = (103.939, 116.779, 123.68)


def build(input_size: int = INPUT_SIZE, weights: str = "none", dropout: float = 0.5):
    """A Keras model from faces (N, input_size, input_size, 3), RGB 0..255, to (N, 1) P(real); `weights`: `"none"` or
    `"imagenet"`.

    Raises:
        WeightsUnavailable: ImageNet weights cannot be downloaded.
    """
    import keras
    from keras import layers

    image = keras.Input((input_size, input_size, 3), name="image")
    x = layers.Rescaling(1.0, offset=[-m for m in MEAN_BGR], name="scale")(_reversed_channels(image))
    backbone = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=x)
    if weights == "imagenet":
        weights_module.copy_by_name(weights_module.imagenet_backbone("ResNet50", (input_size, input_size, 3)), backbone)
    features = layers.GlobalAveragePooling2D(name="features")(backbone.output)
    return with_classifier(NAME, image, features, dropout)


def _reversed_channels(image):
    """RGB to BGR and back, (N, H, W, 3). Of plain layers, because HDF5 files cannot hold `keras.ops.flip`."""
    from keras import layers

    height, width = image.shape[1:3]
    x = layers.Reshape((height, width, 3, 1), name="channels")(image)
    channel = lambda i: layers.Cropping3D(((0, 0), (0, 0), (i, 2 - i)), name=f"channel_{i}")(x)
    x = layers.Concatenate(axis=3, name="bgr")([channel(2), channel(1), channel(0)])
    return layers.Reshape((height, width, 3), name="bgr_image")(x)
