"""The message classes are TensorFlow Serving's own, and cost no TensorFlow."""

from collections.abc import Callable

from serving.wire import generate_descriptors, protos

LIGHT = """
import sys
from serving.wire.protos import PredictRequest
PredictRequest().inputs["x"].float_val.append(1.5)
print("tensorflow" in sys.modules, "tensorflow_serving" in sys.modules)
"""


def test_the_descriptors_are_those_of_the_installed_package() -> None:
    from tensorflow_serving.apis import predict_pb2

    same = generate_descriptors.generate() == generate_descriptors.FILE.read_bytes()
    assert same, "run python -m serving.wire.generate_descriptors"
    ours = protos.PredictRequest()
    ours.model_spec.name = "m"
    ours.inputs["x"].float_val.append(1.5)
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert theirs.inputs["x"].float_val[0] == 1.5


def test_a_first_message_needs_no_tensorflow(run_python: Callable[..., str]) -> None:
    assert run_python(LIGHT).split() == ["False", "False"]


def test_services_carry_the_names_on_the_wire() -> None:
    calls = protos.methods(protos.PREDICTION_SERVICE) | protos.methods(protos.MODEL_SERVICE)
    assert {method.path for method in calls.values()} >= {
        "/tensorflow.serving.PredictionService/Predict",
        "/tensorflow.serving.PredictionService/GetModelMetadata",
        "/tensorflow.serving.ModelService/GetModelStatus",
    }
