"""model.onnx: images float32 [batch, h, w, 3], RGB 0..255 -> features, logits, probabilities.

The graph is frozen before tf2onnx sees it: its other ways turn captured constants into inputs. Opset 17,
because 18 leaves more Transposes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tf2onnx

from exporters.errors import ExportError
from exporters.subject import OUTPUTS, Run, Subject
from exporters.tracing import check_size, frozen

OPSET = 17


def write(model: Subject, file: Path) -> None:
    check_size(model, "ONNX")
    proto = convert(model)
    _name_batch(proto)
    _check(model, proto)
    onnx.helper.set_model_props(
        proto,
        {
            "name": model.facts.name,
            "labels": json.dumps(model.facts.labels, ensure_ascii=False),
            "preprocessing": json.dumps(model.facts.preprocessing.to_dict()),
        },
    )
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, file)


def convert(model: Subject) -> onnx.ModelProto:
    """The network as ONNX, its tensors named as the module says."""

    graph = frozen(model)
    inputs = [tensor.name for tensor in graph.inputs]
    outputs = [tensor.name for tensor in graph.outputs]
    # TensorFlow orders a dictionary's tensors by key.
    renamed = dict(zip(inputs + outputs, ["images", *sorted(OUTPUTS)], strict=True))
    proto, _ = tf2onnx.convert.from_graph_def(
        graph.graph.as_graph_def(),
        name=model.model.name,
        input_names=inputs,
        output_names=outputs,
        opset=OPSET,
        tensors_to_rename=renamed,
        custom_op_handlers={"Erfc": (_erfc, [])},
    )
    return proto


def _erfc(context: Any, node: Any, name: str, arguments: Any) -> Any:
    """1 - Erf(x), which tf2onnx lacks: TensorFlow's exact GELU is made of it."""
    one = context.make_const(f"{name}_one", np.ones((), np.float32))
    erf = context.make_node("Erf", node.input, name=f"{name}_erf")
    context.remove_node(name)
    return context.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=node.output)


def reopen(model: Subject, file: Path) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images}), strict=True))

    return run


def _name_batch(proto: onnx.ModelProto) -> None:
    """tf2onnx names the batch dimension by chance."""
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _check(model: Subject, proto: onnx.ModelProto) -> None:
    """tf2onnx leaves what it cannot express in the graph, without an error."""
    nodes = proto.graph.node
    unknown = sorted(
        {n.op_type for n in nodes if n.domain or not onnx.defs.has(n.op_type, max_inclusive_version=OPSET)}
    )
    inputs = [value.name for value in proto.graph.input]
    if unknown or inputs != ["images"]:
        raise ExportError(
            f"{model.model.name} cannot be expressed in ONNX: unknown operations {unknown}, inputs {inputs}"
        )
