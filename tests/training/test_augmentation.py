"""The four ways to augment make the same changes; what a network sees can be looked at."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.training.augmentation import WAYS, augmentation
from zoo.training.augmentation.custom import RandomWarp
from zoo.training.recipe import Recipe

STILL = {"augment": "none"}
SIDE = 33


@pytest.fixture(params=WAYS)
def change(request):
    """A function: pictures, the recipe's fields, a seed -> the pictures, changed in one of the four ways."""
    return lambda pictures, seed=1, **fields: augmentation(
        Recipe(**{**STILL, **fields}, augment_with=request.param), seed
    )(pictures)


@pytest.fixture
def half():
    """Sixty-four times a picture that is white on the left, black on the right."""
    picture = np.zeros((64, SIDE, SIDE, 3), np.uint8)
    picture[:, :, : SIDE // 2] = 255
    return picture


def spots(place):
    """Forty pictures with one bright spot of 3 x 3 pixels at (row, column)."""
    pictures = np.zeros((40, SIDE, SIDE, 3), np.uint8)
    pictures[:, place[0] - 1 : place[0] + 2, place[1] - 1 : place[1] + 2] = 255
    return pictures


def centres(pictures):
    """Row and column of what is bright, less the middle's: [N, 2]."""
    weights = pictures[..., 0] / pictures[..., 0].sum(axis=(1, 2), keepdims=True)
    places = np.arange(SIDE) - SIDE // 2
    return np.stack([(weights.sum(axis=2) * places).sum(1), (weights.sum(axis=1) * places).sum(1)], axis=-1)


def test_nothing_asked_nothing_changed(change, half):
    changed = change(half)
    assert changed.dtype == np.float32
    np.testing.assert_allclose(changed, half, atol=1e-3)


def test_the_seed_decides(change, half):
    fields = {"augment": "light", "brightness": 0.2, "smallest_crop": 0.5, "flip": True}
    first = change(half, **fields)
    np.testing.assert_array_equal(first, change(half, **fields))
    assert not np.array_equal(first, change(half, seed=2, **fields))
    assert first.min() >= 0
    assert first.max() <= 255
    assert len({picture.tobytes() for picture in first}) > 60


def test_half_of_the_pictures_are_mirrored(change, half):
    changed = change(half, flip=True)
    mirrored = [np.allclose(picture, half[0, :, ::-1], atol=1e-3) for picture in changed]
    assert 16 < sum(mirrored) < 48
    assert all(m or np.allclose(p, half[0], atol=1e-3) for m, p in zip(mirrored, changed, strict=True))


def test_moves_stay_within_what_the_recipe_allows(change):
    middle, right = spots((16, 16)), spots((16, 26))
    still = {"augment": "light", "shift": 0, "zoom": 0, "rotation": 0}
    moved = centres(change(middle, **{**still, "shift": 0.2}))
    assert 0.6 * 0.2 * SIDE < np.abs(moved).max() < 0.2 * SIDE + 0.3
    turned = centres(change(right, **{**still, "rotation": 0.25}))
    np.testing.assert_allclose(np.hypot(*turned.T), 10, atol=0.3)
    angles = np.degrees(np.arctan2(*turned.T))
    assert angles.min() < -60
    assert angles.max() > 60
    assert np.abs(angles).max() < 92
    zoomed = centres(change(right, **{**still, "zoom": 0.25}))
    np.testing.assert_allclose(zoomed[:, 0], 0, atol=0.1)
    assert 10 / 1.25 - 0.2 < zoomed[:, 1].min() < 8.8
    assert 12 < zoomed[:, 1].max() < 10 / 0.75 + 0.2


def test_moves_are_those_of_the_policy_light(change, half):
    np.testing.assert_allclose(change(half, shift=0.3, zoom=0.3, rotation=0.3), half, atol=1e-3)


def test_what_leaves_the_picture_is_filled_with_its_edge(change):
    grey = np.full((20, SIDE, SIDE, 3), 77, np.uint8)
    fields = {"augment": "light", "shift": 0.3, "zoom": 0.3, "rotation": 0.5, "smallest_crop": 0.3}
    np.testing.assert_allclose(change(grey, **fields), 77, atol=0.1)


def test_a_random_crop_keeps_its_share_of_the_area(change):
    """A ramp's slope tells how much of the width and of the height is left."""
    ramps = np.zeros((60, SIDE, SIDE, 3), np.uint8)
    ramps[..., 0] = 7 * np.arange(SIDE)
    ramps[..., 1] = 7 * np.arange(SIDE)[:, None]
    changed = change(ramps, smallest_crop=0.4)
    width = (changed[:, 16, 28, 0] - changed[:, 16, 4, 0]) / (24 * 7)
    height = (changed[:, 28, 16, 1] - changed[:, 4, 16, 1]) / (24 * 7)
    assert (width * height).min() > 0.36
    assert (width * height).min() < 0.5
    assert max(width.max(), height.max()) < 1.03
    assert (width / height).min() > 0.7
    assert (width / height).max() < 1.4
    assert (width / height).std() > 0.05


def test_light_and_contrast(change):
    grey = np.full((50, 8, 8, 3), 100, np.uint8)
    means = change(grey, brightness=0.2).mean(axis=(1, 2, 3))
    assert 100 - 51.01 <= means.min() < 70
    assert 130 < means.max() <= 100 + 51.01
    stripes = grey.copy()
    stripes[:, ::2], stripes[:, 1::2] = 80, 120
    spread = np.ptp(change(stripes, contrast=0.5), axis=(1, 2, 3))
    assert 19.9 <= spread.min() < 28
    assert 52 < spread.max() <= 60.1


def test_the_layer_is_kept_in_a_model_and_rests_while_it_predicts(half, tmp_path):
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), RandomWarp(shift=0.2, flip=True, seed=3)])
    model.save(tmp_path / "warp.keras")
    again = keras.saving.load_model(tmp_path / "warp.keras")
    assert again.layers[0].changes == model.layers[0].changes
    np.testing.assert_array_equal(again.predict(half, verbose=0), half)
    assert not np.array_equal(again(half, training=True), half)


def test_tensorflow_s_functions_work_in_a_tf_data_pipeline(half):
    import tensorflow as tf

    from zoo.training.augmentation.changes import Changes
    from zoo.training.augmentation.tf_image import change

    changes = Changes(flip=True, shift=0.1, brightness=0.1)
    dataset = tf.data.Dataset.from_tensor_slices(half).batch(32)
    dataset = dataset.enumerate().map(lambda i, images: change(changes, images, (7, tf.cast(i, tf.int32))))
    first, second = dataset.as_numpy_iterator()
    assert first.shape == (32, SIDE, SIDE, 3)
    assert not np.array_equal(first, second)


@keras.saving.register_keras_serializable("mine")
class Blotch(keras.layers.Layer):
    def call(self, images, training=False):
        return images * 0 + 9 if training else images


@keras.saving.register_keras_serializable("mine")
def invert(images):
    return 255 - images


def test_one_s_own_layer_or_function_by_the_name_it_is_registered_by(half):
    assert (augmentation(Recipe(augment="mine>Blotch"), 0)(half) == 9).all()
    np.testing.assert_array_equal(augmentation(Recipe(augment="mine>invert"), 0)(half), 255 - half)
    with pytest.raises(
        zoo.ZooError, match="or the name a layer is registered by with Keras, not 'mine>None'"
    ):
        Recipe(augment="mine>None")
    with pytest.raises(zoo.ZooError, match="augment_with must be one of layers, tf_image, custom, generator"):
        Recipe(augment_with="opencv")


def test_the_command_shows_what_the_network_will_see(folder, tmp_path):
    out = tmp_path / "shown" / "views.png"
    fields = ("input_size=48", "augment=none", "brightness=0.3", "mixup=1.0")
    options = ["--pictures", "3", "--views", "2", *(part for field in fields for part in ("--set", field))]
    zoo_command = Path(sys.executable).with_name("zoo")
    done = subprocess.run(
        [zoo_command, "augment", folder, "--out", out, *options], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(out)]
    grid = np.asarray(Image.open(out))
    rows, columns, marks = 3, 3, 0
    assert grid.shape == (64 + rows * 134 + 6, 110 + columns * 134 + 12, 3)
    for row in range(rows):
        left, right = (grid[64 + 134 * row : 192 + 134 * row, x : x + 128] for x in (110, 110 + 146))
        assert np.ptp(left) > 200
        marks += not np.array_equal(left, right)
    assert marks == rows


def test_nothing_to_show_and_a_field_that_is_none(folder, tmp_path):
    with pytest.raises(zoo.ZooError, match="show at least one picture and one view, not 0 and 7"):
        zoo.show_views(folder, tmp_path / "x.png", pictures=0)
    with pytest.raises(zoo.ZooError, match='a recipe has no "flipp"; did you mean "flip"'):
        zoo.show_views(folder, tmp_path / "x.png", flipp=True)
