"""zoo.heads: features, logits and probabilities of a classifier, however its end is built."""

import keras
import numpy as np
import pytest

import zoo
from zoo.outputs import classifier_layer, features_of, gives_logits

IMAGES = np.random.default_rng(1).uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)
layers = keras.layers


def pooled(images):
    x = layers.Conv2D(6, 3, activation="relu")(layers.Rescaling(1 / 64, -2.0)(images))
    return layers.GlobalAveragePooling2D(name="pooled")(x)


def ending(*tail, name: str = "own") -> keras.Model:
    images = keras.Input((16, 16, 3))
    x = pooled(images)
    for layer in tail:
        x = layer(x)
    return keras.Model(images, x, name=name)


def nested() -> keras.Model:
    """A model in a model in a Sequential one."""
    inner = ending(layers.Dropout(0.5), name="inner")
    outer = keras.Input((16, 16, 3))
    tail = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, name="top", bias_initializer="random_normal")]
    )
    middle = keras.Model(outer, tail(inner(outer)))
    return keras.Sequential([keras.Input((16, 16, 3)), middle, layers.Softmax()])


def attending() -> keras.Model:
    """Layers that are called by keywords, in a model in the model."""
    maps = keras.Input((14, 14, 6))
    tokens = layers.Reshape((196, 6))(maps)
    y = layers.MultiHeadAttention(2, 3)(query=tokens, value=tokens)
    inner = keras.Model(maps, layers.GlobalAveragePooling1D()(layers.Add()([tokens, y])), name="inner")
    images = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3)(layers.Rescaling(1 / 64, -2.0)(images))
    return keras.Model(images, layers.Softmax()(dense()(inner(x))), name="attending")


def dense(**options) -> keras.layers.Layer:
    return layers.Dense(4, name="top", bias_initializer="random_normal", **options)


ENDS = {
    "softmax layer": (lambda: ending(dense(), layers.Softmax()), "softmax"),
    "softmax inside": (lambda: ending(layers.Dropout(0.5), dense(activation="softmax")), "softmax"),
    "sigmoid": (lambda: ending(dense(), layers.Activation("sigmoid")), "sigmoid"),
    "sigmoid inside": (lambda: ending(dense(activation="sigmoid")), "sigmoid"),
    "logits": (lambda: ending(dense()), None),
    "logits in float32": (lambda: ending(dense(), layers.Activation("linear")), None),
    "nested": (nested, "softmax"),
    "keywords inside": (attending, "softmax"),
}


class Subclassed(keras.Model):
    def call(self, x):
        return x


def test_facts_that_do_not_fit_are_refused():
    images = keras.Input((16, 16, 3))
    fit = zoo.Preprocessing((16, 16))

    def refused(model, message, labels="abcd", preprocessing=fit):
        with pytest.raises(zoo.ZooError, match=message):
            zoo.attach(model, zoo.Facts("own", tuple(labels), preprocessing))
        assert not hasattr(model, "zoo")

    refused(ending(dense()), "own has 4 classes and 3 labels; give one label per class", "abc")
    refused(
        ending(dense()),
        r"takes \[None, 16, 16, 3\], its preprocessing gives \[None, 8, 16, 3\]",
        preprocessing=zoo.Preprocessing((8, 16)),
    )
    refused(ending(dense()), "labels are strings, and 0 is none", range(4))
    grey = keras.Sequential([keras.Input((16, 16, 1)), layers.Flatten(), dense()], name="grey")
    refused(grey, r"grey takes \[None, 16, 16, 1\]")
    refused(keras.Model(images, layers.Conv2D(4, 1)(images)), r"gives \[None, 16, 16, 4\]; a classifier of")
    refused(keras.Model([images, keras.Input((2,))], pooled(images), name="two"), "two has 2 inputs")
    for unbuilt in (Subclassed(name="own"), keras.Sequential([layers.Flatten(), dense()], name="own")):
        refused(unbuilt, "own is no graph of layers, or was never built: make it")
    outside = ending(dense())
    outside.preprocessor = layers.Rescaling(1 / 255)
    refused(outside, r"own prepares its pictures outside of its graph, in model\.preprocessor")
    with pytest.raises(zoo.ZooError, match=r"give a model, such as zoo\.load returns, not 'resnet18'"):
        zoo.attach("resnet18", zoo.Facts("own", ("a",), fit))


@pytest.mark.parametrize("end", ENDS)
def test_every_end_has_its_features_logits_and_probabilities(end):
    keras.utils.set_random_seed(2)
    build, activation = ENDS[end]
    model = build()
    whole = zoo.heads(model)
    found = {name: np.asarray(tensor) for name, tensor in whole(IMAGES, training=False).items()}
    kernel, bias = (np.asarray(variable) for variable in model.weights[-2:])
    np.testing.assert_allclose(found["logits"], found["features"] @ kernel + bias, atol=1e-5)
    made = keras.activations.get(activation or "softmax")(found["logits"])
    np.testing.assert_allclose(found["probabilities"], made, atol=1e-6)
    predicted = "logits" if gives_logits(model) else "probabilities"
    assert (predicted == "probabilities") is bool(activation)
    np.testing.assert_allclose(found[predicted], model(IMAGES, training=False), atol=1e-5)
    assert {id(variable) for variable in whole.variables} == {id(variable) for variable in model.variables}


def test_the_model_is_not_changed():
    model = nested()
    before = model.get_config()
    zoo.heads(model)
    assert model.get_config() == before


def test_the_classifier_with_its_activation_inside():
    model = ending(layers.Dropout(0.5), dense(activation="softmax"))
    assert classifier_layer(model) is model.get_layer("top")
    assert features_of(model.get_layer("top")) is model.get_layer("pooled").output


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ([lambda: dense(activation="relu")], '"top" ends in relu; a classifier ends in softmax, sigmoid'),
        ([layers.BatchNormalization], "is no classifier; the model must end in a Dense layer"),
    ],
    ids=["relu", "normalised"],
)
def test_what_is_no_classifier_is_refused(tail, message):
    with pytest.raises(zoo.ZooError, match=message):
        zoo.heads(ending(*(make() for make in tail)))


@pytest.mark.parametrize(
    ("function", "rest"),
    [
        (zoo.heads, ()),
        (zoo.fuse, ()),
        (zoo.facts, ()),
        (zoo.calibrate, ()),
        (zoo.save, ("model.keras",)),
        (zoo.weights.save, ("model.safetensors",)),
    ],
    ids=lambda part: getattr(part, "__module__", None),
)
def test_a_name_where_a_model_is_needed_is_told(function, rest):
    with pytest.raises(zoo.ZooError, match=r"give a model, such as zoo\.load returns, not 'resnet18'"):
        function("resnet18", *rest)
