"""model.onnx: images float32 [batch, h, w, 3], RGB 0..255 -> features, logits, probabilities.

The graph is frozen before tf2onnx sees it: its other ways turn captured constants into inputs. Opset 17,
because 18 leaves more Transposes. Weights beyond 2 GiB are beside it, in model.onnx.data: tf2onnx gets them
as inputs, which then become the file's external data.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from tf2onnx import optimizer, tf_loader
from tf2onnx.tfonnx import process_tf_graph

from exporters import graph
from exporters.batches import in_batches
from exporters.errors import ExportError
from exporters.onnx_forms import (
    borders_told,
    cuts_told,
    gelu_by_division,
    hard_swish_as_one,
    without_idle_reshapes,
)
from exporters.onnx_layers import erfc, group_norms_as_one, norms_as_one
from exporters.onnx_order import canonical, channels_first, steady
from exporters.parity import Parity, Reference, batched, compare_as
from exporters.pictures import fit
from exporters.subject import OUTPUTS, Run, Subject
from exporters.tracing import frozen, spared, too_large
from zoo.errors import ZooError
from zoo.outputs import flat, heads

OPSET = 17
PAGE = 4096
STRIDE = 32
UNFIT = (ValueError, TypeError, ZooError, tf.errors.InvalidArgumentError)


def write(model: Subject, file: Path) -> None:
    save(model.deployed, finished(model.deployed), file)


def write_any_size(model: Subject, file: Path) -> None:
    """The network alone, for pictures of any height and width."""
    free = any_size(model)[0].deployed
    save(free, finished(free, (model.batch or "batch", "height", "width", 3)), file)


def finished(model: Subject, shape: Sequence[str | int] | None = None) -> onnx.ModelProto:
    """The network as ONNX, its tensors named as the module says; the same model gives the same bytes.

    shape: of the images, where it is not that of the model's. Weights that do not fit into a file are inputs
    after the images, by the paths of their variables: `save` stores them. Raises ExportError for a network
    that ONNX cannot express.
    """
    shape = shape or (model.batch or "batch", *model.image_shape)
    proto = convert(model, tuple(side if isinstance(side, int) else None for side in shape))
    _check(model, proto)
    _name_sizes(proto, shape)
    if not too_large(model):
        _take_in(proto, spared(model))
    cuts_told(proto.graph)
    borders_told(proto.graph)
    gelu_by_division(proto.graph)
    hard_swish_as_one(proto.graph)
    channels_first(proto.graph)
    canonical(proto)
    return proto


def _outside(model: Subject) -> list[keras.Variable]:
    """The weights that tf2onnx gets as inputs."""
    return too_large(model) or spared(model)


def _take_in(proto: onnx.ModelProto, weights: Sequence[keras.Variable]) -> None:
    """Inputs that are weights become initializers, turned where ONNX has another order of the axes."""
    arrays = {variable.path: np.asarray(variable) for variable in weights}
    turned = [node for node in proto.graph.node if node.op_type == "Transpose" and node.input[0] in arrays]
    for node in turned:
        (order,) = (onnx.helper.get_attribute_value(attribute) for attribute in node.attribute)
        arrays[node.output[0]] = arrays[node.input[0]].transpose(order)
        proto.graph.node.remove(node)
    taken = {name for node in proto.graph.node for name in node.input}
    for name in arrays.keys() & taken:
        array = np.ascontiguousarray(arrays[name])
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    del proto.graph.input[1:]


def save(model: Subject, proto: onnx.ModelProto, file: Path) -> None:
    """With the facts in metadata_props and, where they are too large, the weights in FILE.data beside it.

    The file then passes ONNX's own check.
    """
    facts = {
        "name": model.facts.name,
        "labels": json.dumps(model.facts.labels, ensure_ascii=False),
        "preprocessing": json.dumps(model.facts.preprocessing.to_dict()),
        "card": json.dumps(model.facts.card, ensure_ascii=False),
    }
    onnx.helper.set_model_props(proto, facts)
    _store_weights(model, proto, file.with_name(f"{file.name}.data"))
    file.write_bytes(proto.SerializeToString(deterministic=True))
    onnx.checker.check_model(os.fspath(file), full_check=True)


def _store_weights(model: Subject, proto: onnx.ModelProto, file: Path) -> None:
    """Inputs that are weights become initializers whose data are in the file; without any there is none."""
    weights = [value for value in proto.graph.input if value.name != "images"]
    if not weights:
        return
    variables = {variable.path: variable for variable in model.model.variables}
    with file.open("wb") as out:
        for value in weights:
            array = np.ascontiguousarray(variables[value.name])
            # Runtimes map the file into memory by whole pages.
            out.seek(-out.tell() % PAGE, os.SEEK_CUR)
            place = {"location": file.name, "offset": out.tell(), "length": array.nbytes}
            out.write(array.data)
            proto.graph.initializer.append(_external(value, array, place))
            proto.graph.input.remove(value)


def _external(value: onnx.ValueInfoProto, array: np.ndarray, place: Mapping[str, Any]) -> onnx.TensorProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = onnx.TensorProto(name=value.name, data_type=kind, dims=array.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, text in place.items():
        tensor.external_data.add(key=key, value=str(text))
    return tensor


def convert(model: Subject, shape: Sequence[int | None]) -> onnx.ModelProto:
    outside = _outside(model)
    function = frozen(model.in_onnx, shape, outside)
    inputs = [tensor.name for tensor in function.inputs]
    outputs = [tensor.name for tensor in function.outputs]
    # TensorFlow orders a dictionary's tensors by key.
    names = ["images", *(variable.path for variable in outside), *sorted(OUTPUTS)]
    renamed = dict(zip(inputs + outputs, names, strict=True))
    definition = function.graph.as_graph_def()
    _widen_added_scalars(definition)
    with tf.Graph().as_default():
        definition = tf_loader.tf_optimize(inputs, outputs, definition)
    # Grappler orders nodes by chance.
    definition.node.sort(key=lambda node: node.name)
    with steady(), tf.Graph().as_default() as network:
        tf.import_graph_def(definition, name="")
        translate = partial(
            process_tf_graph,
            network,
            continue_on_error=True,
            opset=OPSET,
            input_names=inputs,
            output_names=outputs,
            tensors_to_rename=renamed,
            custom_op_handlers={"Erfc": (erfc, [])},
            custom_rewriter=[norms_as_one, group_norms_as_one],
        )
        return without_idle_reshapes(_optimized(translate)).make_model(f"converted from {model.model.name}")


def _optimized(translate: Callable[[], Any]) -> Any:
    """tf2onnx's graph after its optimisers. They work on copies where one of them fails, which then is left
    out; that takes half as long again.
    """
    try:
        return optimizer.optimize_graph(translate(), catch_errors=False)
    except Exception:  # each optimiser has its own
        return optimizer.optimize_graph(translate())


def _widen_added_scalars(definition: Any) -> None:
    """A number added to a map becomes a list of one: tf2onnx's optimiser gives up over a scalar, and leaves
    a Transpose on either side of every convolution.
    """
    constants = {node.name: node for node in definition.node if node.op == "Const"}
    added = {name for node in definition.node if node.op in ("Add", "AddV2") for name in node.input}
    elsewhere = {name for node in definition.node if node.op not in ("Add", "AddV2") for name in node.input}
    for name in added & constants.keys() - elsewhere:
        shape = constants[name].attr["value"].tensor.tensor_shape
        if not shape.dim and constants[name].attr["dtype"].type == tf.float32.as_datatype_enum:
            shape.dim.add(size=1)


def any_size(model: Subject) -> tuple[Subject, tuple[int, int]]:
    """The network from pictures of any height and width on, its variables the same; and a larger size, height
    and width, that it has proven to take.

    Raises ExportError for one whose layers fix the size.
    """
    try:
        free = flat(model.model, keras.Input((None, None, 3), name="any_images"))
        network = graph.traceable(free)
        outputs = heads(network)
        larger = _taken(outputs, model)
    except UNFIT as error:
        raise ExportError(f"{model.model.name} takes pictures of one size only: {_said(error)}") from error
    return replace(model, model=free, network=network, heads=outputs), larger


def _taken(outputs: keras.Model, model: Subject) -> tuple[int, int]:
    """Half as high again and a third wider; for networks that add maps of several scales, rounded up to
    pixels that halve five times; for those that cut a map into parts, multiples of their own size.
    """
    height, width = model.facts.preprocessing.input_size
    larger = height * 3 // 2, width * 4 // 3
    halving = -(-larger[0] // STRIDE) * STRIDE, -(-larger[1] // STRIDE) * STRIDE
    for size in (larger, halving):
        with suppress(*UNFIT):
            return _try(outputs, size)
    return _try(outputs, (2 * height, 3 * width))


def _try(outputs: keras.Model, size: tuple[int, int]) -> tuple[int, int]:
    outputs(np.zeros((1, *size, 3), np.float32), training=False)
    return size


def _said(error: Exception) -> str:
    """Without what Keras and TensorFlow put around it: the layer, its arguments, the operation, colours."""
    paragraphs = str(error).split("\n\n")
    text = paragraphs[min(1, len(paragraphs) - 1)]
    return re.sub(r"\x1b\[\d+m|{{.*?}} | \[Op:.*", "", text)


def session(model: str | bytes) -> onnxruntime.InferenceSession:
    """A file's path or its bytes, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def reopen(model: Subject, file: Path) -> Run:
    return runner(session(os.fspath(file)), OUTPUTS)


def runner(opened: onnxruntime.InferenceSession, outputs: Sequence[str]) -> Run:
    """For any number of pictures, also where the file takes a fixed one."""
    (taken,) = opened.get_inputs()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(outputs, opened.run(list(outputs), {"images": images}), strict=True))

    return in_batches(run, taken.shape[0] if isinstance(taken.shape[0], int) else None)


def measure_larger(run: Run, known: Reference) -> Parity:
    """On the same pictures, at a larger size."""
    free, size = any_size(known.model)
    images = fit(replace(known.model.facts.preprocessing, input_size=size), known.given.pictures)
    return compare_as(known, batched(run, images), batched(free.run, images))


def _name_sizes(proto: onnx.ModelProto, shape: Sequence[str | int]) -> None:
    """tf2onnx names the sizes that are free by chance."""
    del proto.graph.value_info[:]
    for side, dim in zip(shape, proto.graph.input[0].type.tensor_type.shape.dim, strict=True):
        if isinstance(side, str):
            dim.dim_param = side
    if isinstance(shape[0], str):
        for value in proto.graph.output:
            value.type.tensor_type.shape.dim[0].dim_param = shape[0]


def _check(model: Subject, proto: onnx.ModelProto) -> None:
    """tf2onnx leaves what it cannot express in the graph, without an error."""
    nodes = proto.graph.node
    unknown = sorted(
        {n.op_type for n in nodes if n.domain or not onnx.defs.has(n.op_type, max_inclusive_version=OPSET)}
    )
    inputs = [value.name for value in proto.graph.input]
    if unknown or inputs != ["images", *(variable.path for variable in _outside(model))]:
        raise ExportError(
            f"{model.model.name} cannot be expressed in ONNX: unknown operations {unknown}, inputs {inputs}"
        )
