"""assets.extra/tf_serving_warmup_requests: what a server runs before it takes a version into service."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from exporters.parity import Reference
from exporters.pictures import fit, png, samples

FILE = "assets.extra/tf_serving_warmup_requests"


def write(known: Reference, name: str, folder: Path) -> None:
    """A request with an encoded picture, and two with pixels that carry the model's own replies, by which a
    server judges a version's files. The picture is generated, so that users' own stay private.
    """
    picture, images, replies = _generated(known)
    file = folder / FILE
    file.parent.mkdir()
    with tf.io.TFRecordWriter(os.fspath(file)) as writer:
        writer.write(_log(name, "serving_default", {"image_bytes": np.array([png(picture)], object)}))
        for signature, output in (("predict_images", "probabilities"), ("features", "features")):
            writer.write(_log(name, signature, {"images": images}, {output: replies[output]}))


def _generated(known: Reference) -> tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]:
    """A picture, the same at the input size [1, h, w, 3], and the model's outputs for it."""
    if not known.given.real:
        replies = {name: output[:1] for name, output in known.outputs.items()}
        return known.given.pictures[0], known.images[:1], replies
    preprocessing = known.model.facts.preprocessing
    picture = samples(preprocessing)[0]
    images = fit(preprocessing, [picture])
    return picture, images, known.model.run(images)


def _log(
    name: str,
    signature: str,
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray] | None = None,
) -> bytes:
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    log = PredictionLog()
    request, response = log.predict_log.request, log.predict_log.response
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    for alias, value in (outputs or {}).items():
        response.outputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return log.SerializeToString(deterministic=True)
