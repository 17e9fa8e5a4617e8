"""tensorflow.ProfilerService on the gRPC port: handed on to TensorFlow's own server, started when it is first
asked.
"""

import socket
import sys
import threading
from typing import Any

import grpc

SERVICE = "/tensorflow.ProfilerService/"


class Profiler(grpc.GenericRpcHandler):
    """Answers while TensorFlow is loaded; there is nothing to profile before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        if not handler_call_details.method.startswith(SERVICE):
            return None
        method = handler_call_details.method

        def forward(request: bytes, context: grpc.ServicerContext) -> bytes:
            if "tensorflow" not in sys.modules:
                context.abort(grpc.StatusCode.UNAVAILABLE, "No model runs on TensorFlow: nothing to profile")
            try:
                return self._connected().unary_unary(method)(request, timeout=context.time_remaining())
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
                raise

        return grpc.unary_unary_rpc_method_handler(forward)

    def _connected(self) -> grpc.Channel:
        with self._lock:
            if self._channel is None:
                import tensorflow as tf

                with socket.create_server(("127.0.0.1", 0)) as probe:
                    port = probe.getsockname()[1]
                tf.profiler.experimental.server.start(port)
                options = [("grpc.max_receive_message_length", -1)]
                self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
            return self._channel
