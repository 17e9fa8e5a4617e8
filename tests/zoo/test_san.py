"""Self-attention over windows, against a plain restatement of the paper in NumPy, place by place."""

import keras
import numpy as np
import pytest

import zoo
from zoo.architectures.san import SHARE, attend, pairwise, patchwise
from zoo.blocks import Net
from zoo.errors import ZooError
from zoo.weights.convert import assign, state_dict

EPSILON = 1e-5


@pytest.mark.parametrize("window", [3, 7])
@pytest.mark.parametrize("weigh", [pairwise, patchwise])
def test_attention_equals_the_papers_formula(weigh, window):
    random = np.random.default_rng(window)
    images = keras.Input((5, 6, 128))
    network = keras.Model(images, attend(Net(), images, window, weigh, "sam"))
    tensors = {
        key: random.uniform(0.5, 1.5, value.shape) if key.endswith("var") else random.normal(size=value.shape)
        for key, value in state_dict(network).items()
    }
    assign(network, tensors)
    x = random.normal(size=(2, 5, 6, 128))
    expected = np.stack([restated(tensors, picture, window, weigh is pairwise) for picture in x])
    got = network.predict_on_batch(x.astype(np.float32))
    np.testing.assert_allclose(got, expected, atol=1e-4 * expected.std())


def restated(tensors, x, window, of_pairs):
    """Equations 2 to 5 of the paper for one map [H, W, C]."""
    height, width, _ = x.shape
    query, key, values = (linear(tensors, f"sam.conv{i}", x) for i in (1, 2, 3))
    relation = places(tensors, height, width) if of_pairs else None
    result = np.empty_like(values)
    groups = values.shape[-1] // SHARE
    for row in range(height):
        for column in range(width):
            around = footprint(row, column, height, width, window)
            if of_pairs:
                pairs = [
                    np.concatenate([query[row, column] - key[at], relation[row, column] - relation[at]])
                    for at in around
                ]
                weights = softmax(mapped(tensors, np.array(pairs)))
            else:
                patch = np.concatenate(
                    [query[row, column], np.array([key[at] for at in around]).T.reshape(-1)]
                )
                weights = mapped(tensors, patch).reshape(groups, len(around)).T
            result[row, column] = sum(
                np.tile(weight, SHARE) * values[at] for weight, at in zip(weights, around, strict=True)
            )
    return result


def footprint(row, column, height, width, window):
    """The places of the window, row by row, mirrored at the border without repeating it."""
    reach = range(-(window // 2), window // 2 + 1)
    return [(mirror(row + i, height), mirror(column + j, width)) for i in reach for j in reach]


def mirror(index, size):
    return -index if index < 0 else 2 * (size - 1) - index if index >= size else index


def places(tensors, height, width):
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return linear(tensors, "sam.conv_p", np.stack([x, y], -1))


def mapped(tensors, x):
    """Norm, ReLU, linear; twice."""
    x = linear(tensors, "sam.conv_w.2", np.maximum(norm(tensors, "sam.conv_w.0", x), 0))
    return linear(tensors, "sam.conv_w.5", np.maximum(norm(tensors, "sam.conv_w.3", x), 0))


def linear(tensors, name, x):
    weight = tensors[f"{name}.weight"]
    return x @ weight.reshape(weight.shape[:2]).T + tensors.get(f"{name}.bias", 0)


def norm(tensors, name, x):
    deviation = np.sqrt(tensors[f"{name}.running_var"] + EPSILON)
    centred = x - tensors[f"{name}.running_mean"]
    return centred / deviation * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def softmax(x):
    powers = np.exp(x - x.max(0))
    return powers / powers.sum(0)


def test_a_picture_too_small_to_be_mirrored_is_refused():
    with pytest.raises(ZooError, match="san10_pairwise needs pictures of at least 128 x 128 pixels"):
        zoo.load("san10_pairwise", weights=None, input_size=96)
