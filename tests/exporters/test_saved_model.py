"""The SavedModel, opened by TensorFlow, Keras, TensorFlow Hub and saved_model_cli without this library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import exporters
from exporters.pictures import png
from exporters.saved_model import example
from zoo.outputs import heads
from zoo.preprocessing import evaluate


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(os.fspath(exported.path))


@pytest.fixture(scope="module")
def run(loaded):
    def call(signature: str, **inputs) -> dict[str, np.ndarray]:
        outputs = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return call


@pytest.fixture(scope="module")
def images(exported, photos) -> np.ndarray:
    return np.stack([evaluate(exported.model.zoo.preprocessing, p) for p in photos]).astype(np.float32)


@pytest.fixture(scope="module")
def proto(exported):
    return saved_model_pb2.SavedModel.FromString((exported.path / "saved_model.pb").read_bytes()).meta_graphs[
        0
    ]


def described(infos) -> dict[str, tuple[str, list[int]]]:
    return {
        name: (tf.dtypes.as_dtype(info.dtype).name, [dim.size for dim in info.tensor_shape.dim])
        for name, info in infos.items()
    }


def test_signatures(proto):
    signatures = proto.signature_def
    images = {"images": ("float32", [-1, -1, -1, 3])}
    named = {"classes": ("string", [-1, 3]), "scores": ("float32", [-1, 3])}
    every = {"probabilities": ("float32", [-1, 3])} | named
    expected = {
        "serving_default": ({"image_bytes": ("string", [-1])}, every),
        "predict_images": (images, every),
        "classify": ({"inputs": ("string", [-1])}, named),
        "features": (images, {"features": ("float32", [-1, 512])}),
    }
    found = {
        n: (described(s.inputs), described(s.outputs))
        for n, s in signatures.items()
        if not n.startswith("__")
    }
    assert found == expected
    methods = {name: signatures[name].method_name.rpartition("/")[2] for name in expected}
    assert methods == {
        "serving_default": "predict",
        "predict_images": "predict",
        "classify": "classify",
        "features": "predict",
    }


def test_a_stock_server_can_load_it(proto):
    assert not [f.signature.name for f in proto.graph_def.library.function if "_XlaMustCompile" in f.attr]


def test_weights_are_stored_once(exported):
    stored = sum(path.stat().st_size for path in (exported.path / "variables").iterdir())
    assert stored < 1.01 * 4 * exported.model.count_params()


def test_pixels_at_the_input_size_pass_untouched(run, exported, images):
    assert images.shape[1:] == (64, 64, 3)
    expected = heads(exported.model)(images)
    outputs = run("predict_images", images=images)
    np.testing.assert_allclose(outputs["probabilities"], expected["probabilities"], atol=1e-5)
    np.testing.assert_allclose(run("features", images=images)["features"], expected["features"], atol=1e-4)


def test_scores_are_sorted_and_named(run, images):
    outputs = run("predict_images", images=images)
    order = np.argsort(-outputs["probabilities"], axis=-1)
    labels = np.array(["daisy", "rosé", "tulip"])
    assert [[c.decode() for c in row] for row in outputs["classes"]] == labels[order].tolist()
    assert (outputs["scores"] == np.take_along_axis(outputs["probabilities"], order, -1)).all()


def test_pictures_of_any_size_are_resized_as_by_pillow(run, exported, photos, images):
    expected = exported.model(images).numpy()
    by_pixels = run("predict_images", images=np.stack(photos).astype(np.float32))
    by_bytes = run("serving_default", image_bytes=[png(photo) for photo in photos])
    np.testing.assert_allclose(by_pixels["probabilities"], expected, atol=0.01)
    np.testing.assert_array_equal(by_bytes["probabilities"], by_pixels["probabilities"])


def test_pictures_of_different_sizes_and_kinds_go_in_one_batch(run, exported, photos):
    china = photos[0]
    encoded = [
        png(china),
        png(china[:100, :90]),
        tf.io.encode_jpeg(china).numpy(),
        png(np.repeat(china[..., :1], 3, -1)),
    ]
    probabilities = run("serving_default", image_bytes=encoded)["probabilities"]
    for i, data in enumerate(encoded):
        alone = run("serving_default", image_bytes=[data])["probabilities"][0]
        np.testing.assert_allclose(probabilities[i], alone, atol=1e-5)


def test_classify_takes_examples(run, photos):
    encoded = [png(photo) for photo in photos]
    outputs = run("classify", inputs=[example(data) for data in encoded])
    expected = run("serving_default", image_bytes=encoded)
    assert sorted(outputs) == ["classes", "scores"]
    for name, value in outputs.items():
        np.testing.assert_array_equal(value, expected[name])


def test_an_empty_batch_gets_an_empty_answer(run):
    by_bytes = run("serving_default", image_bytes=np.array([], object).astype("S"))
    by_pixels = run("predict_images", images=np.zeros((0, 64, 64, 3), np.float32))
    for outputs in (by_bytes, by_pixels):
        assert {name: value.shape for name, value in outputs.items()} == {
            "probabilities": (0, 3),
            "classes": (0, 3),
            "scores": (0, 3),
        }
    assert run("features", images=np.zeros((0, 30, 20, 3), np.float32))["features"].shape == (0, 512)


def test_bad_pictures_are_refused_with_a_reason(run):
    def refused(message: str, signature: str, **inputs) -> None:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            run(signature, **inputs)

    refused("Unknown image file format", "serving_default", image_bytes=[b"no picture"])
    refused("image/encoded .* is required", "classify", inputs=[tf.train.Example().SerializeToString()])
    refused("Could not parse example", "classify", inputs=[b"no example"])
    refused("a picture without pixels", "predict_images", images=np.zeros((1, 0, 5, 3), np.float32))
    refused("too long and thin to resize", "predict_images", images=np.zeros((1, 1, 40_000, 3), np.float32))


def test_nothing_but_numbers_between_0_and_255_comes_out_of_resizing(run):
    wild = np.full((1, 80, 90, 3), 1e9, np.float32)
    wild[0, :40] = np.nan
    calm = np.full((1, 80, 90, 3), 255, np.float32)
    calm[0, :40] = 0
    np.testing.assert_array_equal(
        run("predict_images", images=wild)["scores"], run("predict_images", images=calm)["scores"]
    )


def test_warmup_requests_are_answered_as_they_record(run, exported):
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    records = tf.data.TFRecordDataset(
        os.fspath(exported.path / "assets.extra" / "tf_serving_warmup_requests")
    )
    logs = [PredictionLog.FromString(record.numpy()) for record in records]
    recorded = {}
    for log in logs:
        request, reply = log.predict_log.request, log.predict_log.response
        name = request.model_spec.signature_name
        answer = run(name, **{alias: tf.make_ndarray(tensor) for alias, tensor in request.inputs.items()})
        recorded[name] = sorted(reply.outputs)
        for alias, tensor in reply.outputs.items():
            np.testing.assert_allclose(answer[alias], tf.make_ndarray(tensor), rtol=1e-4, atol=1e-4)
        assert request.model_spec.name == "flowers"
    assert recorded == {
        "serving_default": [],
        "predict_images": ["probabilities"],
        "features": ["features"],
    }


def test_saved_model_cli_reads_it(exported):
    cli = Path(sys.executable).with_name("saved_model_cli")
    done = subprocess.run(
        [cli, "show", "--dir", exported.path, "--all"], capture_output=True, text=True, check=True
    )
    for name in ("serving_default", "predict_images", "classify", "features"):
        assert f"signature_def['{name}']" in done.stdout
    assert "Method name is: tensorflow/serving/classify" in done.stdout


HUB = """
import json, sys
import numpy as np
import tensorflow_hub as hub
import tf_keras

images = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype("float32")
layer = hub.KerasLayer(sys.argv[1], trainable=True)
assert tuple(hub.load(sys.argv[1])(images).shape) == (4, 3)
first = layer(images).numpy()
trained = [v for v in layer.trainable_variables]
before = [v.numpy() for v in layer.weights]
model = tf_keras.Sequential([layer])
model.compile("sgd", "sparse_categorical_crossentropy")
model.fit(images, np.array([0, 1, 2, 0]), verbose=0)
changed = sum(not np.array_equal(a, b.numpy()) for a, b in zip(before, layer.weights))
print(json.dumps({"first": first.tolist(), "trained": len(trained), "all": len(before), "changed": changed}))
"""


def test_tensorflow_hub_trains_it_as_a_layer(exported):
    done = subprocess.run(
        [sys.executable, "-c", HUB, exported.path], capture_output=True, text=True, check=True, timeout=200
    )
    found = json.loads(done.stdout.splitlines()[-1])
    images = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(found["first"], exported.model(images), atol=1e-5)
    assert found["trained"] == len(exported.model.trainable_variables)
    assert found["changed"] == found["all"] == len(exported.model.variables)


def test_keras_uses_it_as_a_layer(exported, photos, images):
    layer = keras.layers.TFSMLayer(exported.path, call_endpoint="predict_images")
    outputs = layer(np.stack(photos).astype(np.float32))
    assert outputs["probabilities"].shape == (2, 3)
    np.testing.assert_allclose(
        keras.layers.TFSMLayer(exported.path)(images), exported.model(images), atol=1e-5
    )


def test_keras_trains_it_as_a_layer(exported, images):
    layer = keras.layers.TFSMLayer(exported.path, call_training_endpoint="train")
    assert len(layer.trainable_variables) == len(exported.model.trainable_variables)
    before = {variable.path: np.array(variable) for variable in layer.variables}
    model = keras.Sequential([keras.Input((64, 64, 3)), layer])
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(images, np.array([0, 1]), verbose=0)
    still = [v.path for v in layer.variables if np.array_equal(before[v.path], np.array(v))]
    assert still == []
    assert any("moving" in path for path in before)


def test_tensorflow_trains_it(exported, images):
    module = tf.saved_model.load(os.fspath(exported.path))
    assert len(module.variables) == len(exported.model.variables)
    assert len(module.trainable_variables) == len(exported.model.trainable_variables)
    before = [variable.numpy() for variable in module.variables]
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(tf.math.log(module(images, training=True)[:, 0]))
    for variable, gradient in zip(
        module.trainable_variables, tape.gradient(loss, module.trainable_variables), strict=True
    ):
        variable.assign_sub(0.01 * gradient)
    assert all((a != b.numpy()).any() for a, b in zip(before, module.variables, strict=True))
    assert (module(images, training=False).numpy() != exported.model(images).numpy()).any()


def test_regularisers_travel(tiny, tmp_path):
    dense = tiny.get_layer("fc")
    dense.kernel.regularizer = keras.regularizers.L2(0.5)
    export = exporters.export(tiny, tmp_path / "tiny", ("saved_model",))
    module = tf.saved_model.load(os.fspath(export.path))
    (penalty,) = module.regularization_losses
    np.testing.assert_allclose(penalty(), 0.5 * np.sum(np.array(dense.kernel) ** 2), rtol=1e-5)
    kernel = next(v for v in module.trainable_variables if v.shape == dense.kernel.shape)
    kernel.assign(kernel * 0)
    assert penalty() == 0
