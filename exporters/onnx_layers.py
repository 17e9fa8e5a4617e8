"""What layers have become in TensorFlow's graph, as one operation of ONNX each: runtimes know it, and
tf2onnx's optimisers have less to walk through.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tf2onnx.graph_matcher import GraphMatcher, OpTypePattern

HALF_ROOT = float(np.float32(math.sqrt(0.5)))  # as float32 holds it


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
