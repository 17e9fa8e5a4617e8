"""Models that this library did not build: any Keras 3 classifier, given labels and preprocessing."""

import json
import os

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf

import exporters
import zoo

SIZE = zoo.Preprocessing((32, 40))
IMAGES = np.random.default_rng(1).uniform(0, 255, (3, 32, 40, 3)).astype(np.float32)
layers = keras.layers


def features(images, **options):
    x = layers.Rescaling(1 / 64, -2.0)(images)
    x = layers.Conv2D(24, 3, 2, activation="relu", **options)(x)
    x = layers.Conv2D(24, 3, groups=24, padding="same", activation="gelu", **options)(x)
    return layers.GlobalAveragePooling2D()(x)


def softmax_inside() -> keras.Model:
    images = keras.Input((32, 40, 3))
    x = layers.Dropout(0.2)(features(images))
    return keras.Model(images, layers.Dense(4, activation="softmax", name="top")(x), name="inside")


def many_at_once() -> keras.Model:
    images = keras.Input((32, 40, 3))
    return keras.Model(
        images, layers.Dense(4, activation="sigmoid", name="top")(features(images)), name="tags"
    )


def nested() -> keras.Model:
    """A model in a model in a Sequential one, as in Keras's guide to transfer learning."""
    images = keras.Input((None, None, 3))
    base = keras.Model(images, features(images), name="base")
    outer = keras.Input((32, 40, 3))
    x = base(layers.RandomFlip()(outer), training=False)
    tail = keras.Sequential([keras.Input((24,)), layers.Dense(8, "relu"), layers.Dense(4, name="top")])
    return keras.Sequential(
        [keras.Input((32, 40, 3)), keras.Model(outer, tail(x)), layers.Softmax()], name="nested"
    )


def convolution_at_the_end() -> keras.Model:
    """As MobileNetV3 of keras.applications."""
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(24, 3, 2, activation="relu")(layers.Rescaling(1 / 64, -2.0)(images))
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Flatten()(layers.Conv2D(4, 1, name="logits")(x))
    return keras.Model(images, layers.Activation("softmax")(x), name="convolution")


def adapted() -> keras.Model:
    """Its kernels are sums: what was trained and its low-rank update (LoRA)."""
    model = softmax_inside()
    for layer in model.layers:
        if isinstance(layer, layers.Dense | layers.Conv2D):
            layer.enable_lora(2)
            layer.lora_kernel_b.assign(keras.random.normal(layer.lora_kernel_b.shape))
    return model


@pytest.mark.parametrize("build", [softmax_inside, many_at_once, nested, convolution_at_the_end, adapted])
def test_every_format_has_its_probabilities(build, tmp_path):
    keras.utils.set_random_seed(3)
    model = build()
    formats = ("saved_model", "onnx", "h5", "keras", "tflite")
    done = exporters.export(model, tmp_path / "plain", formats, labels="abcd", preprocessing=SIZE)
    assert max(figures.max_rel for figures in done.parity.values()) < 1e-5
    loaded = tf.saved_model.load(os.fspath(done.path))
    expected = model(IMAGES, training=False)
    found = loaded.signatures["predict_images"](images=tf.constant(IMAGES))["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(loaded(tf.constant(IMAGES)), expected, atol=1e-5)
    assert len(loaded.variables) == len(model.variables)
    for file in ("model.h5", "model.keras"):
        np.testing.assert_allclose(
            keras.models.load_model(done.path / file)(IMAGES, training=False), expected, atol=1e-5
        )
    card = json.loads((done.path / "card.json").read_text())
    assert (card["labels"], card["architecture"]) == ([*"abcd"], model.name)


@pytest.mark.parametrize("build", [softmax_inside, nested])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_in_mixed_precision_is_exported_in_float32(build, policy, tmp_path):
    keras.utils.set_random_seed(3)
    keras.config.set_dtype_policy(policy)
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy("float32")
    formats = ("saved_model", "onnx", "h5", "keras", "tflite")
    done = exporters.export(model, tmp_path / "plain", formats, preprocessing=SIZE)
    assert max(figures.max_rel for figures in done.parity.values()) < 1e-5
    single = build()
    single.set_weights(model.get_weights())
    expected = single(IMAGES, training=False)
    loaded = keras.models.load_model(done.path / "model.keras")
    np.testing.assert_allclose(loaded(IMAGES, training=False), expected, atol=1e-6)
    assert policy in {layer.dtype_policy.name for layer in model._flatten_layers()}


def test_operations_between_tensors_are_kept_by_all_formats_but_h5(tmp_path):
    images = keras.Input((32, 40, 3))
    x = layers.Conv2D(24, 3, padding="same")(images / 64 - 2)
    x = keras.ops.relu(x + layers.Conv2D(24, 3, padding="same")(x))
    model = keras.Model(images, layers.Dense(4, "softmax")(keras.ops.mean(x, axis=(1, 2))), name="own")
    done = exporters.export(
        model, tmp_path / "x", ("saved_model", "onnx", "keras", "tflite"), preprocessing=SIZE
    )
    assert max(figures.max_rel for figures in done.parity.values()) < 1e-5
    outer = keras.Sequential([keras.Input((32, 40, 3)), model])
    with pytest.raises(
        exporters.ExportError, match=r'h5 holds layers only, .* "true_divide.*make it a layer'
    ):
        exporters.export(outer, tmp_path / "h5", "h5", preprocessing=SIZE)
    assert not (tmp_path / "h5").exists()


def test_a_grouped_convolution_is_one_node(tmp_path):
    done = exporters.export(softmax_inside(), tmp_path / "x", "onnx", preprocessing=SIZE)
    nodes = onnx.load(done.path / "model.onnx").graph.node
    groups = [a.i for node in nodes if node.op_type == "Conv" for a in node.attribute if a.name == "group"]
    assert sorted(groups) == [1, 24] or groups == [24]
    assert [node.op_type for node in nodes].count("Erf") == 1


def test_labels_are_numbers_unless_given(tmp_path):
    done = exporters.export(nested(), tmp_path / "x", "keras", preprocessing=SIZE)
    assert zoo.load(done.path / "model.keras").zoo == zoo.Facts("nested", ("0", "1", "2", "3"), SIZE)


def test_a_classifier_takes_other_labels(tiny, tmp_path):
    done = exporters.export(tiny, tmp_path / "x", "keras", labels=("Gänseblümchen", "Rose", "Tulpe"))
    card = json.loads((done.path / "card.json").read_text("utf-8"))
    assert card["labels"] == ["Gänseblümchen", "Rose", "Tulpe"]
    assert tiny.zoo.labels == ("daisy", "rosé", "tulip")


def test_the_model_stays_as_it_was(tmp_path):
    model = nested()
    before, config = model.get_weights(), model.get_config()
    model.compile("adam", "sparse_categorical_crossentropy")
    exporters.export(model, tmp_path / "x", ("saved_model", "onnx"), preprocessing=SIZE)
    assert model.get_config() == config
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert not hasattr(model, "zoo")
    model.fit(IMAGES, np.array([0, 1, 2]), verbose=0)


class Subclassed(keras.Model):
    def call(self, x):
        return x


def test_what_is_no_classifier_is_refused(tmp_path):
    images = keras.Input((32, 40, 3))
    pooled = layers.GlobalAveragePooling2D()(images)

    def refused(model: keras.Model, message: str) -> None:
        with pytest.raises(exporters.ExportError, match=message):
            exporters.export(model, tmp_path / "x", "onnx", preprocessing=SIZE)

    refused(Subclassed(name="own"), "own is no graph of layers, or was never built")
    refused(keras.Model(images, layers.Dense(3, "relu", name="top")(pooled)), '"top" ends in relu')
    refused(keras.Model(images, layers.Activation("softmax")(pooled)), "the model must end in a Dense layer")
    refused(keras.Model(images, layers.Conv2D(3, 1)(images), name="map"), r"map gives \[None, 32, 40, 3\]")
    refused(keras.Model([images, keras.Input((2,))], pooled, name="two"), "two has 2 inputs")
    task = keras.Model(images, layers.Dense(3)(pooled), name="task")
    task.preprocessor = layers.Rescaling(1 / 255)  # as KerasHub's classifiers have it
    refused(task, r"task prepares its pictures outside of its graph.*save_to_preset")
    assert list(tmp_path.iterdir()) == []
