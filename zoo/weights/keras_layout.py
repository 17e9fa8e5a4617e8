"""The .h5 files of keras.applications -> reference tensors.

Keras fits these files by position: the nth layer with weights of the file is the nth of its network, whatever
either is called (older files name layers otherwise than today's code). So do we, counting the layers with a
kernel and those without one (norms, scales) separately, for how they alternate across parallel branches says
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from zoo.weights.convert import Slot

if TYPE_CHECKING:
    import keras

Arrays = dict[str, np.ndarray]
Layer = dict[str, Slot]  # by the name of the variable

# Of linear layers and convolutions, from the reference's to Keras's, by their number.
AXES = {2: (1, 0), 4: (2, 3, 1, 0)}


def reference_tensors(
    model: keras.Model,
    slots: Iterable[Slot],
    stored: Mapping[str, np.ndarray],
    *,
    order: Sequence[str] = (),
) -> Arrays:
    """The arrays of a file, "LAYER/variable" in the file's order, under the reference's keys and in its axes.

    slots: those of the model that the file has, in the model's order. order: patterns of layer names, where
    Keras lists the layers of a block (the first part of their names) otherwise than the model does: those
    that fit the first pattern come first, those that fit none last. A norm stored without gamma gets ones;
    the bias of a convolution that has none here moves into the mean of the norm behind it. What is too much
    keeps the name that it has in the file, so that `assign` refuses it as it does missing and misshapen
    tensors.
    """
    layers = _in_order(_layers(slots), order)
    kernels, norms = _pieces(stored)
    tensors, biases = _with_kernels([layer for layer in layers.values() if "kernel" in layer], kernels)
    tensors |= _without_kernels([layer for layer in layers.values() if "kernel" not in layer], norms)
    return _folded(model, tensors, biases)


def _layers(slots: Iterable[Slot]) -> dict[str, Layer]:
    layers: dict[str, Layer] = {}
    for slot in slots:
        layers.setdefault(_layer(slot.key), {})[slot.variable.name] = slot
    return layers


def _layer(key: str) -> str:
    return key.rpartition(".")[0]


def _in_order(layers: dict[str, Layer], order: Sequence[str]) -> dict[str, Layer]:
    blocks = list(dict.fromkeys(name.partition(".")[0] for name in layers))

    def place(name: str) -> tuple[int, int]:
        rank = next((i for i, pattern in enumerate(order) if re.search(pattern, name)), len(order))
        return blocks.index(name.partition(".")[0]), rank

    return {name: layers[name] for name in sorted(layers, key=place)} if order else layers


def _pieces(stored: Mapping[str, np.ndarray]) -> tuple[list[Arrays], list[Arrays]]:
    """What belongs to layers with a kernel (it and its bias) and to those without: the file's layers, but
    separable convolutions and nested models as what they consist of.
    """
    kernels: list[Arrays] = []
    norms: list[Arrays] = []
    for _, group in groupby(stored.items(), key=lambda item: item[0].rpartition("/")[0]):
        arrays = dict(group)
        # Statistics of the pictures come with their count; normalisation is the tag's mean and std.
        if any(array.ndim == 0 for array in arrays.values()):
            continue
        piece: Arrays = {}
        room = 0
        for key, array in arrays.items():
            if array.ndim > 1:
                piece, room = {key: array}, 1  # for its bias
                kernels.append(piece)
            elif room:
                piece[key] = array
                room -= 1
            else:
                piece, room = {key: array}, len(arrays)
                norms.append(piece)
    return kernels, norms


def _with_kernels(layers: list[Layer], pieces: list[Arrays]) -> tuple[Arrays, dict[str, Arrays]]:
    """Reference tensors; and the biases, by layer, of layers that have none here."""
    tensors: Arrays = {}
    biases = {}
    for layer, piece in zip(layers, pieces, strict=False):
        (_, kernel), *bias = piece.items()
        tensors[layer["kernel"].key] = kernel_to_reference(layer["kernel"], kernel)
        if bias and "bias" in layer:
            tensors[layer["bias"].key] = bias[0][1]
        elif bias:
            biases[_layer(layer["kernel"].key)] = dict(bias)
    for piece in pieces[len(layers) :]:
        tensors |= piece
    return tensors, biases


def kernel_to_reference(slot: Slot, kernel: np.ndarray) -> np.ndarray:
    """A kernel of Keras's in the reference's axes."""
    shape = tuple(slot.variable.shape)
    if kernel.ndim == 2 and len(shape) == 4 and len(kernel) % (shape[0] * shape[1]) == 0:
        # Keras flattens a map with its channels last.
        kernel = kernel.reshape(*shape[:2], -1, kernel.shape[1])
    axes = AXES.get(kernel.ndim, range(kernel.ndim))
    # A depthwise convolution may be written as a grouped one, [kh, kw, 1, channels].
    if slot.axes is not None and len(slot.axes) == kernel.ndim == 4 and kernel.shape[2] != 1:
        axes = slot.axes
    return kernel.transpose(np.argsort(axes))


def _without_kernels(layers: list[Layer], pieces: list[Arrays]) -> Arrays:
    tensors: Arrays = {}
    for layer, piece in zip(layers, pieces, strict=False):
        names, values = list(layer), list(piece.values())
        has_gamma = next(iter(piece)).endswith("gamma")
        if len(values) == len(names) - 1 and names[0] == "gamma" and not has_gamma:
            values.insert(0, np.ones_like(values[0]))
        if len(values) > len(names):
            tensors |= piece
        tensors |= {layer[name].key: value for name, value in zip(names, values, strict=False)}
    for piece in pieces[len(layers) :]:
        tensors |= piece
    return tensors


def _folded(model: keras.Model, tensors: Arrays, biases: dict[str, Arrays]) -> Arrays:
    """norm(x + bias) is the norm with the mean less the bias. Biases without a norm behind them stay."""
    outputs = {id(model.get_layer(name).output): bias for name, bias in biases.items()}
    for key in [key for key in tensors if biases and key.endswith(".running_mean")]:
        source = id(model.get_layer(_layer(key)).input)
        for value in outputs.get(source, {}).values():
            if value.shape == tensors[key].shape:
                tensors[key] = tensors[key] - value
                del outputs[source]
    return tensors | {key: value for bias in outputs.values() for key, value in bias.items()}
