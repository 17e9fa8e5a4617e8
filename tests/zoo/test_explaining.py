"""Heat maps find what a network looks at: here, by construction, the brightness of one corner."""

import io

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import zoo
from zoo import explaining
from zoo.explaining import METHODS, favourite, filters

SIZE = 24
PLAIN = zoo.Preprocessing(input_size=(SIZE, SIZE), crop=1.0)


@pytest.fixture(scope="module")
def corner():
    """Says "bright" by the mean of the upper left quarter's red, green and blue."""
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(images)
    x = layers.Flatten()(x)
    scores = layers.Dense(2, name="fc")(x)
    model = keras.Model(images, layers.Activation("softmax", name="predictions")(scores), name="corner")
    kernel = np.zeros((3, 3, 3, 4), np.float32)
    kernel[1, 1] = 1 / 3
    model.get_layer("conv").set_weights([kernel, np.zeros(4, np.float32)])
    weights = np.zeros((SIZE, SIZE, 4, 2), np.float32)
    weights[: SIZE // 2, : SIZE // 2, :, 1] = 1e-4
    model.get_layer("fc").set_weights([weights.reshape(-1, 2), np.array([1.5, 0], np.float32)])
    return zoo.attach(model, zoo.Facts("corner", ("dark", "bright"), PLAIN))


@pytest.fixture(scope="module")
def picture():
    noise = np.random.default_rng(0).integers(0, 40, (SIZE, SIZE, 3), np.uint8)
    noise[: SIZE // 2, : SIZE // 2] += 190
    return noise


@pytest.mark.parametrize("method", METHODS)
def test_a_method_points_to_the_corner(corner, picture, method):
    explanation = zoo.explain(corner, picture, [method])
    heat = explanation.maps[method]
    assert explanation.label == "bright"
    assert explanation.probability > 0.5
    assert heat.shape == (SIZE, SIZE)
    assert (heat.min(), heat.max()) == (0, 1)
    inside = heat[: SIZE // 2, : SIZE // 2].mean()
    outside = heat[SIZE // 2 + 4 :, SIZE // 2 + 4 :].mean()
    assert inside > 3 * outside + 0.05


def test_integrated_gradients_are_zero_elsewhere(corner, picture):
    """Where the score does not come from, they are zero."""
    brighter = zoo.explain(corner, np.maximum(picture, 128), ["integrated_gradients"], label="bright")
    assert np.flatnonzero(brighter.maps["integrated_gradients"].sum(axis=0) > 0).max() < SIZE // 2


def test_a_method_is_named_alone_and_a_picture_comes_in_any_form(corner, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "p.png")
    heat = zoo.explain(corner, picture, "occlusion").maps["occlusion"]
    for form in (tmp_path / "p.png", (tmp_path / "p.png").read_bytes(), Image.fromarray(picture)):
        np.testing.assert_array_equal(zoo.explain(corner, form, "occlusion").maps["occlusion"], heat)


def test_an_explanation_is_a_png(corner, picture, tmp_path):
    explanation = zoo.explain(corner, picture, ["gradcam", "occlusion"])
    path = explanation.save(tmp_path / "out" / "why.png")
    with Image.open(path) as image, Image.open(io.BytesIO(explanation._repr_png_())) as shown:
        assert image.format == shown.format == "PNG"
        assert image.width > 2 * image.height
        np.testing.assert_array_equal(image, shown)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["why.png"]


def test_filters_and_a_classs_favourite(corner, tmp_path):
    with Image.open(filters(corner, tmp_path / "filters.png")) as image:
        assert image.format == "PNG"
    liked, disliked = (favourite(corner, label, steps=60) for label in ("bright", "dark"))
    assert (liked.shape, liked.dtype) == ((SIZE, SIZE, 3), np.uint8)
    scores = corner.predict_on_batch(np.stack([liked, disliked]).astype(np.float32))[:, 1]
    assert scores[0] > scores[1]


def test_unknown_names(corner, picture):
    with pytest.raises(zoo.ZooError, match='unknown method "grad-cam"; did you mean "gradcam"'):
        zoo.explain(corner, picture, ["grad-cam"])
    with pytest.raises(zoo.ZooError, match='unknown label "brigth"; did you mean "bright"'):
        zoo.explain(corner, picture, label="brigth")


def test_many_pictures_at_once_get_the_maps_that_each_gets_alone(monkeypatch):
    """In parts of the size that fits the memory, too."""
    keras.utils.set_random_seed(3)
    model = zoo.load("mobilenetv3_small_minimal_100", weights=None, input_size=64, classes=4)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    places = [0, 3, 1, 2, 0]
    monkeypatch.setattr(explaining, "AT_ONCE", 2 * 64 * 64)
    together = explaining.gradcams(model, images, places)
    assert together.shape == (5, 64, 64)
    for image, place, heat in zip(images, places, together, strict=True):
        np.testing.assert_allclose(heat, explaining.gradcams(model, image[None], [place])[0], atol=1e-3)
