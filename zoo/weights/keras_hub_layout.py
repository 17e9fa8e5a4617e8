"""The .weights.h5 files of a KerasHub preset -> arrays in the order of the network's layers.

Keras 3 numbers the layers of a class in the order of their network: conv2d, conv2d_1, and so on. How the
classes alternate it does not keep; that the network here tells, whose layers of a kind are in the same order.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np

from zoo.errors import WeightsError
from zoo.weights.convert import DEPTHWISE, Slot
from zoo.weights.readers import h5_values

# Class -> kind. Of one kind, convolutions come before linear layers, which are the classifier's.
KINDS = {
    "conv2d": "kernel",
    "dense": "kernel",
    "depthwise_conv2d": "depthwise",
    "batch_normalization": "norm",
}
CLASSES = tuple(KINDS)
VARIABLE = re.compile(rf"(?:^|/)({'|'.join(CLASSES)})(?:_(\d+))?/vars/(\d+)$")

Layer = tuple[int, int, int]  # which file, which of the classes, its number


def stored_arrays(slots: Iterable[Slot], files: Iterable[Path]) -> dict[str, np.ndarray]:
    """The files' arrays as "LAYER/variable", one layer after another as `slots` lists the network's; those
    that it lacks come last. Raises WeightsError, naming the file, for a damaged one.
    """
    layers = {layer: arrays for i, path in enumerate(files) for layer, arrays in _layers(i, path)}
    waiting: dict[str, list[Layer]] = defaultdict(list)
    for layer in sorted(layers):
        waiting[KINDS[CLASSES[layer[1]]]].append(layer)
    order = [waiting[kind].pop(0) for kind in _kinds(slots) if waiting[kind]]
    order += [layer for queue in waiting.values() for layer in queue]
    return {
        f"{file}/{CLASSES[rank]}_{number}/{place}": array
        for file, rank, number in order
        for place, array in sorted(layers[file, rank, number].items())
    }


def _layers(number: int, path: Path) -> Iterator[tuple[Layer, dict[int, np.ndarray]]]:
    found: dict[Layer, dict[int, np.ndarray]] = defaultdict(dict)
    names: list[str] = []
    try:
        with h5py.File(path) as file:
            file.visit(names.append)
            for name in names:
                if match := VARIABLE.search(name):
                    layer = (number, CLASSES.index(match[1]), int(match[2] or 0))
                    found[layer][int(match[3])] = h5_values(path, file, name)
    except (OSError, KeyError, RuntimeError, TypeError, AttributeError, MemoryError) as error:
        raise WeightsError(
            f"{path}: not a readable file of Keras weights; damaged or truncated? ({error})"
        ) from error
    yield from found.items()


def _kinds(slots: Iterable[Slot]) -> list[str]:
    """Of the layers, in their order."""
    kinds: dict[str, str] = {}
    for slot in slots:
        kind = "norm" if not slot.is_kernel else "depthwise" if slot.axes == DEPTHWISE else "kernel"
        if slot.is_kernel or slot.layer not in kinds:
            kinds[slot.layer] = kind
    return list(kinds.values())
