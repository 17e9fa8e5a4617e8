"""A model directory served over TensorFlow Serving's gRPC and REST, and the client for it.

    endpoint = serving.deploy("models/flowers")
    serving.Client(endpoint.grpc_address).classify("flowers", "rose.jpg")

Importing this package loads nothing heavy; each name is fetched when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.client import AsyncClient, Client, ClientTls
    from serving.deployment.local import Endpoint, deploy
    from serving.errors import Code, DeployError, ServingError
    from serving.server import serve

__all__ = [
    "AsyncClient",
    "Client",
    "ClientTls",
    "Code",
    "DeployError",
    "Endpoint",
    "ServingError",
    "deploy",
    "serve",
]

_HOMES = {
    "AsyncClient": "serving.client",
    "ClientTls": "serving.client",
    "Client": "serving.client",
    "Code": "serving.errors",
    "DeployError": "serving.errors",
    "Endpoint": "serving.deployment.local",
    "ServingError": "serving.errors",
    "deploy": "serving.deployment.local",
    "serve": "serving.server",
}


if not TYPE_CHECKING:  # whose checkers would take any name for one that is here

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'serving' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)
