"""In mixed precision every family gives finite numbers; the default weights see the same in the photos."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

import zoo
from zoo import layers as own
from zoo.precision import in_float32
from zoo.preprocessing import evaluate
from zoo.registry import resolve

LARGE_PARAMS = 60_000_000
PICTURES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)


def in_a_sequence() -> keras.Model:
    return keras.Sequential([keras.Input((32, 32, 3)), whole(), keras.layers.Dense(2)])


def whole() -> keras.Model:
    return zoo.load("convnext_zepto_rms", weights=None, classes=3, input_size=32)


def of_whole_numbers() -> keras.Model:
    images = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.CenterCrop(16, 16, dtype="uint8")(images)
    return keras.Model(images, keras.layers.Conv2D(2, 3)(x))


def with_a_layer_inside() -> keras.Model:
    frames = keras.Input((2, 32, 32, 3))
    convolution = keras.layers.Conv2D(4, 3)
    return keras.Model(frames, keras.layers.TimeDistributed(convolution)(frames))


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
    with set_to("mixed_bfloat16"):
        yield


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


@pytest.mark.parametrize(
    "kind",
    [
        own.Scale,
        own.SkipGain,
        own.Affine,
        own.ResponseNormalization,
        own.DeviationNormalization,
    ],
)
def test_a_layer_of_a_films_pictures_knows_its_shape(kind):
    """Keras infers it outside of mixed precision."""
    film = keras.layers.TimeDistributed(kind(dtype="mixed_bfloat16"))
    assert film(keras.Input((2, 8, 8, 4))).shape == (None, 2, 8, 8, 4)


@pytest.mark.parametrize("make", [whole, of_whole_numbers])
def test_a_model_in_float32_is_its_own_copy(make):
    network = make()
    assert in_float32(network) is network


def test_a_copy_in_float32_keeps_whole_numbers():
    with set_to("mixed_bfloat16"):
        model = of_whole_numbers()
    copy = in_float32(model)
    assert copy.input.dtype == "uint8"
    assert [layer.compute_dtype for layer in copy.layers[1:]] == ["uint8", "float32"]


@pytest.mark.parametrize("make", [whole, in_a_sequence, with_a_layer_inside])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_a_copy_in_float32_has_the_same_weights(make, policy):
    with set_to(policy):
        model = make()
    copy = in_float32(model)
    floats = {layer.compute_dtype for layer in copy._flatten_layers() if not isinstance(layer, keras.Model)}
    assert floats == {"float32"}
    assert {weight.dtype for weight in copy.weights} == {"float32"}
    for ours, theirs in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs.astype(np.float32))
    single = make()
    single.set_weights(copy.get_weights())
    pictures = np.stack([PICTURES, PICTURES]) if make is with_a_layer_inside else PICTURES
    np.testing.assert_array_equal(np.asarray(copy(pictures)), np.asarray(single(pictures)))


def test_a_copy_in_float32_knows_what_the_model_knows():
    with set_to("mixed_bfloat16"):
        model = zoo.load("convnext_zepto_rms", weights=None, classes=("cat", "dog"), input_size=32)
    assert zoo.facts(in_float32(model)) == zoo.facts(model)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_a_training_and_what_it_saves_are_in_float32(policy, tmp_path):
    drawn = np.random.default_rng(1).integers(0, 256, (12, 32, 32, 3), np.uint8)
    pictures = [(picture, "ab"[i % 2]) for i, picture in enumerate(drawn)]
    with set_to(policy):
        model = zoo.load("convnext_zepto_rms", weights=None, classes=2, input_size=32)
        before = model.get_weights()
        result = zoo.fine_tune(model, pictures, tmp_path / "out", epochs=1, head_epochs=1, views=1)
        assert (keras.config.dtype_policy().name, keras.config.floatx()) == current(policy)
    saved = keras.saving.load_model(tmp_path / "out" / "model.keras")
    for learned in (result.model, saved):
        assert {layer.compute_dtype for layer in learned.layers} == {"float32"}
        assert {weight.dtype for weight in learned.trainable_variables} == {"float32"}
    for then, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(then, now)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float16"])
def test_an_explanation_is_that_of_the_model_in_float32(policy):
    methods = ("gradcam", "integrated_gradients", "occlusion")
    picture = PICTURES[0].astype(np.uint8)
    with set_to(policy):
        model = whole()
        maps = zoo.explain(model, picture, methods).maps
    for method, heat in zoo.explain(in_float32(model), picture, methods).maps.items():
        np.testing.assert_allclose(maps[method], heat, atol=1e-3)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(zoo.ZooError, match=r'call keras.config.set_image_data_format\("channels_last"\)'):
            whole()
    finally:
        keras.config.set_image_data_format("channels_last")


def current(policy: str) -> tuple[str, str]:
    return policy, "float32" if policy.startswith("mixed") else policy


@contextmanager
def set_to(policy: str) -> Iterator[None]:
    """Keras as a person sets it, by its policy or by its floatx."""
    before = keras.config.dtype_policy()
    keras.config.set_floatx(current(policy)[1])
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy(before)
