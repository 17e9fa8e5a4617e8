"""Ray Serve itself, on this machine, started by the file that `zoo deploy --to ray` prints."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import serving
from serving.deployment import ray
from serving.errors import Code, ServingError
from serving.wire.protos import MODEL_SERVICE, methods

RED = np.full((32, 48, 3), (255, 0, 0), np.uint8)


@dataclass(frozen=True)
class Cluster:
    """A running one; `log` is what Ray and the replica say."""

    grpc: str
    rest: str
    log: Path


@pytest.fixture(scope="module")
def cluster(
    colours: Path,
    exported: Path,
    tmp_path_factory: pytest.TempPathFactory,
    run_curl: Callable[..., Any],
    free_ports: Callable[[int], list[int]],
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("ray")
    grpc_port, rest_port = free_ports(2)
    config = ray.config([colours, exported / "line"], grpc_port=grpc_port, rest_port=rest_port)
    (folder / "serve.yaml").write_text(config, encoding="utf-8")
    found = Cluster(f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{rest_port}/v1/models", folder / "log")
    # What a shell runs in the background ignores it, and so would Ray, which ends by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with found.log.open("w") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("serve"), "run", folder / "serve.yaml"],
            stdout=log,
            stderr=log,
            # Ray's own settings: no word to its makers, and no token in the home folder.
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"},
            start_new_session=True,
        )
    try:
        wait_for(lambda: "AVAILABLE" in answer(run_curl, f"{found.rest}/line"), process, found.log)
        yield found
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(true: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Asks until it is so, for three minutes, as long as the process lives."""
    end = time.monotonic() + 180
    while not true():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def answer(run_curl: Callable[..., Any], url: str) -> str:
    try:
        return str(run_curl(url)[1])
    except subprocess.CalledProcessError:
        return ""


def test_ray_serves_what_tensorflow_servings_clients_ask(cluster: Cluster) -> None:
    with serving.Client(cluster.grpc) as client:
        best, *_ = client.classify("colours", RED)
        assert best[0] == "red"
        assert client.status("colours") == {3: "AVAILABLE"}
        assert "predict_images" in client.metadata("colours").signature_def
        reply = client.predict("line", {"x": np.array([[1, 2]], np.float32)})
        np.testing.assert_array_equal(reply["y"], [[3, 5]])


def test_ray_serves_many_at_once(cluster: Cluster) -> None:
    with serving.Client(cluster.grpc) as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.classify("colours", RED)[0][0], range(64)))
    assert answers == ["red"] * 64


def test_a_refusal_keeps_its_code_and_message_through_ray(cluster: Cluster) -> None:
    unknown = r"Servable not found for request: Latest\(missing\)"
    with serving.Client(cluster.grpc) as client:
        with pytest.raises(ServingError, match=unknown) as caught:
            client.classify("missing", RED)
        assert caught.value.code == Code.NOT_FOUND
        with pytest.raises(ServingError, match=r"input alias: image_bytes.* not found in request") as caught:
            client.predict("colours", {"wrong": RED})
        assert caught.value.code == Code.INVALID_ARGUMENT


def test_rest_through_ray(cluster: Cluster, run_curl: Callable[..., tuple[int, Any]]) -> None:
    body = {"instances": [[1, 2], [3, 4]]}
    assert run_curl(f"{cluster.rest}/line:predict", body) == (200, {"predictions": [[3.0, 5.0], [7.0, 9.0]]})
    status, reply = run_curl(f"{cluster.rest}/missing:predict", body)
    assert (status, reply) == (404, {"error": "Servable not found for request: Latest(missing)"})
    assert run_curl(f"{cluster.rest}/line:predict", "no json")[0] == 400


def test_one_replica_cannot_be_told_to_load_other_models(cluster: Cluster) -> None:
    reload = methods(MODEL_SERVICE)["HandleReloadConfigRequest"]
    with grpc.insecure_channel(cluster.grpc) as channel:
        call = channel.unary_unary(reload.path, reload.request.SerializeToString, reload.response.FromString)
        with pytest.raises(grpc.RpcError) as caught:
            call(reload.request(), timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
