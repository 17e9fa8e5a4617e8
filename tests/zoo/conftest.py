"""Some hundred networks do not fit into memory at once; networks of keras.applications beside ours."""

import gc
import sys

import keras
import numpy as np
import pytest

import zoo

BUILD_NOTHING = ("test_catalog_facts.py", "test_registry.py")


@pytest.fixture(autouse=True, scope="session")
def _spare_what_stays():
    """TensorFlow's and Keras's own objects: the collector need not look at them after every test."""
    import tensorflow  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _forget_networks(request):
    """Keras remembers what was built, and networks hold themselves in cycles."""
    yield
    if request.path.name not in BUILD_NOTHING:
        keras.utils.clear_session()
        gc.collect()


@pytest.fixture
def equals_keras(tmp_path, publish):
    """A function: the tag's network, filled from the file of a seeded network of keras.applications, gives
    its logits for pictures in 0..255, which theirs are fed through Keras's own preprocess_input.
    """

    def check(tag, application, size, **options):
        theirs = application(weights=None, input_shape=(size, size, 3), classifier_activation=None, **options)
        path = publish(seed(theirs), tmp_path / "theirs.h5")
        pictures = np.random.default_rng(1).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
        prepare = sys.modules[application.__module__].preprocess_input
        # Eagerly: tracing a graph for one batch takes longer than the batch.
        expected = np.asarray(theirs(prepare(pictures.copy()), training=False))
        ours = zoo.load(tag, weights=path, input_size=size, classifier_activation=None)
        logits = np.asarray(ours(pictures, training=False))
        assert expected.std() > 1e-3
        assert np.abs(logits - expected).max() / expected.std() < 1e-4

    return check


def seed(model):
    """Kernels under which the signal neither dies nor grows, and statistics unlike those of a fresh network.

    Where residuals add up undamped, the gates of squeeze-and-excitation become steps, which magnify rounding.
    """
    draws = np.random.default_rng(7)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            # EfficientNet's file brings the mean and variance of ImageNet's pictures.
            statistics = ([0.485, 0.456, 0.406], np.square([0.229, 0.224, 0.225]), 0)
            layer.set_weights([np.asarray(values) for values in statistics])
            layer.finalize_state()
    for variable in model.variables:
        if variable.name.endswith("kernel"):
            fan_in = np.prod(variable.shape[:-1] if variable.shape[-1] > 1 else variable.shape[:2])
            variable.assign(draws.normal(0, np.sqrt(2 / fan_in), variable.shape))
        elif variable.name in ("gamma", "moving_variance"):
            damping = 0.3 if "project" in variable.path else 1
            variable.assign(damping * draws.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "bias", "moving_mean"):
            variable.assign(draws.normal(0, 0.1, variable.shape))
    return model
