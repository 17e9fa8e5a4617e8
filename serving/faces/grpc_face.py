"""The service over gRPC: TensorFlow Serving's PredictionService and ModelService, handlers built from the
descriptors, beside gRPC's own health and reflection.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving.addresses import address
from serving.errors import Code, ServingError, invalid
from serving.faces.profiler import Profiler
from serving.faces.tls import Tls
from serving.models import config
from serving.models.service import PredictionService
from serving.models.turns import CALLERS
from serving.watching import metrics
from serving.watching.observing import observed
from serving.wire import replies, requests
from serving.wire.protos import MODEL_SERVICE, POOL, PREDICTION_SERVICE, ReloadConfigResponse, methods

log = logging.getLogger("serving")

MESSAGE_LIMIT = 1024
OPTIONS = {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    "grpc.so_reuseport": 0,
}

STATUS = {code.value[0]: code for code in grpc.StatusCode}

# The request's bytes, the seconds left for it (None: no limit) and its metadata -> the response message.
# Raises ServingError, and nothing else.
Rpc = Callable[[bytes, float | None, Iterable[tuple[str, str | bytes]]], Any]


@dataclass(frozen=True)
class GrpcOptions:
    """Where to listen and how. `port` 0 is any free one and None no port; `socket_path` listens on a Unix
    socket too; `arguments` are gRPC's channel arguments; `content` puts replies into tensor_content;
    `profiler` answers TensorFlow's profiler; `tls` secures both ways in.
    """

    host: str = "127.0.0.1"
    port: int | None = 0
    socket_path: str = ""
    threads: int = CALLERS
    arguments: Mapping[str, int | str] = field(default_factory=dict)
    content: bool = False
    health: bool = True
    profiler: bool = False
    tls: Tls | None = None


@dataclass(frozen=True)
class GrpcServer:
    """A running gRPC face; `port` is the one it listens on, 0 when it has a socket only."""

    port: int
    server: grpc.Server
    health: health.HealthServicer

    def stop(self, grace: float) -> None:
        """Refuses new requests and waits up to `grace` seconds for those under way."""
        self.health.enter_graceful_shutdown()
        self.server.stop(grace).wait()


def start(service: PredictionService, options: GrpcOptions) -> GrpcServer:
    """Listens and serves at once; OSError when the port is taken."""
    settings = list({**OPTIONS, **options.arguments}.items())
    server = grpc.server(ThreadPoolExecutor(options.threads, "grpc"), options=settings)
    handlers = [_handlers(name, calls) for name, calls in rpcs(service, options.content).items()]
    server.add_generic_rpc_handlers(tuple(handlers))
    if options.profiler:
        server.add_generic_rpc_handlers((Profiler(),))
    healthy = _add_health_and_reflection(server, options.health)
    port = 0
    if options.port is not None:
        port = _listen(server, address(options.host, options.port), options.tls)
    if options.socket_path:
        _listen(server, f"unix:{options.socket_path}", options.tls)
    server.start()
    return GrpcServer(port, server, healthy)


def _listen(server: grpc.Server, place: str, tls: Tls | None) -> int:
    try:
        if tls:
            return server.add_secure_port(place, tls.grpc_credentials())
        return server.add_insecure_port(place)
    except RuntimeError as error:
        raise OSError(f"cannot listen for gRPC on {place}: {error}") from error


def _add_health_and_reflection(server: grpc.Server, with_health: bool) -> health.HealthServicer:
    servicer = health.HealthServicer()
    names = [PREDICTION_SERVICE, MODEL_SERVICE, reflection.SERVICE_NAME]
    # TensorFlow Serving knows the short names only.
    for name in ("", "PredictionService", "ModelService", PREDICTION_SERVICE, MODEL_SERVICE):
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    if with_health:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        names.append(health.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, POOL)
    return servicer


def _handlers(name: str, functions: Mapping[str, Rpc]) -> grpc.GenericRpcHandler:
    """Methods that the service `name` has and `functions` lacks are answered UNIMPLEMENTED by gRPC itself."""
    known = methods(name)
    return grpc.method_handlers_generic_handler(
        name,
        {
            api: grpc.unary_unary_rpc_method_handler(
                _aborting(rpc), response_serializer=known[api].response.SerializeToString
            )
            for api, rpc in functions.items()
        },
    )


def _aborting(rpc: Rpc) -> Callable[[bytes, grpc.ServicerContext], Any]:
    def call(data: bytes, context: grpc.ServicerContext) -> Any:
        try:
            return rpc(data, context.time_remaining(), context.invocation_metadata())
        except ServingError as error:
            context.abort(STATUS[error.code], cut(error.message))

    return call


def rpcs(service: PredictionService, content: bool = False) -> dict[str, dict[str, Rpc]]:
    """The calls of TensorFlow Serving's two services, by service and name."""
    functions = {PREDICTION_SERVICE: prediction_calls(service, content), MODEL_SERVICE: model_calls(service)}
    return {
        name: {api: _rpc(api, methods(name)[api].request, call, service) for api, call in calls.items()}
        for name, calls in functions.items()
    }


def _rpc(api: str, kind: Any, function: Callable[[Any], Any], service: PredictionService) -> Rpc:
    def call(data: bytes, seconds: float | None, headers: Iterable[tuple[str, str | bytes]]) -> Any:
        # Not by gRPC, which would write a traceback for every request that is none.
        request = _parsed(kind, data)
        model = requests.model_name(request)
        try:
            with observed("GRPC", api, model, seconds, service.models.known, headers):
                return function(request)
        except ServingError:
            raise
        except Exception as error:
            log.exception("A gRPC request failed")
            raise ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}") from error

    return call


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise invalid(f"The request is no {kind.DESCRIPTOR.full_name}") from error


def cut(message: str) -> str:
    """An error message as TensorFlow Serving sends it over gRPC: 1024 characters at most, and a mark where it
    was cut.
    """
    return message if len(message) <= MESSAGE_LIMIT else message[:MESSAGE_LIMIT] + "...TRUNCATED"


# --- PredictionService --------------------------------------------------------------------------------------


def prediction_calls(service: PredictionService, content: bool = False) -> dict[str, Callable[[Any], Any]]:
    """The functions behind PredictionService, request message to response message."""

    def predict(request: Any) -> Any:
        spec = requests.model_spec(request)
        answer = service.predict(spec, requests.feed(request.inputs), request.output_filter)
        return replies.predicted(spec, answer, content)

    def classify(request: Any) -> Any:
        spec = requests.model_spec(request)
        return replies.classified(spec, service.classify(spec, requests.examples(request.input)))

    def regress(request: Any) -> Any:
        spec = requests.model_spec(request)
        return replies.regressed(spec, service.regress(spec, requests.examples(request.input)))

    def multi_inference(request: Any) -> Any:
        tasks = [(requests.to_spec(task.model_spec), task.method_name) for task in request.tasks]
        examples = requests.examples(request.input)
        answers = service.multi_inference(tasks, examples)
        metrics.count_examples(tasks[0][0].name, len(examples))
        return replies.multiple(tasks, answers)

    def metadata(request: Any) -> Any:
        spec = requests.model_spec(request)
        return replies.metadata(spec, *service.metadata(spec, request.metadata_field))

    return {
        "Predict": predict,
        "Classify": classify,
        "Regress": regress,
        "MultiInference": multi_inference,
        "GetModelMetadata": metadata,
    }


# --- ModelService -------------------------------------------------------------------------------------------


def model_calls(service: PredictionService) -> dict[str, Callable[[Any], Any]]:
    """The functions behind ModelService, request message to response message."""

    def status(request: Any) -> Any:
        # A version label is ignored, as TensorFlow Serving does.
        spec = requests.model_spec(request)
        return replies.status_response(service.status(spec.name, spec.version))

    def reload(request: Any) -> Any:
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                "currently supported"
            )
        before = {name: metrics.first_value(name) for name in request.metric_names}
        service.reload(config.models(request.config))
        response = ReloadConfigResponse()
        for name, value in before.items():
            response.metric.add(name=name, int64_value_increase=metrics.first_value(name) - value)
        return response

    return {"GetModelStatus": status, "HandleReloadConfigRequest": reload}
