"""The names of the classes that public weights know."""

from functools import cache
from importlib.resources import files


@cache
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 class names of ImageNet-1k, in the order of every public weight file."""
    return tuple(files("zoo.catalog").joinpath("imagenet-1k.txt").read_text("utf-8").splitlines())
