"""Standardised convolutions keep all of their variables in both of Keras's formats."""

import keras
import numpy as np
import pytest

from zoo.layers import SkipGain, StandardizedConv2D


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("gamma", [None, 1.7])
def test_a_saved_network_answers_as_before(tmp_path, suffix, gamma):
    images = keras.Input((8, 8, 4))
    x = StandardizedConv2D(6, 3, gamma=gamma, groups=2, name="a.conv")(images)
    network = keras.Model(images, SkipGain(name="a")(x))
    random = np.random.default_rng(0)
    network.set_weights([random.normal(size=w.shape) for w in network.get_weights()])
    network.save(tmp_path / f"network.{suffix}")
    reloaded = keras.models.load_model(tmp_path / f"network.{suffix}")
    x = random.normal(size=(2, 8, 8, 4)).astype(np.float32)
    np.testing.assert_array_equal(network.predict_on_batch(x), reloaded.predict_on_batch(x))


def test_every_filter_has_mean_0_and_variance_1():
    x = np.random.default_rng(0).normal(size=(1, 3, 3, 4)).astype(np.float32)
    conv = StandardizedConv2D(5, 3, epsilon=0.0, use_bias=False)
    got = keras.ops.convert_to_numpy(conv(x))[0, 0, 0]
    kernel = keras.ops.convert_to_numpy(conv.kernel)
    filters = (kernel - kernel.mean((0, 1, 2))) / kernel.std((0, 1, 2))
    np.testing.assert_allclose(got, np.einsum("hwc,hwco->o", x[0], filters), rtol=1e-4)


@pytest.mark.parametrize("gamma", [None, 1.7])
def test_halved_precision_changes_little(gamma):
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 4)).astype(np.float32)
    conv = StandardizedConv2D(5, 3, gamma=gamma)
    expected = keras.ops.convert_to_numpy(conv(x))
    halved = StandardizedConv2D(5, 3, gamma=gamma, dtype="mixed_bfloat16")
    halved.build(x.shape)
    halved.set_weights(conv.get_weights())
    got = keras.ops.convert_to_numpy(keras.ops.cast(halved(x), "float32"))
    np.testing.assert_allclose(got, expected, atol=0.03 * expected.std())
