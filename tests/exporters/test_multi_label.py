"""A network that gives several labels: in its files and in its server each has a probability of its own."""

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

import exporters
import serving
import zoo
from exporters.parity import compare
from exporters.pictures import given

LABELS = ("beach", "boat", "cloud", "dog", "person", "sunset", "tree")


@pytest.fixture(scope="module")
def scenes():
    """Random weights, whose seven sigmoids are spread over 0..1."""
    keras.utils.set_random_seed(4)
    images = keras.Input((24, 24, 3), name="images")
    x = keras.layers.Rescaling(1 / 64, -2.0)(images)
    x = keras.layers.Conv2D(16, 3, 2, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(
        len(LABELS), kernel_initializer=keras.initializers.RandomNormal(stddev=2), name="fc"
    )(x)
    model = keras.Model(images, keras.layers.Activation("sigmoid", name="predictions")(x), name="scenes")
    facts = zoo.Facts("scenes", LABELS, zoo.Preprocessing((24, 24)), {"task": "multi-label"})
    return zoo.attach(model, facts)


@pytest.fixture(scope="module")
def export(scenes, tmp_path_factory):
    return exporters.export(scenes, tmp_path_factory.mktemp("models") / "scenes", ("saved_model", "onnx"))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3)).astype(np.float32)


def test_the_files_give_each_label_its_own_probability(scenes, export, pictures):
    expected = scenes.predict(pictures, verbose=0)
    assert np.all(np.abs(expected.sum(axis=1) - 1) > 0.1)
    session = onnxruntime.InferenceSession(export.path / "model.onnx")
    np.testing.assert_allclose(session.run(["probabilities"], {"images": pictures})[0], expected, atol=1e-5)
    signed = tf.saved_model.load(export.path).signatures["predict_images"](images=tf.constant(pictures))
    np.testing.assert_allclose(signed["probabilities"], expected, atol=1e-5)
    assert signed["classes"].shape == (3, 7)
    np.testing.assert_allclose(signed["scores"], -np.sort(-expected, axis=1), atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnx", "tensorflow"])
def test_a_server_names_all_labels(scenes, export, pictures, runtime):
    expected = scenes.predict(pictures[:1], verbose=0)[0]
    with (
        serving.deploy(export.path.parent, runtime=runtime) as endpoint,
        serving.Client(endpoint.grpc_address) as client,
    ):
        answers = client.classify("scenes", pictures[0], top=20)
    assert [label for label, _ in answers] == [LABELS[i] for i in np.argsort(-expected)]
    np.testing.assert_allclose([score for _, score in answers], -np.sort(-expected), atol=1e-5)


def test_files_agree_where_each_label_does():
    want = {"logits": np.asarray([[3.0, -2.0, -1.0]]), "probabilities": np.zeros((1, 3))}
    got = {"logits": np.asarray([[0.5, 0.6, -1.0]]), "probabilities": np.zeros((1, 3))}
    assert compare(got, want, task="multi-label").agreement == pytest.approx(2 / 3)
    near = {"logits": np.asarray([[1e-7, -2.0, -1.0]]), "probabilities": np.zeros((1, 3))}
    other = {"logits": np.asarray([[-1e-7, -2.0, -1.0]]), "probabilities": np.zeros((1, 3))}
    measured = compare(near, other, task="multi-label")
    assert (measured.top1, measured.agreement) == (1, pytest.approx(2 / 3))


def test_folders_of_labels_say_nothing_of_accuracy(scenes, pictures):
    """A picture in the folder "dog" may show a person, too."""
    known = given({"dog": list(pictures.astype(np.uint8))}, zoo.facts(scenes))
    assert known.truth is None
    assert len(known.pictures) == 3
