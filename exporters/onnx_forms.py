"""The forms that ONNX Runtime and others know operations by, where tf2onnx writes them otherwise."""

from __future__ import annotations

import math
from itertools import starmap
from typing import Any

import numpy as np
import onnx

from exporters.onnx_layers import HALF_ROOT


def without_idle_reshapes(graph: Any) -> Any:
    """tf2onnx's graph. Its optimisers leave Reshapes that change nothing; behind one ONNX Runtime does not
    see that the maps of a sum are of one size.
    """
    for node in [node for node in graph.get_nodes() if node.type == "Reshape"]:
        before, after = graph.get_shape(node.input[0]), graph.get_shape(node.output[0])
        if before and before == after and -1 not in before[1:] and node.output[0] not in graph.outputs:
            graph.replace_all_inputs(node.output[0], node.input[0])
    return graph


def cuts_told(graph: onnx.GraphProto) -> None:
    """A Slice names the axes that it cuts, and no others: behind one of the batch nobody knows its size."""
    short = [one for one in graph.initializer if math.prod(one.dims) <= 4]
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in short}
    for node in graph.node:
        if node.op_type != "Slice" or not all(taken in arrays for taken in node.input[1:]):
            continue
        starts, ends, *rest = (arrays[taken] for taken in node.input[1:])
        axes = rest[0] if rest else np.arange(len(starts), dtype=starts.dtype)
        steps = rest[1] if len(rest) > 1 else np.ones_like(starts)
        cut = (starts != 0) | (ends < np.iinfo(np.int32).max) | (steps != 1)
        if cut.all() or not cut.any():
            continue
        for place, values in enumerate((starts, ends, axes, steps), start=1):
            name = f"{node.name}/{place}/cut"
            graph.initializer.append(onnx.numpy_helper.from_array(values[cut], name))
            node.input[place : place + 1] = [name]


def borders_told(graph: onnx.GraphProto) -> None:
    """No border is four zeros: where they are left out, ONNX Runtime sees no maps of one size behind it."""
    for node in graph.node:
        told = {attribute.name: attribute for attribute in node.attribute}
        windowed = node.op_type in ("Conv", "MaxPool", "AveragePool") and "kernel_shape" in told
        if windowed and not told.keys() & {"pads", "auto_pad"}:
            sides = told["kernel_shape"].ints
            node.attribute.append(onnx.helper.make_attribute("pads", [0, 0] * len(sides)))


def gelu_by_division(graph: onnx.GraphProto) -> None:
    """z / 2 * (1 + Erf(z / sqrt(2))) where `erfc` has multiplied, of numbers that are no maps of 1 x 1: the
    form that runtimes know GELU by.
    """
    makers = {name: node for node in graph.node for name in node.output}
    takers = {name: node for node in graph.node for name in node.input}
    numbers = _only_numbers(graph)

    def takes(node: onnx.NodeProto | None, kind: str, number: float, instead: float) -> bool:
        """Whether it is such an operation with the number, which then is the other."""
        if node is None or node.op_type != kind:
            return False
        for place, taken in enumerate(node.input):
            if numbers.get(taken) == number:
                node.input[place] = f"{node.name}/number"
                one = np.full(1, instead, np.float32)
                graph.initializer.append(onnx.numpy_helper.from_array(one, node.input[place]))
                return True
        return False

    for erf in [node for node in graph.node if node.op_type == "Erf"]:
        scaled, raised = makers.get(erf.input[0]), takers.get(erf.output[0])
        if scaled and takes(scaled, "Mul", HALF_ROOT, np.sqrt(2)):
            scaled.op_type = "Div"
            if raised and takes(raised, "Add", 1, 1) and raised.output[0] in takers:
                for halved in map(makers.get, takers[raised.output[0]].input):
                    takes(halved, "Mul", 0.5, 0.5)


def _only_numbers(graph: onnx.GraphProto) -> dict[str, float]:
    """The constants of one number, by name."""
    single = [tensor for tensor in graph.initializer if math.prod(tensor.dims) == 1]
    return {tensor.name: onnx.numpy_helper.to_array(tensor).item() for tensor in single}


def hard_swish_as_one(graph: onnx.GraphProto) -> None:
    """x * Clip(x + 3, 0, 6) / 6 is HardSwish, once tf2onnx's optimisers, which don't know it, are done; what
    gates other maps than x is HardSigmoid.
    """
    makers = {name: node for node in graph.node for name in node.output}
    numbers = _only_numbers(graph)

    def besides(name: str | None, kind: str, *given: float) -> str | None:
        """What the tensor's maker, an operation of this kind, takes besides these numbers."""
        node = makers.get(name or "")
        if node is None or node.op_type != kind:
            return None
        found = [numbers[taken] for taken in node.input if taken in numbers]
        (rest, *others) = [taken for taken in node.input if taken not in numbers] or [None]
        return rest if not others and len(found) == len(given) and np.allclose(found, given) else None

    def becomes(node: onnx.NodeProto, kind: str, x: str, **options: float) -> None:
        node.op_type, node.input[:] = kind, [x]
        node.attribute.extend(starmap(onnx.helper.make_attribute, options.items()))

    products = [node for node in graph.node if node.op_type == "Mul"]
    gates = {
        node.output[0]: x
        for node in products
        if (x := besides(besides(besides(node.output[0], "Mul", 1 / 6), "Clip", 0, 6), "Add", 3))
    }
    for node in products:
        if node.output[0] in gates:
            becomes(node, "HardSigmoid", gates[node.output[0]], alpha=1 / 6, beta=0.5)
        elif x := next((x for x, gate in (node.input, node.input[::-1]) if gates.get(gate) == x), None):
            becomes(node, "HardSwish", x)
