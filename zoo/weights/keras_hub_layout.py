"""The .weights.h5 files of a KerasHub preset -> reference tensors.

Keras 3 numbers the layers of a class in the order of their network: conv2d, conv2d_1, and so on. How the
classes alternate it does not keep; that the network here tells, whose layers of a kind are in the same order.
Layers inside a layer of KerasHub's own have the names of its attributes, which renames turn into ours.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from zoo.errors import WeightsError
from zoo.weights import keras_layout
from zoo.weights.convert import DEPTHWISE, Slot, renamed
from zoo.weights.readers import DAMAGED_H5, h5_values

if TYPE_CHECKING:
    import keras

Arrays = dict[str, np.ndarray]
Layer = tuple[int, int, int]  # which file, which of the classes, its number

# Class -> kind. Of one kind, convolutions come before linear layers, which are the classifier's.
KINDS = {
    "conv2d": "kernel",
    "dense": "kernel",
    "depthwise_conv2d": "depthwise",
    "batch_normalization": "norm",
}
CLASSES = tuple(KINDS)
OF_LAYER = re.compile(rf"(?:^|/)({'|'.join(CLASSES)})_(\d+)/(\d+)$")
NUMBERED = re.compile(r"(?:^|(?<=/))layers/(\w+?)(?:_(\d+))?/")
NO_WEIGHTS = ("optimizer/", "seed_generator/")


def reference_tensors(
    model: keras.Model, slots: Sequence[Slot], files: Iterable[Path], renames: Sequence[tuple[str, str]]
) -> Arrays:
    """The files' arrays under the reference's keys and in its axes; what the network lacks keeps its name.

    slots: those of the model that the files have. renames: as `convert.renamed` takes them, of "FILE/PATH/",
    where FILE counts from 0 and all layers have a number; without any, layers are found by their positions.
    Raises WeightsError, naming the file, for a damaged one.
    """
    stored = {f"{i}/{name}": array for i, path in enumerate(files) for name, array in _variables(path)}
    if renames:
        return _by_name(slots, renamed(model, stored, renames))
    return keras_layout.reference_tensors(model, slots, _as_listed(slots, stored))


def _variables(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """By "LAYER_NUMBER/.../PLACE", the place among the layer's own variables."""
    names: list[str] = []
    try:
        with h5py.File(path) as file:
            file.visit(names.append)
            for name in names:
                layer, _, place = name.rpartition("/vars/")
                if place.isdigit() and not any(part in name for part in NO_WEIGHTS):
                    counted = NUMBERED.sub(lambda found: f"{found[1]}_{found[2] or 0}/", f"{layer}/")
                    yield f"{counted}{place}", h5_values(path, file, name)
    except DAMAGED_H5 as error:
        raise WeightsError(
            f"{path}: not a readable file of Keras weights; damaged or truncated? ({error})"
        ) from error


def _by_name(slots: Iterable[Slot], stored: Mapping[str, np.ndarray]) -> Arrays:
    """From "LAYER/PLACE", the layer's own name here."""
    known = {f"{layer}/{i}": slot for layer, own in _by_layer(slots) for i, slot in enumerate(own)}
    tensors: Arrays = {}
    for name, array in stored.items():
        found = known.get(name)
        if found and found.is_kernel:
            array = keras_layout.kernel_to_reference(found, array)
        tensors[found.key if found else name] = array
    return tensors


def _as_listed(slots: Iterable[Slot], stored: Mapping[str, np.ndarray]) -> Arrays:
    """One layer after another as `slots` lists the network's; those that it lacks come last."""
    layers: dict[Layer, dict[int, str]] = defaultdict(dict)
    for name in stored:
        if match := OF_LAYER.search(name):
            layer = (int(name.partition("/")[0]), CLASSES.index(match[1]), int(match[2]))
            layers[layer][int(match[3])] = name
    waiting: dict[str, list[Layer]] = defaultdict(list)
    for layer in sorted(layers):
        waiting[KINDS[CLASSES[layer[1]]]].append(layer)
    order = [waiting[kind].pop(0) for kind in _kinds(slots) if waiting[kind]]
    order += [layer for queue in waiting.values() for layer in queue]
    return {name: stored[name] for layer in order for _, name in sorted(layers[layer].items())}


def _kinds(slots: Iterable[Slot]) -> list[str]:
    """Of the layers, in their order."""
    kernels = (next((slot for slot in own if slot.is_kernel), None) for _, own in _by_layer(slots))
    return [
        "norm" if not kernel else "depthwise" if kernel.axes == DEPTHWISE else "kernel" for kernel in kernels
    ]


def _by_layer(slots: Iterable[Slot]) -> Iterator[tuple[str, Iterator[Slot]]]:
    return groupby(slots, key=lambda slot: slot.layer)
