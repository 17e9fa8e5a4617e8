"""Some hundred networks do not fit into memory at once."""

import gc

import keras
import pytest


@pytest.fixture(autouse=True)
def _forget_networks():
    """Keras remembers what was built, and networks hold themselves in cycles."""
    yield
    keras.utils.clear_session()
    gc.collect()
