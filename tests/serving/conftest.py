"""Model directories made by hand: small, but of real files that a server serves as it would any other."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import sklearn
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import serving
from serving import runtimes
from serving.faces import grpc_face, rest_face
from serving.faces.grpc_face import GrpcOptions
from serving.faces.rest_face import RestOptions
from serving.models.batching import scheduled
from serving.models.lifecycle import Models
from serving.models.service import PredictionService
from serving.models.versions import Load, ModelConfig, Timing
from serving.watching.request_log import RequestLog
from zoo.writing import complete

LABELS = ("red", "green", "blue", "dark", "light", "grey")
SIZE = (32, 48)
PHOTOS = Path(sklearn.__file__).parent / "datasets" / "images"


def colour_model(scale: float = 1.0) -> onnx.ModelProto:
    """Scores a picture's mean colour: Conv, GlobalAveragePool, Softmax over [batch, 32, 48, 3] in 0..255.

    `scale` multiplies the logits, so that two versions of the model answer differently.
    """
    directions = np.array(
        [[2, -1, -1], [-1, 2, -1], [-1, -1, 2], [-1, -1, -1], [1, 1, 1], [0, 0, 0]], np.float32
    )
    weights = {
        "kernel": (directions * scale / 64)[..., None, None],
        "bias": np.array([0, 0, 0, 2, -2, 0.5], np.float32) * np.float32(scale),
    }
    nodes = [
        helper.make_node("Transpose", ["images"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["nchw"], ["pooled"]),
        helper.make_node("Conv", ["pooled", "kernel", "bias"], ["scored"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Flatten", ["scored"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    sizes = {"probabilities": 6, "features": 3, "logits": 6}
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *SIZE, 3])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", s]) for n, s in sizes.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return _model(graph)


def add_model() -> onnx.ModelProto:
    """total = a + b for any shapes, and the text unchanged: a file without a card."""
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["a", "b"], ["total"]),
            helper.make_node("Identity", ["text"], ["text_bytes"]),
            helper.make_node("Cast", ["a"], ["rounded"], to=TensorProto.INT64),
        ],
        "add",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("text", TensorProto.STRING, ["n"]),
        ],
        [
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("text_bytes", TensorProto.STRING, ["n"]),
            helper.make_tensor_value_info("rounded", TensorProto.INT64, ["n", 2]),
        ],
    )
    return _model(graph)


def spin_model() -> onnx.ModelProto:
    """Multiplies a matrix `times` times: a request that takes as long as it is told."""
    weights = numpy_helper.from_array(np.eye(64, dtype=np.float32), "eye")
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("MatMul", ["x", "eye"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 64]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["times", "", "eye"], ["product"], body=body)],
        "spin",
        [helper.make_tensor_value_info("times", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, [64, 64])],
        [weights],
    )
    return _model(graph)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def publish(
    base: Path, version: int, model: onnx.ModelProto, *, labels: tuple[str, ...] | None = LABELS
) -> None:
    """Writes a version beside the folder and renames it in; without a card when labels is None."""
    staging = base.parent / f".{base.name}.{version}"
    staging.mkdir(parents=True)
    base.mkdir(parents=True, exist_ok=True)
    onnx.save(model, staging / "model.onnx")
    if labels is not None:
        card = {
            "format": 1,
            "name": base.name,
            "version": version,
            "labels": list(labels),
            "preprocessing": {
                "input_size": list(SIZE),
                "crop": 0.875,
                "interpolation": "bicubic",
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
            },
        }
        (staging / "card.json").write_text(json.dumps(card), encoding="utf-8")
    staging.rename(base / str(version))


def png(colour: tuple[int, int, int], size: tuple[int, int] = (64, 50)) -> bytes:
    """An encoded picture of one colour, (width, height) in pixels."""
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Servers keep their measurements in a folder of this run."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What export_models.py writes: BASE/flowers/1 in every served format, BASE/line/1. pytest-xdist's
    processes share it.
    """
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    base = tmp_path_factory.getbasetemp()
    out = (base if alone else base.parent) / "exported"
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            with complete(out) as partial:
                command = [sys.executable, Path(__file__).with_name("export_models.py"), partial]
                done = subprocess.run(command, capture_output=True, text=True, timeout=300)
                assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def every_format(exported: Path) -> Path:
    return exported / "flowers" / "1"


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    return [PHOTOS / "china.jpg", PHOTOS / "flower.jpg"]


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("zoo") / "colours"
    publish(base, 3, colour_model())
    return base


@pytest.fixture(scope="session")
def endpoint(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Endpoint]:
    """Behind one server: the zoo model "colours", version 3, and the plain file "add", version 1."""
    add = tmp_path_factory.mktemp("plain") / "add"
    publish(add, 1, add_model(), labels=None)
    with serving.deploy([colours, add], runtime="onnx") as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def client(endpoint: serving.Endpoint) -> Iterator[serving.Client]:
    with serving.Client(endpoint.grpc_address) as client:
        yield client


@pytest.fixture(scope="session")
def curl(endpoint: serving.Endpoint) -> Callable[..., tuple[int, Any]]:
    """curl(path, body=None, *arguments) -> (HTTP status, parsed JSON) from the shared server."""
    return lambda path, body=None, *arguments: run_curl(f"{endpoint.rest_url}{path}", body, *arguments)


def run_curl(url: str, body: Any = None, *arguments: str) -> tuple[int, Any]:
    """The status and JSON of a URL; `body`, text or JSON-able, is posted."""
    command = ["curl", "-s", "--max-time", "60", "-w", "\n%{http_code}", *arguments, url]
    if body is not None:
        command += ["--data-binary", "@-"]
    data = body if isinstance(body, str | None) else json.dumps(body)
    done = subprocess.run(
        command, input=data.encode() if data is not None else None, capture_output=True, check=True
    )
    text, _, status = done.stdout.decode().rpartition("\n")
    return int(status), json.loads(text) if text.startswith("{") else text


def run_python(code: str, *arguments: str) -> str:
    """The standard output of a fresh interpreter, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class InProcess:
    """A server in this process: where it listens, and its models."""

    grpc_address: str
    rest_url: str
    models: Models


@contextmanager
def in_process(
    *bases: Path,
    load: Load | None = None,
    grpc: GrpcOptions = GrpcOptions(),  # noqa: B008 - frozen
    rest: RestOptions = RestOptions(),  # noqa: B008 - frozen
    configs: Sequence[ModelConfig] = (),
    poll: float = 0.05,
) -> Iterator[InProcess]:
    """Serves BASE/NAME folders (or `configs`) on free ports of loopback with real faces; by default each
    request waits its turn.
    """
    wanted = configs or [ModelConfig(base.name, base) for base in bases]
    models = Models(wanted, load or scheduled(runtimes.load), Timing(poll))
    models.start()
    assert models.tried(60)
    models.serving_begins()
    request_log = RequestLog(models.logging)
    service = PredictionService(models, hear=request_log.hear)
    grpc_server, rest_server = grpc_face.start(service, grpc), rest_face.start(service, rest, 10)
    try:
        yield InProcess(f"127.0.0.1:{grpc_server.port}", f"http://127.0.0.1:{rest_server.port}", models)
    finally:
        rest_server.stop()
        grpc_server.stop(10)
        request_log.close()
        models.stop()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


# Test modules cannot import this file, so its helpers reach them as fixtures.


@pytest.fixture(scope="session", name="publish")
def _publish() -> Callable[..., None]:
    return publish


@pytest.fixture(scope="session", name="colour_model")
def _colour_model() -> Callable[..., onnx.ModelProto]:
    return colour_model


@pytest.fixture(scope="session", name="add_model")
def _add_model() -> Callable[..., onnx.ModelProto]:
    return add_model


@pytest.fixture(scope="session", name="in_process")
def _in_process() -> Callable[..., Any]:
    return in_process


@pytest.fixture(scope="session", name="spin_model")
def _spin_model() -> Callable[..., onnx.ModelProto]:
    return spin_model


@pytest.fixture(scope="session", name="png")
def _png() -> Callable[..., bytes]:
    return png


@pytest.fixture(scope="session", name="run_curl")
def _run_curl() -> Callable[..., tuple[int, Any]]:
    return run_curl


@pytest.fixture(scope="session", name="run_python")
def _run_python() -> Callable[..., str]:
    return run_python


@pytest.fixture(scope="session", name="free_ports")
def _free_ports() -> Callable[[int], list[int]]:
    return free_ports
