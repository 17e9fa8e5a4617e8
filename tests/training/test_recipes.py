"""Recipes by name, and the parts that they switch on."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

import zoo
from zoo.layers import CrossCovariance, Scale
from zoo.training import Recipe
from zoo.training.augmentation import POLICIES, augmentation
from zoo.training.loop import Batches, Examples, Held, Stage, train
from zoo.training.optimizer import averaging, optimizer, rates, shares
from zoo.training.recipe import RECIPES, recipe_of

SMALL = {"input_size": 32, "epochs": 2, "head_epochs": 2, "batch_size": 32}
TINY_NETWORK = "mobilenetv3_small_minimal_100"


def test_recipes_by_name_and_by_file(tmp_path):
    assert recipe_of(None) == recipe_of("fast") == Recipe()
    assert recipe_of("linear").epochs == 0
    assert recipe_of("full").top == 1.0
    assert not recipe_of("scratch").frozen_norms
    changed = recipe_of("full").with_changes(seed=3)
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": changed.to_dict(), "data": "..."}))
    assert recipe_of(tmp_path / "recipe.json") == changed
    with pytest.raises(
        zoo.ZooError, match=r'unknown recipe "fats"; give a recipe\.json or one of: linear, fast'
    ):
        recipe_of("fats")
    (tmp_path / "other.json").write_text('{"epoch": 3}')
    with pytest.raises(zoo.ZooError, match='a recipe has no "epoch"'):
        recipe_of(tmp_path / "other.json")
    (tmp_path / "none.json").write_text("[1]")
    with pytest.raises(zoo.ZooError, match=r'none.json" is not a recipe'):
        recipe_of(tmp_path / "none.json")


def two_layers():
    images = keras.Input((4,))
    x = keras.layers.Dense(3, name="low")(images)
    x = keras.layers.Dense(3, name="middle")(x)
    return keras.Model(images, keras.layers.Dense(2, name="high")(x))


def test_lower_layers_learn_at_a_lower_rate():
    model = two_layers()
    by_path = shares(model, 0.01)
    assert {path.split("/")[0]: share for path, share in by_path.items()} == pytest.approx(
        {"low": 0.01, "middle": 0.1, "high": 1.0}
    )
    recipe = Recipe(lowest_rate=0.01, optimizer="sgd", weight_decay=0, warm_up=0.01)
    made = optimizer(model, rates(100, 1.0, recipe), recipe)
    before = model.get_weights()
    ones = [keras.ops.ones(v.shape) for v in model.trainable_variables]
    made.apply(ones)
    made.apply(ones)
    moved = [np.abs(new - old).max() for new, old in zip(model.get_weights(), before, strict=True)]
    assert moved[0] == pytest.approx(0.01 * moved[4], rel=1e-4)
    assert moved[2] == pytest.approx(0.1 * moved[4], rel=1e-4)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_kernels_alone_decay(name):
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(images)
    x = Scale(1e-5, name="layer_scale")(keras.layers.BatchNormalization()(x))
    x = CrossCovariance(2, name="attention")(keras.layers.RMSNormalization()(x))
    model = keras.Model(images, keras.layers.Dense(2)(x))
    recipe = Recipe(optimizer=name, weight_decay=0.1)
    made = optimizer(model, 0.5, recipe)
    for variable in model.trainable_variables:
        variable.assign(keras.ops.ones(variable.shape))
    made.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables])
    decayed = {v.name for v in model.trainable_variables if np.asarray(v).max() < 1}
    kept = {v.name for v in model.trainable_variables if np.asarray(v).min() == 1}
    assert decayed == {"kernel"}
    assert kept == {"bias", "gamma", "beta", "scale", "temperature"}


def test_gradients_are_clipped_and_gathered():
    model = two_layers()
    recipe = Recipe(clip_norm=1.0, accumulate=2, optimizer="sgd", weight_decay=0, warm_up=0.01)
    made = optimizer(model, rates(400, 0.1, recipe), recipe)
    before = model.get_weights()
    made.apply([1000 * keras.ops.ones(v.shape) for v in model.trainable_variables])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for _ in range(3):
        made.apply([1000 * keras.ops.ones(v.shape) for v in model.trainable_variables])
    moved = sum(np.sum((new - old) ** 2) for new, old in zip(model.get_weights(), before, strict=True))
    assert 0 < np.sqrt(moved) < 1


def linear_task(counts=(90, 10)):
    """Two overlapping clouds of unequal size."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], counts)
    x = random.normal(size=(len(labels), 4)) + labels[:, None]
    x = x.astype(np.float32)
    return Examples(x[None], np.eye(2, dtype=np.float32)[labels]), Held(x, labels)


def head():
    keras.utils.set_random_seed(0)
    images = keras.Input((4,))
    return keras.Model(images, keras.layers.Dense(2, kernel_initializer="zeros")(images))


def recall_of_the_rare(recipe, tmp_path):
    (examples, held), model = linear_task(), head()
    train(Stage("head", model, examples, held, 15, 0.05), recipe, tmp_path)
    predicted = model.predict(held.x, verbose=0).argmax(axis=1)
    return np.mean(predicted[held.labels == 1] == 1)


def test_class_weights_find_the_rare_class(tmp_path):
    for name in ("plain", "weighted"):
        (tmp_path / name).mkdir()
    plain = recall_of_the_rare(Recipe(patience=15), tmp_path / "plain")
    weighted = recall_of_the_rare(Recipe(patience=15, class_weights=True), tmp_path / "weighted")
    assert weighted >= plain + 0.2


def test_a_moving_average_changes_what_is_kept(tmp_path):
    weights = []
    for name, ema in (("plain", None), ("averaged", 0.9)):
        (tmp_path / name).mkdir()
        model, (examples, held) = head(), linear_task()
        train(Stage("head", model, examples, held, 2, 0.05), Recipe(ema=ema, batch_size=4), tmp_path / name)
        weights.append(np.abs(model.get_weights()[0]).max())
    assert 0 < weights[1] < weights[0]


def test_an_epoch_of_few_steps_is_averaged_over_fewer():
    assert averaging(Recipe(ema=0.9), 100) == 0.9
    assert averaging(Recipe(ema=0.9), 4) == 0.5
    assert averaging(Recipe(ema=0.9, accumulate=2), 4) is None
    assert averaging(Recipe(ema=None), 100) is None


def test_every_policy_changes_pictures_and_is_repeatable():
    pictures = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3)).astype(np.float32)
    for policy in POLICIES:
        recipe = Recipe(augment=policy, erase=0.0)
        changed = augmentation(recipe, 5)(pictures)
        assert changed.shape == pictures.shape
        assert changed.min() >= -1e-3
        assert changed.max() <= 255 + 1e-3
        assert np.array_equal(changed, pictures) == (policy == "none"), policy
        np.testing.assert_array_equal(augmentation(recipe, 5)(pictures), changed)


def test_fresh_pictures_are_changed_and_mixed_with_their_labels():
    pictures = np.random.default_rng(0).integers(0, 256, (1, 8, 16, 16, 3), np.uint8)
    examples = Examples(pictures, np.eye(2, dtype=np.float32)[np.arange(8) % 2], fresh=True)
    recipe = Recipe(batch_size=8, augment="trivial", mixup=0.4, erase=1.0)
    stage = Stage("top", head(), examples, Held(pictures[0], np.arange(8) % 2), 1, 0.05)
    x, targets = Batches(stage, recipe, 1)[0]
    again, _ = Batches(stage, recipe, 1)[0]
    other, _ = Batches(stage, recipe, 2)[0]
    np.testing.assert_array_equal(x, again)
    assert not np.array_equal(x, other)
    assert x.dtype == np.float32
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    plain, _ = Batches(stage, replace(recipe, augment="none", mixup=0.0, erase=0.0), 1)[0]
    assert sorted(plain.sum(axis=(1, 2, 3))) == sorted(pictures[0].astype(float).sum(axis=(1, 2, 3)))


@pytest.mark.parametrize("name", RECIPES)
def test_a_network_learns_by_every_recipe(name, arrays, tmp_path):
    network = TINY_NETWORK if name == "scratch" else "efficientnet_lite0"
    changes = (
        SMALL
        | ({"epochs": 0} if name == "linear" else {})
        | ({"head_epochs": 0} if name == "scratch" else {})
    )
    result = zoo.fine_tune(network, arrays, tmp_path / name, recipe=name, **changes)
    assert result.metrics["accuracy"] > (0.1 if name == "scratch" else 0.5)
    stages = {entry["stage"] for entry in result.history}
    assert stages == {"linear": {"head"}, "scratch": {"top"}}.get(name, {"head", "top"})
    assert recipe_of(tmp_path / name / "recipe.json") == result.recipe
    assert result.report().exists()
