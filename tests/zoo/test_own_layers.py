"""Layers that no network's smallest variant has, or not for all sizes: what they compute, and that a file
keeps them.
"""

import keras
import numpy as np
import pytest

from zoo.blocks.pools import max_pool
from zoo.classifier import load_file
from zoo.layers import (
    AdaptiveAverage,
    Attention,
    BiasedAttention,
    BiasedSelfAttention,
    Blur,
    ConditionalConv2D,
    Coordinates,
    DeformableAggregation,
    EvoNormalization,
    FirstPlaces,
    GlobalFilter,
    GlobalLambdas,
    HaloAttention,
    HalvingBorder,
    JoinedAttention,
    JoinedSelfAttention,
    LearnedPositions,
    LocalLambdas,
    MultiQueryAttention,
    Nearest,
    Neighbours,
    RelativeAttention,
    SpaceToDepth,
    TwinDense,
    WeighNeighbours,
    WindowSelfAttention,
)

RANDOM = np.random.default_rng(0)


def picture(height, width, channels):
    return RANDOM.normal(size=(2, height, width, channels)).astype(np.float32)


def test_a_blur_takes_what_alternates_and_keeps_what_does_not():
    rows, columns = np.indices((8, 8))
    board = ((rows + columns) % 2).astype(np.float32).reshape(1, 8, 8, 1)
    np.testing.assert_allclose(Blur()(board), np.full((1, 4, 4, 1), 0.5))
    np.testing.assert_allclose(Blur()(np.ones((1, 7, 7, 3), np.float32)), np.ones((1, 4, 4, 3)), rtol=1e-6)


def test_beyond_a_constant_border_are_zeros():
    blurred = np.asarray(Blur("constant")(np.ones((1, 8, 8, 1), np.float32)))[0, :, :, 0]
    np.testing.assert_allclose(blurred[0], [9 / 16, 3 / 4, 3 / 4, 3 / 4])
    np.testing.assert_allclose(blurred[1:, 1:], 1)


def test_a_map_is_stretched_by_whole_places():
    x = picture(3, 2, 4)
    stretched = np.asarray(Nearest()([x, picture(7, 4, 1)]))
    np.testing.assert_array_equal(stretched, x[:, [0, 0, 0, 1, 1, 2, 2]][:, :, [0, 0, 1, 1]])


def test_the_pixels_of_a_patch_are_dealt_row_by_row():
    x = picture(4, 6, 3)
    dealt = np.asarray(SpaceToDepth(2)(x))
    assert dealt.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(dealt[:, 1, 2], x[:, 2:4, 4:6].reshape(2, 12))


def test_norm_and_activation_in_one():
    x = picture(5, 5, 8)
    layer = EvoNormalization(groups=2, epsilon=1e-3)
    layer.build(x.shape)
    scale, bias, slope = RANDOM.normal(size=(3, 8)).astype(np.float32)
    layer.set_weights([scale, bias, slope])
    deviation = np.sqrt(x.reshape(2, 25, 2, 4).var((1, 3)) + 1e-3).repeat(4, axis=1).reshape(2, 1, 1, 8)
    expected = x / (1 + np.exp(-slope * x)) / deviation * scale + bias
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_heads_share_keys_and_values():
    queries, keys, values = picture(3, 4, 6), picture(2, 2, 3), picture(2, 2, 3)
    attended = np.asarray(MultiQueryAttention(2)([queries, keys, values]))
    for head in (slice(0, 3), slice(3, 6)):
        scores = queries[..., head].reshape(2, 12, 3) @ keys.reshape(2, 4, 3).swapaxes(1, 2) / np.sqrt(3)
        shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        expected = (shares @ values.reshape(2, 4, 3)).reshape(2, 3, 4, 3)
        np.testing.assert_allclose(attended[..., head], expected, rtol=1e-4, atol=1e-5)


def with_random_weights(layer, inputs):
    layer(inputs)
    layer.set_weights([RANDOM.normal(size=weight.shape) for weight in layer.weights])
    return layer


def attention_by_hand(query, keys, values, rows, columns):
    """query [D]; keys and values of places, rows and columns: how much each thinks of how far they are."""
    scores = keys @ query / np.sqrt(len(query)) + rows @ query + columns @ query
    shares = np.exp(scores - scores.max())
    return shares / shares.sum() @ values


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(4, 8), (6, 10)], ids=["whole-blocks", "a-part-of-a-block"])
def test_a_block_sees_its_halo_and_zeros_beyond_the_map(height, width, stride):
    heads, size, block, halo = 2, 3, 4, 1
    queries, keys = (
        picture(height // stride, width // stride, heads * size),
        picture(height, width, heads * 5),
    )
    layer = with_random_weights(HaloAttention(heads, size, block, halo, stride), [queries, keys])
    rows, columns = layer.get_weights()
    found, side, own = np.asarray(layer([queries, keys])), block + 2 * halo, block // stride
    around = np.pad(keys, ((0, 0), (halo, side), (halo, side), (0, 0)))
    for y, x in ((0, 0), (height // stride - 1, width // stride - 1), (1, own)):
        top, left = y // own * block, x // own * block
        seen = around[1, top : top + side, left : left + side].reshape(side * side, heads, 5)[:, 1]
        there = np.stack(np.mgrid[:side, :side], -1).reshape(-1, 2)
        expected = attention_by_hand(
            queries[1, y, x, size:],
            seen[:, :size],
            seen[:, size:],
            rows[there[:, 0] - y % own + side - 1],
            columns[there[:, 1] - x % own + side - 1],
        )
        np.testing.assert_allclose(found[1, y, x, 2:], expected, rtol=1e-4, atol=1e-5)


def test_all_places_know_how_far_they_are_apart():
    x = picture(5, 5, 2 * 2 * 3 + 8)
    layer = with_random_weights(RelativeAttention(2, 3, 5), x)
    rows, columns = layer.get_weights()
    there = np.stack(np.mgrid[:5, :5], -1).reshape(-1, 2)
    places = x[1].reshape(25, -1)
    expected = attention_by_hand(
        x[1, 4, 2, :3],
        places[:, 6:9],
        places[:, 12:16],
        rows[there[:, 0] - 4 + 4],
        columns[there[:, 1] - 2 + 4],
    )
    np.testing.assert_allclose(np.asarray(layer(x))[1, 4, 2, :4], expected, rtol=1e-4, atol=1e-5)
    assert layer(picture(7, 3, 20)).shape == (2, 7, 3, 8)


def test_every_other_place_asks_all_and_knows_how_far_they_are():
    queries, keys, values = picture(2, 2, 4), picture(3, 3, 4), picture(3, 3, 6)
    layer = with_random_weights(BiasedAttention(2, 3, step=2), [queries, keys, values])
    addends = np.asarray(layer.biases)[1].reshape(3, 3)
    rows, columns = np.indices((3, 3))
    # Of the second head, the query in row 1 and column 0: on the map of the keys, row 2.
    scores = keys[0, ..., 2:] @ queries[0, 1, 0, 2:] / np.sqrt(2) + addends[2 - rows, columns]
    shares = np.exp(scores) / np.exp(scores).sum()
    expected = (shares[..., None] * values[0, ..., 3:]).sum((0, 1))
    found = np.asarray(layer([queries, keys, values]))
    assert found.shape == (2, 2, 2, 6)
    np.testing.assert_allclose(found[0, 1, 0, 3:], expected, rtol=1e-4, atol=1e-5)


def joined_by_head(*parts):
    """[1, H, W, 2 heads * C] each -> [1, H, W, 2 heads * all channels], the first head's first."""
    by_head = [part.reshape(*part.shape[:3], 2, -1) for part in parts]
    return np.concatenate(by_head, axis=-1).reshape(*parts[0].shape[:3], -1)


def test_keys_and_values_may_be_joined_head_by_head():
    queries, keys, values = (picture(6, 6, channels) for channels in (4, 4, 10))
    apart, joined, alone = BiasedAttention(2, 6), JoinedAttention(2, 6), JoinedSelfAttention(2, 6, 2)
    expected = with_random_weights(apart, [queries, keys, values])([queries, keys, values])
    inputs = ([queries, joined_by_head(keys, values)], joined_by_head(queries, keys, values))
    for layer, given in zip((joined, alone), inputs, strict=True):
        layer.build([x.shape for x in given] if isinstance(given, list) else given.shape)
        layer.set_weights(apart.get_weights())
        np.testing.assert_allclose(layer(given), expected, rtol=1e-5, atol=1e-6)


def test_a_window_sees_itself_alone():
    x = picture(6, 9, 16)
    layer = with_random_weights(WindowSelfAttention(2, 3, 2), x)
    alone = JoinedSelfAttention(2, 3, 2)
    alone.build((1, 3, 3, 16))
    alone.set_weights(layer.get_weights())
    found = np.asarray(layer(x))
    for row, column in ((0, 0), (0, 6), (3, 3)):
        window = np.s_[:, row : row + 3, column : column + 3]
        np.testing.assert_allclose(found[window], alone(x[window]), rtol=1e-5, atol=1e-6)


def test_every_place_has_its_addend_and_those_of_other_sides_are_between():
    x = picture(4, 4, 3)
    layer = with_random_weights(LearnedPositions(4), x)
    addends = layer.addends.numpy()
    np.testing.assert_allclose(layer(x), x + addends.transpose(0, 2, 3, 1), rtol=1e-6)
    columns = np.broadcast_to(np.arange(4, dtype=np.float32), addends.shape)
    layer.addends.assign(columns)
    found = np.asarray(layer(np.zeros((1, 6, 8, 3), np.float32)))
    # A ramp stays one, where a bicubic kernel reaches no border.
    np.testing.assert_allclose(found[0, :, 3:5, :], np.tile([[[1.25], [1.75]]], (6, 1, 3)), rtol=1e-5)


def test_heads_talk_before_and_behind_their_softmax():
    queries, keys, values = picture(2, 2, 4), picture(2, 2, 4), picture(2, 2, 6)
    layer = with_random_weights(BiasedAttention(2, 2, talking=True), [queries, keys, values])
    layer.biases.assign(np.zeros(layer.biases.shape))
    q, k, v = (np.moveaxis(x[0].reshape(4, 2, -1), 1, 0) for x in (queries, keys, values))
    (before, before_bias), (behind, behind_bias) = (map(np.asarray, pair) for pair in layer.mixers)
    scores = np.einsum("hqd,hkd,hg->gqk", q, k, before[0, 0]) / np.sqrt(2) + before_bias[:, None, None]
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    mixed = np.einsum("hqk,hg->gqk", shares, behind[0, 0]) + behind_bias[:, None, None]
    expected = np.einsum("hqk,hkd->qhd", mixed, v).reshape(2, 2, 6)
    np.testing.assert_allclose(layer([queries, keys, values])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("everywhere", [False, True], ids=["near", "everywhere"])
def test_a_lambda_is_made_of_the_values_around(everywhere):
    queries, values = picture(4, 3, 2 * 5), picture(4, 3, 6)
    layer = GlobalLambdas(5, 7) if everywhere else LocalLambdas(5, 3)
    with_random_weights(layer, [queries, values])
    filters = layer.get_weights()[0]
    by_distance, shift = (
        (filters, 0) if everywhere else (filters[:, 0, :, :, 0].transpose(1, 2, 0), layer.shifts)
    )
    reach = by_distance.shape[0] // 2
    around = np.pad(values[1], ((reach, reach), (reach, reach), (0, 0)))
    seen = around[2 : 2 + 2 * reach + 1, 1 : 1 + 2 * reach + 1]
    function = np.einsum("yxk,yxc->kc", by_distance, seen) + np.asarray(shift)[..., None]
    expected = queries[1, 2, 1].reshape(2, 5) @ function
    np.testing.assert_allclose(np.asarray(layer([queries, values]))[1, 2, 1], expected.ravel(), rtol=1e-4)


def test_two_classifiers_are_averaged():
    x = RANDOM.normal(size=(4, 6)).astype(np.float32)
    layer = TwinDense(2)
    layer.build(x.shape)
    first, bias, second, second_bias = (RANDOM.normal(size=w.shape).astype(np.float32) for w in layer.weights)
    layer.set_weights([first, bias, second, second_bias])
    expected = (x[:, :3] @ first + bias + x[:, 3:] @ second + second_bias) / 2
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


def kernels_mixed(layer, weights, shape):
    """A kernel for each picture, [N, *shape]."""
    return (weights @ np.asarray(layer.experts)).reshape(-1, *shape)


def test_a_pointwise_kernel_is_mixed_for_each_picture():
    x, weights = picture(4, 5, 3), RANDOM.uniform(size=(2, 4)).astype(np.float32)
    layer = ConditionalConv2D(4, filters=6)
    mixed = np.asarray(layer([x, weights]))
    expected = np.einsum("nhwc,nfc->nhwf", x, kernels_mixed(layer, weights, (6, 3)))
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_depthwise_kernel_is_mixed_for_each_picture(stride):
    x, weights = picture(6, 7, 3), RANDOM.uniform(size=(2, 4)).astype(np.float32)
    layer = ConditionalConv2D(4, size=3, stride=stride)
    mixed = np.asarray(layer([x, weights]))
    for image, kernel, found in zip(x, kernels_mixed(layer, weights, (3, 3, 3)), mixed, strict=True):
        plain = keras.layers.DepthwiseConv2D(3, stride, "same", use_bias=False)
        plain.build((1, 6, 7, 3))
        plain.set_weights([kernel.transpose(1, 2, 0)[..., None]])
        np.testing.assert_allclose(found, plain(image[None])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_file_keeps_them(tmp_path, ending):
    images = keras.Input((8, 8, 8))
    x = EvoNormalization(2, 1e-3)(images)
    x = Blur("constant")(MultiQueryAttention(1)([x, images, images]))
    x = BiasedAttention(2, 4, step=2, talking=True)([x, images, images])
    x = LearnedPositions(4)(BiasedSelfAttention(2, 4, 1)(x))
    x = WindowSelfAttention(2, 2, 1)(keras.layers.Dense(8)(x))
    x = JoinedAttention(2, 4)([x, JoinedSelfAttention(2, 4, 1)(keras.layers.Dense(16)(x))])
    x = SpaceToDepth(2)(Nearest()([x, images]))
    weights = keras.layers.GlobalAveragePooling2D()(images)
    x = ConditionalConv2D(8, size=3, stride=2)([ConditionalConv2D(8, filters=5)([x, weights]), weights])
    model = keras.Model(images, TwinDense(3, "he_normal")(keras.layers.Flatten()(x)))
    path = tmp_path / f"network.{ending}"
    model.save(path)
    x = picture(8, 8, 8)
    np.testing.assert_array_equal(load_file(path)(x), model(x))


def test_they_take_maps_of_any_size():
    """Also those of the families that have them everywhere."""
    images = keras.Input((None, None, 8))
    x = EvoNormalization(2)(images)
    x = MultiQueryAttention(2)([x, *[Blur()(keras.layers.Dense(4)(x))] * 2])
    x = Nearest()([Blur()(Attention(2)(keras.layers.Dense(24)(x))), images])
    x = FirstPlaces()([BiasedAttention(2, 6, talking=True)([x, x, x]), x])
    places = keras.layers.Dense(4)(Coordinates()(x))
    weights = keras.layers.Dense(2)(Neighbours(3)(places))
    x = WeighNeighbours(3)([weights, x])
    route = keras.layers.GlobalAveragePooling2D()(images)
    x = ConditionalConv2D(8, filters=6)([ConditionalConv2D(8, size=3)([x, route]), route])
    model = keras.Model(images, x)
    assert model.output_shape == (None, None, None, 6)
    for size in ((8, 8), (7, 12)):
        of_one_size = keras.models.clone_model(model, keras.Input((*size, 8)))
        of_one_size.set_weights(model.get_weights())
        x = picture(*size, 8)
        np.testing.assert_allclose(model.predict(x, verbose=0), of_one_size(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize(("height", "width"), [(4, 9), (13, 7), (6, 6)])
def test_a_map_is_averaged_by_parts_as_pytorch_cuts_them(height, width, free):
    x = picture(height, width, 2)
    images = keras.Input((None, None, 2) if free else x.shape[1:])
    for at_least in (False, True):
        rows, columns = (max(6, height), max(6, width)) if at_least else (6, 6)
        model = keras.Model(images, AdaptiveAverage((6, 6), at_least)(images))
        parts = [
            [slice(i * side // n, -(-(i + 1) * side // n)) for i in range(n)]
            for side, n in ((height, rows), (width, columns))
        ]
        expected = [[x[:, down, across].mean((1, 2)) for across in parts[1]] for down in parts[0]]
        found = model(x)
        np.testing.assert_allclose(found, np.transpose(expected, (2, 0, 1, 3)), rtol=1e-5, atol=1e-6)
        assert all(a in (None, b) for a, b in zip(model.output_shape, found.shape, strict=True))


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize(("height", "width"), [(6, 9), (7, 8)])
def test_a_border_for_halving_is_that_of_tensorflow(height, width, free):
    x = np.abs(picture(height, width, 2))
    images = keras.Input((None, None, 2) if free else x.shape[1:])
    bordered = keras.layers.MaxPooling2D(3, 2)(HalvingBorder()(images))
    np.testing.assert_array_equal(
        keras.Model(images, bordered)(x), keras.layers.MaxPooling2D(3, 2, "same")(x)
    )


@pytest.mark.parametrize("side", [5, 6, 7, 8])
def test_the_last_window_of_a_max_pool_may_be_incomplete(side):
    x = np.abs(picture(side, side, 1))
    images = keras.Input((None, None, 1))
    found = keras.Model(images, max_pool(images, 3, 2, "pool", ceil=True))(x)
    starts = range(0, side - 2 + (side - 3) % 2, 2)
    expected = [[x[:, i : i + 3, j : j + 3].max((1, 2)) for j in starts] for i in starts]
    np.testing.assert_array_equal(found, np.transpose(expected, (2, 0, 1, 3)))


@pytest.mark.parametrize(("height", "width"), [(6, 8), (7, 7), (5, 10)])
def test_a_global_filter_multiplies_the_frequencies(height, width):
    layer = GlobalFilter(6, 5)
    x = picture(height, width, 3)
    layer.build(x.shape)
    stored = RANDOM.normal(size=(3, 6, 5, 2)).astype(np.float32)
    layer.complex_weight.assign(stored)
    rows = np.linspace(0, 5, height)
    columns = np.linspace(0, 4, width // 2 + 1)
    weight = np.stack(
        [
            [bilinear(stored[c, ..., 0] + 1j * stored[c, ..., 1], row, columns) for row in rows]
            for c in range(3)
        ]
    )
    spectrum = np.fft.rfft2(x, axes=(1, 2)) * weight.transpose(1, 2, 0)
    expected = np.fft.irfft2(spectrum, (height, width), axes=(1, 2))
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def bilinear(table, row, columns):
    top = min(int(row), len(table) - 2)
    line = table[top] * (top + 1 - row) + table[top + 1] * (row - top)
    places = np.arange(len(line))
    return np.interp(columns, places, line.real) + 1j * np.interp(columns, places, line.imag)


def between(channels, x, y):
    """What a map [H, W, C] is at a place between its own; zeros beyond it."""
    total = np.zeros(channels.shape[-1])
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= row < channels.shape[0] and 0 <= column < channels.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * channels[row, column]
    return total


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("reach", [1.0, 2.0])
def test_every_group_looks_where_its_steps_lead(reach, free):
    groups, x = 2, picture(5, 7, 6)
    steps, shares = (
        2 * picture(5, 7, groups * 9 * 2),
        np.abs(picture(5, 7, groups * 9)).reshape(2, 5, 7, groups, 9),
    )
    steps[0, 2, 3] = 40  # far beyond the map
    sides = (None, None) if free else (5, 7)
    inputs = [keras.Input((*sides, *a.shape[3:])) for a in (x, steps, shares)]
    found = keras.Model(inputs, DeformableAggregation(3, reach)(inputs)).predict_on_batch([x, steps, shares])
    window = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    expected = np.zeros_like(x)
    for n, row, column, group in np.ndindex(2, 5, 7, groups):
        own = slice(3 * group, 3 * group + 3)
        for seen, (dx, dy) in enumerate(window):
            step_x, step_y = steps[n, row, column].reshape(groups, 9, 2)[group, seen]
            place = column + reach * (dx + step_x), row + reach * (dy + step_y)
            share = shares[n, row, column, group, seen]
            expected[n, row, column, own] += share * between(x[n, :, :, own], *place)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert not found[0, 2, 3].any()
