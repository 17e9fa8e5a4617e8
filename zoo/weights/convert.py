"""The one converter between a reference's state dict and Keras variables, by layer name.

A layer NAME takes NAME.weight, .bias, .running_mean, .running_var. Torch keeps convolutions as [out,
in/groups, kh, kw], Keras as [kh, kw, in/groups, out] (depthwise [kh, kw, channels, 1]); linear layers are
transposed; a linear layer over a flattened map fits a convolution of the map's size, and one of 1x1 a linear
layer. Every key must be used and every variable set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import WeightsError

if TYPE_CHECKING:
    import keras

ROLES = {
    "kernel": "weight",
    "gamma": "weight",
    "scale": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# From the reference's axes to Keras's.
CONVOLUTION, DEPTHWISE = (2, 3, 1, 0), (2, 3, 0, 1)
PART = re.compile(r"\[\d\]")


@dataclass(frozen=True)
class Slot:
    """One variable of a model, the name of its layer, the reference's key for it, and the permutation from
    the reference's axes to Keras's.
    """

    layer: str
    key: str
    variable: Any
    axes: tuple[int, ...] | None

    @property
    def is_kernel(self) -> bool:
        """Whether it is what a convolution or a linear layer multiplies by."""
        return self.axes is not None

    def to_keras(self, tensor: np.ndarray) -> np.ndarray:
        if self.axes is None:
            # A factor for each channel may be kept as [C, 1, 1] or [1, 1, 1, C].
            flat = len(self.variable.shape) == 1 and max(tensor.shape, default=0) == tensor.size
            return tensor.reshape(-1) if flat else tensor
        if len(self.axes) == 2 and tensor.shape[2:] == (1, 1):
            tensor = tensor[..., 0, 0]
        if len(self.axes) == 4 and tensor.ndim == 2 and tensor.size == np.prod(self.variable.shape):
            tensor = tensor.reshape(self.reference_shape)
        return tensor.transpose(self.axes) if tensor.ndim == len(self.axes) else tensor

    def to_reference(self, value: np.ndarray) -> np.ndarray:
        return value if self.axes is None else value.transpose(np.argsort(self.axes))

    @property
    def reference_shape(self) -> tuple[int, ...]:
        return self.to_reference(np.empty(self.variable.shape, np.bool_)).shape


def assign(model: keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Set every variable of the model from reference tensors, or none.

    Raises WeightsError naming the first missing, left-over and misshapen key, and the first of integers, as
    quantised files have them.
    """
    targets = {slot.key: slot for slot in slots(model)}
    values = {key: slot.to_keras(tensors[key]) for key, slot in targets.items() if key in tensors}
    missing = [key for key in targets if key not in tensors]
    left_over = [key for key in tensors if key not in targets]
    misshapen = [
        f"{key} is {tensors[key].shape}, the network needs {targets[key].reference_shape}"
        for key, value in values.items()
        if value.shape != tuple(targets[key].variable.shape)
    ]
    integers = [
        f"{key} is {tensors[key].dtype}"
        for key in values
        if tensors[key].dtype.kind in "biu" and "int" not in targets[key].variable.dtype
    ]
    problems = [
        _first("missing", missing),
        _first("left over", left_over),
        _first("misshapen", misshapen),
        _first("no fractions", integers),
    ]
    if any(problems):
        raise WeightsError(f"the weights do not fit {model.name}: " + "; ".join(filter(None, problems)))
    for key, value in values.items():
        targets[key].variable.assign(value)


def state_dict(model: keras.Model) -> dict[str, np.ndarray]:
    """The model's weights under the reference's keys and in its layouts: the inverse of `assign`."""
    return {slot.key: slot.to_reference(np.asarray(slot.variable)) for slot in slots(model)}


def slots(model: keras.Model) -> Iterator[Slot]:
    """In the order of the layers."""
    for layer in model.layers:
        names = ROLES | getattr(layer, "reference_names", {})
        for variable in layer.variables:
            if variable.name in names:
                axes = _axes(layer) if variable.name.endswith("kernel") else None
                yield Slot(layer.name, _key(layer.name, names[variable.name]), variable, axes)


def _key(layer: str, name: str) -> str:
    """A name that begins with "_" ends the layer's own; an empty one adds nothing."""
    return layer + name if name.startswith("_") or not name else f"{layer}.{name}"


def _axes(layer: Any) -> tuple[int, ...]:
    from keras import layers

    from zoo.layers import TwinDense

    if isinstance(layer, (layers.Dense, TwinDense)):
        return (1, 0)
    if isinstance(layer, layers.Conv1D):
        return (2, 1, 0)
    return DEPTHWISE if isinstance(layer, layers.DepthwiseConv2D) else CONVOLUTION


def renamed(
    model: keras.Model, tensors: Mapping[str, np.ndarray], renames: Sequence[tuple[str, str]]
) -> dict[str, np.ndarray]:
    """Keys of another naming -> the reference's. The first pattern that fits a key counts.

    {block} in a replacement stands for STAGE.INDEX of the block whose flat number is the pattern's first
    group, {1} for that number, {2} for the second group's; {block-1}, {1-7} and {2+1} count from elsewhere,
    {block/2} and {1/2} by twos; a block before the first is the last. A replacement that begins with ">" is
    renamed once more without it. What is renamed to nothing is left out; what is renamed to NAME[0].weight,
    NAME[1].weight, ... becomes one, NAME.weight, with these parts of its rows.
    """
    if not renames:
        return dict(tensors)
    blocks = _block_names(model)
    names = {key: _rename(key, renames, blocks) for key in tensors}
    return _joined({name: tensors[key] for key, name in names.items() if name})


def from_bgr(model: keras.Model, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of a network for pictures in blue, green, red -> for red, green, blue: the first kernel, [out, 3,
    height, width], turned.
    """
    first = next(slot.key for slot in slots(model) if slot.is_kernel)
    return {key: tensor[:, ::-1] if key == first else tensor for key, tensor in tensors.items()}


def _joined(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    parts: dict[str, list[str]] = {}
    for key in sorted(filter(PART.search, tensors)):
        parts.setdefault(PART.sub("", key), []).append(key)
    whole = {key: tensor for key, tensor in tensors.items() if not PART.search(key)}
    return whole | {name: np.concatenate([tensors[key] for key in keys]) for name, keys in parts.items()}


def _first(problem: str, keys: list[str]) -> str:
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{problem}: {keys[0]}{more}" if keys else ""


def _block_names(model: keras.Model) -> list[str]:
    found = (re.match(r"blocks\.(\d+\.\d+)\.", layer.name) for layer in model.layers)
    return list(dict.fromkeys(m.group(1) for m in found if m))


def _rename(key: str, renames: Sequence[tuple[str, str]], blocks: list[str]) -> str:
    for pattern, replacement in renames:
        match = re.search(pattern, key)
        if match:
            again = replacement.startswith(">")
            found = re.sub(pattern, _counted(replacement.removeprefix(">"), match, blocks), key)
            return _rename(found, renames, blocks) if again else found
    return key


def _counted(replacement: str, match: re.Match[str], blocks: list[str]) -> str:
    def name(place: re.Match[str]) -> str:
        group = 1 if place["what"] == "block" else int(place["what"])
        number, more = int(match.group(group)), place["more"] or "+0"
        number = number // int(more[1:]) if more[0] == "/" else number + int(more)
        if place["what"] != "block":
            return str(number)
        return blocks[number] if -len(blocks) <= number < len(blocks) else f"?{number}"

    return re.sub(r"\{(?P<what>block|[1-9])(?P<more>[+/-]\d+)?\}", name, replacement)
