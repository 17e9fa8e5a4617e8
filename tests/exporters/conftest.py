"""Models to export: a very small one built by hand, and a real network exported once in every format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

import exporters
import zoo

LABELS = ("daisy", "rosé", "tulip")
FORMATS = ("saved_model", "onnx", "h5", "keras")


def tiny_model(size: tuple[int, int] = (32, 40), labels: tuple[str, ...] = LABELS) -> keras.Model:
    """Stock layers with random weights, about 0.4 MB."""
    keras.utils.set_random_seed(1)
    images = keras.Input((*size, 3), name="images")
    x = keras.layers.Rescaling(1 / 64, -2.0)(images)
    x = keras.layers.Conv2D(64, 3, 2, activation="relu", name="conv1")(x)
    x = keras.layers.Conv2D(160, 3, 2, activation="relu", name="conv2")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    x = keras.layers.Dense(len(labels), kernel_initializer="random_normal", name="fc")(x)
    model = keras.Model(images, keras.layers.Activation("softmax")(x), name="tiny")
    return zoo.attach(model, zoo.Facts("tiny", labels, zoo.Preprocessing(size)))


@pytest.fixture(scope="session")
def make_tiny() -> Callable[[], keras.Model]:
    return tiny_model


@pytest.fixture
def tiny() -> keras.Model:
    return tiny_model()


@dataclass(frozen=True)
class Exported:
    model: keras.Model
    export: exporters.Export

    @property
    def path(self) -> Path:
        return self.export.path


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """ResNet-18 with random weights and calibrated BatchNorm, exported in every format."""
    keras.utils.set_random_seed(2)
    model = zoo.load("resnet18", weights=None, classes=LABELS, input_size=64)
    model.trainable = True
    pictures = np.random.default_rng(3).uniform(0, 255, (8, 64, 64, 3)).astype(np.float32)
    for _ in range(3):
        model(pictures, training=True)
    base = tmp_path_factory.mktemp("models") / "flowers"
    return Exported(model, exporters.export(model, base, FORMATS, metrics={"accuracy": np.float32(0.5)}))


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Two real photos, uint8 [427, 640, 3]."""
    from sklearn.datasets import load_sample_images

    return list(load_sample_images().images)
