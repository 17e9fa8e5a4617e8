"""Real handwritten digits (UCI, in scikit-learn): 8 x 8 pixels, 16 grey levels, enlarged to 16 x 16."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits


@pytest.fixture(scope="session")
def arrays():
    """images uint8 [360, 16, 16], labels int [360] 0..9."""
    digits = load_digits()
    images = (digits.images[:360] * 15.9375).astype(np.uint8)
    return images.repeat(2, axis=1).repeat(2, axis=2), digits.target[:360]


@pytest.fixture
def folder(arrays, tmp_path) -> Path:
    return write_folder(tmp_path / "digits", *arrays)


def write_folder(home: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (home / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / str(label) / f"{i:04}.png")
    return home
