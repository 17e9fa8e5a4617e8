"""An OpenVINO IR (model.xml, model.bin) or an ONNX file by OpenVINO."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from serving.errors import Code, ServingError
from serving.machine import cores
from serving.runtimes import pictures
from serving.runtimes.base import (
    QUEUED,
    Arrays,
    Call,
    FewOrMany,
    OfCalls,
    Signature,
    TensorSpec,
    check_shapes,
    failed_on,
    one_of,
)
from serving.wire.tensors import of_array

DEVICE = "CPU"


class OpenVinoRuntime(OfCalls):
    """The file's own signature `serving_default`, or a zoo model's signatures.

    `precision`, "f32" or "bf16", is what it computes in: left to itself OpenVINO takes bfloat16 where the
    processor has it, with other classes for some pictures.
    """

    name = "openvino"
    queues = True

    def __init__(self, version_dir: Path, file: str = "model.xml", precision: str = "f32") -> None:
        for_few, for_many = _compiled(version_dir / file, precision)
        requests = FewOrMany(_idle(for_few), _idle(for_many))
        super().__init__(pictures.of_directory(version_dir, file, plain_calls(for_few, requests)))


Idle = SimpleQueue[Any]  # infer requests that nobody uses


def _idle(compiled: Any) -> Idle:
    idle: Idle = SimpleQueue()
    for _ in range(QUEUED * cores()):
        idle.put(compiled.create_infer_request())
    return idle


def _compiled(file: Path, precision: str) -> tuple[Any, Any]:
    """For one request at a time, and for as many as there are cores."""
    import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
        raise ServingError(Code.FAILED_PRECONDITION, "this processor does not compute in bfloat16")
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": cores(),
        # Several models, or processes, would pin their threads to the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        # Read once, for then both share what they can of the weights.
        model = core.read_model(os.fspath(file))
        for_few = core.compile_model(model, DEVICE, {**settings, "NUM_STREAMS": 1})
        if cores() == 1:
            return for_few, for_few
        return for_few, core.compile_model(model, DEVICE, {**settings, "NUM_STREAMS": cores()})
    except Exception as error:
        raise ServingError(Code.DATA_LOSS, f"{file} cannot be loaded by OpenVINO: {error}") from error


def plain_calls(compiled: Any, requests: FewOrMany[Idle]) -> dict[str, Call]:
    """serving_default with the file's own names."""
    signature = Signature(
        {port.any_name: _spec(port) for port in compiled.inputs},
        {port.any_name: _spec(port) for port in compiled.outputs},
    )
    return {"serving_default": Call(signature, partial(_run, requests, signature))}


def _spec(port: Any) -> TensorSpec:
    if port.element_type.type_name == "string":
        raise ServingError(Code.UNIMPLEMENTED, f'"{port.any_name}" is text, which OpenVINO is not given here')
    dtype = of_array(np.zeros((), port.element_type.to_dtype()))
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return TensorSpec(port.any_name, dtype, None)
    sizes = tuple(-1 if size.is_dynamic else size.get_length() for size in shape)
    return TensorSpec(port.any_name, dtype, sizes)


def _run(
    requests: FewOrMany[Idle], signature: Signature, inputs: Arrays, outputs: Sequence[str]
) -> dict[str, np.ndarray]:
    check_shapes(signature, inputs)
    with requests.fitting() as idle, one_of(idle) as request:
        try:
            results = request.infer(dict(inputs), share_inputs=True)
            return {alias: results[alias] for alias in outputs}
        except RuntimeError as error:
            raise failed_on(inputs, error) from error
