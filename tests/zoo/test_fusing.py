"""A fused network against the one in training: the same numbers out of fewer layers."""

import keras
import numpy as np
import pytest

import zoo
from zoo.build import count_macs
from zoo.classifier import load_file
from zoo.layers import Scale

NETWORKS = ["repvgg_a0", "mobileone_s0", "fastvit_t8", "resnet18"]
REPARAMETERISED = NETWORKS[:2]


def shaken(model):
    """Norms and scales that do something: fresh ones are all the identity."""
    numbers = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, (keras.layers.BatchNormalization, Scale)):
            layer.set_weights([numbers.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    keras.utils.set_random_seed(0)
    return shaken(zoo.load(request.param, weights=None, classes=("ant", "bee", "cat"), input_size=64))


@pytest.fixture(scope="module")
def before(network):
    return [w.copy() for w in network.get_weights()]


@pytest.fixture(scope="module")
def fused(network, before):
    return zoo.fuse(network)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)


def counts(model):
    return len(model.layers), model.count_params(), count_macs(model)


def norms(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_the_outputs_are_equal(network, fused, images):
    given, expected = zoo.heads(fused)(images), zoo.heads(network)(images)
    for output in ("features", "logits"):
        error = np.abs(given[output] - expected[output]).max()
        assert error < 1e-4 * np.std(expected[output]), output
    np.testing.assert_allclose(given["probabilities"], expected["probabilities"], atol=1e-5)


def test_it_has_fewer_layers_parameters_and_operations(network, fused):
    layers, parameters, macs = np.array(counts(network)) - counts(fused)
    assert min(layers, parameters) > 0
    assert macs >= 0
    assert norms(fused) == []


def test_it_keeps_the_facts_but_for_its_counts(network, fused):
    given, expected = zoo.facts(fused), zoo.facts(network)
    assert (given.name, given.labels, given.preprocessing) == (
        expected.name,
        expected.labels,
        expected.preprocessing,
    )
    changed = {key for key, value in expected.card.items() if given.card[key] != value}
    assert changed <= {"parameters", "macs", "macs_size"}
    assert given.card["parameters"] == sum(int(np.prod(v.shape)) for v in fused.trainable_variables)
    assert given.card["macs"] == count_macs(fused)


def test_a_network_for_pictures_of_any_size_stays_one(network, fused, images):
    free = zoo.load(network.zoo.name, weights=None, classes=3, input_size=(None, None))
    free.set_weights(network.get_weights())
    found = zoo.fuse(free)
    assert found.input_shape == (None, None, None, 3)
    np.testing.assert_allclose(found(images), fused(images), atol=1e-6)
    whole = zoo.fuse(zoo.load(network.zoo.name, weights=None, classes=3))
    assert zoo.facts(found).card["macs"] == zoo.facts(whole).card["macs"]
    assert len(norms(found)) == len(norms(fused))


def test_pads_that_depend_on_the_sides_hinder_no_folding():
    free = zoo.load("tf_efficientnet_b0", weights=None, classes=3, input_size=(None, None))
    assert not norms(zoo.fuse(free))


def test_the_network_given_is_untouched(network, before, fused):
    assert norms(network)
    for given, expected in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(given, expected)
    assert not {id(v) for v in network.variables} & {id(v) for v in fused.variables}


def test_saved_and_loaded_it_is_the_same(fused, images, tmp_path):
    loaded = load_file(zoo.save(fused, tmp_path / "fused.keras"))
    assert zoo.facts(loaded) == zoo.facts(fused)
    np.testing.assert_array_equal(loaded(images), fused(images))


@pytest.mark.parametrize("name", REPARAMETERISED)
def test_of_every_block_one_convolution_is_left(name):
    """Ding et al.: a plain chain, no sums, one 3x3 or 1x1 convolution after another."""
    fused = zoo.fuse(zoo.load(name, weights=None, classes=3, input_size=64))
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    convolutions = [layer for layer in fused.layers if isinstance(layer, kinds)]
    assert all(layer.name.endswith(".reparam_conv") or ".conv_kxk.0" in layer.name for layer in convolutions)
    assert len(convolutions) == {"repvgg_a0": 22, "mobileone_s0": 43}[name]
    assert not [layer for layer in fused.layers if isinstance(layer, keras.layers.Add)]


@pytest.mark.parametrize(
    ("name", "left"), [("ghostnetv3_100", 137), ("repvit_m0_9", 103), ("unireplknet_a", 41)]
)
def test_several_sums_in_a_block(name, left):
    network = zoo.load(name, weights=None, classes=3, input_size=64, classifier_activation=None)
    x = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)
    for _ in range(3):
        network(x, training=True)
    fused = zoo.fuse(network)
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    assert len([layer for layer in fused.layers if isinstance(layer, kinds)]) == left
    logits = np.asarray(network(x))
    np.testing.assert_allclose(fused(x), logits, atol=1e-4 * logits.std())


def small(body):
    """A model of what `body` makes of images [N, 8, 8, 4], with norms that do something."""
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 4))
    return shaken(keras.Model(images, body(images), name="small"))


def conv(filters, kernel, name, **options):
    return keras.layers.Conv2D(filters, kernel, padding="same", name=name, **options)


def norm(name):
    return keras.layers.BatchNormalization(name=name)


def between(x):
    y = conv(4, 3, "conv")(x)
    return keras.layers.Concatenate(name="both")([y, norm("norm")(y)])


def bent(x):
    return norm("norm")(conv(4, 3, "conv", activation="relu")(x))


def first(x):
    return conv(4, 3, "conv")(norm("norm")(x))


def of_two_maps(x):
    y = keras.layers.ReLU(name="relu")(x)
    return keras.layers.Add(name="sum")([conv(4, 3, "one")(x), conv(4, 3, "two")(y)])


@pytest.mark.parametrize("body", [between, bent, first, of_two_maps])
def test_what_is_not_linear_in_one_map_is_left_as_it_is(body):
    model = small(body)
    fused = zoo.fuse(model)
    assert [layer.name for layer in fused.layers] == [layer.name for layer in model.layers]
    x = keras.random.normal((2, 8, 8, 4))
    np.testing.assert_allclose(fused(x), model(x), atol=1e-5)


def chained(layer, x):
    return layer(layer(x))


def side_by_side(layer, x):
    return keras.layers.Add()([layer(x), layer(keras.layers.ReLU()(x))])


@pytest.mark.parametrize("use", [chained, side_by_side])
def test_a_layer_used_twice_is_refused(use):
    model = small(lambda x: use(conv(4, 3, "shared"), x))
    with pytest.raises(zoo.ZooError, match='small cannot be fused: it uses the layer "shared" twice'):
        zoo.fuse(model)


def test_a_model_without_facts_is_fused_too():
    fused = zoo.fuse(small(lambda x: norm("norm")(conv(4, 3, "conv", use_bias=False)(x))))
    assert [layer.name for layer in fused.layers[1:]] == ["conv"]
    assert not hasattr(fused, "zoo")


def test_a_low_rank_update_is_folded_in(images):
    model = zoo.load("resnet18", weights=None, classes=3, input_size=64)
    model.get_layer("conv1").enable_lora(2)
    model.get_layer("conv1").lora_kernel_b.assign(keras.random.normal((2, 64), stddev=0.1))
    fused = zoo.fuse(model)
    assert len(fused.get_layer("conv1").weights) == 2
    np.testing.assert_allclose(fused(images), model(images, training=False), atol=1e-5)
