"""Where norms and activations stand in a residual unit: figure 4 of arXiv 1603.05027, drawn in NumPy."""

import keras
import numpy as np
import pytest

from zoo.architectures.preresnet import ORDERINGS, resnet
from zoo.blocks import Net
from zoo.weights.convert import assign, state_dict


def original(t, name, x):
    y = norm(t, f"{name}.bn1", conv(t, f"{name}.conv1", x))
    y = norm(t, f"{name}.bn2", conv(t, f"{name}.conv2", relu(y)))
    return relu(x + y)


def bn_after_addition(t, name, x):
    y = relu(norm(t, f"{name}.bn1", conv(t, f"{name}.conv1", x)))
    return relu(norm(t, f"{name}.bn2", x + conv(t, f"{name}.conv2", y)))


def relu_before_addition(t, name, x):
    y = relu(norm(t, f"{name}.bn1", conv(t, f"{name}.conv1", x)))
    return x + relu(norm(t, f"{name}.bn2", conv(t, f"{name}.conv2", y)))


def relu_only_preactivation(t, name, x):
    y = norm(t, f"{name}.bn1", conv(t, f"{name}.conv1", relu(x)))
    return x + norm(t, f"{name}.bn2", conv(t, f"{name}.conv2", relu(y)))


def full_preactivation(t, name, x):
    y = conv(t, f"{name}.conv1", relu(norm(t, f"{name}.bn1", x)))
    return x + conv(t, f"{name}.conv2", relu(norm(t, f"{name}.bn2", y)))


UNITS = [original, bn_after_addition, relu_before_addition, relu_only_preactivation, full_preactivation]


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_as_the_paper_draws_it(unit):
    random = np.random.default_rng(0)
    images = keras.Input((8, 8, 3))
    network = keras.Model(images, resnet(Net(), images, block="basic", depth=2, ordering=unit.__name__))
    tensors = {
        key: random.uniform(0.5, 1.5, value.shape)
        if key.endswith("var")
        else random.normal(size=value.shape) / np.sqrt(np.prod(value.shape[1:]))
        for key, value in state_dict(network).items()
    }
    assign(network, tensors)
    before, after = (end_of(network, name) for name in ("layer1.0", "layer1.1"))
    pictures = random.normal(size=(2, 8, 8, 3)).astype(np.float32)
    x, got = keras.Model(images, [before, after]).predict_on_batch(pictures)
    np.testing.assert_allclose(got, unit(tensors, "layer1.1", x), atol=1e-4)


def test_every_ordering_of_the_paper_is_there():
    assert list(ORDERINGS) == [unit.__name__ for unit in UNITS]


def end_of(network, name):
    return [v for v in network.layers if v.name.startswith(f"{name}.")][-1].output


def conv(tensors, name, x):
    wide = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(1, 2))
    return np.einsum("nhwcij,ocij->nhwo", windows, tensors[f"{name}.weight"])


def norm(tensors, name, x):
    deviation = np.sqrt(tensors[f"{name}.running_var"] + 1e-5)
    centred = x - tensors[f"{name}.running_mean"]
    return centred / deviation * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def relu(x):
    return np.maximum(x, 0)
