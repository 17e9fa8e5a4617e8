"""Starting, stopping, swapping and breaking a served model."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import serving
from serving.deployment.local import start
from serving.errors import Code
from serving.models.versions import ModelConfig, ServedModel, State
from serving.runtimes import load

Publish = Callable[..., None]
MakeModel = Callable[..., onnx.ModelProto]
BLACK = np.zeros((32, 48, 3), np.uint8)


@pytest.fixture
def base(tmp_path: Path, publish: Publish, colour_model: MakeModel) -> Path:
    publish(tmp_path / "served" / "m", 1, colour_model())
    return tmp_path / "served" / "m"


def until(condition: Callable[[], bool]) -> None:
    """Asks again and again until it is so, a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never became so"
        os.sched_yield()


def test_a_server_process_starts_answers_and_stops(base: Path) -> None:
    with serving.deploy(base) as endpoint:
        assert endpoint.model == "m"
        assert endpoint.process.poll() is None
        with serving.Client(endpoint.grpc_address) as client:
            assert client.classify("m", BLACK)[0][0] == "dark"
    assert endpoint.process.returncode == 0
    assert not endpoint.log.exists()


def test_a_signal_that_another_thread_is_given_stops_the_server(run_python: Callable[..., str]) -> None:
    # The main thread, which alone runs Python's handlers, is not woken by it.
    code = """
import signal, threading
from serving.server import stop_on_signals
stopping = threading.Event()
stop_on_signals(stopping)
threading.Timer(0.5, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
stopping.wait()
print("stopped")
"""
    assert run_python(code) == "stopped\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is no folder: give BASE/NAME, which holds versions as BASE/NAME/1"),
        (lambda path: path.mkdir(), "holds no version .*: export a model there first"),
        (lambda path: (path / "1").mkdir(parents=True), "Could not find SavedModel .pb or .pbtxt"),
        (
            lambda path: (
                (path / "1").mkdir(parents=True),
                (path / "1" / "model.onnx").write_bytes(b"no model"),
            ),
            "model.onnx cannot be loaded by ONNX Runtime",
        ),
    ],
    ids=["missing", "empty", "empty version", "broken"],
)
def test_a_folder_that_cannot_be_served_says_why(
    tmp_path: Path, make: Callable[[Path], Any], message: str
) -> None:
    make(tmp_path / "m")
    with pytest.raises(serving.DeployError, match=message):
        serving.deploy(tmp_path / "m")


def test_a_version_given_for_its_model_is_recognised(base: Path) -> None:
    with pytest.raises(serving.DeployError, match=r"holds no version .*: give the folder above it"):
        serving.deploy(base / "1")


def test_a_folder_of_models_given_for_one_names_them(base: Path) -> None:
    with pytest.raises(serving.DeployError, match=f"holds no version .*: give the models in it, as {base}$"):
        serving.deploy(base.parent)


@pytest.mark.parametrize("name", ["model.keras", "config.json"])
def test_a_model_that_was_not_exported_is_recognised(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "flowers"
    folder.mkdir()
    (folder / name).touch()
    with pytest.raises(serving.DeployError, match=f"first; zoo export {folder} models/flowers makes such"):
        serving.deploy(folder)


def test_a_file_that_was_not_exported_is_recognised(tmp_path: Path) -> None:
    file = tmp_path / "flowers.keras"
    with pytest.raises(serving.DeployError, match=r"is no folder: .* BASE/NAME/1$"):
        serving.deploy(file)
    file.touch()
    with pytest.raises(
        serving.DeployError, match=f"is no folder: .*; zoo export {file} models/flowers makes"
    ):
        serving.deploy(file)


def test_two_models_of_one_name_are_refused(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "other" / "m")
    with pytest.raises(serving.DeployError, match=r"Two models are named m: .* rename one folder"):
        serving.deploy([base, tmp_path / "other" / "m"])


def test_a_taken_port_is_named(base: Path, endpoint: serving.Endpoint) -> None:
    port = int(endpoint.grpc_address.split(":")[1])
    with pytest.raises(serving.DeployError, match=f"cannot listen for gRPC on 127.0.0.1:{port}"):
        serving.deploy(base, grpc_port=port)
    port = int(endpoint.rest_url.rsplit(":", 1)[1])
    with pytest.raises(
        serving.DeployError, match=f"cannot listen for REST on 127.0.0.1:{port}: Address already in use"
    ):
        serving.deploy(base, rest_port=port)


def test_a_server_that_takes_too_long_is_given_up(base: Path) -> None:
    with pytest.raises(serving.DeployError, match=r"did not answer within 0\.01 s"):
        serving.deploy(base, timeout=0.01)


def test_a_broken_model_does_not_hold_up_the_others(base: Path, tmp_path: Path) -> None:
    (tmp_path / "bad" / "1").mkdir(parents=True)
    with (
        serving.deploy([base, tmp_path / "bad"]) as endpoint,
        serving.Client(endpoint.grpc_address) as client,
    ):
        assert client.classify("m", BLACK)[0][0] == "dark"
        assert client.status("bad")[1].startswith("END: Could not find SavedModel .pb or .pbtxt")


def test_a_killed_server_leaves_a_clear_error(base: Path) -> None:
    endpoint = serving.deploy(base)
    with serving.Client(endpoint.grpc_address) as client:
        client.classify("m", BLACK)
        endpoint.process.kill()
        endpoint.process.wait()
        with pytest.raises(
            serving.ServingError, match=f"no server answers at {endpoint.grpc_address}"
        ) as caught:
            client.classify("m", BLACK)
    assert caught.value.code == Code.UNAVAILABLE
    assert endpoint.stop() == -signal.SIGKILL


PARENT = """
import os, sys
import serving
endpoint = serving.deploy(sys.argv[1])
print(endpoint.process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_the_server_ends_with_a_killed_parent(base: Path, tmp_path: Path) -> None:
    parent = subprocess.run(
        [sys.executable, "-c", PARENT, str(base)],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
        timeout=60,
        check=False,
    )
    assert parent.returncode == -signal.SIGKILL
    pid = int(parent.stdout)

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    until(gone)


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have computed so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def test_sigterm_finishes_a_grpc_request_under_way(
    tmp_path: Path, publish: Publish, spin_model: MakeModel
) -> None:
    publish(tmp_path / "spin", 1, spin_model(), labels=None)
    with (
        serving.deploy(tmp_path / "spin") as endpoint,
        serving.Client(endpoint.grpc_address) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        client.predict("spin", {"times": 1})
        before = cpu_seconds(endpoint.process.pid)
        answer = pool.submit(client.predict, "spin", {"times": 100_000})
        until(lambda: cpu_seconds(endpoint.process.pid) > before + 0.2)
        assert not answer.done()
        endpoint.process.terminate()
        np.testing.assert_array_equal(answer.result()["product"], np.eye(64))
        assert endpoint.process.wait() == 0


def test_sigterm_finishes_a_rest_request_under_way(base: Path) -> None:
    body = json.dumps({"instances": BLACK[None].tolist(), "signature_name": "features"}).encode()
    head = "POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
    with serving.deploy(base) as endpoint:
        host, port = endpoint.rest_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(f"{head}{len(body)}\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 100")
            endpoint.process.terminate()
            until(lambda: "Stopping: new requests are refused" in endpoint.log.read_text())
            connection.sendall(body)
            reply = b"".join(iter(lambda: connection.recv(65536), b""))
        assert reply.startswith(b"HTTP/1.1 200")
        assert reply.endswith(b'{"predictions":[[0.0,0.0,0.0]]}')
        assert endpoint.process.wait() == 0


def test_the_body_limit_is_413_and_others_go_on(base: Path, run_curl: Callable[..., tuple[int, Any]]) -> None:
    with start([f"--model-base-path={base}", "--body-limit=1000"]) as endpoint:
        url = f"{endpoint.rest_url}/v1/models/m:predict"
        status, reply = run_curl(url, '{"instances": [' + "0," * 1000 + "0]}")
        assert (status, reply) == (413, {"error": "The request body is larger than 1000 bytes"})
        pixels = np.zeros((1, 2, 2, 3), int).tolist()
        status, reply = run_curl(url, {"instances": pixels, "signature_name": "predict_images"})
        assert status == 200
        assert reply["predictions"][0]["classes"][0] == "dark"


def test_swaps_under_load_fail_no_request(base: Path, publish: Publish, colour_model: MakeModel) -> None:
    done = threading.Event()

    def ask(address: str) -> tuple[set[float], int]:
        scores, count = set(), 0
        with serving.Client(address) as client:
            while not done.is_set():
                scores.add(round(client.classify("m", BLACK, top=1)[0][1], 3))
                count += 1
        return scores, count

    with serving.deploy(base) as endpoint, serving.Client(endpoint.grpc_address) as client:
        with ThreadPoolExecutor(3) as pool:
            try:
                asking = [pool.submit(ask, endpoint.grpc_address) for _ in range(3)]
                for version in range(2, 5):
                    publish(base, version, colour_model(scale=1 + version / 10))
                    until(lambda v=version: client.status("m").get(v) == "AVAILABLE")
                    until(lambda v=version: client.status("m")[v - 1] == "END")
            finally:
                done.set()
            results = [future.result() for future in asking]
        assert len(set.union(*(scores for scores, _ in results))) == 4
        assert min(count for _, count in results) > 5
        assert client.status("m") == {4: "AVAILABLE", **dict.fromkeys((3, 2, 1), "END")}


def test_a_broken_new_version_leaves_the_old_one_until_it_is_mended(
    base: Path, publish: Publish, colour_model: MakeModel
) -> None:
    with serving.deploy(base) as endpoint, serving.Client(endpoint.grpc_address) as client:
        publish(base, 2, colour_model(scale=2))
        until(lambda: client.status("m").get(2) == "AVAILABLE")
        (base / ".3").mkdir()
        (base / ".3" / "model.onnx").write_bytes(b"no model")
        (base / ".3").rename(base / "3")
        until(lambda: "END" in client.status("m").get(3, ""))
        assert "model.onnx cannot be loaded by ONNX Runtime" in client.status("m")[3]
        assert client.status("m")[2] == "AVAILABLE"
        assert client.classify("m", BLACK)[0][0] == "dark"
        with pytest.raises(serving.ServingError, match=r"Servable not found for request: Specific\(m, 3\)"):
            client.classify("m", BLACK, version=3)
        onnx.save(colour_model(), base / "3" / "mended")
        (base / "2" / "card.json").rename(base / "3" / "card.json")
        (base / "3" / "mended").rename(base / "3" / "model.onnx")
        until(lambda: client.status("m").get(3) == "AVAILABLE")
        assert client.classify("m", BLACK, version=3)[0][0] == "dark"


def test_a_vanished_folder_changes_nothing_and_an_empty_one_unloads(base: Path) -> None:
    model = ServedModel("m", ModelConfig("m", base), load)
    model.poll()
    shutil.move(base, base.parent / "elsewhere")
    model.poll()
    assert model.ready()
    base.mkdir()
    model.poll()
    assert not model.ready()
    assert model.history()[0].state == State.END
    assert "Did you forget to name your leaf directory as a number" in model.trouble


def test_a_version_in_use_stays_until_its_last_request_ends(
    base: Path, publish: Publish, colour_model: MakeModel
) -> None:
    model = ServedModel("m", ModelConfig("m", base), load)
    model.poll()
    with model.pin(None) as held:
        publish(base, 2, colour_model())
        model.poll()
        assert [(s.version, s.state) for s in model.history()] == [(2, State.AVAILABLE), (1, State.UNLOADING)]
        reply = held.runtime.run("features", {"images": BLACK[None]}, ["features"])
        assert reply["features"].shape == (1, 3)
        with model.pin(None) as newest:
            assert newest.version == 2
    assert model.history()[1].state == State.END


def test_only_whole_numbers_are_versions(base: Path) -> None:
    for name in ("v7", "8.tmp", "-9", "9" * 30, "٣"):
        shutil.copytree(base / "1", base / name)
    shutil.move(base / "1", base / "00000123")
    model = ServedModel("m", ModelConfig("m", base), load)
    model.poll()
    assert [s.version for s in model.history()] == [123]


def test_the_server_module_announces_itself_in_json(base: Path) -> None:
    command = [sys.executable, "-m", "serving.server", f"--model-base-path={base}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        ready = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        log = process.stderr.read().decode()
    assert ready["models"] == ["m"]
    assert process.returncode == 0
    assert f"Running gRPC ModelServer at 127.0.0.1:{ready['grpc_port']} ..." in log
    assert "Successfully loaded servable version {name: m version: 1}" in log
