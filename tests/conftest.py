"""How the tests share the cores: a file's tests stay together, so that its fixtures are made once."""

import pytest

SPREAD = ("test_golden.py", "test_every_architecture.py", "test_every_family.py")


def pytest_addoption(parser):
    parser.addoption("--every-size", action="store_true", help="compare every network at every golden size")


def pytest_itemcollected(item):
    if item.path.name not in SPREAD:
        item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture
def publish():
    """A function: a network of Keras's -> an .h5 file like the published ones, weights alone, each layer a
    group, its variables in attributes.
    """
    import h5py
    import numpy as np

    def write(model, path):
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
            file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.1.6"
            for layer in model.layers:
                group = file.create_group(layer.name)
                variables = [*layer.trainable_weights, *layer.non_trainable_weights]
                group.attrs["weight_names"] = [f"{variable.path}:0".encode() for variable in variables]
                for variable in variables:
                    group[f"{variable.path}:0"] = np.asarray(variable)
        return path

    return write
