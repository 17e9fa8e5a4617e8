"""Hostile clients, changing folders, too much load: nobody else notices, and every answer is a proper one."""

import base64
import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving import Client, Endpoint, ServingError
from serving.errors import Code
from serving.faces.rest_face import RestOptions
from serving.models.turns import Gate, Gates, gated
from serving.runtimes import load
from serving.wire.protos import PREDICTION_SERVICE, Example, PredictRequest, message, methods
from serving.wire.tensors import to_proto

Publish = Callable[..., None]
MakeModel = Callable[..., onnx.ModelProto]
InProcess = Callable[..., Any]
Curl = Callable[..., tuple[int, Any]]
BLACK = np.zeros((32, 48, 3), np.uint8)


@pytest.fixture
def base(tmp_path: Path, publish: Publish, colour_model: MakeModel) -> Path:
    publish(tmp_path / "served" / "m", 1, colour_model())
    return tmp_path / "served" / "m"


@pytest.fixture
def spin(tmp_path: Path, publish: Publish, spin_model: MakeModel) -> Path:
    publish(tmp_path / "slow" / "spin", 1, spin_model(), labels=None)
    return tmp_path / "slow" / "spin"


def until(condition: Callable[[], bool]) -> None:
    """Asks again and again until it is so, a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never became so"
        threading.Event().wait(0.002)


class Http:
    """Keeps a connection to the REST face: (status, JSON) of one request after the other."""

    def __init__(self, url: str) -> None:
        import http.client

        host, port = url.removeprefix("http://").split(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=60)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        self._connection.request(method, path, body, headers)
        reply = self._connection.getresponse()
        text = reply.read()
        return reply.status, json.loads(text) if text.startswith(b"{") else text

    def __enter__(self) -> "Http":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


# --- folders that change under load ---------------------------------------------------------------------

PIXELS = json.dumps({"signature_name": "features", "instances": np.zeros((1, 2, 2, 3), int).tolist()})


@dataclass
class Load:
    """Clients of both faces that ask without a pause until told to stop; what they saw."""

    answered: int = 0
    failures: tuple[str, ...] = ()

    def grpc(self, server: Any, done: threading.Event) -> None:
        with Client(server.grpc_address, attempts=1) as client:
            while not done.is_set():
                self._count(lambda: client.classify("m", BLACK)[0][0] == "dark")

    def rest(self, server: Any, done: threading.Event) -> None:
        with Http(server.rest_url) as http:
            while not done.is_set():
                self._count(lambda: http.ask("POST", "/v1/models/m:predict", PIXELS)[0] == 200)

    def _count(self, ask: Callable[[], bool]) -> None:
        try:
            assert ask(), "a wrong answer"
            self.answered += 1
        except Exception as error:
            self.failures += (str(error),)


def under_load(server: Any, change: Callable[[Load], None]) -> Load:
    """Lets `change` happen while three clients ask."""
    seen, done = Load(), threading.Event()
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(kind, server, done) for kind in (seen.grpc, seen.grpc, seen.rest)]
        try:
            until(lambda: seen.answered > 10)
            change(seen)
        finally:
            done.set()
        for future in asking:
            future.result()
    return seen


@pytest.mark.parametrize("swaps", [10, pytest.param(200, marks=pytest.mark.large)])
def test_version_swaps_under_load_fail_no_request(
    swaps: int, base: Path, publish: Publish, colour_model: MakeModel, in_process: InProcess
) -> None:
    with in_process(base) as server:
        model = server.models.all()["m"]

        def swap(seen: Load) -> None:
            for version in range(2, swaps + 2):
                before = seen.answered
                publish(base, version, colour_model(scale=1 + version / 100))
                until(lambda v=version: list(model.loaded) == [v])
                shutil.rmtree(base / str(version - 1))
                until(lambda n=before: seen.answered > n)

        seen = under_load(server, swap)
        assert seen.failures == ()
        assert seen.answered > 2 * swaps
        until(lambda: not any(status.state.name == "UNLOADING" for status in model.history()))


def test_a_broken_new_version_and_a_vanished_folder_fail_no_request(
    base: Path, in_process: InProcess
) -> None:
    with in_process(base) as server:
        model = server.models.all()["m"]

        def break_it(seen: Load) -> None:
            (base / ".2").mkdir()
            (base / ".2" / "model.onnx").write_bytes(b"no model")
            (base / ".2").rename(base / "2")
            until(lambda: 2 in model.statuses and model.statuses[2].state.name == "END")
            shutil.move(base, base.parent / "elsewhere")
            until(lambda: "Could not find base path" in model.trouble)
            now = seen.answered
            until(lambda: seen.answered > now + 20)
            shutil.move(base.parent / "elsewhere", base)
            until(lambda: not model.trouble)

        assert under_load(server, break_it).failures == ()
        assert model.history()[0].message.startswith(f"{base / '2' / 'model.onnx'} cannot be loaded")


# --- clients that go away or take their time ------------------------------------------------------------

KILLED = """
import sys
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from serving import Client
client = Client(sys.argv[1])
client.predict("spin", {"times": 1})
with ThreadPoolExecutor(6) as pool:
    asked = [pool.submit(client.predict, "spin", {"times": 20_000}) for _ in range(6)]
    print("asked", flush=True)
"""


def test_a_client_killed_in_the_middle_of_its_requests_disturbs_nobody(
    base: Path, spin: Path, in_process: InProcess
) -> None:
    gate = Gate()
    with in_process(base, spin, load=gated(load, Gates(gate))) as server:
        command = [sys.executable, "-c", KILLED, server.grpc_address]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as killed:
            assert killed.stdout is not None
            killed.stdout.readline()
            until(lambda: gate.depths().get("spin", 0) > 0)
            killed.send_signal(signal.SIGKILL)
        with Client(server.grpc_address, attempts=1) as client:
            assert client.classify("m", BLACK)[0][0] == "dark"
            assert client.predict("spin", {"times": 3})["product"].shape == (64, 64)
        until(lambda: gate.depths() == {})
        until(lambda: server.models.all()["spin"].loaded[1].requests == 0)


def test_a_client_that_sends_too_slowly_is_given_up(base: Path, in_process: InProcess) -> None:
    with in_process(base, rest=RestOptions(body_timeout=0.2)) as server:
        host, port = server.rest_url.removeprefix("http://").split(":")
        head = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        with socket.create_connection((host, int(port)), timeout=60) as slow, Http(server.rest_url) as http:
            slow.sendall(head)
            assert http.ask("POST", "/v1/models/m:predict", PIXELS)[0] == 200
            # The server ends the connection: what follows of the request is of no use.
            reply = b"".join(iter(lambda: slow.recv(10_000), b""))
        assert reply.startswith(b"HTTP/1.1 408 ")
        assert b"The request did not arrive within 0.2 seconds" in reply


def test_a_run_longer_than_the_deadline_is_504_and_deadline_exceeded(
    spin: Path, in_process: InProcess
) -> None:
    with in_process(spin, rest=RestOptions(timeout=0.01)) as server:
        with Http(server.rest_url) as http:
            status, reply = http.ask("POST", "/v1/models/spin:predict", '{"inputs": 30000}')
        assert (status, reply) == (504, {"error": "Deadline exceeded while the model ran"})
        with Client(server.grpc_address, timeout=0.05) as client:
            with pytest.raises(ServingError) as caught:
                client.predict("spin", {"times": 100_000})
            assert caught.value.code == Code.DEADLINE_EXCEEDED


# --- pictures that are none, over REST ------------------------------------------------------------------


def test_a_signal_is_heard_where_the_event_is_locked() -> None:
    """As in the moment in which the main thread begins to wait for it."""
    code = """
import signal, threading
from serving.server import stop_on_signals

stopping = threading.Event()
stop_on_signals(stopping)
with stopping._cond:
    signal.raise_signal(signal.SIGTERM)
assert stopping.wait(30)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_bad_pictures_over_rest_are_named(endpoint: Endpoint, png: Callable[..., bytes]) -> None:
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + png((0, 0, 0))[24:29]
    bomb = png((0, 0, 0))[:12] + header + struct.pack(">I", zlib.crc32(header)) + png((0, 0, 0))[33:]
    with Http(endpoint.rest_url) as http:
        for picture, words in ((b"no picture", "cannot be decoded"), (bomb, "3600000000 pixels")):
            rows = [{"b64": base64.b64encode(one).decode()} for one in (png((1, 2, 3)), picture)]
            status, reply = http.ask("POST", "/v1/models/colours:predict", json.dumps({"instances": rows}))
            assert status == 400
            assert reply["error"].startswith("image_bytes[1]: picture ")
            assert words in reply["error"]


# --- more load than the machine carries -----------------------------------------------------------------

WAITING = 4


@dataclass(frozen=True)
class Reply:
    ok: bool
    code: str
    seconds: float


def timed(ask: Callable[[], str]) -> Reply:
    began = time.monotonic()
    code = ask()
    return Reply(code == "OK", code, time.monotonic() - began)


def at_four_times_the_capacity(service_seconds: float, ask: Callable[[], str]) -> list[Reply]:
    """Starts a request every quarter of a service time, whatever becomes of the others."""
    count, gap = 80, service_seconds / 4
    with ThreadPoolExecutor(count) as pool:
        began = time.monotonic()
        replies = []
        for number in range(count):
            threading.Event().wait(max(0.0, began + number * gap - time.monotonic()))
            replies.append(pool.submit(timed, ask))
        return [reply.result() for reply in replies]


@pytest.mark.parametrize("face", ["GRPC", "REST"])
def test_overload_is_refused_at_once_and_the_accepted_wait_boundedly(
    face: str, spin: Path, in_process: InProcess
) -> None:
    with (
        in_process(spin, load=gated(load, Gates(Gate(1, WAITING)))) as server,
        Client(server.grpc_address, attempts=1) as client,
    ):

        def over_grpc() -> str:
            try:
                client.predict("spin", {"times": 4000})
            except ServingError as error:
                return error.code.name
            return "OK"

        def over_rest() -> str:
            with Http(server.rest_url) as http:
                status, _ = http.ask("POST", "/v1/models/spin:predict", '{"inputs": 4000}')
            return {200: "OK", 503: "UNAVAILABLE"}.get(status, str(status))

        ask = over_grpc if face == "GRPC" else over_rest
        alone = float(np.median([timed(ask).seconds for _ in range(5)]))
        replies = at_four_times_the_capacity(alone, ask)
    accepted = sorted(reply.seconds for reply in replies if reply.ok)
    refused = sorted(reply.seconds for reply in replies if not reply.ok)
    assert {reply.code for reply in replies} == {"OK", "UNAVAILABLE"}
    assert len(accepted) > WAITING
    assert len(refused) > len(replies) / 3
    # Its own run and those before it; twice that, for a machine that does something else besides.
    assert accepted[-1] < 2 * (WAITING + 1) * alone + 0.5
    assert refused[len(refused) // 2] < accepted[len(accepted) // 2]


# --- requests that no client would send -----------------------------------------------------------------


def valid_requests() -> list[tuple[str, bytes]]:
    """Predict, Classify, ... and a request that the shared server answers OK, serialised."""
    plain = PredictRequest()
    plain.model_spec.name = "add"
    for alias in ("a", "b"):
        plain.inputs[alias].CopyFrom(to_proto(np.ones((2, 2), np.float32)))
    plain.inputs["text"].CopyFrom(to_proto(np.array(["x", "y"], object)))
    pictures = PredictRequest(output_filter=["classes"])
    pictures.model_spec.name = "colours"
    pictures.model_spec.signature_name = "predict_images"
    pictures.inputs["images"].CopyFrom(to_proto(np.zeros((1, 3, 3, 3), np.float32)))
    classify = message("tensorflow.serving.ClassificationRequest")()
    classify.model_spec.name = "colours"
    classify.model_spec.signature_name = "classify"
    example = Example()
    example.features.feature["image/encoded"].bytes_list.value.append(b"no picture")
    classify.input.example_list.examples.append(example)
    metadata = message("tensorflow.serving.GetModelMetadataRequest")(metadata_field=["signature_def"])
    metadata.model_spec.name = "colours"
    asked = {"Classify": [classify], "GetModelMetadata": [metadata], "Predict": [plain, pictures]}
    return [(name, one.SerializeToString()) for name, requests in asked.items() for one in requests]


VALID = valid_requests()
BODIES = [
    b'{"signature_name": "predict_images", "instances": [[[[1, 2, 3], [4, 5, 6]]]]}',
    b'{"inputs": {"a": [[1, 2]], "b": [[3.5, -4e2]], "text": [{"b64": "aGk="}]}}',
    b'{"instances": [{"a": [1, 2], "b": [3, NaN], "text": "\\u00e9"}]}',
    b'{"signature_name": "classify", "examples": [{"image/encoded": {"b64": "aGk="}, "n": [1, 2]}]}',
]
PATHS = [
    "/v1/models/add:predict",
    "/v1/models/colours:predict",
    "/v1/models/colours/versions/3:classify",
    "/v1/models/colours/labels/stable:predict",
    "/v1/models/colours:regress",
]
TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b"null",
    b"-1e999",
    b"9" * 30,
    b"\\ud800",
    b"\xff",
    b"\x00",
]


@st.composite
def mutated(draw: st.DrawFn, source: bytes) -> bytes:
    """The bytes with some cut out, doubled, turned over, or with others put in."""
    data = bytearray(source)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 16)))
        kind = draw(st.sampled_from(("cut", "double", "flip", "put", "end")))
        if kind == "cut":
            del data[start:end]
        elif kind == "double":
            data[end:end] = data[start:end]
        elif kind == "flip" and start < len(data):
            data[start] ^= draw(st.integers(1, 255))
        elif kind == "put":
            data[start:start] = draw(st.sampled_from(TOKENS) | st.binary(max_size=8))
        elif kind == "end":
            del data[start:]
    return bytes(data)


@st.composite
def grpc_requests(draw: st.DrawFn) -> tuple[str, bytes]:
    name, source = draw(st.sampled_from(VALID))
    return name, draw(mutated(source))


@st.composite
def tensors(draw: st.DrawFn) -> bytes:
    """A Predict whose tensors parse, and contradict themselves or the model."""
    request = PredictRequest()
    request.model_spec.name = draw(st.sampled_from(("add", "colours", "")))
    request.model_spec.signature_name = draw(st.sampled_from(("", "features", "predict_images", "classify")))
    for alias in draw(st.sets(st.sampled_from(("a", "b", "text", "images", "image_bytes", "inputs", "")))):
        tensor = request.inputs[alias]
        tensor.dtype = draw(st.integers(0, 23) | st.sampled_from((101, 2**31 - 1)))
        sizes = st.lists(
            st.sampled_from((0, 1, 2, 3, -1, 2**40)) | st.integers(-(2**63), 2**63 - 1), max_size=5
        )
        for size in draw(sizes):
            tensor.tensor_shape.dim.add().size = size
        tensor.tensor_shape.unknown_rank = draw(st.booleans())
        tensor.float_val.extend(draw(st.lists(st.floats(width=32), max_size=4)))
        tensor.int_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4)))
        tensor.half_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4)))
        tensor.string_val.extend(draw(st.lists(st.binary(max_size=9), max_size=4)))
        tensor.tensor_content = draw(st.binary(max_size=16) | st.just(b""))
    request.output_filter.extend(
        draw(st.lists(st.sampled_from(("total", "classes", "features", "")), max_size=3))
    )
    return request.SerializeToString()


REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"}


@pytest.fixture(scope="module")
def raw(endpoint: Endpoint) -> Iterator[Callable[[str, bytes], str]]:
    """raw(call, bytes) -> the code of PredictionService's answer."""
    with grpc.insecure_channel(endpoint.grpc_address) as channel:
        calls = {name: channel.unary_unary(m.path) for name, m in methods(PREDICTION_SERVICE).items()}

        def ask(name: str, data: bytes) -> str:
            try:
                calls[name](data, timeout=60)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

        yield ask


def examples(count: int) -> Any:
    """The same ones in every run."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def check_grpc(count: int, endpoint: Endpoint, raw: Callable[[str, bytes], str]) -> None:
    @examples(count)
    @given(grpc_requests() | tensors().map(lambda data: ("Predict", data)))
    def answered(request: tuple[str, bytes]) -> None:
        assert raw(*request) in REFUSALS | {"OK"}

    answered()
    assert endpoint.process.poll() is None
    assert "Traceback" not in endpoint.log.read_text()
    assert [raw(name, data) for name, data in VALID] == ["INVALID_ARGUMENT", "OK", "OK", "OK"]


def check_rest(count: int, endpoint: Endpoint) -> None:
    with Http(endpoint.rest_url) as http:

        @examples(count)
        @given(st.data())
        def answered(data: st.DataObject) -> None:
            body = data.draw(st.sampled_from(BODIES).flatmap(mutated))
            path = data.draw(st.sampled_from(PATHS))
            encoding = data.draw(st.sampled_from(("identity", "gzip")))
            if encoding == "gzip" and data.draw(st.booleans()):
                body = data.draw(mutated(zlib.compress(body, wbits=31)))
            status, reply = http.ask("POST", path, body, **{"Content-Encoding": encoding})
            assert status in (200, 400, 404, 501), reply
            assert status == 200 or list(reply) == ["error"]

        answered()
        assert endpoint.process.poll() is None
        assert http.ask("GET", "/v1/health/ready") == (200, {"status": "ready"})


def test_mutated_requests_get_the_codes_of_the_book(
    endpoint: Endpoint, raw: Callable[[str, bytes], str]
) -> None:
    check_grpc(150, endpoint, raw)
    check_rest(150, endpoint)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (rb'{"\ud800": 1}', r"Feature: '\ud800' is not UTF-8"),
        (b'{"\xff": 1}', r"Feature: '\udcff' is not UTF-8"),
    ],
)
def test_features_that_no_example_holds(endpoint: Endpoint, features: bytes, message: str) -> None:
    with Http(endpoint.rest_url) as http:
        body = b'{"signature_name": "classify", "examples": [' + features + b"]}"
        assert http.ask("POST", "/v1/models/colours:classify", body) == (400, {"error": message})


@pytest.mark.large
def test_ten_thousand_mutated_requests_crash_nothing(
    endpoint: Endpoint, raw: Callable[[str, bytes], str]
) -> None:
    check_grpc(5000, endpoint, raw)
    check_rest(5000, endpoint)
