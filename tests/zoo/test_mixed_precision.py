"""In mixed precision every family gives finite numbers; the default weights see the same in the photos."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

import zoo
from zoo.preprocessing import evaluate
from zoo.registry import resolve

LARGE_PARAMS = 60_000_000


def smallest_of_every_builder():
    by_builder = {}
    for name in zoo.list_models():
        architecture, _ = resolve(name)
        by_builder.setdefault((architecture.family, architecture.builder), []).append(architecture)
    for variants in by_builder.values():
        smallest = min(variants, key=lambda architecture: architecture.params)
        marks = [pytest.mark.large] if smallest.params > LARGE_PARAMS else []
        yield pytest.param(smallest, id=smallest.name, marks=marks)


@pytest.fixture
def mixed():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize("architecture", smallest_of_every_builder())
def test_outputs_are_finite(architecture):
    size = 32 if architecture.macs_size < 96 else max(64, architecture.smallest)
    keras.utils.set_random_seed(0)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    # A weight is drawn where it is read.
    with keras.StatelessScope(initialize_variables=False):
        network = zoo.load(architecture.name, weights=None, classes=3, input_size=size)
        predictions = np.asarray(network(pictures, training=False))
    assert predictions.dtype == np.float32
    np.testing.assert_allclose(predictions.sum(1), 1, atol=1e-5)
    computed = {layer.compute_dtype for layer in network.layers if layer.weights}
    assert computed == {"bfloat16"}


def test_the_default_weights_see_the_same(mixed):
    network = zoo.load("efficientnet_lite0")
    preprocessing = zoo.facts(network).preprocessing
    photos = np.stack([evaluate(preprocessing, photo) for photo in load_sample_images().images])
    keras.config.set_dtype_policy("float32")
    single = np.asarray(zoo.load("efficientnet_lite0")(photos, training=False))
    half = np.asarray(network(photos, training=False))
    assert half.dtype == np.float32
    assert list(half.argmax(1)) == list(single.argmax(1))
    np.testing.assert_allclose(half.max(1), single.max(1), atol=0.1)
