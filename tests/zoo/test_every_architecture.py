"""What holds for every name in the catalog: its counts and its card; and for the smallest network of every
builder: other classes and sizes, training, saving.
"""

import keras
import numpy as np
import pytest

import zoo
from zoo.backbone import maps_of
from zoo.build import build, count_macs
from zoo.classifier import load_file
from zoo.registry import Weights, resolve

LARGE_MACS, LARGE_PARAMS = 9e9, 60e6
# Large ones of the blocks that a smaller network of their family has: `make parity` trains and saves them.
LARGER_KIN = {
    "densenet190_40_cifar": "densenet121",
    "dpn92": "dpn68",
    "efficientnetv2_s": "efficientnetv2_b0",
    "mobilenetv2_110d": "mobilenetv2_035",
    "resnest50d_1s4x24d": "resnest14d",
    "seresnext50_32x4d": "seresnet18",
    "skresnext50_32x4d": "skresnet18",
}
# A usual step turns its layer scales of 1e-5 over.
RATES = {"mobilenetv5_300m": 1e-7}
LABELS = np.arange(6) % 3
NAMES = zoo.list_models()


@pytest.mark.parametrize("name", NAMES)
def test_counts_equal_the_catalogs_and_maps_are_of_their_strides(name):
    architecture, weights = resolve(name)
    weights = weights or Weights(name, "none", classes=architecture.classes)
    # The variables are never made: counting needs their shapes alone.
    with keras.StatelessScope(initialize_variables=False):
        network = build(
            architecture, weights, classes=architecture.classes, input_size=(architecture.macs_size,) * 2
        )
    counted = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    assert (counted, count_macs(network)) == (architecture.params, architecture.macs)
    side = architecture.macs_size
    for level, x in maps_of(network).items():
        # Networks without borders lose a few pixels at each halving.
        assert side < 96 or x.shape[1] == x.shape[2] == pytest.approx(side / 2**level, abs=4)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_complete(name):
    card = zoo.describe(name)
    assert all([card.title, card.paper, card.brought])
    assert 1998 <= card.year <= 2026
    assert min(card.parameters, card.macs, card.macs_size) > 0
    for weights in card.weights:
        assert weights.licence != "unknown", weights.name
        assert weights.hub or weights.url or weights.package, weights.name
        assert weights.top1 is None or weights.source, weights.name


def smallest_of_every_builder():
    by_builder = {}
    for name in NAMES:
        architecture, _ = resolve(name)
        by_builder.setdefault((architecture.family, architecture.builder), []).append(architecture)
    smallest = (min(variants, key=lambda a: (a.params, a.macs)) for variants in by_builder.values())
    return [pytest.param(a, id=a.name, marks=marks(a)) for a in smallest]


def marks(architecture):
    """A group is one worker's, so that a network is built once."""
    large = architecture.macs > LARGE_MACS or architecture.params > LARGE_PARAMS
    large = large or architecture.name in LARGER_KIN
    group = pytest.mark.xdist_group(architecture.name)
    return [group, pytest.mark.large] if large else [group]


@pytest.fixture(scope="module", params=smallest_of_every_builder())
def network(request):
    """Three classes, small pictures, nothing random in training."""
    architecture = request.param
    size = 36 if architecture.macs_size < 64 else max(64, architecture.smallest + 32)
    keras.utils.set_random_seed(0)
    yield zoo.load(architecture.name, weights=None, classes=3, input_size=size, drop_rate=0.0, drop_path=0.0)
    keras.utils.clear_session()


@pytest.fixture(scope="module")
def pictures(network):
    """Two of each class, which is a colour, with noise: norms of three pictures alone would be wild."""
    shades = np.array([40, 120, 200], np.float32)[LABELS].reshape(-1, 1, 1, 1)
    noise = np.random.default_rng(0).uniform(-40, 40, (len(LABELS), *network.input_shape[1:]))
    return (shades + noise).astype(np.float32)


def test_it_takes_other_classes_and_sizes(network, pictures):
    probabilities = np.asarray(network(pictures, training=False))
    assert probabilities.shape == (len(LABELS), 3)
    assert zoo.facts(network).labels == ("0", "1", "2")
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_it_takes_pictures_of_any_size(network, pictures):
    name = network.zoo.name
    free = zoo.load(name, weights=None, classes=3, input_size=(None, None), drop_rate=0.0, drop_path=0.0)
    free.set_weights(network.get_weights())
    found, expected = (np.asarray(one(pictures, training=False)) for one in (free, network))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_training_lowers_the_loss(network, pictures):
    """One step does, short enough to overshoot nowhere."""
    sgd = keras.optimizers.SGD(RATES.get(network.zoo.name, 1e-5), clipnorm=1.0)
    network.compile(sgd, "sparse_categorical_crossentropy", run_eagerly=True)
    before = float(network.train_on_batch(pictures, LABELS))
    probabilities = np.asarray(network(pictures, training=True))
    after = -np.log(probabilities[np.arange(len(LABELS)), LABELS]).mean()
    assert after < before
    assert all(np.isfinite(weight).all() for weight in network.get_weights())


def test_saved_and_loaded_it_is_the_same(network, pictures, tmp_path):
    expected = np.asarray(network(pictures, training=False))
    for ending in ("keras", "h5"):
        loaded = load_file(zoo.save(network, tmp_path / f"network.{ending}"))
        assert zoo.facts(loaded) == zoo.facts(network)
        np.testing.assert_array_equal(np.asarray(loaded(pictures, training=False)), expected, ending)
