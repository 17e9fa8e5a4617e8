"""Files of keras.applications, by position: what Keras keeps in other forms, and what does not fit."""

import hashlib
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

import zoo
from zoo.errors import WeightsError
from zoo.registry import resolve
from zoo.weights.convert import assign, from_bgr, slots, state_dict
from zoo.weights.keras_layout import reference_tensors

SIZE = (8, 8, 3)


def theirs():
    """Every form that differs from ours: a bias before a norm, a norm without gamma, a separable
    convolution, a depthwise one written as grouped, a nested model, a linear layer on a flattened map.
    """
    nested = keras.Sequential([layers.Conv2D(6, 1, name="c"), layers.LayerNormalization(name="n")], name="n1")
    network = [
        layers.Conv2D(4, 3, name="block1_conv1"),
        layers.BatchNormalization(scale=False, name="batch_normalization_7"),
        layers.SeparableConv2D(6, 3, use_bias=False, name="sep"),
        layers.Conv2D(6, 3, groups=6, name="dw"),
        nested,
        layers.Flatten(name="flatten"),
        layers.Dense(5, name="fc1"),
        layers.Dense(3, name="predictions"),
    ]
    return chained(network)


def ours():
    network = [
        layers.Conv2D(4, 3, use_bias=False, name="conv1"),
        layers.BatchNormalization(name="bn1"),
        layers.DepthwiseConv2D(3, use_bias=False, name="block.dw"),
        layers.Conv2D(6, 1, use_bias=False, name="block.pw"),
        layers.DepthwiseConv2D(3, name="conv2"),
        layers.Conv2D(6, 1, name="stem.0"),
        layers.LayerNormalization(name="stem.1"),
        layers.Conv2D(5, 2, name="fc1"),
        layers.Flatten(name="flatten"),
        layers.Dense(3, name="head"),
    ]
    return chained(network)


def chained(network):
    images = x = keras.Input(SIZE)
    for layer in network:
        x = layer(x)
    model = keras.Model(images, x)
    draws = np.random.default_rng(len(model.variables))
    for variable in model.variables:
        if variable.dtype == "float32":
            variable.assign(draws.uniform(0.5, 1, variable.shape))
    return model


def stored(model):
    """What the reader gives of the model's file."""
    return {
        f"{layer.name}/{variable.name}": np.asarray(variable)
        for layer in model.layers
        for variable in (*layer.trainable_weights, *layer.non_trainable_weights)
    }


def fill(model, arrays, **options):
    assign(model, reference_tensors(model, list(slots(model)), arrays, **options))
    return model


@pytest.mark.parametrize("bgr", [False, True])
def test_what_keras_keeps_in_other_forms_computes_the_same(bgr):
    pictures = np.random.default_rng(0).uniform(0, 1, (2, *SIZE)).astype(np.float32)
    reference = theirs()
    arrays = stored(reference)
    assert len(arrays) == 17
    expected = reference.predict_on_batch(pictures[..., ::-1] if bgr else pictures)
    network = fill(ours(), arrays)
    if bgr:
        assign(network, from_bgr(network, state_dict(network)))
    np.testing.assert_allclose(network.predict_on_batch(pictures), expected, rtol=1e-4)


def test_a_file_of_ours_for_a_network_of_bgr_pictures_keeps_its_colours(tmp_path):
    model = zoo.load("resnet50.keras_in1k", None, input_size=32)
    zoo.weights.save(model, tmp_path / "ours.safetensors")
    again = zoo.load("resnet50.keras_in1k", tmp_path / "ours.safetensors", input_size=32)
    np.testing.assert_array_equal(again.get_layer("conv1").kernel, model.get_layer("conv1").kernel)


def test_the_pictures_statistics_are_no_layer():
    arrays = stored(theirs())
    picture = {f"normalization_1/{name}": np.ones(3) for name in ("mean", "variance")}
    picture["normalization_1/count"] = np.array(0)
    fill(ours(), picture | arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("predictions/bias"), "missing: head.bias"),
        (lambda a: a.pop("n1/beta"), "missing: stem.1.bias"),
        (lambda a: a.pop("block1_conv1/kernel"), r"misshapen: conv1.weight is \(1, 4, 3, 3\)"),
        (lambda a: a.update({"more/gamma": np.ones(3)}), "left over: more/gamma"),
        (lambda a: a.update({"more/kernel": np.ones((3, 3))}), "left over: more/kernel"),
        (lambda a: a.update({"n1/more": np.ones(3)}), "left over: n1/gamma"),
        (lambda a: a.update({"fc1/kernel": np.ones((23, 5))}), r"misshapen: fc1.weight is \(5, 23\)"),
        (lambda a: a.update({"fc1/kernel": np.ones((2, 2, 5))}), r"misshapen: fc1.weight is \(2, 2, 5\)"),
        (lambda a: a.update({"sep/bias": np.ones(6)}), "left over: sep/bias"),
        (lambda a: a.update({"block1_conv1/bias": np.ones(5)}), "left over: block1_conv1/bias"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arrays = stored(theirs())
    change(arrays)
    with pytest.raises(WeightsError, match=message):
        fill(ours(), dict(sorted(arrays.items(), key=lambda item: position(item[0]))))


def position(key):
    """Where the layer stands: a variable that a test adds joins its layer's."""
    names = [layer.name for layer in theirs().layers]
    return names.index(key.partition("/")[0]) if key.partition("/")[0] in names else len(names)


def test_blocks_whose_layers_keras_lists_otherwise():
    images = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 1, use_bias=False, name="a.left")(images)
    y = layers.Conv2D(2, 1, use_bias=False, name="a.right")(images)
    x = layers.Conv2D(2, 1, use_bias=False, name="b.left")(layers.Add(name="a.add")([x, y]))
    model = keras.Model(images, x)
    arrays = {f"{name}/kernel": np.full((1, 1, 2, 2), i) for i, name in enumerate(("right", "left", "last"))}
    tensors = reference_tensors(model, list(slots(model)), arrays, order=["right"])
    values = {key: tensor.flat[0] for key, tensor in tensors.items()}
    assert values == {"a.right.weight": 0, "a.left.weight": 1, "b.left.weight": 2}


@pytest.fixture
def published(site, cache_folder, publish, tmp_path, monkeypatch):
    """mobilenetv1_025.keras_in1k, with this server's address and a hash: -> the network and the tag."""
    network = keras.applications.MobileNet(
        weights=None, input_shape=(32, 32, 3), alpha=0.25, classifier_activation=None
    )
    site.files["/mobilenet.h5"] = publish(network, tmp_path / "mobilenet.h5").read_bytes()
    architecture, tag = resolve("mobilenetv1_025.keras_in1k")
    digest = hashlib.md5(site.files["/mobilenet.h5"]).hexdigest()
    tag = replace(tag, url=f"{site.url}/mobilenet.h5", md5=digest)
    monkeypatch.setitem(architecture.weights, "keras_in1k", tag)
    return network, tag


def test_a_published_file_comes_over_http(published):
    network, tag = published
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    model = zoo.load(tag.name, input_size=32, classifier_activation=None)
    expected = network.predict_on_batch(pictures / 127.5 - 1)
    np.testing.assert_allclose(model.predict_on_batch(pictures), expected, atol=1e-4 * expected.std())


def test_a_published_file_serves_other_classes(published, caplog):
    _, tag = published
    model = zoo.load(tag.name, input_size=32, classes=("cat", "dog"))
    assert model.output_shape == (None, 2)
    assert 'the head "classifier" of mobilenetv1_025.keras_in1k is new (2 classes' in caplog.text


def test_another_network_s_file_is_refused_and_removed(published, cache_folder, monkeypatch):
    _, tag = published
    wider = resolve("mobilenetv1_050")[0]
    monkeypatch.setitem(wider.weights, "keras_in1k", replace(tag, architecture="mobilenetv1_050"))
    with pytest.raises(WeightsError, match=r"misshapen: conv_stem.weight is .* was removed from the cache"):
        zoo.load("mobilenetv1_050", input_size=32)
    assert [path for path in cache_folder.rglob("*") if path.is_file()] == []
