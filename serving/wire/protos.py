"""TensorFlow Serving's messages and services without TensorFlow.

The classes are made from descriptors.binpb, a FileDescriptorSet kept as data (written by
serving.wire.generate_descriptors), in a descriptor pool of their own: importing tensorflow or
tensorflow_serving in the same process neither clashes nor is needed.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"


def _load() -> DescriptorPool:
    pool = DescriptorPool()
    data = resources.files("serving.wire").joinpath("descriptors.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _load()


@cache
def message(name: str) -> Any:
    """The class of a message by its full name, such as "tensorflow.serving.PredictRequest"; KeyError when
    unknown.
    """
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


@dataclass(frozen=True)
class Method:
    """One unary call of a service: its path on the wire and the classes of its two messages."""

    path: str
    request: Any
    response: Any


def methods(service: str) -> dict[str, Method]:
    """The calls of a service by name, as "Predict" of PREDICTION_SERVICE."""
    return {
        method.name: Method(
            f"/{service}/{method.name}",
            message(method.input_type.full_name),
            message(method.output_type.full_name),
        )
        for method in POOL.FindServiceByName(service).methods
    }


TensorProto = message("tensorflow.TensorProto")
Example = message("tensorflow.Example")
ModelSpec = message("tensorflow.serving.ModelSpec")
PredictRequest = message("tensorflow.serving.PredictRequest")
PredictResponse = message("tensorflow.serving.PredictResponse")
GetModelMetadataRequest = message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = message("tensorflow.serving.GetModelStatusResponse")
ClassificationResponse = message("tensorflow.serving.ClassificationResponse")
RegressionResponse = message("tensorflow.serving.RegressionResponse")
MultiInferenceResponse = message("tensorflow.serving.MultiInferenceResponse")
ReloadConfigResponse = message("tensorflow.serving.ReloadConfigResponse")
PredictionLog = message("tensorflow.serving.PredictionLog")
SignatureDefMap = message("tensorflow.serving.SignatureDefMap")
