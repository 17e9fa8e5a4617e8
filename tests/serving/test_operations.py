"""What operators rely on: metrics, access log, health, batching by files, TLS."""

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import trustme
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import serving
from serving import Client, ClientTls, ServingError
from serving.faces import tls
from serving.faces.grpc_face import GrpcOptions
from serving.faces.operations import METRICS_PATH
from serving.faces.rest_face import RestOptions
from serving.models.batching import scheduled
from serving.models.config import parse
from serving.runtimes import load
from serving.watching import observing

BLACK = np.zeros((32, 48, 3), np.uint8)
InProcess = Callable[..., Any]
Curl = Callable[..., tuple[int, Any]]


@pytest.fixture
def base(tmp_path: Path, publish: Callable[..., None], colour_model: Callable[..., onnx.ModelProto]) -> Path:
    publish(tmp_path / "m", 1, colour_model())
    return tmp_path / "m"


def series(page: str, name: str) -> dict[str, float]:
    """The samples of a series by their labels, as they are written."""
    found = re.findall(rf"^{re.escape(name)}(?:\{{(.*)\}})? (\S+)$", page, re.MULTILINE)
    return {labels: float(number) for labels, number in found}


# --- metrics --------------------------------------------------------------------------------------------


def test_upstreams_series_and_ours_are_shown(
    endpoint: serving.Endpoint, client: Client, curl: Curl, run_curl: Curl
) -> None:
    client.classify("colours", BLACK)
    curl("/v1/models/colours:predict", {"instances": []})
    curl("/v1/models/made_up_by_a_client:predict", {"instances": []})
    with pytest.raises(ServingError):
        client.predict("another_made_up", {})
    status, page = run_curl(f"{endpoint.rest_url}{METRICS_PATH}")
    assert status == 200
    counts = series(page, ":tensorflow:serving:request_count")
    assert counts['model_name="colours",status="OK"'] >= 1
    assert counts['model_name="colours",status="INVALID_ARGUMENT"'] >= 1
    assert counts['model_name="",status="NOT_FOUND"'] >= 2
    assert "made_up" not in page
    latency = series(page, ":tensorflow:serving:request_latency_count")
    assert latency['API="Predict",entrypoint="GRPC",model_name="colours"'] >= 1
    runs = series(page, ":tensorflow:serving:runtime_latency_count")
    assert runs['API="Predict",model_name="colours",runtime="onnx"'] >= 1
    assert ':tensorflow:serving:request_latency_bucket{API="Predict",entrypoint="GRPC",le="32.4"' in page
    assert series(page, "zoo_serving_runtime") == {
        'model_name="add",runtime="onnx",version="1"': 1,
        'model_name="colours",runtime="onnx",version="3"': 1,
    }
    assert series(page, "process_resident_memory_bytes")[""] > 1e7
    for name, kind in {"request_count": "counter", "request_latency": "histogram"}.items():
        assert f"# TYPE :tensorflow:serving:{name} {kind}\n" in page


def test_the_metrics_page_is_at_its_exact_path_only(endpoint: serving.Endpoint, run_curl: Curl) -> None:
    url = f"{endpoint.rest_url}{METRICS_PATH}"
    assert run_curl(f"{url}?x=1") == (400, f"Unexpected path: {METRICS_PATH}?x=1")
    assert run_curl(f"{url}/")[0] == 404
    assert run_curl(url, None, "-X", "POST")[0] == 404


def test_metrics_are_off_unless_asked_for(base: Path, in_process: InProcess, run_curl: Curl) -> None:
    with in_process(base) as server:
        assert run_curl(f"{server.rest_url}{METRICS_PATH}")[0] == 404
    with in_process(base, rest=RestOptions(metrics_path="/mine")) as server:
        assert run_curl(f"{server.rest_url}/mine")[0] == 200


def test_batches_and_their_queue_are_measured(base: Path, in_process: InProcess, run_curl: Curl) -> None:
    proto = parse(
        "max_batch_size { value: 4 } batch_timeout_micros { value: 50000 } allowed_batch_sizes: 4",
        "BatchingParameters",
    )
    rest = RestOptions(metrics_path=METRICS_PATH)
    batching = ":tensorflow:serving:batching_session:"
    with in_process(base, load=scheduled(load, proto), rest=rest) as server:
        before = run_curl(f"{server.rest_url}{METRICS_PATH}")[1]
        with Client(server.grpc_address) as client, ThreadPoolExecutor(3) as together:
            answers = list(together.map(lambda _: client.classify("m", BLACK), range(3)))
        page = run_curl(f"{server.rest_url}{METRICS_PATH}")[1]
    assert [answer[0][0] for answer in answers] == ["dark"] * 3

    def added(name: str, labels: str = "") -> float:
        return series(page, name)[labels] - series(before, name).get(labels, 0)

    runs = added(f"{batching}wrapped_run_count")
    assert 1 <= runs <= 3
    assert added(f"{batching}input_batch_size_sum") == 3
    assert added(f"{batching}processed_batch_size_sum") == 4 * runs
    assert added(f"{batching}padding_size_sum", 'execution_batch_size="4"') == 4 * runs - 3
    assert added(f"{batching}queuing_latency_count", 'thread_pool_name=""') == 3
    assert series(page, "zoo_serving_queue_depth")['model_name="m"'] == 0


def test_a_bad_picture_fails_alone_in_a_batch_of_three(
    base: Path, in_process: InProcess, png: Callable[..., bytes]
) -> None:
    proto = parse(
        "max_batch_size { value: 3 } batch_timeout_micros { value: 30000000 }", "BatchingParameters"
    )

    def ask(picture: bytes) -> str:
        try:
            return str(client.classify("m", [picture])[0][0][0])
        except ServingError as error:
            return error.message

    with (
        in_process(base, load=scheduled(load, proto)) as server,
        Client(server.grpc_address) as client,
        ThreadPoolExecutor(3) as together,
    ):
        answers = list(together.map(ask, [png((255, 0, 0)), b"no picture", png((0, 0, 255))]))
    assert (answers[0], answers[2]) == ("red", "blue")
    assert answers[1].startswith("image_bytes[0]: picture cannot be decoded")


# --- access log -----------------------------------------------------------------------------------------


def test_the_access_log_has_a_line_of_json_per_request(
    base: Path, in_process: InProcess, run_curl: Curl
) -> None:
    stream = io.StringIO()
    observing.log_requests(stream)
    try:
        with in_process(base) as server:
            with Client(server.grpc_address) as client:
                client.classify("m", BLACK)
                client.status("m")
            run_curl(f"{server.rest_url}/v1/models/nope:predict", {"instances": [1]})
    finally:
        logging.getLogger("serving.access").handlers = []
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = [tuple(line[key] for key in ("entrypoint", "api", "model", "status")) for line in lines]
    assert told == [
        ("GRPC", "Predict", "m", "OK"),
        ("GRPC", "GetModelStatus", "m", "OK"),
        ("REST", "predict", "nope", "NOT_FOUND"),
    ]
    assert all(line["milliseconds"] >= 0 for line in lines)


# --- tracing --------------------------------------------------------------------------------------------


def test_requests_are_spans_of_the_callers_trace(base: Path, in_process: InProcess, run_curl: Curl) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with in_process(base) as server:
        with Client(server.grpc_address) as client:
            client.classify("m", BLACK)
        url = f"{server.rest_url}/v1/models/nope:predict"
        run_curl(url, {"instances": [1]}, "-H", f"traceparent: {traceparent}")
    grpc_span, rest_span = exporter.get_finished_spans()
    assert grpc_span.name == "GRPC Predict m"
    assert grpc_span.status.is_ok or grpc_span.status.status_code.name == "UNSET"
    assert rest_span.name == "REST predict nope"
    assert rest_span.attributes is not None
    assert rest_span.attributes["serving.status"] == "NOT_FOUND"
    assert rest_span.parent is not None
    assert f"{rest_span.parent.trace_id:032x}" == traceparent[3:35]


WITHOUT_OPENTELEMETRY = """
import sys
sys.modules["opentelemetry"] = None
from serving.watching.observing import observed
with observed("GRPC", "Predict", "m", None, lambda name: True) as call:
    print(call.model)
"""


def test_nothing_is_traced_without_opentelemetry(run_python: Callable[..., str]) -> None:
    assert run_python(WITHOUT_OPENTELEMETRY) == "m\n"


# --- health ---------------------------------------------------------------------------------------------


def test_health_and_the_list_of_models(
    base: Path, tmp_path: Path, in_process: InProcess, run_curl: Curl, publish: Callable[..., None]
) -> None:
    (tmp_path / "bad" / "1").mkdir(parents=True)
    with in_process(base, tmp_path / "bad") as server:
        assert run_curl(f"{server.rest_url}/v1/health/live") == (200, {"status": "live"})
        assert run_curl(f"{server.rest_url}/v1/health/ready") == (
            503,
            {"status": "not ready", "models": ["bad"]},
        )
        status, reply = run_curl(f"{server.rest_url}/v1/models")
        good, bad = reply["models"]
        assert status == 200
        assert good == {
            "name": "m",
            "ready": True,
            "versions": [{"version": "1", "state": "AVAILABLE", "runtime": "onnx"}],
        }
        assert (bad["name"], bad["ready"], bad["versions"][0]["state"]) == ("bad", False, "END")
        assert "Could not find SavedModel .pb" in bad["versions"][0]["error"]
    with in_process(base) as server:
        assert run_curl(f"{server.rest_url}/v1/health/ready") == (200, {"status": "ready"})


# --- zoo-model-server's files ---------------------------------------------------------------------------


def test_the_flags_of_batching_monitoring_tls_and_access_log_take_effect(
    base: Path,
    tmp_path: Path,
    authority: "Authority",
    run_curl: Curl,
    free_ports: Callable[[int], list[int]],
) -> None:
    (tmp_path / "batching").write_text("max_batch_size { value: 2 }")
    (tmp_path / "monitoring").write_text('prometheus_config { enable: true path: "/here" }')
    port, rest_port = free_ports(2)
    flags = {
        "port": port,
        "rest_api_port": rest_port,
        "host": "127.0.0.1",
        "model_name": "m",
        "model_base_path": base,
        "enable_batching": "true",
        "batching_parameters_file": tmp_path / "batching",
        "monitoring_config_file": tmp_path / "monitoring",
        "ssl_config_file": authority.config(tmp_path, False),
        "access_log": "true",
    }
    command = [sys.executable, "-m", "serving.model_server"]
    command += [f"--{k}={v}" for k, v in flags.items()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "Exporting HTTP/REST API" in line)
        with Client(f"127.0.0.1:{port}", tls=ClientTls(roots=authority.roots)) as client:
            assert client.classify("m", [BLACK, BLACK])[1][0][0] == "dark"
            with pytest.raises(ServingError, match="Task size 3 is larger than maximum input batch size 2"):
                client.classify("m", [BLACK] * 3)
        url = f"https://127.0.0.1:{rest_port}/here"
        page = run_curl(url, None, "--cacert", str(authority.roots))[1]
        assert series(page, ":tensorflow:serving:batching_session:wrapped_run_count") == {"": 1}
        process.terminate()
        lines = [json.loads(line) for line in process.stderr if line.startswith("{")]
    assert [line["status"] for line in lines] == ["OK", "INVALID_ARGUMENT"]
    assert process.returncode == 0


# --- TLS ------------------------------------------------------------------------------------------------


class Authority:
    """Certificates in files, as people have them, and a server's configuration."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.roots = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.roots))
        self.server = self.ca.issue_cert("localhost", "127.0.0.1")
        self.client = self.ca.issue_cert("someone@example.org")
        self.client_pem, self.client_key = folder / "client.pem", folder / "client.key"
        self.client.cert_chain_pems[0].write_to_path(str(self.client_pem))
        self.client.private_key_pem.write_to_path(str(self.client_key))

    def config(self, folder: Path, verify: bool) -> Path:
        """An --ssl_config_file."""
        texts = {
            "server_key": self.server.private_key_pem.bytes().decode(),
            "server_cert": "".join(pem.bytes().decode() for pem in self.server.cert_chain_pems),
            "custom_ca": self.ca.cert_pem.bytes().decode() if verify else "",
        }
        lines = [f"{name}: {json.dumps(text)}" for name, text in texts.items()]
        file = folder / "ssl.pbtxt"
        file.write_text("\n".join([*lines, f"client_verify: {str(verify).lower()}"]))
        return file


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def secured(base: Path, tmp_path: Path, authority: Authority, in_process: InProcess) -> Callable[[bool], Any]:
    """A server whose both faces are secured, asking for client certificates or not."""

    def start(verify: bool) -> Any:
        both = tls.read(authority.config(tmp_path, verify))
        return in_process(base, grpc=GrpcOptions(tls=both), rest=RestOptions(tls=both))

    return start


def test_both_faces_speak_tls(
    secured: Callable[[bool], Any], authority: Authority, run_curl: Curl, tmp_path: Path
) -> None:
    with secured(False) as server:
        with Client(server.grpc_address, tls=ClientTls(roots=authority.roots)) as client:
            assert client.classify("m", BLACK)[0][0] == "dark"
        with (
            Client(server.grpc_address, tls=ClientTls(), attempts=1) as client,
            pytest.raises(ServingError, match="UNAVAILABLE: no server answers at "),
        ):
            client.classify("m", BLACK)
        url = server.rest_url.replace("http:", "https:")
        assert run_curl(f"{url}/v1/health/ready", None, "--cacert", str(authority.roots))[0] == 200


def test_mutual_tls_refuses_clients_without_a_certificate(
    secured: Callable[[bool], Any], authority: Authority, run_curl: Curl
) -> None:
    shown = ClientTls(authority.roots, authority.client_pem, authority.client_key.read_bytes())
    with secured(True) as server:
        with Client(server.grpc_address, tls=shown) as client:
            assert client.classify("m", BLACK)[0][0] == "dark"
        with (
            Client(server.grpc_address, tls=ClientTls(authority.roots), attempts=1) as client,
            pytest.raises(ServingError, match="UNAVAILABLE"),
        ):
            client.classify("m", BLACK)
        url = server.rest_url.replace("http:", "https:") + "/v1/health/ready"
        mine = ["--cert", str(authority.client_pem), "--key", str(authority.client_key)]
        assert run_curl(url, None, "--cacert", str(authority.roots), *mine)[0] == 200
        with pytest.raises(Exception, match="returned non-zero exit status"):
            run_curl(url, None, "--cacert", str(authority.roots))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ssl_config_file needs server_key and server_cert, as PEM texts"),
        ('server_key: "x" server_cert: "y"', "The certificates cannot be used: "),
        (
            'server_key: "x" server_cert: "y" client_verify: true',
            "ssl_config_file asks for client_verify: it needs custom_ca",
        ),
        ('server_key: "x', "Invalid protobuf file: "),
    ],
)
def test_a_tls_configuration_that_cannot_work(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ssl").write_text(text)
    with pytest.raises(ServingError) as caught:
        tls.read(tmp_path / "ssl")
    assert caught.value.message.startswith(message)
    assert list(tmp_path.iterdir()) == [tmp_path / "ssl"]
