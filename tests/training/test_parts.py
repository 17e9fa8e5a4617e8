import contextlib
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

import zoo
from zoo.training.checkpoint import State, read_state, write_state
from zoo.training.feeding import feed
from zoo.training.forms import (
    COPIED_CUTS,
    FOLDED_STEM,
    FUSED_NORMS,
    ONE_PASS_STATISTICS,
    POINTWISE_PRODUCTS,
    POOLS_OF_MAXIMA,
    SUMMED_BIASES,
    computed_as,
)
from zoo.training.loop import Batches, Examples, Held, Stage
from zoo.training.metrics import evaluate
from zoo.training.network import frozen_norms, prepare
from zoo.training.recipe import Recipe
from zoo.training.views import maps_of_views

NOTHING = Held(np.zeros((0, 1)), np.zeros(0, int))


@pytest.fixture(scope="module")
def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "top"), [("efficientnet_lite0", 0.1), ("resnet18", 1.0), ("resnetv2_50", 1 / 3)]
)
def test_bottom_and_top_together_are_the_whole(name, top, random):
    model = zoo.load(name, weights=None, input_size=64)
    network = prepare(model, 7, top)
    network.head.set_weights([random.normal(size=w.shape) for w in network.head.get_weights()])
    images = random.integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
    maps = network.bottom.predict(images, verbose=0)
    logits = network.top.predict(maps, verbose=0)
    whole = network.whole.predict(images, verbose=0)
    np.testing.assert_allclose(keras.ops.softmax(logits), whole, atol=1e-5)
    np.testing.assert_allclose(
        network.head.predict(network.embed.predict(maps, verbose=0), verbose=0), logits, atol=1e-3
    )
    assert network.whole_learns == (top == 1.0)
    if network.whole_learns:
        np.testing.assert_array_equal(maps, images)
    assert len(network.bottom.layers) + len(network.top.layers) >= len(network.whole.layers) - 1


def test_a_network_of_two_layers_can_be_cut(tiny):
    network = prepare(tiny(), 4, 1 / 3)
    assert [layer.name for layer in network.embed.layers[1:]] == ["flat"]
    assert network.head.input_shape == (None, 144)


def convolutions_and_gradients(top, maps):
    """How many convolutions a step of training has, and the gradients of the mean of the logits' squares."""

    @tf.function
    def step(maps):
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(top(maps, training=False) ** 2)
        return tape.gradient(loss, [variable.value for variable in top.trainable_variables])

    operations = step.get_concrete_function(tf.constant(maps)).graph.get_operations()
    return sum(operation.type == "Conv2D" for operation in operations), step(maps)


def test_pointwise_convolutions_learn_as_products(random):
    network = prepare(zoo.load("mobilenetv2_035", weights=None, input_size=64), 7, 1 / 3)
    network.head.set_weights([random.normal(size=w.shape) for w in network.head.get_weights()])
    maps = random.normal(size=(3, *network.bottom.output_shape[1:])).astype(np.float32)
    plain, gradients = convolutions_and_gradients(network.top, maps)
    with computed_as(network.top, [POINTWISE_PRODUCTS]):
        products, same_gradients = convolutions_and_gradients(network.top, maps)
    assert (plain > 5, products) == (True, 0)
    for gradient, same in zip(gradients, same_gradients, strict=True):
        np.testing.assert_allclose(gradient, same, rtol=1e-3, atol=1e-5 * np.abs(same).max())
    assert convolutions_and_gradients(network.top, maps)[0] == plain


def gradients_of_a_step(model, images):
    """Of the mean of the squared outputs, as it learns: the gradients, and what the norms then remember."""
    before = model.get_weights()
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(model(images, training=True) ** 2)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    remembered = [variable.numpy() for variable in model.non_trainable_variables]
    model.set_weights(before)
    return [*gradients, *remembered]


def stem_and_a_stage(size, kernel, pool):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            layers.Conv2D(6, kernel, 2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(pool, 2),
            layers.Conv2D(5, 3, 2, use_bias=False),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(8, "relu"),
            layers.BatchNormalization(scale=False),
            layers.Dense(4),
        ]
    )


@pytest.mark.parametrize(("size", "kernel", "pool"), [(40, 7, 3), (41, 3, 2), (39, (4, 5), (3, 2))])
@pytest.mark.parametrize(
    ("form", "fitting"),
    [(FOLDED_STEM, 1), (ONE_PASS_STATISTICS, 3), (POOLS_OF_MAXIMA, 1), (FUSED_NORMS, 2)],
)
def test_forms_learn_as_the_plain_layers(size, kernel, pool, form, fitting, random):
    model = stem_and_a_stage(size, kernel, pool)
    images = random.uniform(0, 255, (6, size, size, 3)).astype(np.float32)
    plain = gradients_of_a_step(model, images)
    with computed_as(model, [form]):
        assert sum(form[0] in vars(layer) for layer in model.layers) == fitting
        formed = gradients_of_a_step(model, images)
    assert not any(form[0] in vars(layer) for layer in model.layers)
    for one, other in zip(formed, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max() + 1e-6)


def split_and_joined():
    """Channels of a map cut out from both ends and the middle, between convolutions and norms."""
    layers = keras.layers
    images = keras.Input((12, 10, 3))
    x = layers.BatchNormalization(center=False)(layers.Conv2D(7, 3, use_bias=False)(images))
    crops = [(0, 3), (4, 0), (2, 2)]
    cuts = [layers.Cropping2D(((0, 0), crop), "channels_first")(x) for crop in crops]
    cuts[1] = layers.BatchNormalization(axis=3, momentum=0.5)(cuts[1])
    x = layers.Cropping2D(((1, 1), (0, 2)))(layers.Concatenate()(cuts))
    return keras.Model(images, layers.Conv2D(2, 3)(x))


def operations_of_a_step(model, images):
    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=True) ** 2)
        return tape.gradient(loss, model.trainable_variables)

    return Counter(one.type for one in step.get_concrete_function(images).graph.get_operations())


def test_cuts_of_channels_and_norms_are_an_operation_each_way(random):
    model = split_and_joined()
    images = random.normal(size=(5, 12, 10, 3)).astype(np.float32)
    plain, done = gradients_of_a_step(model, images), operations_of_a_step(model, images)
    with computed_as(model, [FUSED_NORMS, COPIED_CUTS]):
        formed, now_done = gradients_of_a_step(model, images), operations_of_a_step(model, images)
    kinds = ("StridedSliceGrad", "Pad", "FusedBatchNormV3", "FusedBatchNormGradV3")
    assert [done[kind] for kind in kinds] == [4, 0, 0, 0]
    assert [now_done[kind] for kind in kinds] == [1, 3, 2, 2]
    for one, other in zip(formed, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5 * np.abs(other).max() + 1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_fused_norm_keeps_its_type_and_at_inference_its_statistics(policy, random):
    model = keras.Sequential(
        [keras.Input((6, 6, 4)), keras.layers.BatchNormalization(scale=False, dtype=policy)]
    )
    images = tf.constant(random.normal(2, 3, size=(3, 6, 6, 4)), model.layers[0].compute_dtype)
    before = model.get_weights()
    with computed_as(model, [FUSED_NORMS]):
        with frozen_norms(model):
            np.testing.assert_allclose(model(images, training=True), model(images), rtol=1e-6)
        np.testing.assert_array_equal(model.get_weights(), before)
        normed = model(images, training=True)
    assert normed.dtype == images.dtype
    values = np.asarray(tf.cast(normed, tf.float32))
    np.testing.assert_allclose(values.mean((0, 1, 2)), 0, atol=0.02)
    np.testing.assert_allclose(values.std((0, 1, 2)), 1, atol=0.02)
    _, mean, variance = model.get_weights()
    seen = np.asarray(tf.cast(images, tf.float32))
    np.testing.assert_allclose(mean, 0.01 * seen.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(variance, 0.99 + 0.01 * seen.var((0, 1, 2)), rtol=1e-5)


def test_biases_learn_as_much_in_half_precision(random):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            layers.Conv2D(6, 3, activation="relu"),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.Conv2D(8, 1, activation="relu"),
            layers.Dense(5, "relu"),
            layers.GlobalAveragePooling2D(dtype="float32"),
        ]
    )
    images = random.normal(size=(8, 64, 64, 3)).astype(np.float32)
    exact = gradients_of_a_step(model, images)
    for layer in model.layers[:-1]:
        layer.dtype_policy = "mixed_bfloat16"
    with computed_as(model, [POINTWISE_PRODUCTS, SUMMED_BIASES]):
        halves = gradients_of_a_step(model, images)
    for half, right in zip(halves, exact, strict=True):
        assert np.linalg.norm(half - right) < 0.05 * np.linalg.norm(right)


def weighted(model):
    return sum(
        bool(layer.weights)
        for layer in model.layers
        if not isinstance(layer, keras.layers.BatchNormalization)
    )


def test_the_cut_leaves_the_wanted_share_above():
    network = prepare(zoo.load("efficientnet_lite0", weights=None, input_size=64), 10, 1 / 3)
    assert network.bottom.output.name.startswith("keras_tensor")
    assert weighted(network.whole) == 50
    assert weighted(network.top) >= 50 / 3
    assert weighted(network.top) <= 50 / 3 + 3


def test_frozen_norms_are_free_again_after_an_error():
    network = prepare(zoo.load("resnet18", weights=None, input_size=32), 2, 0.3)
    trainable = len(network.top.trainable_variables)
    with contextlib.suppress(KeyboardInterrupt), frozen_norms(network.top):
        assert len(network.top.trainable_variables) < trainable
        raise KeyboardInterrupt
    assert len(network.top.trainable_variables) == trainable


def test_metrics_agree_with_scikit_learn(random):
    labels = np.arange(200) % 4
    probabilities = random.dirichlet(np.ones(4), 200)
    probabilities[np.arange(200), labels] += 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    metrics = evaluate(probabilities, labels, tuple("abcd"))
    predicted = probabilities.argmax(axis=1)
    assert metrics["loss"] == pytest.approx(log_loss(labels, probabilities))
    assert metrics["confusion"] == confusion_matrix(labels, predicted).tolist()
    expected = precision_recall_fscore_support(labels, predicted)
    for i, figures in enumerate(metrics["classes"].values()):
        assert list(figures.values()) == pytest.approx([part[i] for part in expected])


def test_a_class_that_is_never_predicted_counts_as_nought():
    metrics = evaluate(np.asarray([[0.9, 0.1], [0.8, 0.2]]), np.asarray([0, 1]), ("a", "b"))
    assert metrics["classes"]["b"] == {"precision": 0, "recall": 0, "f1": 0, "pictures": 1}


def test_an_epoch_sees_every_picture_once_and_depends_on_seed_and_epoch_alone():
    examples = Examples(
        np.arange(20, dtype=np.float32).reshape(2, 10, 1), np.eye(3, dtype=np.float32)[np.arange(10) % 3]
    )
    recipe = Recipe(batch_size=4)
    images = keras.Input((1,))
    stage = Stage("head", keras.Model(images, keras.layers.Dense(3)(images)), examples, NOTHING, 1, 0.1)

    def epoch(number):
        batches = Batches(stage, recipe, number)
        return np.concatenate([batches[i][0] for i in range(len(batches))])[:, 0]

    assert sorted(epoch(1) % 10) == list(range(10))
    np.testing.assert_array_equal(epoch(1), epoch(1))
    assert not np.array_equal(epoch(1), epoch(2))


def test_fit_is_fed_every_batch_in_its_turn_by_a_dataset_that_is_not_tuned(random):
    examples = Examples(
        random.integers(0, 256, (1, 10, 8, 8, 3), dtype=np.uint8),
        np.eye(3, dtype=np.float32)[np.arange(10) % 3],
        fresh=True,
    )
    recipe = Recipe(batch_size=4, class_weights=True, erase=0.5)
    images = keras.Input((8, 8, 3))
    network = keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(images)))
    stage = Stage("top", network, examples, NOTHING, 1, 0.1)
    dataset, batches = feed(Batches(stage, recipe, 1)), Batches(stage, recipe, 1)
    assert dataset.options().autotune.enabled is False
    assert len(dataset) == len(batches) == 3
    for fed, expected in zip(dataset, (batches[i] for i in range(3)), strict=True):
        for tensor, array in zip(fed, expected, strict=True):
            assert tensor.dtype == array.dtype
            np.testing.assert_array_equal(tensor, array)


def test_views_are_the_picture_itself_and_changed_ones_kept_in_a_file(tmp_path, random):
    images = random.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    same = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(1.0)])
    recipe = Recipe(views=3, batch_size=2)
    views = maps_of_views(same, images, recipe, tmp_path / "maps.npy")
    assert views.shape == (3, 5, 32, 32, 3)
    assert views.dtype == np.float16
    np.testing.assert_array_equal(views[0], images)
    assert all(np.abs(views[1][i] - views[0][i]).mean() > 1 for i in range(5))
    assert not np.array_equal(views[1], views[2])
    again = maps_of_views(same, images, recipe, tmp_path / "again.npy")
    np.testing.assert_array_equal(views, again)


def test_a_checkpoint_restores_variables_history_and_best(tmp_path):
    variables = [keras.Variable(np.arange(3.0)), keras.Variable(7, dtype="int32", trainable=False)]
    state = State(({"epoch": 0, "val_loss": 0.1 + 0.2},), (np.ones((2, 2)), np.zeros(11)))
    assert read_state(tmp_path / "top.npz", variables) is None
    write_state(tmp_path / "top.npz", state, variables)
    for variable in variables:
        variable.assign(np.zeros(variable.shape))
    restored = read_state(tmp_path / "top.npz", variables)
    assert restored.history == state.history
    for old, new in zip(state.best, restored.best, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(np.asarray(variables[0]), [0, 1, 2])
    assert int(np.asarray(variables[1])) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["top.npz"]
