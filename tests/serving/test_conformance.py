"""What tensorflow_model_server's own integration tests ask of it, asked of zoo-model-server: the models in
the form they have there, the unmodified stubs of tensorflow-serving-api, and a plain HTTP client.
"""

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import requests

from serving import ServingError, flags, model_server

PROGRAM = Path(sys.executable).with_name("zoo-model-server")
MAKE_MODELS = Path(__file__).with_name("make_models.py")


@dataclass(frozen=True)
class Server:
    """A running zoo-model-server; `socket` is its Unix socket."""

    grpc: str
    rest: str
    socket: Path
    log: Path
    process: "subprocess.Popen[bytes]"

    def logged(self) -> str:
        return self.log.read_text(errors="replace")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def started(folder: Path, *flags: str) -> Iterator[Server]:
    """Starts the console script and waits, as upstream's tests do, for the word Servable in the answer about
    a model that is missing.
    """
    ports, log = (free_port(), free_port()), folder / "log"
    command = [PROGRAM, f"--port={ports[0]}", f"--rest_api_port={ports[1]}", "--rest_api_timeout_in_ms=5000"]
    command += [f"--grpc_socket_path={folder / 'socket'}", "--host=127.0.0.1", *flags]
    with log.open("wb") as errors, subprocess.Popen(command, stderr=errors) as process:
        server = Server(
            f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}/v1/models", folder / "socket", log, process
        )
        try:
            until(lambda: answers(server), 60)
            yield server
        finally:
            process.terminate()
            process.wait(60)


def answers(server: Server) -> bool:
    assert server.process.poll() is None, server.logged()
    request = STUBS.predict.PredictRequest()
    request.model_spec.name = "intentionally_missing_model"
    return "Servable" in refused(server, "Predict", request)[1]


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Asks again and again, because a server tells of its changes only when asked."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


# --- the stock client ---------------------------------------------------------------------------------------


def stubs() -> SimpleNamespace:
    """The modules of tensorflow-serving-api; they import TensorFlow, so only these tests do."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
        regression_pb2,
    )

    return SimpleNamespace(
        tf=tf,
        classification=classification_pb2,
        metadata=get_model_metadata_pb2,
        status=get_model_status_pb2,
        inference=inference_pb2,
        management=model_management_pb2,
        models=model_service_pb2_grpc.ModelServiceStub,
        predict=predict_pb2,
        predictions=prediction_service_pb2_grpc.PredictionServiceStub,
        regression=regression_pb2,
    )


STUBS = SimpleNamespace()


@pytest.fixture(scope="module", autouse=True)
def _stubs() -> None:
    STUBS.__dict__.update(vars(stubs()))


def call(server: Server, method: str, request: Any, address: str = "") -> Any:
    with grpc.insecure_channel(address or server.grpc) as channel:
        stub: Any = STUBS.models(channel)
        if not hasattr(stub, method):
            stub = STUBS.predictions(channel)
        return getattr(stub, method)(request, timeout=30)


def refused(server: Server, method: str, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(server, method, request)
    return caught.value.code().name, caught.value.details()


def spec(request: Any, name: str, signature: str = "", version: int | None = None, label: str = "") -> Any:
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    return request


def predict_request(name: str, outputs: tuple[str, ...] = (), x: Any = (2.0,), **where: Any) -> Any:
    request = spec(STUBS.predict.PredictRequest(output_filter=list(outputs)), name, **where)
    request.inputs["x"].CopyFrom(STUBS.tf.make_tensor_proto(list(x), "float32", [len(x)]))
    return request


def predicted(server: Server, name: str, address: str = "", **asked: Any) -> list[float]:
    return list(call(server, "Predict", predict_request(name, **asked), address).outputs["y"].float_val)


def example(**features: float) -> Any:
    filled = STUBS.tf.train.Example()
    for name, value in features.items():
        filled.features.feature[name].float_list.value.append(value)
    return filled


def with_examples(request: Any, *examples: Any) -> Any:
    request.input.example_list.examples.extend(examples)
    return request


# --- the models and their servers ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("upstream") / "models"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, MAKE_MODELS, out], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return out


def config(*entries: str) -> str:
    return "model_config_list {" + "".join(f" config {{ {entry} }}" for entry in entries) + " }"


def entry(models: Path, name: str, folder: str = "", more: str = "") -> str:
    return f"name: '{name}' base_path: '{models / (folder or name)}' model_platform: 'tensorflow' {more}"


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All models but the TFLite ones, with every optional face."""
    folder = tmp_path_factory.mktemp("server")
    names = ("half_plus_two", "half_plus_three", "half_plus_two_tf2", "counter", "loose", "saved")
    listed = [entry(models, name) for name in names]
    labelled = "version_labels { key: 'stable' value: 123 } version_labels { key: 'next' value: 124 }"
    listed.append(entry(models, "labelled", "half_plus_two", labelled))
    listed += [entry(models, "saved_multiple"), entry(models, "missing")]
    (folder / "models.config").write_text(config(*listed))
    (folder / "monitoring.config").write_text("prometheus_config { enable: true }")
    arguments = "grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb,grpc.so_reuseaddr=1"
    with started(
        folder,
        f"--model_config_file={folder / 'models.config'}",
        f"--monitoring_config_file={folder / 'monitoring.config'}",
        f"--grpc_channel_arguments={arguments}",
        "--rest_api_enable_cors_support",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def lite(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The TFLite models, which need no TensorFlow."""
    folder = tmp_path_factory.mktemp("lite")
    names = ("half_plus_two_tflite", "half_plus_two_tflite_with_sigdef")
    (folder / "models.config").write_text(config(*(entry(models, name) for name in names)))
    with started(
        folder,
        f"--model_config_file={folder / 'models.config'}",
        "--prefer_tflite_model=true",
        "--enable_serialization_as_tensor_content",
    ) as running:
        yield running


# --- upstream's table ---------------------------------------------------------------------------------------


def test_get_model_status(server: Server) -> None:
    request = spec(STUBS.status.GetModelStatusRequest(), "half_plus_two")
    (row,) = call(server, "GetModelStatus", request).model_version_status
    assert (row.version, row.state, row.status.error_code) == (123, 30, 0)
    assert row.status.error_message == ""


def test_get_model_metadata(server: Server) -> None:
    request = STUBS.metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
    reply = call(server, "GetModelMetadata", spec(request, "half_plus_two"))
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("half_plus_two", 123)
    assert list(reply.metadata) == ["signature_def"]
    packed = reply.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = STUBS.metadata.SignatureDefMap.FromString(packed.value).signature_def
    assert signatures["classify_x_to_y"].method_name == "tensorflow/serving/classify"
    assert signatures["serving_default"].inputs["x"].name == "x:0"


@pytest.mark.parametrize("model", ["half_plus_two", "half_plus_two_tf2"])
def test_classify_regress_and_both(server: Server, model: str) -> None:
    request = spec(STUBS.classification.ClassificationRequest(), model, "classify_x_to_y")
    reply = call(server, "Classify", with_examples(request, example(x=2.0)))
    ((only,),) = [row.classes for row in reply.result.classifications]
    assert (only.label, only.score) == ("", 3.0)
    assert (reply.model_spec.name, reply.model_spec.signature_name) == (model, "classify_x_to_y")
    assert reply.model_spec.version.value == 123
    request = spec(STUBS.regression.RegressionRequest(), model, "regress_x_to_y")
    reply = call(server, "Regress", with_examples(request, example(x=2.0), example(x=4.0)))
    assert [row.value for row in reply.result.regressions] == [3.0, 4.0]
    request = with_examples(STUBS.inference.MultiInferenceRequest(), example(x=2.0))
    for method in ("regress", "classify"):
        spec(request.tasks.add(method_name=f"tensorflow/serving/{method}"), model, f"{method}_x_to_y")
    first, second = call(server, "MultiInference", request).results
    assert first.regression_result.regressions[0].value == 3.0
    assert second.classification_result.classifications[0].classes[0].score == 3.0
    assert [r.model_spec.signature_name for r in (first, second)] == ["regress_x_to_y", "classify_x_to_y"]


@pytest.mark.parametrize("outputs", [(), ("y",)])
@pytest.mark.parametrize(("model", "result"), [("half_plus_two", 3.0), ("half_plus_three", 4.0)])
def test_predict(server: Server, model: str, result: float, outputs: tuple[str, ...]) -> None:
    reply = call(server, "Predict", predict_request(model, outputs))
    assert list(reply.outputs["y"].float_val) == [result]
    assert reply.outputs["y"].dtype == 1
    assert [dim.size for dim in reply.outputs["y"].tensor_shape.dim] == [1]
    named = reply.model_spec
    assert (named.name, named.version.value, named.signature_name) == (model, 123, "serving_default")
    assert not named.version_label


def test_typed_values_are_the_default_for_any_number_of_elements(server: Server) -> None:
    assert predicted(server, "half_plus_two", x=[2.0, 3.0, 4.0]) == [3.0, 3.5, 4.0]


def test_predict_through_the_unix_socket(server: Server) -> None:
    assert predicted(server, "half_plus_two", f"unix:{server.socket}") == [3.0]


def test_models_that_tensorflow_2_saves(server: Server) -> None:
    assert predicted(server, "saved") == [12.0]
    assert predicted(server, "saved_multiple", signature="custom_signature_key") == [2.0]
    assert predicted(server, "saved_multiple") == [1.0]


def test_a_model_of_reference_variables_runs_in_a_session(server: Server) -> None:
    def count(signature: str, **inputs: float) -> float:
        request = spec(STUBS.predict.PredictRequest(), "counter", signature)
        for alias, value in inputs.items():
            request.inputs[alias].CopyFrom(STUBS.tf.make_tensor_proto(value, "float32"))
        return call(server, "Predict", request).outputs["output"].float_val[0]

    start = count("get_counter")
    assert count("incr_counter") == start + 1
    assert count("incr_counter_by", delta=3.0) == start + 4


def test_a_graph_in_text_form_by_its_tags(models: Path) -> None:
    import numpy as np

    from serving.errors import ServingError
    from serving.runtimes import load
    from serving.runtimes.base import Engines

    version = models / "as_text" / "00000123"
    engines = Engines(tags=("gpu", "serve"))
    outputs = load(version, engines=engines).run("serving_default", {"x": np.float32([2])}, ["y"])
    assert outputs["y"].tolist() == [6.0]
    with pytest.raises(
        ServingError, match=r"NOT_FOUND: Could not find meta graph def matching supplied tags: \{ "
    ):
        load(version)


@pytest.mark.parametrize("model", ["half_plus_two_tflite", "half_plus_two_tflite_with_sigdef"])
def test_tflite(lite: Server, model: str) -> None:
    reply = call(lite, "Predict", predict_request(model, x=[2.0, 3.0]))
    assert STUBS.tf.make_ndarray(reply.outputs["y"]).tolist() == [3.0, 3.5]
    assert not reply.outputs["y"].float_val
    assert len(reply.outputs["y"].tensor_content) == 8
    assert "tensorflow" not in Path(f"/proc/{lite.process.pid}/maps").read_text()


def test_rest_is_typed_where_grpc_uses_tensor_content(lite: Server) -> None:
    reply = requests.post(f"{lite.rest}/half_plus_two_tflite:predict", json={"instances": [2.0]}, timeout=30)
    assert reply.json() == {"predictions": [3.0]}


def test_a_config_file_that_is_none_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("improper config file")
    done = subprocess.run(
        [PROGRAM, f"--port={free_port()}", f"--model_config_file={tmp_path / 'config'}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:1: " in done.stderr
    reason = f"INVALID_ARGUMENT: Invalid protobuf file: '{tmp_path / 'config'}'"
    assert done.stdout == f"Failed to start server. Error: {reason}\n"
    assert done.returncode == 255


@pytest.mark.parametrize("poll", [1, 0])
def test_a_config_file_is_followed_or_not(models: Path, tmp_path: Path, poll: int) -> None:
    file = tmp_path / "models.config"
    file.write_text(config(entry(models, "first", "half_plus_two_tflite")))
    flags = (f"--model_config_file={file}", f"--model_config_file_poll_wait_seconds={poll}")
    with started(tmp_path, *flags) as running:
        assert predicted(running, "first") == [3.0]
        if poll:
            file.write_text("broken {")
            until(lambda: "is not followed: INVALID_ARGUMENT: Invalid protobuf file" in running.logged())
            assert predicted(running, "first") == [3.0]
        file.write_text(config(entry(models, "second", "half_plus_two_tflite_with_sigdef")))
        if poll:
            until(lambda: status_of(running, "second") == {123: 30})
            assert predicted(running, "second") == [3.0]
            until(lambda: status_of(running, "first") == {123: 50})
            assert refused(running, "Predict", predict_request("first"))[0] == "NOT_FOUND"
        else:
            with pytest.raises(AssertionError, match="in time"):
                until(lambda: status_of(running, "second") != {}, 1.5)
            assert predicted(running, "first") == [3.0]


def status_of(server: Server, model: str) -> dict[int, int]:
    try:
        reply = call(server, "GetModelStatus", spec(STUBS.status.GetModelStatusRequest(), model))
    except grpc.RpcError:
        return {}
    return {row.version: row.state for row in reply.model_version_status}


# --- REST ---------------------------------------------------------------------------------------------------


def post(server: Server, path: str, body: Any, **more: Any) -> requests.Response:
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    return requests.post(f"{server.rest}/{path}", data=data, timeout=30, **more)


def test_rest_predict_classify_regress(server: Server) -> None:
    numbers = [2.0, 3.0, 4.0]
    reply = post(server, "half_plus_two:predict", {"instances": numbers})
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json() == {"predictions": [3.0, 3.5, 4.0]}
    reply = post(server, "half_plus_two/versions/123:predict", {"inputs": numbers})
    assert reply.json() == {"outputs": [3.0, 3.5, 4.0]}
    body = {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}, {"x": [4.0]}]}
    assert post(server, "half_plus_two:classify", body).json() == {"results": [[["", 3.0]], [["", 4.0]]]}
    body = {"signature_name": "regress_x_to_y", "context": {"x": 2.0}, "examples": [{}, {"x": 4.0}]}
    assert post(server, "labelled/labels/stable:regress", body).json() == {"results": [3.0, 4.0]}


def test_rest_status_and_metadata(server: Server, models: Path) -> None:
    status = {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("half_plus_two", "half_plus_two/versions/123", "labelled/labels/unknown"):
        assert requests.get(f"{server.rest}/{path}", timeout=30).json() == {"model_version_status": [status]}
    reply = requests.get(f"{server.rest}/half_plus_two/metadata", timeout=30).json()
    assert reply["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "123"}
    signatures = reply["metadata"]["signature_def"]["signature_def"]
    column = {"dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}], "unknown_rank": False}
    assert signatures["serving_default"] == {
        "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": column, "name": "x:0"}},
        "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": column, "name": "y:0"}},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    scalar = {"dim": [], "unknown_rank": True}
    assert signatures["classify_x2_to_y3"]["inputs"] == {
        "inputs": {"dtype": "DT_STRING", "tensor_shape": scalar, "name": "tf_example:0"}
    }


def test_rest_zipped_both_ways(server: Server) -> None:
    body = gzip.compress(json.dumps({"instances": [2.0] * 10_000}).encode())
    reply = post(server, "half_plus_two:predict", body, headers={"Content-Encoding": "gzip"})
    assert reply.headers["Content-Encoding"] == "gzip"
    assert reply.json() == {"predictions": [3.0] * 10_000}
    for broken in (b"no gzip", body[:-9]):
        reply = post(server, "half_plus_two:predict", broken, headers={"Content-Encoding": "gzip"})
        assert (reply.status_code, reply.json()) == (
            400,
            {"error": "JSON Parse error: The document is empty"},
        )


def test_rest_across_origins(server: Server) -> None:
    headers = {"Origin": "http://example.org", "Access-Control-Request-Method": "POST"}
    reply = requests.options(f"{server.rest}/half_plus_two:predict", headers=headers, timeout=30)
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert reply.headers["Access-Control-Allow-Methods"] == "POST, GET"
    assert reply.headers["Access-Control-Allow-Headers"] == "Content-Type"
    assert requests.options(f"{server.rest}/half_plus_two:predict", timeout=30).status_code == 400
    assert post(server, "nope:predict", "{}").headers["Access-Control-Allow-Origin"] == "*"


def test_rest_is_kinder_than_upstream(server: Server) -> None:
    for path in ("half_plus_two:predict?verbose=1", "half_plus_two", "half_plus_two/versions/123"):
        assert post(server, path, {"instances": [2.0]}).json() == {"predictions": [3.0]}
    assert requests.get(f"{server.rest}/half_plus_two?x=1", timeout=30).status_code == 200


EXAMPLES = {
    "no examples": ({}, "When method is classify, key 'examples' is expected and was not found"),
    "no list": ({"examples": {}}, "Expecting 'examples' value to be an list/array"),
    "empty": ({"examples": []}, "'examples' value is an empty array"),
    "no object": ({"examples": [[1]]}, "Example must be JSON object but got JSON Array"),
    "null": ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
    "mixed": ({"examples": [{"x": [1, 2.0]}]}, "Unexpected element type in feature: x expecting type: int64"),
    "huge": (
        {"examples": [{"x": 2**63}]},
        "Feature: x has uint64_t element. Only int64_t is supported.",
    ),
    "integer": (
        {"examples": [{"x": 2}]},
        "Data types don't match. Data type: int64 but expected type: float",
    ),
    "signature": (
        {"signature_name": "nope", "examples": [{"x": 2.0}]},
        "No signature was found with the name: nope",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_rest_examples_that_are_wrong(server: Server, name: str) -> None:
    body, message = EXAMPLES[name]
    reply = post(server, "half_plus_two:classify", {"signature_name": "classify_x_to_y", **body})
    assert reply.status_code == 400
    assert message in reply.json()["error"]
    assert "Traceback" not in reply.text
    assert ".py" not in reply.text


def test_the_profiler_answers_on_the_grpc_port(server: Server, tmp_path: Path) -> None:
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.wait(0.01):
            predicted(server, "half_plus_two")

    busy = threading.Thread(target=keep_busy)
    busy.start()
    STUBS.tf.profiler.experimental.client.trace(server.grpc, str(tmp_path), 300)
    stop.set()
    busy.join()
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_prometheus(server: Server) -> None:
    page = requests.get(server.rest.replace("/v1/models", "/monitoring/prometheus/metrics"), timeout=30)
    assert "# TYPE :tensorflow:serving:request_count counter" in page.text


# --- what is refused, and how -------------------------------------------------------------------------------


def classification(signature: str, *examples: Any, model: str = "half_plus_two", **where: Any) -> Any:
    request = spec(STUBS.classification.ClassificationRequest(), model, signature, **where)
    return with_examples(request, *examples)


def regression(signature: str, *examples: Any, model: str = "half_plus_two") -> Any:
    return with_examples(spec(STUBS.regression.RegressionRequest(), model, signature), *examples)


def multiple(*tasks: tuple[str, str, str]) -> Any:
    request = with_examples(STUBS.inference.MultiInferenceRequest(), example(x=2.0))
    for model, signature, method in tasks:
        spec(request.tasks.add(method_name=f"tensorflow/serving/{method}"), model, signature)
    return request


def metadata(*fields: str, model: str = "half_plus_two") -> Any:
    return spec(STUBS.metadata.GetModelMetadataRequest(metadata_field=fields), model)


REFUSED: dict[str, tuple[str, Callable[[], Any], str, str]] = {
    "no spec": (
        "Classify",
        lambda: STUBS.classification.ClassificationRequest(),
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    ),
    "no name": ("Regress", lambda: regression("", model=""), "INVALID_ARGUMENT", "ModelSpec has no name"),
    "label of a model": (
        "Predict",
        lambda: predict_request("half_plus_two", label="stable"),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: stable",
    ),
    "label of no model": (
        "Predict",
        lambda: predict_request("nope", label="stable"),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: stable",
    ),
    "label to come": (
        "Predict",
        lambda: predict_request("labelled", label="next"),
        "NOT_FOUND",
        "Servable not found for request: Specific(labelled, 124)",
    ),
    "version": (
        "Predict",
        lambda: predict_request("half_plus_two", version=9),
        "NOT_FOUND",
        "Servable not found for request: Specific(half_plus_two, 9)",
    ),
    "signature": (
        "Predict",
        lambda: predict_request("half_plus_two", signature="nope"),
        "FAILED_PRECONDITION",
        'Serving signature key "nope" not found.',
    ),
    "output": (
        "Predict",
        lambda: predict_request("half_plus_two", ("z",)),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    ),
    "no example": (
        "Classify",
        lambda: classification("classify_x_to_y"),
        "INVALID_ARGUMENT",
        "Input is empty.",
    ),
    "classify without": (
        "Classify",
        lambda: classification("nope", example(x=1.0)),
        "INVALID_ARGUMENT",
        "No signature was found with the name: nope",
    ),
    "classify the default": (
        "Classify",
        lambda: classification("", example(x=1.0)),
        "INVALID_ARGUMENT",
        "No classification inputs found in SignatureDef: ",
    ),
    "classify by regression": (
        "Classify",
        lambda: classification("regress_x_to_y", example(x=1.0)),
        "INVALID_ARGUMENT",
        'Expected classification signature outputs to contain at least one of "classes" or "scores".',
    ),
    "regress by classification": (
        "Regress",
        lambda: regression("classify_x_to_y", example(x=1.0)),
        "INVALID_ARGUMENT",
        "No regression outputs found in SignatureDef: ",
    ),
    "inputs": (
        "Regress",
        lambda: regression("", example(x=1.0), model="loose"),
        "INVALID_ARGUMENT",
        "Expected one input Tensor.",
    ),
    "no tasks": (
        "MultiInference",
        lambda: multiple(),
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    ),
    "second without a name": (
        "MultiInference",
        lambda: multiple(("half_plus_two", "regress_x_to_y", "regress"), ("", "", "regress")),
        "INVALID_ARGUMENT",
        "Found ModelSpec with an empty model name.",
    ),
    "two models": (
        "MultiInference",
        lambda: multiple(("half_plus_two", "regress_x_to_y", "regress"), ("loose", "", "regress")),
        "INVALID_ARGUMENT",
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    "one signature twice": (
        "MultiInference",
        lambda: multiple(*[("half_plus_two", "regress_x_to_y", "regress")] * 2),
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: regress_x_to_y",
    ),
    "a signature that is not": (
        "MultiInference",
        lambda: multiple(("half_plus_two", "nope", "regress")),
        "INVALID_ARGUMENT",
        "Requested signature not found in model graph: nope",
    ),
    "a method that is not": (
        "MultiInference",
        lambda: multiple(("half_plus_two", "serving_default", "predict")),
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    "no field": (
        "GetModelMetadata",
        lambda: metadata(),
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    "a field that is not": (
        "GetModelMetadata",
        lambda: metadata("signature_def", "graph", model="nope"),
        "INVALID_ARGUMENT",
        "Metadata field graph is not supported",
    ),
    "status of none": (
        "GetModelStatus",
        lambda: spec(STUBS.status.GetModelStatusRequest(), "missing"),
        "NOT_FOUND",
        "Could not find any versions of model missing",
    ),
    "reload of what is no list": (
        "HandleReloadConfigRequest",
        lambda: STUBS.management.ReloadConfigRequest(),
        "INVALID_ARGUMENT",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList",
    ),
    "dtype": (
        "Predict",
        lambda: of_type("half_plus_two", "int64"),
        "INVALID_ARGUMENT",
        'Input "x" must be float',
    ),
    "shape": (
        "Predict",
        lambda: predict_request("loose", x=[1.0, 2.0, 3.0]),
        "INVALID_ARGUMENT",
        "Input to reshape is a tensor with 3 values, but the requested shape has 2",
    ),
}


def of_type(model: str, dtype: str) -> Any:
    request = spec(STUBS.predict.PredictRequest(), model)
    request.inputs["x"].CopyFrom(STUBS.tf.make_tensor_proto([2], dtype))
    return request


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(server: Server, name: str) -> None:
    method, request, code, message = REFUSED[name]
    assert (code, message) == (
        (answer := refused(server, method, request()))[0],
        answer[1][: len(message)],
    )


def test_an_output_that_is_not_asked_for_is_not_computed(server: Server) -> None:
    reply = call(server, "Predict", predict_request("loose", ("times",), x=[1.0, 2.0, 3.0]))
    assert list(reply.outputs["times"].float_val) == [10.0, 20.0, 30.0]
    assert list(reply.outputs) == ["times"]


def test_a_label_set_at_the_start_leads_to_its_version(server: Server) -> None:
    assert predicted(server, "labelled", label="stable") == [3.0]


def test_sessions_are_not_served(server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        run = channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
        with pytest.raises(grpc.RpcError) as caught:
            run(b"", timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_health_and_reflection(server: Server) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with grpc.insecure_channel(server.grpc) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for service in ("", "ModelService", "PredictionService"):
            assert check(health_pb2.HealthCheckRequest(service=service)).status == 1
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            check(health_pb2.HealthCheckRequest(service="nope"))
        database = ProtoReflectionDescriptorDatabase(channel)
        names = set(database.get_services())
        assert names >= {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"}
        file = database.FindFileContainingSymbol("tensorflow.serving.PredictionService")
        assert file.name == "tensorflow_serving/apis/prediction_service.proto"


def test_a_model_whose_folder_is_missing_stops_no_other(server: Server, models: Path) -> None:
    shutil.copytree(models / "half_plus_two_tflite", models / ".missing")
    (models / ".missing").rename(models / "missing")
    until(lambda: status_of(server, "missing") == {123: 30})
    assert predicted(server, "missing") == [3.0]


def test_scripts_find_the_lines_they_wait_for(server: Server) -> None:
    port = server.grpc.rpartition(":")[2]
    assert f"Running gRPC ModelServer at 127.0.0.1:{port} ..." in server.logged()
    assert "Exporting HTTP/REST API at:127.0.0.1:" in server.logged()
    assert "Successfully loaded servable version {name: half_plus_two version: 123}" in server.logged()


# --- changes while serving ----------------------------------------------------------------------------------


def reload_request(*entries: str) -> Any:
    from google.protobuf import text_format

    request = STUBS.management.ReloadConfigRequest()
    text_format.Parse(config(*entries), request.config)
    return request


def test_models_labels_and_policies_change_by_reload(models: Path, tmp_path: Path) -> None:
    base = tmp_path / "m"
    for version in (1, 2, 3):
        shutil.copytree(models / "half_plus_two_tflite" / "00000123", base / str(version))

    def entry_m(more: str = "") -> str:
        return f"name: 'm' base_path: '{base}' model_platform: 'tensorflow' {more}"

    def label(name: str, version: int) -> str:
        return f"version_labels {{ key: '{name}' value: {version} }}"

    two = "model_version_policy { specific { versions: 1 versions: 2 } }"
    with started(
        tmp_path, "--model_name=m", f"--model_base_path={base}", "--max_num_load_retries=0"
    ) as running:
        assert status_of(running, "m") == {3: 30}
        call(running, "HandleReloadConfigRequest", reload_request(entry_m(two)))
        until(lambda: status_of(running, "m") == {3: 50, 2: 30, 1: 30})
        labelled = entry_m(two + label("stable", 1) + label("canary", 2))
        call(running, "HandleReloadConfigRequest", reload_request(labelled))
        assert predicted(running, "m", label="stable") == [3.0]
        moved = reload_request(entry_m(two + label("stable", 3)))
        assert refused(running, "HandleReloadConfigRequest", moved) == (
            "FAILED_PRECONDITION",
            "Request to assign label to version 3 of model m, which is not currently available for inference",
        )
        assert predicted(running, "m", label="canary") == [3.0]
        everything = entry_m("model_version_policy { all {} }")
        call(running, "HandleReloadConfigRequest", reload_request(everything))
        until(lambda: status_of(running, "m") == {3: 30, 2: 30, 1: 30})
        twice = reload_request(everything, everything)
        assert refused(running, "HandleReloadConfigRequest", twice) == (
            "INVALID_ARGUMENT",
            "Illegal to list model m multiple times in config list",
        )
        empty = reload_request(
            everything, f"name: 'n' base_path: '{tmp_path / 'n'}' model_platform: 'tensorflow'"
        )
        code, message = refused(running, "HandleReloadConfigRequest", empty)
        assert code == "UNKNOWN"
        assert message.startswith("1 model(s) did not become available: {{name: n} due to error: NOT_FOUND: ")
        nothing = reload_request()
        nothing.metric_names.append("/tensorflow/serving/request_count")
        reply = call(running, "HandleReloadConfigRequest", nothing)
        assert reply.status.error_code == 0
        assert [(m.name, m.int64_value_increase) for m in reply.metric] == [
            ("/tensorflow/serving/request_count", 0)
        ]
        until(lambda: status_of(running, "m") == {3: 50, 2: 50, 1: 50})


def test_a_failed_start_says_why_and_ends(models: Path, tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.tflite").write_bytes(b"no model")
    flags = ["--model_name=m", f"--model_base_path={tmp_path / 'm'}", "--max_num_load_retries=1"]
    flags += ["--load_retry_interval_micros=1000", f"--port={free_port()}"]
    done = subprocess.run([PROGRAM, *flags], capture_output=True, text=True, timeout=60)
    assert done.returncode == 255
    assert (
        "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: {{name: m version"
        in (done.stdout)
    )
    assert "failed, try 2:" in done.stderr


def test_sigterm_drains(models: Path, tmp_path: Path) -> None:
    base = models / "half_plus_two_tflite"
    with started(tmp_path, "--model_name=m", f"--model_base_path={base}") as running:
        assert predicted(running, "m") == [3.0]
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0
        assert "Stopping: new requests are refused, those under way are finished" in running.logged()


# --- the command line ---------------------------------------------------------------------------------------


def run_program(*flags: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([PROGRAM, *flags], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (("--port=0", "--model_base_path=/m"), "server_options.grpc_port is not set."),
        (
            ("--model_base_path=/m", "--batching_parameters_file=/b"),
            "server_options.batching_parameters_file is set without setting server_options.enable_batching",
        ),
        (
            ("--model_base_path=m",),
            "Expected model default to have an absolute path or URI; got base_path()=m",
        ),
        (("--model_base_path=gs://b/m",), "Model default is at gs://b/m, which cannot be read from here"),
        (("--model_base_path=/m", "--use_alts_credentials"), "--use_alts_credentials is not supported: ALTS"),
        (("--model_base_path=/m", "--platform_config_file=/p"), "--platform_config_file is not supported"),
        (("--model_base_path=/m", "--fidelity=fp4"), "No fidelity is named fp4; there are exact, bf16, int8"),
        (
            ("--model_base_path=/m", "--runtime=torch"),
            "No runtime is named torch; there are onnx, tensorflow",
        ),
        (("--model_base_path=/m", "--workers=0"), "--workers must be at least 1; was 0"),
        (
            ("--model_base_path=/m", "--workers=2", "--grpc_socket_path=/s"),
            "Workers share ports, not Unix sockets: --grpc_socket_path needs --workers=1",
        ),
        (("--model_config_file=/nope",), "Invalid protobuf file: '/nope'"),
    ],
    ids=[
        "no model",
        "no port",
        "batching parameters without batching",
        "relative path",
        "object store",
        "refused flag",
        "plug-in",
        "no such fidelity",
        "no such engine",
        "no workers",
        "workers on a Unix socket",
        "no such file",
    ],
)
def test_starts_that_are_refused(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(ServingError) as caught:
        checked(given)
    assert str(caught.value).startswith(f"INVALID_ARGUMENT: {message}")


def checked(given: tuple[str, ...]) -> None:
    """What a start does before it loads anything."""
    parsed = flags.parse(given)
    model_server.check(parsed)
    model_server.options(parsed.values)


def test_a_refused_start_is_told_on_standard_output() -> None:
    done = run_program("--model_base_path=m")
    assert done.stdout.startswith("Failed to start server. Error: INVALID_ARGUMENT: Expected model default")
    assert done.returncode == 255


def test_flags_are_read_as_upstream_reads_them() -> None:
    done = run_program("--nothing", "--flush_filesystem_caches=true")
    assert done.stdout.startswith("unknown argument: --nothing\nusage: ")
    assert "--flush_filesystem_caches is ignored: " in done.stderr
    bad = run_program("--port=many")
    assert bad.stdout.startswith("--port takes a value of type int32, not 'many'\nusage: ")
    assert bad.returncode == 255
    version = run_program("--version")
    assert version.stdout.startswith("TensorFlow ModelServer: ")
    assert "TensorFlow Library: 2." in version.stdout
    assert version.returncode == 0


def test_help_names_every_flag() -> None:
    page = Path(__file__).parents[2] / "docs" / "serving.md"
    assert flags.table() in page.read_text(encoding="utf-8"), "print(serving.flags.table()) is its table"
    text = run_program("--help").stdout
    assert all(f"--{flag.name}=" in text for flag in flags.FLAGS)
    assert len(flags.FLAGS) == len({flag.name for flag in flags.FLAGS}) >= 46
