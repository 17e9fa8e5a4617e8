"""Layers of Keras's as one operation of ONNX each, where TensorFlow's graph has a dozen: runtimes know it,
and tf2onnx's optimisers have less to walk through. The swapped layers are for tracing alone.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from tf2onnx.graph_matcher import GraphMatcher, OpTypePattern

from zoo.outputs import Borrowed, called_anew

HALF_ROOT = float(np.float32(math.sqrt(0.5)))  # as float32 holds it


def swapped(model: keras.Model) -> keras.Model:
    """The same function over the same variables."""
    swap = cache(_swap)  # a layer that is called twice is one

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return swap(layer)(*args, **kwargs)

    return called_anew(model, call)


def _swap(layer: Any) -> Any:
    if type(layer) is layers.LayerNormalization and _over_channels(layer):
        return PlainNorm(layer)
    if type(layer) is layers.GroupNormalization and _in_groups(layer):
        return PlainGroupNorm(layer)
    if type(layer) is layers.UpSampling2D and layer.interpolation == "nearest":
        return PlainUpSampling(layer)
    if type(layer) is layers.Dense and _of_places(layer):
        return PlainLinear(layer)
    return layer


def _in_groups(layer: Any) -> bool:
    """A group norm of maps, its groups of neighbouring channels."""
    shape = layer.input.shape
    return layer.axis in (-1, 3) and len(shape) == 4 and layer.compute_dtype == "float32"


def _over_channels(layer: Any) -> bool:
    single = len(layer.axis) == 1 and layer.axis[0] in (-1, len(layer.input.shape) - 1)
    return single and layer.compute_dtype == "float32" and not getattr(layer, "rms_scaling", False)


def _of_places(layer: Any) -> bool:
    """A Dense layer of more than vectors, whose kernel is neither computed nor quantized."""
    kernel = layer.kernel
    plain = isinstance(kernel, keras.Variable) and kernel.dtype == layer.compute_dtype == "float32"
    return plain and len(layer.input.shape) > 2


class PlainLinear(Borrowed):
    """A Dense layer as one product; Keras's takes the map apart and puts it together again."""

    def call(self, x: Any) -> Any:
        y = tf.matmul(x, tf.convert_to_tensor(self.layer.kernel))
        y = y if self.layer.bias is None else y + self.layer.bias
        return self.layer.activation(y)


class PlainNorm(Borrowed):
    """A norm over the channels as it is defined and Grappler orders it, which `norms_as_one` knows again."""

    def call(self, x: Any) -> Any:
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        factor = tf.math.rsqrt(variance + self.layer.epsilon)
        factor = factor if self.layer.gamma is None else self.layer.gamma * factor
        y = centred * factor
        return y if self.layer.beta is None else y + self.layer.beta


class PlainGroupNorm(Borrowed):
    """A group norm as it is defined, which `group_norms_as_one` knows again."""

    def call(self, x: Any) -> Any:
        groups, shape, free = self.layer.groups, x.shape, tf.shape(x)
        places = -1 if None in shape[1:3] else shape[1] * shape[2]
        batch = free[0] if places == -1 else -1
        y = tf.reshape(x, [batch, places, groups, shape[3] // groups])
        centred = y - tf.reduce_mean(y, axis=[1, 3], keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=[1, 3], keepdims=True)
        y = centred * tf.math.rsqrt(variance + self.layer.epsilon)
        y = tf.reshape(y, free if places == -1 else [-1, *shape[1:]])
        y = y if self.layer.gamma is None else y * self.layer.gamma
        return y if self.layer.beta is None else y + self.layer.beta


class PlainUpSampling(Borrowed):
    """Every place repeated, as one operation; Keras's takes each axis apart and puts it together again."""

    def call(self, x: Any) -> Any:
        free = tf.shape(x)
        sides = [x.shape[axis] or free[axis] for axis in (1, 2)]
        size = [side * factor for side, factor in zip(sides, self.layer.size, strict=True)]
        return tf.compat.v1.image.resize_nearest_neighbor(x, size)


def _mean(of: OpTypePattern, name: str) -> OpTypePattern:
    return OpTypePattern("Mean", name=name, inputs=[of, OpTypePattern("Const", name=f"{name} over")])


_CENTRED = OpTypePattern(
    "Sub", name="centred", inputs=[OpTypePattern("*", name="x"), _mean(OpTypePattern("*"), "mean")]
)
_VARIANCE = _mean(OpTypePattern("Square", name="square", inputs=[OpTypePattern("*")]), "variance")
_RECIPROCAL = OpTypePattern(
    "Rsqrt", inputs=[OpTypePattern("Add|AddV2", inputs=[_VARIANCE, OpTypePattern("Const", name="epsilon")])]
)
_SCALED = OpTypePattern("Mul", inputs=[_RECIPROCAL, OpTypePattern("Const", name="scale")])
NORMS = [OpTypePattern("Mul", name="normed", inputs=[_CENTRED, factor]) for factor in (_SCALED, _RECIPROCAL)]


def norms_as_one(graph: Any, operations: Any) -> Any:
    """A rewriter of tf2onnx's: what PlainNorm has become is LayerNormalization."""
    found = [
        match for norm in NORMS for match in GraphMatcher(norm, allow_reorder=True).match_ops(operations)
    ]
    for match in filter(lambda match: _is_norm(graph, match), found):
        normed, x = match.get_op("normed"), _normed_by(match)
        channels = graph.get_shape(x)[-1]
        last, shift = _shifted(graph, normed, channels)
        scale = match.get_tensor("scale")
        scale = scale or graph.make_const(f"{normed.name}_ones", np.ones(channels, np.float32)).output[0]
        norm = graph.make_node(
            "LayerNormalization",
            [x, scale, *([shift] if shift else [])],
            attr={"axis": -1, "epsilon": _number(match.get_op("epsilon"))},
            shapes=[graph.get_shape(x)],
            dtypes=[graph.get_dtype(x)],
            skip_conversion=True,
        )
        graph.replace_all_inputs(last.output[0], norm.output[0])
    return graph.get_nodes()


def _is_norm(graph: Any, match: Any) -> bool:
    """Whether all is of the same tensor, over its last axis."""
    x, scale = _normed_by(match), match.get_tensor("scale")
    shape = graph.get_shape(x)
    if not shape or shape[-1] < 1 or (scale and graph.get_shape(scale) != shape[-1:]):
        return False
    return _is_over(match, [-1], [len(shape) - 1])


def _normed_by(match: Any) -> str:
    """The tensor as it is called now: before the match, a norm may have been replaced that made it."""
    return match.get_op("centred").input[0]


def _is_over(match: Any, *axes: list[int]) -> bool:
    """Whether mean and variance are of the same tensor over these axes, or those."""
    over = [match.get_op(f"{name} over").get_tensor_value(as_list=False) for name in ("mean", "variance")]
    same = match.get_op("mean").input[0] == _normed_by(match)
    same = same and match.get_op("square").input[0] == match.get_op("centred").output[0]
    return same and all(each.ravel().tolist() in axes for each in over)


def group_norms_as_one(graph: Any, operations: Any) -> Any:
    """A rewriter of tf2onnx's: what PlainGroupNorm has become, up to its scale, is InstanceNormalization of
    the groups, between Transposes that tf2onnx's optimisers carry to the next ones.
    """
    for match in GraphMatcher(NORMS[1], allow_reorder=True).match_ops(operations):
        normed, apart = match.get_op("normed"), match.get_op("centred").inputs[0]
        together = graph.find_output_consumers(normed.output[0])
        if apart.type == "Reshape" and len(together) == 1 and _is_over(match, [1, 3]):
            _in_groups_of(graph, apart, together[0], match)
    return graph.get_nodes()


def _in_groups_of(graph: Any, apart: Any, together: Any, match: Any) -> None:
    def node(kind: str, taken: list[str], shape: list[int], **attributes: Any) -> str:
        made = graph.make_node(
            kind, taken, attr=attributes, shapes=[shape], dtypes=[dtype], skip_conversion=True
        )
        return made.output[0]

    def constant(what: str, values: Any, kind: Any = np.float32) -> str:
        return graph.make_const(f"{together.name}_{what}", np.array(values, kind)).output[0]

    maps, dtype = apart.input[0], graph.get_dtype(apart.input[0])
    batch, height, width, channels = graph.get_shape(maps)
    groups = graph.get_shape(apart.output[0])[2]
    turned = node("Transpose", [maps], [batch, channels, height, width], perm=[0, 3, 1, 2])
    rows = node("Reshape", [turned, constant("rows", [0, groups, -1], np.int64)], [batch, groups, -1])
    scale, shift = constant("ones", np.ones(groups)), constant("zeros", np.zeros(groups))
    epsilon = _number(match.get_op("epsilon"))
    normed = node("InstanceNormalization", [rows, scale, shift], [batch, groups, -1], epsilon=epsilon)
    if min(height, width) < 0:
        sides = graph.make_node("Shape", [turned], skip_conversion=True).output[0]
    else:
        sides = constant("sides", [0, channels, height, width], np.int64)
    whole = node("Reshape", [normed, sides], [batch, channels, height, width])
    back = node("Transpose", [whole], [batch, height, width, channels], perm=[0, 2, 3, 1])
    graph.replace_all_inputs(together.output[0], back)


def _number(constant: Any) -> float:
    return float(constant.get_tensor_value(as_list=False).ravel()[0])


def _shifted(graph: Any, node: Any, channels: int) -> tuple[Any, str | None]:
    """The addition behind the node, where nothing else takes it, of a number for each channel, and their
    tensor; else the node.
    """
    behind = graph.find_output_consumers(node.output[0])
    if len(behind) == 1 and behind[0].type in ("Add", "AddV2"):
        numbers = next((one for one in behind[0].inputs if one is not node), node)
        if numbers.is_const() and graph.get_shape(numbers.output[0]) == [channels]:
            return behind[0], numbers.output[0]
    return node, None


def erfc(graph: Any, node: Any, name: str, arguments: Any) -> Any:
    """1 - Erf(x), which tf2onnx lacks; TensorFlow's exact GELU is made of it, x being -z / sqrt(2): there
    1 + Erf(z * sqrt(1/2)), through which tf2onnx's optimisers carry a Transpose.
    """
    one = graph.make_const(f"{name}_one", np.ones(1, np.float32)).output[0]
    z, taken = _of_gelu(node.inputs[0]), node.input[0]
    if z is not None:
        half = graph.make_const(f"{name}_half", np.full(1, HALF_ROOT, np.float32)).output[0]
        taken = graph.make_node("Mul", [z, half]).output[0]
    erf = graph.make_node("Erf", [taken], name=f"{name}_erf").output[0]
    graph.remove_node(name)
    return graph.make_node("Sub" if z is None else "Add", [one, erf], name=name, outputs=node.output)


def _of_gelu(node: Any) -> str | None:
    """z, of what computes -z / sqrt(2)."""
    if node.type != "Mul":
        return None
    negative = [one for one in node.inputs if one.type == "Neg"]
    factors = [one for one in node.inputs if one.is_const()]
    halves = [one for one in factors if np.allclose(one.get_tensor_value(), HALF_ROOT, rtol=1e-6)]
    return negative[0].input[0] if negative and halves else None
