"""Pictures that are in memory, or come one by one: arrays, tf.data.Dataset, rows of other libraries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.listing import Item, Listing, indexed_sets, ones, sides_of
from zoo.errors import DataError
from zoo.preprocessing import read_image, whole

IMAGES = ("image", "img", "picture")
LABELS = ("label", "labels", "class")


def list_arrays(
    images: Any, labels: Any, classes: Sequence[str] | None = None, sides: Sequence[str] = ()
) -> Listing:
    """images [N, H, W, 3], [N, H, W] or [N, H, W, 1] in 0..255, or N paths, arrays, images of Pillow's or
    encoded bytes; labels: N integers or strings, or [N, C] of 0 and 1; sides: N of zoo.data.SIDES, where they
    are known.
    """
    images, problems_of_images = read_images(images)
    labels = _without_ones(np.asarray(labels), 2)
    several = labels.ndim == 2 and labels.shape[1] > 1
    names: tuple[str, ...] = ()
    places: list[tuple[int, ...]] = []
    if several:
        names, places, problems = ones(labels, classes)
    elif labels.dtype.kind in "biufUO":
        names, places, problems = indexed_sets(
            [(_plain(label),) for label in labels.ravel().tolist()], classes
        )
    else:
        problems = [f"labels are {labels.dtype}: give integers or strings"]
    problems += problems_of_images
    if not (several or labels.ndim == 1) or len(images) != len(labels):
        problems.append(
            f"there are {len(images)} images and labels of the shape {labels.shape}: "
            "give one label per image, or a row of 0 and 1"
        )
    if problems:
        return Listing("the arrays", [], (), problems, several)
    items = items_of(images, places, sides)
    return Listing("the arrays", items, names, [], several, flagged=several)


def list_sides(training: tuple[Any, Any], test: tuple[Any, Any]) -> Listing:
    """Images and labels of each side, as keras.datasets gives them."""
    parts = (training, test)
    images, labels = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in (0, 1))
    return list_arrays(images, labels, sides=["training"] * len(training[1]) + ["test"] * len(test[1]))


def _without_ones(array: np.ndarray, dimensions: int) -> np.ndarray:
    """Without a last dimension of 1, where there are so many."""
    return array[..., 0] if array.ndim == dimensions and array.shape[-1] == 1 else array


def read_images(images: Any) -> tuple[Sequence[Any] | np.ndarray, list[str]]:
    """An array uint8 [N, H, W, 3] or [N, H, W], or N paths, arrays or bytes; and what forbids using them."""
    array = np.asarray(images) if hasattr(images, "__array__") else None
    if array is not None and array.dtype.kind not in "OSU":
        return _read_array(_without_ones(array, 4))
    if isinstance(images, str | bytes | PathLike) or not isinstance(images, Iterable):
        return [], [f"there is {images!r:.80} for the images: give a list of them"]
    read = [_picture(image) for image in images]
    problems = [f"picture {i}: {problem}" for i, (_, problem) in enumerate(read) if problem]
    return [image for image, _ in read], problems if read else ["there are no pictures"]


def _read_array(images: np.ndarray) -> tuple[np.ndarray, list[str]]:
    problems = []
    try:
        images = whole(images)
    except DataError as error:
        problems.append(str(error))
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3):
        problems.append(f"images have the shape {images.shape}: give [N, H, W, 3] or [N, H, W]")
    if not len(images):
        problems.append("there are no pictures")
    return images, problems


def list_rows(data: Iterable[Any]) -> Listing:
    """Rows {"image": ..., "label": ...} or (image, label), as Hugging Face datasets, TensorFlow Datasets and
    tf.data give them, or a dict of these by side, or of pictures by label; images as paths, arrays uint8,
    Pillow's, or encoded bytes; a label as a number or string, or all of a picture's as an array of 0 and 1 or
    a list of numbers or strings.
    """
    title = f"the {type(data).__name__}"
    images, labels, sides, problems = [], [], [], []
    for i, (side, row) in enumerate(_sided(data)):
        image, label, problem = _read(row)
        if problem:
            problems.append(f"row {i}: {problem}")
        else:
            images.append(image)
            labels.append(label)
            sides.append(side)
    if not images and not problems:
        problems.append("it gave no rows")
    several = any(isinstance(label, np.ndarray | list) for label in labels)
    names, places, strange = _sets(labels, several, _class_names(data))
    items = [] if strange else items_of(images, places, sides)
    flagged = several and not any(isinstance(label, list) for label in labels)
    return Listing(title, items, names, problems + strange, several, flagged=flagged)


def _sets(
    labels: list[Any], several: bool, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[tuple[int, ...]], list[str]]:
    if not several:
        return indexed_sets([(label,) for label in labels], classes)
    if all(isinstance(label, list) for label in labels):
        return indexed_sets(labels, classes)
    if all(isinstance(label, np.ndarray) and label.shape == labels[0].shape for label in labels):
        return ones(np.stack(labels), classes)
    return (), [], ["labels are of several kinds: give each row one label, an array of 0 and 1, or a list"]


def items_of(
    images: Sequence[Any] | np.ndarray, places: Iterable[tuple[int, ...]], sides: Sequence[str] = ()
) -> list[Item]:
    items = zip(images, places, sides or [""] * len(images), strict=True)
    return [
        Item(image, str(image) if isinstance(image, Path) else f"picture {i}", place, side)
        for i, (image, place, side) in enumerate(items)
    ]


def _sided(data: Any) -> Iterator[tuple[str, Any]]:
    """Rows, and the side that the data names for each, or ""."""
    if not isinstance(data, Mapping):
        return (("", row) for row in _rows(data))
    if sides := sides_of(map(str, data)):
        return ((sides[str(name)], row) for name, rows in data.items() for row in _rows(rows))
    for label, pictures in data.items():
        if isinstance(pictures, str | PathLike):
            raise DataError(f'the class "{label}" has "{pictures}": give a list of its pictures')
    return (("", (picture, str(label))) for label, pictures in data.items() for picture in pictures)


def _rows(data: Any) -> Iterator[Any]:
    if hasattr(data, "as_numpy_iterator"):
        return _unbatched(data).as_numpy_iterator()
    return iter(data)


def _unbatched(dataset: Any) -> Any:
    """A tf.data.Dataset of single pictures."""
    spec = dataset.element_spec
    image, _, problem = _read(spec) if isinstance(spec, Mapping | tuple) else (None, None, "no pair")
    return dataset.unbatch() if not problem and len(getattr(image, "shape", ())) == 4 else dataset


def _read(row: Any) -> tuple[Any, Any, str]:
    """The picture, its label, and what is wrong with them."""
    if isinstance(row, Mapping):
        image = next((row[key] for key in IMAGES if key in row), None)
        label = next((row[key] for key in LABELS if key in row), None)
    elif isinstance(row, tuple | list) and len(row) == 2:
        image, label = row
    else:
        return None, None, 'give rows {"image": ..., "label": ...} or (image, label)'
    if image is None or label is None:
        return None, None, f"it has no image or no label, but: {', '.join(map(str, row))}"
    if hasattr(image, "element_spec") or hasattr(image, "is_compatible_with"):
        return image, label, ""  # the description of a dataset's rows
    image, problem = _picture(image)
    return image, _plain(label), problem


def _picture(image: Any) -> tuple[Any, str]:
    if isinstance(image, Mapping):  # of Hugging Face, where a dataset does not decode
        image = image.get("bytes") or image.get("path")
    if isinstance(image, bytes):
        path = _text(image)
        return (Path(path) if path else image), ""
    if isinstance(image, str | PathLike):
        return Path(image), ""
    try:
        return read_image(image), ""
    except DataError as error:
        return None, str(error)


def _text(image: bytes) -> str:
    """The path that the bytes are, as a tf.data.Dataset gives strings; "" for an encoded picture."""
    try:
        text = image.decode()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def _plain(label: Any) -> Any:
    if isinstance(label, np.ndarray) and label.ndim == 1 and label.size > 1:
        return label
    if isinstance(label, list | tuple):
        return [_plain(one) for one in label]
    label = label.item() if hasattr(label, "item") else label
    label = int(label) if isinstance(label, float) and label.is_integer() else label
    return label.decode() if isinstance(label, bytes) else label


def _class_names(data: Any) -> Sequence[str] | None:
    """Hugging Face datasets know them: data.features["label"].names, of lists ["labels"].feature.names; what
    keras.utils.image_dataset_from_directory gives has class_names.
    """
    if isinstance(data, Mapping):
        names = [str(name) for name in data]
        return _class_names(next(iter(data.values()))) if sides_of(names) else names
    if getattr(data, "class_names", None):
        return [str(name) for name in data.class_names]
    features = getattr(data, "features", None)
    found = [features[key] for key in LABELS if key in features] if isinstance(features, Mapping) else []
    return getattr(getattr(found[0], "feature", found[0]), "names", None) if found else None
