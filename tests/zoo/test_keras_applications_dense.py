"""Keras's own DenseNet, Xception and NASNet with seeded weights, read from their .h5 file, equal ours."""

import re

import keras
import numpy as np
import pytest

from zoo.build import build
from zoo.registry import Weights, resolve
from zoo.weights.convert import assign
from zoo.weights.readers import read

CLASSES = 7
TOLERANCE = 1e-4
ROLES = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
ROLES |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}
TENSORFLOW = {"padding": "same", "epsilon": 1e-3}


def densenet_name(layer):
    if match := re.fullmatch(r"conv(\d)_block(\d+)_(.+)", layer):
        part = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}[match[3]]
        return f"features.denseblock{int(match[1]) - 1}.denselayer{match[2]}.{part}"
    if match := re.fullmatch(r"pool(\d)_(bn|conv)", layer):
        return f"features.transition{int(match[1]) - 1}.{'norm' if match[2] == 'bn' else 'conv'}"
    ends = {"conv1_conv": "features.conv0", "conv1_bn": "features.norm0", "bn": "features.norm5"}
    return ends.get(layer, "classifier")


def xception_name(layer):
    if match := re.fullmatch(r"block1_conv(\d)(_bn)?", layer):
        return f"bn{match[1]}" if match[2] else f"conv{match[1]}"
    if match := re.fullmatch(r"block14_sepconv(\d)(_bn)?", layer):
        number = int(match[1]) + 2
        return f"bn{number}" if match[2] else f"conv{number}"
    if match := re.fullmatch(r"block(\d+)_sepconv(\d)(_bn)?", layer):
        block = int(match[1]) - 1
        place = 3 * int(match[2]) - 2 - (block == 1) + bool(match[3])
        return f"block{block}.rep.{place}"
    if match := re.fullmatch(r"(conv2d|batch_normalization)_?(\d?)", layer):
        block = (1, 2, 3, 12)[int(match[2] or 0)]
        return f"block{block}.skip" if match[1] == "conv2d" else f"block{block}.skipbn"
    return "fc"


def nasnet_name(layer):
    if layer in ("stem_conv1", "stem_bn1"):
        return "conv0.conv" if layer == "stem_conv1" else "conv0.bn"
    if layer == "predictions":
        return "last_linear"
    name, cell = re.fullmatch(r"(.+?)_((?:stem_|reduce_)?\d+)", layer).groups()
    if match := re.fullmatch(r"separable_conv_(\d)_(bn_)?(normal|reduction)_(left|right)(\d)", name):
        iteration = 4 if match.group(3, 4, 5) == ("reduction", "left", "4") else int(match[5]) - 1
        part = f"bn_sep_{match[1]}" if match[2] else f"separable_{match[1]}"
        return f"{nasnet_cell(cell)}.comb_iter_{iteration}_{match[4]}.{part}"
    parts = {"adjust_conv_1": "path_1.conv", "adjust_conv_2": "path_2.conv"}
    parts |= {"adjust_conv_projection": "conv_prev_1x1.conv"}
    parts["adjust_bn"] = "final_path_bn" if cell in ("stem_2", "0", "5", "9") else "conv_prev_1x1.bn"
    for kind in ("normal", "reduction"):
        parts |= {f"{kind}_conv_1": "conv_1x1.conv", f"{kind}_bn_1": "conv_1x1.bn"}
    return f"{nasnet_cell(cell)}.{parts[name]}"


def nasnet_cell(cell):
    """Keras counts the first reduction among the cells, the second not."""
    known = {"stem_1": "cell_stem_0", "stem_2": "cell_stem_1"}
    known |= {"reduce_4": "reduction_cell_0", "reduce_8": "reduction_cell_1"}
    return known[cell] if cell in known else f"cell_{int(cell) - (int(cell) > 4)}"


CASES = [
    pytest.param("densenet121", "DenseNet121", 64, densenet_name, {"epsilon": 1.001e-5}, id="densenet121"),
    pytest.param("xception", "Xception", 75, xception_name, TENSORFLOW, id="xception"),
    pytest.param("nasnetmobile", "NASNetMobile", 64, nasnet_name, TENSORFLOW, id="nasnetmobile"),
]
HALVES = {
    "xception": {"depthwise_kernel": ".conv1", "pointwise_kernel": ".pointwise"},
    "nasnetmobile": {"depthwise_kernel": ".depthwise_conv2d", "pointwise_kernel": ".pointwise_conv2d"},
}


@pytest.mark.parametrize(("name", "application", "size", "rename", "conventions"), CASES)
def test_network_equals_keras_applications(tmp_path, name, application, size, rename, conventions):
    keras.backend.clear_session()
    theirs = getattr(keras.applications, application)(
        weights=None, input_shape=(size, size, 3), classes=CLASSES, classifier_activation=None
    )
    randomise(theirs)
    theirs.save(tmp_path / "theirs.h5")
    halves = HALVES.get(name, {})
    tensors = dict(
        translated(*key.split("/"), value, rename, halves)
        for key, value in read(tmp_path / "theirs.h5").items()
    )
    tag = Weights(name, "keras", **PLAIN, **conventions)
    architecture, _ = resolve(name)
    ours = build(architecture, tag, classes=CLASSES, input_size=(size, size), classifier_activation=None)
    assign(ours, tensors)
    pictures = np.random.default_rng(1).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    expected = theirs.predict_on_batch(pictures / 255)
    error = np.abs(ours.predict_on_batch(pictures) - expected).max() / expected.std()
    assert error < TOLERANCE


def randomise(model):
    """Keras starts norms as identities, which would hide differences."""
    draws = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (v.shape for v in layer.weights)
            values = [1 + 0.1 * draws.standard_normal(gamma), 0.1 * draws.standard_normal(beta)]
            layer.set_weights([*values, 0.1 * draws.standard_normal(mean), draws.uniform(0.5, 1.5, variance)])


def translated(layer, variable, value, rename, halves):
    """A variable of Keras's -> its key and value as the reference has them."""
    kernel = variable.endswith("kernel")
    key = f"{rename(layer)}{halves.get(variable, '')}.{'weight' if kernel else ROLES[variable]}"
    if variable == "depthwise_kernel":
        return key, value.transpose(2, 3, 0, 1)
    if kernel:
        return key, value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    return key, value
