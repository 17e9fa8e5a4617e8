"""The server as an application of Ray Serve: Ray's proxies take gRPC and REST, replicas answer as ours does.

`zoo deploy BASE/NAME --to ray` writes the configuration that starts it; Ray calls `application` on its head
node, `add_services` in each gRPC proxy, and makes a Replica wherever it finds room.
"""

import os
import threading
from collections.abc import Sequence
from typing import Any

import grpc
import ray
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from ray import serve
from ray.serve.grpc_util import RayServegRPCContext
from starlette.requests import Request
from starlette.responses import Response

from serving import machine, server
from serving.errors import ServingError
from serving.faces import grpc_face, rest_face
from serving.models.lifecycle import Models
from serving.models.service import PredictionService
from serving.wire.protos import MODEL_SERVICE, PREDICTION_SERVICE, methods

# A replica that was told to load other models would be the only one that does.
CALLS = {
    PREDICTION_SERVICE: ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"),
    MODEL_SERVICE: ("GetModelStatus",),
}


def application(arguments: dict[str, Any]) -> serve.Application:
    """What Ray starts: `models`, the BASE/NAME folders, which every node must see, and as in `serving.serve`
    `runtime` and `fidelity`.
    """
    return serve.deployment()(Replica).bind(**arguments)


def add_services(servicer: Any, proxy: Any) -> None:
    """Names the calls to Ray's gRPC proxy, which sends their bytes to a replica's method of that name."""
    for name, calls in CALLS.items():
        handlers = {call: grpc.unary_unary_rpc_method_handler(getattr(servicer, call)) for call in calls}
        proxy.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def _call(service: str, api: str) -> Any:
    """The method that Ray's gRPC proxy asks for by the call's name: the request's bytes -> its response."""

    async def call(self: "Replica", request: bytes, grpc_context: RayServegRPCContext) -> Any:
        headers = grpc_context.invocation_metadata()
        try:
            return await run_sync(self.rpcs[service][api], request, None, headers, limiter=self.callers)
        except ServingError as error:
            grpc_context.set_code(grpc_face.STATUS[error.code])
            grpc_context.set_details(grpc_face.cut(error.message))
            return methods(service)[api].response()

    return call


class Replica:
    """One server without ports: the models, loaded before Ray sends it requests, and its answers."""

    def __init__(self, models: Sequence[str], runtime: str | None = None, fidelity: str = "exact") -> None:
        processors = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        os.environ[machine.SHARE] = str(max(1, int(processors)))
        server.log_to_stderr()
        machine.keep_freed_memory()
        served = Models(server.configs(models), server.fastest(runtime, fidelity))
        served.start()
        server.wait_for_models(served, stopping=threading.Event())
        served.serving_begins()
        self.service = PredictionService(served)
        self.rpcs = grpc_face.rpcs(self.service)
        self.rest = rest_face.RestOptions()
        self.callers = CapacityLimiter(self.rest.threads)

    async def __call__(self, request: Request) -> Response:
        """REST."""
        return await rest_face.answer(self.service, request, self.rest, self.callers)


for _service, _calls in CALLS.items():
    for _api in _calls:
        setattr(Replica, _api, _call(_service, _api))
