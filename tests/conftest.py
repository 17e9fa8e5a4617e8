"""How the tests share the cores: a file's tests stay together, so that its fixtures are made once."""

import pytest

SPREAD = ("test_golden.py", "test_every_architecture.py")


def pytest_addoption(parser):
    parser.addoption("--every-size", action="store_true", help="compare every network at every golden size")


def pytest_itemcollected(item):
    if item.path.name not in SPREAD:
        item.add_marker(pytest.mark.xdist_group(str(item.path)))
