"""BentoML: one worker, a raw body."""

import os
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
import onnxruntime
from bentoml.validators import ContentType


@bentoml.service(traffic={"timeout": 60})
class Network:
    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(os.environ["PEER_MODEL"])

    @bentoml.api
    def predict(self, file: Annotated[Path, ContentType("application/octet-stream")], /) -> np.ndarray:
        images = np.fromfile(file, np.float32).reshape(1, 224, 224, 3)
        return self.session.run(["probabilities"], {"images": images})[0]
