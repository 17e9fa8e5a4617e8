"""Attention within the parts of a map, against NumPy."""

import keras
import numpy as np
import pytest

from zoo.classifier import load_file
from zoo.layers import DisplacementAddends, KeyDisplacementAddends, LogDisplacements, PartAttention

RANDOM = np.random.default_rng(0)
HEADS, SIZE, PARTS = 2, 3, 2


def attended(part, addends, joined):
    """One part's places [h, w, 3 * heads * size] -> [h, w, heads * size], place by place."""
    h, w, _ = part.shape
    shape = (h, w, HEADS, 3, SIZE) if joined else (h, w, 3, HEADS, SIZE)
    queries, keys, values = np.moveaxis(part.reshape(shape), 3 if joined else 2, 0)
    y = np.empty((h, w, HEADS, SIZE))
    for row, column, head in np.ndindex(h, w, HEADS):
        down, right = np.indices((h, w))
        seen = addends[row - down + h - 1, column - right + w - 1, head]
        scores = np.exp(keys[:, :, head] @ queries[row, column, head] / np.sqrt(SIZE) + seen)
        y[row, column, head] = np.einsum("hw,hwc->c", scores / scores.sum(), values[:, :, head])
    return y.reshape(h, w, -1)


@pytest.mark.parametrize("joined", [True, False], ids=["joined", "apart"])
@pytest.mark.parametrize("spread", [True, False], ids=["grid", "windows"])
def test_places_attend_to_those_of_their_part(spread, joined):
    x = RANDOM.normal(size=(2, 4, 6, 3 * HEADS * SIZE)).astype(np.float32)
    addends = RANDOM.normal(size=(3, 5, HEADS)).astype(np.float32)
    found = np.asarray(PartAttention(SIZE, PARTS, spread, joined)([x, addends]))
    for picture, row, column in np.ndindex(2, PARTS, PARTS):
        window = np.s_[picture, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
        part = np.s_[picture, row::PARTS, column::PARTS] if spread else window
        np.testing.assert_allclose(found[part], attended(x[part], addends, joined), rtol=1e-4, atol=1e-5)


def test_addends_are_the_tables_and_those_of_other_sides_are_between():
    layer = DisplacementAddends(HEADS, side=2, parts=2)
    layer.build((None, 4, 4, 1))
    # A ramp over the rows, -1 to 1, stays one where a bicubic kernel reaches no border.
    ramp = np.repeat(np.arange(-1, 2, dtype=np.float32), 3 * HEADS)
    layer.biases.assign(ramp.reshape(layer.biases.shape))
    same = np.asarray(layer(np.zeros((1, 4, 4, 1), np.float32)))
    np.testing.assert_array_equal(same[:, 0, 0], [-1, 0, 1])
    wider = np.asarray(layer(np.zeros((1, 6, 4, 1), np.float32)))
    assert wider.shape == (5, 3, HEADS)
    assert wider[2, 1, 0] == pytest.approx(0, abs=1e-6)
    assert (np.diff(wider[:, 1, 0]) > 0).all()


def test_a_reference_keeps_them_for_keys():
    mine, theirs = DisplacementAddends(HEADS, 3, 1), KeyDisplacementAddends(HEADS, 3, 1)
    x = np.zeros((1, 3, 3, 1), np.float32)
    for layer in (mine, theirs):
        layer.build(x.shape)
    table = RANDOM.normal(size=(5, 5, HEADS)).astype(np.float32)
    mine.biases.assign(table.reshape(25, HEADS))
    theirs.biases.assign(table[::-1, ::-1].transpose(2, 0, 1))
    np.testing.assert_array_equal(mine(x), theirs(x))


def test_displacements_are_logarithms_with_a_sign():
    found = np.asarray(LogDisplacements(2)(np.zeros((1, 4, 6, 1), np.float32)))
    assert found.shape == (3, 5, 2)
    np.testing.assert_allclose(found[:, 0, 0], np.log(2) * np.array([-1, 0, 1]), rtol=1e-6)
    np.testing.assert_allclose(found[0, :, 1], [-np.log(3), -np.log(2), 0, np.log(2), np.log(3)], rtol=1e-6)


def network(*sides):
    images = keras.Input((*sides, 3 * HEADS * SIZE))
    x = PartAttention(SIZE, 2)([images, DisplacementAddends(HEADS, 2, 2)(images)])
    x = keras.layers.Dense(3 * HEADS * SIZE)(x)
    x = PartAttention(SIZE, 2, spread=True, joined=False)([x, KeyDisplacementAddends(HEADS, 2, 2)(x)])
    x = keras.layers.Dense(3 * HEADS * SIZE)(x)
    return keras.Model(images, PartAttention(SIZE, 1)([x, keras.layers.Dense(HEADS)(LogDisplacements(1)(x))]))


def test_a_file_keeps_them(tmp_path):
    model = network(4, 4)
    model.save(tmp_path / "network.keras")
    x = RANDOM.normal(size=(2, 4, 4, 3 * HEADS * SIZE)).astype(np.float32)
    np.testing.assert_array_equal(load_file(tmp_path / "network.keras")(x), model(x))


def test_maps_may_have_any_sides():
    fixed, free = network(8, 6), network(None, None)
    free.set_weights(fixed.get_weights())
    x = RANDOM.normal(size=(2, 8, 6, 3 * HEADS * SIZE)).astype(np.float32)
    np.testing.assert_allclose(free.predict(x, verbose=0), fixed(x), rtol=1e-4, atol=1e-5)
