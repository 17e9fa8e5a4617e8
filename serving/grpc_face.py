"""The service over gRPC: TensorFlow Serving's PredictionService and ModelService, handlers built from the
descriptors.
"""

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from serving import replies, tensors
from serving.errors import ServingError, invalid
from serving.protos import (
    MODEL_SERVICE,
    PREDICTION_SERVICE,
    GetModelMetadataResponse,
    PredictResponse,
    methods,
)
from serving.service import ModelSpec, PredictionService, bind

log = logging.getLogger("serving")

MESSAGE_LIMIT = 1024
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
]

_STATUS = {code.value[0]: code for code in grpc.StatusCode}


def start(service: PredictionService, host: str, port: int) -> tuple[grpc.Server, int]:
    """Listens on host:port (0 = any free port) and serves at once; OSError when the port is taken."""
    workers = max(8, 4 * (os.cpu_count() or 1))
    server = grpc.server(ThreadPoolExecutor(workers, "grpc"), options=OPTIONS)
    server.add_generic_rpc_handlers(
        (
            _handlers(
                PREDICTION_SERVICE,
                {
                    "Predict": lambda request: predict(service, request),
                    "GetModelMetadata": lambda request: metadata(service, request),
                },
            ),
            _handlers(MODEL_SERVICE, {"GetModelStatus": lambda request: status(service, request)}),
        )
    )
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"cannot listen for gRPC on {host}:{port}: {error}") from error
    server.start()
    return server, bound


def _handlers(service: str, functions: dict[str, Callable[[Any], Any]]) -> grpc.GenericRpcHandler:
    """Methods that the service has and `functions` lacks are answered UNIMPLEMENTED by gRPC itself."""
    known = methods(service)
    return grpc.method_handlers_generic_handler(
        service,
        {
            name: grpc.unary_unary_rpc_method_handler(
                _guarded(function), known[name].request.FromString, known[name].response.SerializeToString
            )
            for name, function in functions.items()
        },
    )


def _guarded(function: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return function(request)
        except ServingError as error:
            context.abort(_STATUS[error.code], cut(error.message))
        except Exception as error:
            log.exception("A gRPC request failed")
            context.abort(grpc.StatusCode.INTERNAL, cut(f"{type(error).__name__}: {error}"))

    return call


def cut(message: str) -> str:
    """An error message as TensorFlow Serving sends it over gRPC: 1024 characters at most, and a mark where it
    was cut.
    """
    return message if len(message) <= MESSAGE_LIMIT else message[:MESSAGE_LIMIT] + "...TRUNCATED"


def predict(service: PredictionService, request: Any) -> Any:
    """PredictionService/Predict."""
    spec = _spec(request)
    prediction = service.predict(
        spec, lambda signature: bind(signature, request.inputs, tensors.to_array), request.output_filter
    )
    response = PredictResponse()
    response.model_spec.name = spec.name
    response.model_spec.version.value = prediction.version
    response.model_spec.signature_name = prediction.signature
    for alias, array in prediction.outputs.items():
        response.outputs[alias].CopyFrom(tensors.to_proto(array))
    return response


def metadata(service: PredictionService, request: Any) -> Any:
    """PredictionService/GetModelMetadata."""
    spec = _spec(request)
    version, signatures = service.metadata(spec, request.metadata_field)
    response = GetModelMetadataResponse()
    response.model_spec.name = spec.name
    response.model_spec.version.value = version
    response.metadata["signature_def"].Pack(replies.signature_def_map(signatures))
    return response


def status(service: PredictionService, request: Any) -> Any:
    """ModelService/GetModelStatus; a version label is ignored, as TensorFlow Serving does."""
    spec = _spec(request)
    return replies.status_response(service.status(spec.name, spec.version))


def _spec(request: Any) -> ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    return ModelSpec(
        spec.name,
        spec.version.value if spec.HasField("version") else None,
        spec.version_label or None,
        spec.signature_name,
    )


def stop(server: grpc.Server, grace: float) -> None:
    """Refuses new requests and waits up to `grace` seconds for those under way."""
    server.stop(grace).wait()
