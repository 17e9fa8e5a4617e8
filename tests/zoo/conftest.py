"""Some hundred networks do not fit into memory at once."""

import gc

import keras
import pytest

BUILD_NOTHING = ("test_catalog_facts.py", "test_registry.py")


@pytest.fixture(autouse=True)
def _forget_networks(request):
    """Keras remembers what was built, and networks hold themselves in cycles."""
    yield
    if request.path.name not in BUILD_NOTHING:
        keras.utils.clear_session()
        gc.collect()
