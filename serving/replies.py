"""The reply messages that gRPC sends as they are and REST as JSON: signatures and version states."""

from collections.abc import Mapping, Sequence
from typing import Any

from serving import tensors
from serving.lifecycle import VersionStatus
from serving.protos import GetModelStatusResponse, SignatureDefMap
from serving.runtimes import Signature, TensorSpec


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


def _fill(info: Any, spec: TensorSpec) -> None:
    info.name = spec.name
    info.dtype = spec.dtype.number
    info.tensor_shape.SetInParent()
    if spec.shape is None:
        info.tensor_shape.unknown_rank = True
        return
    for size in spec.shape:
        info.tensor_shape.dim.add().size = size


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
