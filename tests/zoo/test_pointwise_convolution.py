"""A strided 1x1 convolution of few channels: trained on a CPU, where TensorFlow's own crashes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.blocks import Net
from zoo.layers import PointwiseConv2D

SHAPE = (4, 96, 95, 3)


@pytest.mark.parametrize("stride", [2, 3])
def test_value_and_gradients_equal_the_definition(stride):
    keras.utils.set_random_seed(0)
    images = keras.random.normal(SHAPE)
    layer = PointwiseConv2D(24, 1, stride, "same", bias_initializer="random_normal")
    layer.build(SHAPE)
    with tf.GradientTape() as tape:
        tape.watch(images)
        y = layer(images)
        loss = tf.reduce_sum(tf.sin(y))
    by_images, by_kernel = tape.gradient(loss, [images, layer.kernel.value])

    seen, kernel, slope = np.asarray(images)[:, ::stride, ::stride], np.asarray(layer.kernel)[0, 0], np.cos(y)
    np.testing.assert_allclose(y, seen @ kernel + np.asarray(layer.bias), atol=1e-5)
    np.testing.assert_allclose(by_kernel[0, 0], np.einsum("nhwc,nhwf->cf", seen, slope), atol=1e-2)
    np.testing.assert_allclose(by_images[:, ::stride, ::stride], slope @ kernel.T, atol=1e-5)
    assert np.count_nonzero(by_images) == seen.size


@pytest.mark.parametrize(("channels", "stride", "special"), [(3, 2, True), (3, 1, False), (16, 2, False)])
def test_networks_use_it_only_where_they_must(channels, stride, special):
    y = Net().conv(keras.Input((8, 8, channels)), 4, 1, "conv", stride)
    assert isinstance(y._keras_history.operation, PointwiseConv2D) is special
