"""assets.extra/tf_serving_warmup_requests: what a server runs before it takes a version into service."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from exporters.pictures import fit, png, samples
from zoo.preprocessing import Preprocessing

FILE = "assets.extra/tf_serving_warmup_requests"


def write(preprocessing: Preprocessing, name: str, folder: Path) -> None:
    """One request with an encoded picture, one with pixels; generated, so that users' own stay private."""
    picture = samples(preprocessing)[0]
    file = folder / FILE
    file.parent.mkdir()
    with tf.io.TFRecordWriter(os.fspath(file)) as writer:
        writer.write(_request(name, "serving_default", "image_bytes", np.array([png(picture)], object)))
        writer.write(_request(name, "predict_images", "images", fit(preprocessing, [picture])))


def _request(name: str, signature: str, alias: str, value: np.ndarray) -> bytes:
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    log = PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return log.SerializeToString()
