"""The same network, the same bytes: tf2onnx orders and names by chance, by sets and by a running number."""

from __future__ import annotations

import re
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from tf2onnx import utils
from tf2onnx.graph import Graph, Node

WEIGHTED = ("Conv", "Gemm", "MatMul")

FIND = Graph.find_output_consumers
UPDATE = Node.update_proto
_CONVERTING = threading.Lock()


@contextmanager
def steady() -> Iterator[None]:
    """In here tf2onnx optimises the same graph in the same way: it numbers from 1, and walks the nodes after
    a tensor by name instead of by the hashes of their names. One conversion at a time.

    Nor does it copy each constant into its protocol buffer again after every optimiser: a buffer frees
    nothing, and VGG-11's 0.5 GiB of weights took 20.
    """

    def find_in_order(graph: Any, name: str) -> list[Any]:
        return sorted(FIND(graph, name), key=lambda node: node.name)

    def update_proto(node: Any, *storage: Any) -> None:
        if not node.is_const():
            UPDATE(node, *storage)

    with (
        _CONVERTING,
        patch.object(utils, "INTERNAL_NAME", 1),
        patch.object(Graph, "find_output_consumers", find_in_order),
        patch.object(Node, "update_proto", update_proto),
        patch.object(Node, "__hash__", lambda node: zlib.crc32(node.name.encode())),
    ):
        yield


def canonical(proto: onnx.ModelProto, *kept: str) -> None:
    """Nodes in the order in which the outputs need them, constants in that of the nodes; a constant is named
    after the first node that takes it. kept: tensors that keep their names, as inputs and outputs do.
    """
    graph = proto.graph
    nodes = list(_needed(graph))
    names = {name: name for name in kept} | {
        value.name: value.name for value in (*graph.input, *graph.output)
    }
    constants = {tensor.name: tensor for tensor in graph.initializer}
    taken: Counter[str] = Counter()
    order: list[onnx.TensorProto] = []
    for node in nodes:
        node.name = _name(node, taken)
        for name in node.output:
            names.setdefault(name, f"{node.name}:{list(node.output).index(name)}")
        for place, name in enumerate(node.input):
            if name in constants and name not in names:
                names[name] = f"{node.name}/constant_{place}"
                order.append(constants[name])
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in order:
        tensor.name = names[tensor.name]
    tensors = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in order]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.initializer[:]
    for value in [value for value in graph.value_info if value.name not in kept]:
        graph.value_info.remove(value)
    graph.node.extend(copies)
    graph.initializer.extend(tensors)


def channels_first(graph: onnx.GraphProto) -> None:
    """Turn the pictures before they are normalised: by the three numbers of a pixel's channels ONNX Runtime
    computes ten times as long as by the planes of three channels.
    """
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    steps = list(_alone_after("images", graph, arrays))
    if len(steps) < 2 or steps[-1].op_type != "Transpose":
        return
    *steps, turn = steps
    for node in steps:
        for place, taken in enumerate(node.input):
            if taken in arrays and arrays[taken].size > 1:
                node.input[place] = f"{node.name}/{place}/planes"
                planes = onnx.numpy_helper.from_array(arrays[taken].reshape(-1, 1, 1), node.input[place])
                graph.initializer.append(planes)
    steps[-1].output[0], turn.output[0] = turn.output[0], "images/turned"
    steps[0].input[list(steps[0].input).index("images")] = turn.output[0]
    turn.input[0] = "images"


def _alone_after(
    name: str, graph: onnx.GraphProto, arrays: Mapping[str, np.ndarray]
) -> Iterator[onnx.NodeProto]:
    """What alone takes the tensor, what alone takes that, and so on: normalisations up to a Transpose."""
    takers = [node for node in graph.node if name in node.input]
    if len(takers) == 1 and takers[0].op_type == "Transpose":
        yield takers[0]
    elif len(takers) == 1 and _is_by_channel(takers[0], name, arrays):
        yield takers[0]
        yield from _alone_after(takers[0].output[0], graph, arrays)


def _is_by_channel(node: onnx.NodeProto, name: str, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether it computes with the tensor and with one number, or one for each of its last axis."""
    numbers = [arrays.get(taken) for taken in node.input if taken != name]
    flat = all(array is not None and array.size in (1, *array.shape[-1:]) for array in numbers)
    return node.op_type in ("Add", "Sub", "Mul", "Div") and len(numbers) == 1 and flat


def _needed(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node after those whose outputs it takes, from the graph's first output on."""
    makers = {name: node for node in graph.node for name in node.output}
    done: set[str] = set()
    stack = [(output.name, False) for output in reversed(graph.output)]
    while stack:
        name, ready = stack.pop()
        node = makers.get(name)
        if node is None or node.output[0] in done:
            continue
        if ready:
            done.add(node.output[0])
            yield node
        else:
            stack.append((name, True))
            stack.extend((taken, False) for taken in reversed(node.input))


def _name(node: onnx.NodeProto, taken: Counter[str]) -> str:
    """A layer's own name for what holds its weights. Others have one by chance where equal nodes became one:
    they are counted.
    """
    own = node.op_type in WEIGHTED
    name = re.sub(r"__\d+", "", node.name) if own else node.op_type
    taken[name] += 1
    return name if own and taken[name] == 1 else f"{name}_{taken[name]}"
