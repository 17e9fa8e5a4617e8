"""The names of the classes that public weights know."""

from functools import cache
from importlib.resources import files

FILES = {
    "ImageNet-1k": "imagenet-1k.txt",
    "CIFAR-10": "cifar-10.txt",
    "CIFAR-100": "cifar-100.txt",
    "SVHN": "svhn.txt",
}


@cache
def _lines(file: str) -> tuple[str, ...]:
    return tuple(files("zoo.catalog").joinpath(file).read_text("utf-8").splitlines())


def labels_of(pictures: str) -> tuple[str, ...]:
    """The class names of a collection of pictures, a key of FILES, in the order of every public weight
    file.
    """
    return _lines(FILES[pictures])


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 class names of ImageNet-1k."""
    return labels_of("ImageNet-1k")


def other_names(labels: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """What data may call a model's classes instead, in their order: the folders of ImageNet-1k, which are
    WordNet's numbers of its classes, and their places, where no class is itself a number.
    """
    folders = (_lines("imagenet-1k-synsets.txt"),) if labels == imagenet_labels() else ()
    numbered = any(label.isdecimal() for label in labels)
    return folders if numbered else (*folders, tuple(str(i) for i in range(len(labels))))
