"""`fuse`: a trained network -> the one to deploy: convolutions have absorbed what is linear around them.

A convolution followed by a batch norm is a convolution; so is a sum of convolutions, norms and identities of
one map (Ding et al., arXiv 2101.03697). The graph is walked once: a value that is linear in a map stays a
formula until a layer that is not linear needs it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from zoo.build import count_macs
from zoo.classifier import Facts, attach
from zoo.errors import ZooError
from zoo.layers import GroupedConv2D, PointwiseConv2D, Scale
from zoo.outputs import nodes
from zoo.precision import in_one_graph

Array = NDArray[np.float64]
Pads = tuple[tuple[int, int], tuple[int, int]]
CONVOLUTIONS = (layers.Conv2D, GroupedConv2D, PointwiseConv2D, layers.DepthwiseConv2D)
SUMS = (layers.Add, layers.Subtract)
NO_PADS: Pads = ((0, 0), (0, 0))


@dataclass(frozen=True)
class Linear:
    """A map not yet computed: `source` by a kernel [height, width, in / groups, out], plus a bias [out].

    parts: the layers that it stands for. conv: the one of them whose kernel is the largest, with its stride,
    type and pads (None where they depend on sides that are not known); None for a mere factor per channel, a
    kernel [1, 1, 1, C].
    """

    source: Any
    kernel: Array
    bias: Array
    parts: tuple[Any, ...] = ()
    conv: Any = None
    groups: int = 1
    pads: Pads | None = NO_PADS


@dataclass(frozen=True)
class Padded:
    """A map with a border of zeros, not yet computed."""

    source: Any
    layer: Any


def fuse(model: keras.Model) -> keras.Model:
    """A new model for inference: the same outputs up to rounding, the same facts, fewer parameters.

    Every batch norm behind a convolution is folded into it, and every block of parallel convolutions, norms
    and identities becomes one convolution, named BLOCK.reparam_conv. The model given is not changed. A card
    gets the new numbers of parameters and multiply-adds. Raises ZooError for a layer that is used twice.
    """
    model = in_one_graph(model)
    calls = nodes(model)
    if twice := [name for name, times in Counter(node.operation.name for node in calls).items() if times > 1]:
        raise ZooError(f'{model.name} cannot be fused: it uses the layer "{twice[0]}" twice')
    uses = Counter(id(t) for t in [*model.outputs, *(t for node in calls for t in node.input_tensors)])
    values: dict[int, Any] = {}
    for node in calls:
        value = _value(node, values)
        if isinstance(value, (Linear, Padded)) and uses[id(node.output_tensors[0])] > 1:
            value = compute(value)
        values.update(zip(map(id, node.output_tensors), keras.tree.flatten(value), strict=True))
    inputs = keras.tree.map_structure(lambda t: values[id(t)], model.input)
    outputs = keras.tree.map_structure(lambda t: compute(values[id(t)]), model.output)
    fused = keras.Model(inputs, outputs, name=model.name)
    known = getattr(model, "zoo", None)
    return attach(fused, _recounted(known, fused)) if known else fused


def has_parallel_convolutions(model: keras.Model) -> bool:
    """Whether a sum in it is of convolutions, norms and identities of one map, for `fuse` to make one of."""
    calls = nodes(in_one_graph(model))
    makers = {id(tensor): node for node in calls for tensor in node.output_tensors}
    sums = [node for node in calls if type(node.operation) in SUMS]
    return any(_only_map(node.input_tensors, makers) is not None for node in sums)


def _only_map(terms: list[Any], makers: dict[int, Any]) -> Any:
    """What all terms are linear in, by one convolution at most; None where that is not one map."""
    maps = {id(taken): taken for taken in (_map_of(term, makers) for term in terms)}
    return maps.popitem()[1] if len(maps) == 1 else None


def _map_of(term: Any, makers: dict[int, Any]) -> Any:
    node = makers[id(term)]
    kind, taken = type(node.operation), node.input_tensors
    if kind in (layers.BatchNormalization, Scale):
        return _map_of(taken[0], makers)
    if kind in SUMS:
        only = _only_map(taken, makers)
        return term if only is None else only
    if kind not in CONVOLUTIONS:
        return term
    before = makers[id(taken[0])]
    return before.input_tensors[0] if type(before.operation) is layers.ZeroPadding2D else taken[0]


def _recounted(known: Facts, model: keras.Model) -> Facts:
    size = known.preprocessing.input_size
    any_size = None in model.input_shape[1:3]
    numbers = {
        "parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "macs": count_macs(keras.models.clone_model(model, keras.Input((*size, 3))) if any_size else model),
        "macs_size": size[0],
    }
    return replace(known, card=known.card | {k: v for k, v in numbers.items() if k in known.card})


def _value(node: Any, values: dict[int, Any]) -> Any:
    """What the layer gives: a Linear or a Padded where possible, else the output of the same layer again."""
    layer = node.operation
    if isinstance(layer, layers.InputLayer):
        return keras.Input(batch_shape=layer.batch_shape, dtype=layer.dtype, name=layer.name)
    linear = _linear(layer, [values[id(t)] for t in node.input_tensors])
    if linear is not None:
        return linear
    args, kwargs = keras.tree.map_structure(
        lambda t: compute(values[id(t)]) if isinstance(t, keras.KerasTensor) else t,
        (node.arguments.args, node.arguments.kwargs),
    )
    return _again(layer, *args, **kwargs)


def _again(layer: Any, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(layer, layers.Layer):  # an operation, such as the + between tensors
        return layer(*args, **kwargs)
    copy = type(layer).from_config(layer.get_config())
    output = copy(*args, **kwargs)
    copy.set_weights(layer.get_weights())
    return output


def _linear(layer: Any, inputs: list[Any]) -> Linear | Padded | None:
    kind = type(layer)
    if kind is layers.ZeroPadding2D:
        return Padded(compute(inputs[0]), layer)
    if kind in CONVOLUTIONS:
        return _convolution(layer, inputs[0])
    if kind is layers.BatchNormalization:
        return _scaled(_of(inputs[0]), *_factors(layer), layer)
    if kind is Scale:
        return _scaled(_of(inputs[0]), _array(layer.scale).reshape(-1), np.zeros(1), layer)
    if kind is layers.Add:
        return _sum([_of(value) for value in inputs], layer)
    if kind is layers.Subtract:
        first, second = map(_of, inputs)
        return _sum([first, replace(second, kernel=-second.kernel, bias=-second.bias)], layer)
    return None


def _of(value: Any) -> Linear:
    if isinstance(value, Linear):
        return value
    source = compute(value)
    channels = source.shape[-1]
    return Linear(source, np.ones((1, 1, 1, channels)), np.zeros(channels))


def _scaled(value: Linear, factor: Array, shift: Array, layer: Any) -> Linear:
    parts = (*value.parts, layer)
    return replace(value, kernel=value.kernel * factor, bias=value.bias * factor + shift, parts=parts)


def _factors(norm: Any) -> tuple[Array, Array]:
    factor = 1 / np.sqrt(_array(norm.moving_variance) + norm.epsilon)
    factor = factor * _array(norm.gamma) if norm.scale else factor
    shift = -_array(norm.moving_mean) * factor
    return factor, shift + _array(norm.beta) if norm.center else shift


def _convolution(layer: Any, value: Any) -> Linear | None:
    """None where it is not linear."""
    if layer.activation is not keras.activations.linear:
        return None
    inside = isinstance(value, Padded) and layer.padding == "valid"
    source = value.source if inside else compute(value)
    pads = value.layer.padding if inside else _pads(layer, source.shape)
    kernel, groups = _array(layer.kernel), getattr(layer, "groups", 1)
    if isinstance(layer, layers.DepthwiseConv2D):
        kernel, groups = kernel.transpose(0, 1, 3, 2), kernel.shape[2]
    if len(kernel.shape) != 4 or kernel.shape[3] != layer.output.shape[-1]:
        return None
    bias = _array(layer.bias) if layer.use_bias else np.zeros(kernel.shape[3])
    return Linear(source, kernel, bias, (layer,), layer, groups, pads)


def _pads(layer: Any, shape: tuple[int | None, ...]) -> Pads | None:
    if layer.padding == "valid":
        return NO_PADS
    pads = []
    for size, kernel, stride, dilation in zip(
        shape[1:3], layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        reach = dilation * (kernel - 1)
        if stride > 1 and size is None and reach:
            return None
        total = max(reach - (size - 1) % stride, 0) if stride > 1 and size else reach
        pads.append((total // 2, total - total // 2))
    return pads[0], pads[1]


def _sum(terms: list[Linear], layer: Any) -> Linear | None:
    """One convolution, where all are of the same map and fit into the largest."""
    convolutions = [term for term in terms if term.conv is not None]
    if not convolutions or len({id(term.source) for term in terms}) > 1:
        return None
    largest = max(convolutions, key=lambda term: term.kernel.shape[0] * term.kernel.shape[1])
    kernels = [kernel for term in terms if (kernel := _fitted(term, largest)) is not None]
    if len(kernels) < len(terms):
        return None
    parts = (*(part for term in terms for part in term.parts), layer)
    bias = np.sum([term.bias for term in terms], 0)
    return replace(largest, kernel=np.sum(kernels, 0), bias=bias, parts=parts)


def _fitted(term: Linear, largest: Linear) -> Array | None:
    """The term's kernel in the largest one's frame, so that both look at the same places."""
    if term.pads is None or largest.pads is None:
        return term.kernel if term is largest else None
    frame = np.zeros_like(largest.kernel)
    if term.conv is None:
        channels = np.arange(frame.shape[3])
        if _steps(largest.conv) != ((1, 1), (1, 1)) or largest.source.shape[-1] != len(channels):
            return None
        frame[largest.pads[0][0], largest.pads[1][0], channels % frame.shape[2], channels] = term.kernel
        return frame
    kernel = _spread(term, largest)
    top, left = (ours[0] - own[0] for ours, own in zip(largest.pads, term.pads, strict=True))
    bottom, right = top + kernel.shape[0], left + kernel.shape[1]
    same = _steps(largest.conv) in (_steps(term.conv), (term.conv.strides, (1, 1)))
    if not same or term.groups != largest.groups or min(top, left) < 0:
        return None
    if bottom > frame.shape[0] or right > frame.shape[1]:
        return None
    frame[top:bottom, left:right] = kernel
    return frame


def _spread(term: Linear, largest: Linear) -> Array:
    """The term's kernel, with zeros between its places where it is dilated and the largest one is not."""
    if _steps(term.conv)[1] == _steps(largest.conv)[1]:
        return term.kernel
    down, right = term.conv.dilation_rate
    height, width, *channels = term.kernel.shape
    kernel = np.zeros(((height - 1) * down + 1, (width - 1) * right + 1, *channels))
    kernel[::down, ::right] = term.kernel
    return kernel


def _steps(conv: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    return tuple(conv.strides), tuple(conv.dilation_rate)


def compute(value: Any) -> Any:
    """A Linear or Padded as a tensor of the new model; a tensor as it is."""
    if isinstance(value, Padded):
        return _again(value.layer, value.source)
    if not isinstance(value, Linear):
        return value
    x = value.source
    if value.conv is None:
        for layer in value.parts:
            x = _again(layer, x)
        return x
    name = _name(value)
    if value.conv.padding == "valid" and value.pads != NO_PADS:
        x = layers.ZeroPadding2D(value.pads, name=f"{name}.pad")(x)
    config = value.conv.get_config() | {"name": name, "use_bias": True}
    config.pop("lora_rank", None)  # what the update adds is in the kernel
    conv = type(value.conv).from_config(config)
    x = conv(x)
    depthwise = isinstance(conv, layers.DepthwiseConv2D)
    conv.set_weights([value.kernel.transpose(0, 1, 3, 2) if depthwise else value.kernel, value.bias])
    return x


def _name(value: Linear) -> str:
    """The convolution's own name, or the reference's for a fused block; by its sum, where its layers' names
    share none.
    """
    sums = [part.name for part in value.parts if isinstance(part, SUMS)]
    if not sums:
        return value.conv.name
    steps = zip(*(part.name.split(".") for part in value.parts), strict=False)
    block = [step[0] for step in takewhile(lambda step: len(set(step)) == 1, steps)]
    return ".".join([*(block or sums[-1:]), "reparam_conv"])


def _array(variable: Any) -> Array:
    return keras.ops.convert_to_numpy(variable).astype(np.float64)
