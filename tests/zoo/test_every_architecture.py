"""What holds for every name in the catalog: its counts, and a complete card."""

import keras
import numpy as np
import pytest

import zoo
from zoo.build import build, count_macs
from zoo.registry import Weights, resolve

NAMES = zoo.list_models()


@pytest.mark.parametrize("name", NAMES)
def test_counts_equal_the_catalogs(name):
    architecture, weights = resolve(name)
    weights = weights or Weights(name, "none", classes=architecture.classes)
    # The variables are never made: counting needs their shapes alone.
    with keras.StatelessScope(initialize_variables=False):
        network = build(
            architecture, weights, classes=weights.classes, input_size=(architecture.macs_size,) * 2
        )
    counted = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    assert (counted, count_macs(network)) == (architecture.params, architecture.macs)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_complete(name):
    card = zoo.describe(name)
    assert all([card.title, card.paper, card.brought])
    assert 2012 <= card.year <= 2026
    assert min(card.parameters, card.macs, card.macs_size) > 0
    for weights in card.weights:
        assert weights.licence != "unknown", weights.name
        assert weights.hub or weights.url or weights.package, weights.name
        assert weights.top1 is None or weights.source, weights.name
