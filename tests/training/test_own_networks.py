"""Networks that this library did not build: each learns, is judged and explained as those of the zoo are."""

import keras
import numpy as np
import pytest

import zoo

SIDE = 32
layers = keras.layers


def base(name=None):
    images = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 64, -2.0)(images)
    x = layers.Conv2D(16, 3, 2, activation="relu", name="first")(x)
    x = layers.BatchNormalization()(x)
    return keras.Model(images, layers.Conv2D(16, 3, 2, activation="relu", name="second")(x), name=name)


def sequential():
    end = [layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax")]
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *base().layers[1:], *end], name="own")


def nested():
    """As in Keras's guide to transfer learning: a model in the model, the classifier in another."""
    images = keras.Input((SIDE, SIDE, 3))
    end = keras.Sequential([keras.Input((16,)), layers.Dropout(0.2), layers.Dense(3)])
    x = layers.GlobalAveragePooling2D()(base()(images, training=False))
    return keras.Model(images, layers.Activation("softmax")(end(x)), name="own")


def of_applications():
    """Its classifier is called "predictions", and takes up the softmax."""
    images = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(images)
    model = keras.applications.MobileNetV2(weights=None, input_tensor=x, classes=3, alpha=0.35)
    return keras.Model(images, model.output, name="own")


def of_operators():
    """What Keras makes of operators between tensors are operations, no layers."""
    images = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(16, 3, 2, padding="same", name="stem")(images / 64 - 2)
    for i in range(3):
        y = layers.Conv2D(16, 3, padding="same", activation="relu", name=f"block{i}.first")(x)
        x = keras.ops.relu(x + layers.Conv2D(16, 3, padding="same", name=f"block{i}.second")(y))
    x = layers.Conv2D(16, 3, 2, activation="relu", name="last")(x)
    return keras.Model(images, layers.Dense(3, "softmax")(keras.ops.mean(x, axis=(1, 2))), name="own")


def with_a_layer_called_twice():
    images = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(16, 3, 2, padding="same", name="stem")(layers.Rescaling(1 / 64, -2.0)(images))
    shared = layers.Conv2D(16, 3, padding="same", activation="relu", name="shared")
    x = layers.Conv2D(16, 3, 2, activation="relu", name="last")(shared(shared(x)))
    return keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)), name="own")


@pytest.fixture(params=[sequential, nested, of_applications, of_operators, with_a_layer_called_twice])
def own(request):
    keras.utils.set_random_seed(1)
    facts = zoo.Facts("own", ("0", "1", "7"), zoo.Preprocessing((SIDE, SIDE), crop=1.0))
    return zoo.attach(request.param(), facts)


QUICK = {"epochs": 4, "head_epochs": 2, "views": 2, "rate": 0.01, "batch_size": 16, "augment": "none"}


@pytest.mark.parametrize("top", [0.5, 1.0])
@pytest.mark.parametrize("own", [sequential, nested, of_operators, with_a_layer_called_twice], indirect=True)
def test_it_learns(own, top, folder, tmp_path):
    before = [value.copy() for value in own.get_weights()]
    tuned = zoo.fine_tune(own, folder, tmp_path / "out", top=top, **QUICK)
    assert [*tuned.metrics["classes"]] == ["0", "1", "4", "7"]
    for old, new in zip(before, own.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    kernels = [value for value in before if value.ndim == 4]
    learnt = [value for value in tuned.model.get_weights() if value.ndim == 4]
    moved = [not np.array_equal(old, new) for old, new in zip(kernels, learnt, strict=True)]
    assert all(moved) if top == 1.0 else any(moved) and not all(moved)
    assert zoo.facts(zoo.load(tmp_path / "out")).name == "own"


def test_one_from_a_file_learns(own, folder, tmp_path):
    zoo.save(own, tmp_path / "own.keras")
    tuned = zoo.fine_tune(tmp_path / "own.keras", folder, **QUICK | {"epochs": 1})
    assert tuned.metrics["pictures"]["test"] > 0


def test_it_is_judged_and_explained(own, arrays):
    images, labels = arrays
    judged = zoo.evaluate(own, (images[labels != 4], labels[labels != 4].astype(str)))
    shown = zoo.preprocessing.load_images(zoo.facts(own).preprocessing, images[labels != 4, ..., None])
    answers = zoo.heads(own).predict(shown, verbose=0)["probabilities"]
    names = np.array(zoo.facts(own).labels)[answers.argmax(axis=1)]
    assert judged.metrics["accuracy"] == pytest.approx(np.mean(names == labels[labels != 4].astype(str)))
    explained = zoo.explain(own, shown[0], ("gradcam", "occlusion"))
    assert explained.probability == pytest.approx(float(answers[0].max()), abs=1e-5)
    assert explained.maps["gradcam"].shape == (SIDE, SIDE)


def test_it_has_a_backbone(own):
    maps = zoo.features(own, (1, 2))
    pictures = np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)
    assert [entry["reduction"] for entry in maps.zoo.card["features"]] == [2, 4]
    vectors = zoo.embedder(own)(pictures)
    np.testing.assert_allclose(vectors, zoo.heads(own)(pictures)["features"], atol=1e-5)


def test_it_is_calibrated_and_fused(own):
    pictures = np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)
    logits = zoo.heads(own)(pictures)["logits"]
    np.testing.assert_allclose(zoo.heads(zoo.calibrate(own, 2.0))(pictures)["logits"], logits / 2, atol=1e-5)
    if "shared" in {layer.name for layer in own.layers}:
        with pytest.raises(zoo.ZooError, match='it uses the layer "shared" twice'):
            zoo.fuse(own)
    else:
        np.testing.assert_allclose(zoo.heads(zoo.fuse(own))(pictures)["logits"], logits, atol=1e-4)
