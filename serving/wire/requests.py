"""What the messages of TensorFlow Serving's gRPC ask for, for its servers and for warm-up files alike."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.errors import invalid
from serving.models.inference import Feed, bind
from serving.models.service import ModelSpec
from serving.runtimes import Signature
from serving.wire import tensors


def model_spec(request: Any) -> ModelSpec:
    """The model that a request names; INVALID_ARGUMENT without a model_spec."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return to_spec(request.model_spec)


def model_name(request: Any) -> str:
    """The name of the model that a request of either service is about; "" where it names none."""
    holders = [request] if hasattr(request, "model_spec") else list(getattr(request, "tasks", ()))[:1]
    return holders[0].model_spec.name if holders else ""


def to_spec(spec: Any) -> ModelSpec:
    """A tensorflow.serving.ModelSpec in our words."""
    return ModelSpec(
        spec.name,
        spec.version.value if spec.HasField("version") else None,
        spec.version_label or None,
        spec.signature_name,
    )


def feed(inputs: Mapping[str, Any]) -> Feed:
    """Reads the TensorProtos of a PredictRequest once the signature is known."""

    def read(signature: Signature) -> dict[str, np.ndarray]:
        return bind(signature, inputs, tensors.to_array)

    return read


def examples(given: Any) -> list[bytes]:
    """The serialised tf.Examples of a tensorflow.serving.Input, none when it is empty.

    A context goes before each example: where both have a feature, the example's counts.
    """
    kind = given.WhichOneof("kind")
    if kind == "example_list":
        return [example.SerializeToString() for example in given.example_list.examples]
    if kind == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        listed = given.example_list_with_context.examples
        return [context + example.SerializeToString() for example in listed]
    return []
