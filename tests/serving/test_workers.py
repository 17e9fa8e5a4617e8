"""Several processes behind one server: real ones, on ports of loopback."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest

import serving
from serving import machine
from serving.faces import grpc_face, rest_face
from serving.faces.grpc_face import GrpcOptions
from serving.faces.operations import METRICS_PATH
from serving.faces.rest_face import RestOptions
from serving.models.lifecycle import Models
from serving.models.service import PredictionService
from serving.runtimes import load
from serving.wire.protos import MODEL_SERVICE, methods
from serving.workers import reserved

Publish = Callable[..., None]
MakeModel = Callable[..., onnx.ModelProto]
Curl = Callable[..., tuple[int, Any]]
BLACK = np.zeros((32, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, publish: Publish, colour_model: MakeModel) -> Path:
    base = tmp_path_factory.mktemp("served") / "m"
    publish(base, 1, colour_model())
    return base


@pytest.fixture(scope="module")
def crew(base: Path) -> Iterator[serving.Endpoint]:
    with serving.deploy(base, workers=2) as endpoint:
        yield endpoint


def until(condition: Callable[[], bool]) -> None:
    """Asks again and again until it is so, a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never became so"
        time.sleep(0.02)  # /proc is large: looking without a pause would hold up the processes looked at


def facts(pid: int | str) -> list[str]:
    """What /proc/PID/stat tells after the name: the state, the parent, ...; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def running(pid: int) -> bool:
    return facts(pid)[:1] not in ([], ["Z"])


def workers(parent: int) -> set[int]:
    """The processes that one has started and that run."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return {pid for pid in pids if facts(pid)[1:2] == [str(parent)] and running(pid)}


def port_of(address: str) -> int:
    return int(address.rsplit(":", 1)[1])


CONNECTED, LISTENING = "01", "0A"  # in /proc/net/tcp


def holds(pid: int, port: int, state: str) -> bool:
    """Whether a process has a socket in this state at the port."""
    tables = [Path(f"/proc/net/{table}").read_text() for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    at_port = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == state}
    return any(
        file.is_symlink() and os.readlink(file) in at_port for file in Path(f"/proc/{pid}/fd").iterdir()
    )


# --- one server to the outside --------------------------------------------------------------------------


def test_fresh_connections_reach_every_worker_on_both_ports(crew: serving.Endpoint) -> None:
    pids = workers(crew.process.pid)
    assert len(pids) == 2
    grpc_port, rest_port = port_of(crew.grpc_address), port_of(crew.rest_url)
    with ExitStack() as stack:
        for _ in range(30):
            client = stack.enter_context(serving.Client(crew.grpc_address))
            assert client.status("m") == {1: "AVAILABLE"}
            connection = http.client.HTTPConnection("127.0.0.1", rest_port, timeout=60)
            stack.callback(connection.close)
            connection.request("GET", "/v1/health/ready")
            assert json.load(connection.getresponse()) == {"status": "ready"}
        for pid in pids:
            assert holds(pid, grpc_port, CONNECTED)
            assert holds(pid, rest_port, CONNECTED)


def test_whoever_answers_tells_the_metrics_of_all(crew: serving.Endpoint, run_curl: Curl) -> None:
    def pages() -> list[str]:
        return [run_curl(f"{crew.rest_url}{METRICS_PATH}")[1] for _ in range(12)]

    def counts() -> list[str]:
        lines = [line for page in pages() for line in page.splitlines()]
        return [line.split()[-1] for line in lines if line.startswith(COUNTED)]

    before = max(map(float, counts()), default=0.0)
    for _ in range(20):
        with serving.Client(crew.grpc_address) as client:
            assert client.classify("m", BLACK)[0][0] == "dark"
    assert counts() == [str(before + 20)] * 12
    page = pages()[0]
    assert re.findall(r'^process_resident_memory_bytes{worker="(.)"}', page, re.MULTILINE) == ["0", "1"]
    assert page.count("zoo_serving_runtime{") == 1


COUNTED = ':tensorflow:serving:request_count{model_name="m",status="OK"}'


def test_the_workers_share_the_processors(crew: serving.Endpoint) -> None:
    for pid in workers(crew.process.pid):
        told = dict(pair.partition("=")[::2] for pair in environment(pid))
        assert int(told[machine.SHARE]) == max(1, machine.cores() // 2)


def environment(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def test_a_reload_that_would_reach_one_worker_is_refused(crew: serving.Endpoint) -> None:
    reload = methods(MODEL_SERVICE)["HandleReloadConfigRequest"]
    request = reload.request()
    request.config.model_config_list.SetInParent()
    with grpc.insecure_channel(crew.grpc_address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(reload.path, reload.request.SerializeToString)(request, timeout=60)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "would reach one of 2 workers: start the server with one, or" in caught.value.details()
    with serving.Client(crew.grpc_address) as client:
        assert client.status("m") == {1: "AVAILABLE"}


def test_a_port_of_workers_is_taken(crew: serving.Endpoint, base: Path) -> None:
    grpc_port, rest_port = port_of(crew.grpc_address), port_of(crew.rest_url)
    service = PredictionService(Models([], load))
    taken = f"cannot listen for gRPC on 127.0.0.1:{grpc_port}"
    with pytest.raises(serving.DeployError, match=f"{taken}: Address already in use"):
        serving.deploy(base, workers=2, grpc_port=grpc_port)
    with pytest.raises(OSError, match=taken):
        grpc_face.start(service, GrpcOptions(port=grpc_port))
    taken = f"cannot listen for REST on 127.0.0.1:{rest_port}: Address already in use"
    with pytest.raises(OSError, match=taken), reserved("REST", "127.0.0.1", rest_port):
        pass
    with pytest.raises(OSError, match=taken):
        rest_face.start(service, RestOptions(port=rest_port))


def test_a_port_of_a_stranger_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        taken = f"cannot listen for gRPC on 127.0.0.1:{port}: Address already in use"
        with pytest.raises(OSError, match=taken), reserved("gRPC", "127.0.0.1", port):
            pass


def test_workers_share_a_port_that_is_kept_for_them() -> None:
    with reserved("REST", "127.0.0.1", 0) as port:
        for _ in range(2):
            with socket.create_server(("127.0.0.1", port), reuse_port=True):
                assert listened_on(port)
        assert not listened_on(port)


def test_both_faces_on_one_port_are_refused(base: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(serving.DeployError, match=f"REST on 127.0.0.1:{port}: it is the port for gRPC"):
        serving.deploy(base, workers=2, grpc_port=port, rest_port=port)


def test_no_workers_are_no_server(base: Path) -> None:
    with pytest.raises(serving.DeployError, match="A server has at least one worker; 0 were asked for"):
        serving.serve([base], workers=0)


# --- their beginning ------------------------------------------------------------------------------------


def test_the_ports_open_when_the_last_worker_has_loaded(
    base: Path, tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """Each process reads the config file, a pipe here: it goes on when it is given the text."""
    file, log = tmp_path / "config", tmp_path / "log"
    os.mkfifo(file)
    text = f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" }} }}'
    ports = free_ports(2)
    flags = [f"--port={ports[0]}", f"--rest_api_port={ports[1]}", f"--model_config_file={file}"]
    command = [PROGRAM, *flags, "--host=127.0.0.1", "--workers=2"]
    with log.open("wb") as errors, subprocess.Popen(command, stderr=errors) as process:
        try:
            file.write_text(text)
            until(lambda: len(workers(process.pid)) == 1)
            file.write_text(text)
            until(lambda: len(workers(process.pid)) == 2)
            assert "worker 0: Successfully loaded servable version {name: m" in log.read_text()
            assert not any(map(listened_on, ports))
            assert "Running gRPC ModelServer" not in log.read_text()
            file.write_text(text)
            until(lambda: "Running gRPC ModelServer" in log.read_text())
            assert all(map(listened_on, ports))
            assert log.read_text().count("Running gRPC ModelServer") == 1
        finally:
            process.terminate()
    assert process.returncode == 0


PROGRAM = Path(sys.executable).with_name("zoo-model-server")


def listened_on(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_model_that_cannot_be_loaded_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.onnx").write_bytes(b"no model")
    with pytest.raises(serving.DeployError) as caught:
        serving.deploy(tmp_path / "m", workers=2)
    *_, last = str(caught.value).splitlines()
    assert last.startswith("Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: ")
    assert "model.onnx cannot be loaded by ONNX Runtime" in last
    assert str(caught.value).count("did not become available") == 1


# --- their end ------------------------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced(base: Path, run_curl: Curl) -> None:
    with serving.deploy(base, workers=2) as endpoint, ExitStack() as stack:
        first = workers(endpoint.process.pid)
        clients = [stack.enter_context(serving.Client(endpoint.grpc_address)) for _ in range(10)]

        def ask(client: serving.Client) -> bool:
            return client.classify("m", BLACK)[0][0] == "dark"

        assert all(map(ask, clients))
        os.kill(min(first), signal.SIGKILL)
        until(lambda: "was ended by SIGKILL; it is started again in 0.5 s" in endpoint.log.read_text())
        assert all(map(ask, clients))
        until(lambda: len(workers(endpoint.process.pid)) == 2)
        (new,) = workers(endpoint.process.pid) - first
        until(lambda: holds(new, port_of(endpoint.rest_url), LISTENING))
        page = run_curl(f"{endpoint.rest_url}{METRICS_PATH}")[1]
        (count,) = [line.split()[-1] for line in page.splitlines() if line.startswith(COUNTED)]
        assert float(count) == 2 * len(clients)
    assert endpoint.process.returncode == 0


def test_workers_end_with_a_killed_parent(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # what a killed process cannot remove
    endpoint = serving.deploy(base, workers=2)
    pids = workers(endpoint.process.pid)
    endpoint.process.kill()
    endpoint.process.wait()
    until(lambda: not any(map(running, pids)))
    assert endpoint.stop() == -signal.SIGKILL


def test_sigterm_finishes_what_every_worker_has_under_way(
    tmp_path: Path,
    publish: Publish,
    spin_model: MakeModel,
    run_curl: Curl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(tmp_path / "spin", 1, spin_model(), labels=None)
    monkeypatch.setenv(machine.SHARE, "2")  # each worker runs one request, the others wait
    with ExitStack() as stack:
        endpoint = stack.enter_context(serving.deploy(tmp_path / "spin", workers=2))
        pids = workers(endpoint.process.pid)
        clients = [stack.enter_context(serving.Client(endpoint.grpc_address)) for _ in range(16)]
        for client in clients:
            client.predict("spin", {"times": 1})
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        answers = [pool.submit(client.predict, "spin", {"times": 20_000}) for client in clients]

        def received() -> int:
            page = run_curl(f"{endpoint.rest_url}{METRICS_PATH}")[1]
            rows = re.findall(rf'^(?:{QUEUED}|{ANSWERED}){{model_name="spin".*}} (\S+)$', page, re.MULTILINE)
            return int(sum(map(float, rows))) - len(clients)

        until(lambda: received() >= len(clients) - 2)
        endpoint.process.terminate()
        assert not all(answer.done() for answer in answers)
        for answer in answers:
            np.testing.assert_array_equal(answer.result()["product"], np.eye(64))
        assert endpoint.process.wait() == 0
        assert not any(map(running, pids))


QUEUED, ANSWERED = "zoo_serving_queue_depth", ":tensorflow:serving:request_count"


def test_ctrl_c_ends_all(base: Path) -> None:
    """A terminal sends it to every process of its foreground group."""
    command = [PROGRAM.with_name("zoo"), "serve", base, "--grpc-port=0", "--rest-port=0", "--workers=2"]
    with subprocess.Popen(command, text=True, start_new_session=True, stderr=subprocess.PIPE) as process:
        assert process.stderr
        next(line for line in process.stderr if "Exporting HTTP/REST API at:127.0.0.1:" in line)
        pids = workers(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        log = process.stderr.read()
    assert process.returncode == 0
    assert len(pids) == log.count("Stopping: new requests are refused") == 2
    assert "Traceback" not in log
    assert not any(map(running, pids))


def test_a_stop_before_all_are_ready_ends_all(
    base: Path, tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    file = tmp_path / "config"
    os.mkfifo(file)
    command = [PROGRAM, f"--port={free_ports(1)[0]}", f"--model_config_file={file}", "--workers=2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        file.write_text("model_config_list {}")
        until(lambda: len(workers(process.pid)) == 1)
        process.terminate()
        file.write_text("model_config_list {}")
        assert process.wait(60) == 0
