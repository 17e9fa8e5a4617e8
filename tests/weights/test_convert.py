"""The converter refuses whatever does not fit, names the first of each kind, and writes nothing then."""

import numpy as np
import pytest

from zoo.build import build
from zoo.errors import WeightsError
from zoo.registry import resolve
from zoo.weights.convert import assign, renamed, state_dict


@pytest.fixture(scope="module")
def network():
    architecture, weights = resolve("resnet18.a1_in1k")
    return build(architecture, weights, classes=7, input_size=(32, 32))


@pytest.fixture
def tensors(network):
    rng = np.random.default_rng(0)
    return {
        key: rng.standard_normal(value.shape, dtype=np.float32) for key, value in state_dict(network).items()
    }


def test_what_goes_in_comes_out_in_the_references_layout(network, tensors):
    assert tensors["conv1.weight"].shape == (64, 3, 7, 7)
    assert tensors["fc.weight"].shape == (7, 512)
    assign(network, tensors)
    for key, value in state_dict(network).items():
        np.testing.assert_array_equal(value, tensors[key], key)


def test_depthwise_kernels_keep_channels_first_in_the_reference():
    architecture, weights = resolve("efficientnet_lite0")
    network = build(architecture, weights, classes=2, input_size=(32, 32))
    assert state_dict(network)["blocks.1.0.conv_dw.weight"].shape == (96, 1, 3, 3)


def test_a_linear_layer_kept_as_a_1x1_convolution_fits(network, tensors):
    expected = tensors["fc.weight"]
    assign(network, {**tensors, "fc.weight": expected[..., None, None]})
    np.testing.assert_array_equal(state_dict(network)["fc.weight"], expected)


def test_everything_wrong_is_named_and_nothing_written(network, tensors):
    before = state_dict(network)
    broken = dict(tensors)
    del broken["layer1.0.conv1.weight"], broken["bn1.bias"]
    broken["extra.weight"] = np.zeros(3, np.float32)
    broken["fc.weight"] = np.zeros((5, 512), np.float32)
    with pytest.raises(WeightsError) as error:
        assign(network, broken)
    message = str(error.value)
    assert "missing: bn1.bias and 1 more" in message
    assert "left over: extra.weight" in message
    assert "misshapen: fc.weight is (5, 512), the network needs (7, 512)" in message
    for key, value in state_dict(network).items():
        np.testing.assert_array_equal(value, before[key])


def test_flat_block_numbers_become_stage_and_index():
    architecture, weights = resolve("efficientnet_lite1.ml_illustrated_in1k")
    network = build(architecture, weights, classes=1000, input_size=(32, 32))
    names = {
        "_blocks.3._expand_conv.weight": np.zeros(1),
        "_blocks.0._bn2.weight": np.zeros(1),
        "_fc.bias": np.zeros(1),
    }
    assert list(renamed(network, names, weights.renames)) == [
        "blocks.1.2.conv_pw.weight",
        "blocks.0.0.bn2.weight",
        "classifier.bias",
    ]
