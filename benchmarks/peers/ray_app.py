"""Ray Serve: one replica, a raw body."""

import os
import signal

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=64)
class Network:
    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(os.environ["PEER_MODEL"])

    async def __call__(self, request: Request) -> list[float]:
        images = np.frombuffer(await request.body(), np.float32).reshape(1, 224, 224, 3)
        return self.session.run(["probabilities"], {"images": images})[0][0].tolist()


ray.init(include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
serve.run(Network.bind())
signal.sigwait([signal.SIGTERM])
serve.shutdown()
ray.shutdown()
