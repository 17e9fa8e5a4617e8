"""LitServe: one worker, base64 in JSON."""

import base64
import os
from typing import Any

import litserve
import numpy as np
import onnxruntime


class Network(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.session = onnxruntime.InferenceSession(os.environ["PEER_MODEL"])

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        return np.frombuffer(base64.b64decode(request["array"]), np.float32).reshape(1, 224, 224, 3)

    def predict(self, images: np.ndarray) -> np.ndarray:
        return self.session.run(["probabilities"], {"images": images})[0][0]

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Network(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(os.environ["PEER_PORT"]), generate_client_file=False)
