"""The reply messages of TensorFlow Serving's gRPC, of which REST sends some as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from serving.models.inference import Arrays, Class
from serving.models.service import Answer, ModelSpec
from serving.models.versions import VersionStatus
from serving.runtimes import Signature, TensorSpec
from serving.runtimes.base import CLASSIFY
from serving.wire import tensors
from serving.wire.protos import (
    ClassificationResponse,
    GetModelMetadataResponse,
    GetModelStatusResponse,
    MultiInferenceResponse,
    PredictResponse,
    RegressionResponse,
    SignatureDefMap,
)


def predicted(spec: ModelSpec, answer: Answer[Arrays], content: bool = False) -> Any:
    """tensorflow.serving.PredictResponse; `content` puts the values into tensor_content."""
    response = PredictResponse()
    _fill_spec(response.model_spec, spec, answer)
    write = tensors.to_content if content else tensors.to_proto
    for alias, array in answer.outputs.items():
        response.outputs[alias].CopyFrom(write(array))
    return response


def classified(spec: ModelSpec, answer: Answer[list[list[Class]]]) -> Any:
    """tensorflow.serving.ClassificationResponse."""
    response = ClassificationResponse()
    _fill_spec(response.model_spec, spec, answer)
    _fill_classes(response.result, answer.outputs)
    return response


def regressed(spec: ModelSpec, answer: Answer[list[float]]) -> Any:
    """tensorflow.serving.RegressionResponse."""
    response = RegressionResponse()
    _fill_spec(response.model_spec, spec, answer)
    _fill_values(response.result, answer.outputs)
    return response


def multiple(tasks: Sequence[tuple[ModelSpec, str]], answers: Sequence[Answer[Any]]) -> Any:
    """tensorflow.serving.MultiInferenceResponse, a result per task."""
    response = MultiInferenceResponse()
    for (spec, method), answer in zip(tasks, answers, strict=True):
        result = response.results.add()
        _fill_spec(result.model_spec, spec, answer)
        if method == CLASSIFY:
            _fill_classes(result.classification_result, answer.outputs)
        else:
            _fill_values(result.regression_result, answer.outputs)
    return response


def metadata(spec: ModelSpec, version: int, signatures: Mapping[str, Signature]) -> Any:
    """tensorflow.serving.GetModelMetadataResponse."""
    response = GetModelMetadataResponse()
    response.model_spec.name = spec.name
    response.model_spec.version.value = version
    response.metadata["signature_def"].Pack(signature_def_map(signatures))
    return response


def signature_def_map(signatures: Mapping[str, Signature]) -> Any:
    """tensorflow.serving.SignatureDefMap."""
    reply = SignatureDefMap()
    for name, signature in signatures.items():
        definition = reply.signature_def[name]
        definition.method_name = signature.method_name
        for alias, spec in signature.inputs.items():
            _fill(definition.inputs[alias], spec)
        for alias, spec in signature.outputs.items():
            _fill(definition.outputs[alias], spec)
        for alias, array in signature.defaults.items():
            dtype = signature.inputs[alias].dtype if alias in signature.inputs else None
            definition.defaults[alias].CopyFrom(tensors.to_proto(array, dtype))
    return reply


def status_response(statuses: Sequence[VersionStatus]) -> Any:
    """tensorflow.serving.GetModelStatusResponse."""
    reply = GetModelStatusResponse()
    for status in statuses:
        row = reply.model_version_status.add()
        row.version = status.version
        row.state = status.state
        row.status.error_code = status.code
        row.status.error_message = status.message
    return reply


def _fill_spec(target: Any, spec: ModelSpec, answer: Answer[Any]) -> None:
    target.name = spec.name
    target.version.value = answer.version
    target.signature_name = answer.signature


def _fill_classes(result: Any, rows: Sequence[Sequence[Class]]) -> None:
    for row in rows:
        classes = result.classifications.add().classes
        for entry in row:
            classes.add(label=entry.label, score=entry.score)


def _fill_values(result: Any, values: Sequence[float]) -> None:
    for value in values:
        result.regressions.add(value=value)


def _fill(info: Any, spec: TensorSpec) -> None:
    info.name = spec.name
    info.dtype = spec.dtype.number
    info.tensor_shape.SetInParent()
    if spec.shape is None:
        info.tensor_shape.unknown_rank = True
        return
    for size in spec.shape:
        info.tensor_shape.dim.add().size = size
