"""What describes a model's folder to other engines. Those are not on every machine: what TensorFlow Serving
would be told, zoo-model-server is told, which takes the same.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import serving
from serving.deployment import docker, kserve, ray
from serving.errors import DeployError

PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def onnx_only(tmp_path: Path, publish: Callable[..., None], colour_model: Callable[..., Any]) -> Path:
    publish(tmp_path / "colours", 3, colour_model())
    return tmp_path / "colours"


# --- Docker -------------------------------------------------------------------------------------------------


@contextmanager
def container(
    file: dict[str, Any], root: Path, ports: list[int], start: Callable[[list[str], list[int]], list[str]]
) -> Iterator[tuple[str, str]]:
    """A server as the Compose file asks for it, in a folder laid out as the container's, once the file's
    health check succeeds: its gRPC address and its REST URL. start: of the file's command and the ports, the
    one that runs here.
    """
    service, (grpc_port, rest_port) = file["services"]["serving"], ports

    def inside(text: str) -> str:
        return re.sub(r"(?<!/v1)/models/", f"{root}/models/", text.replace("$$", "$"))

    for volume in service["volumes"]:
        target = Path(inside(volume["target"]))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(volume["source"].replace("$$", "$"))
    for config in service.get("configs", []):
        content = file["configs"][config["source"]]["content"]
        Path(inside(config["target"])).write_text(inside(content), encoding="utf-8")
    command = start([inside(word) for word in service["command"]], ports)
    check = [inside(word).replace("8501", str(rest_port)) for word in service["healthcheck"]["test"][1:]]
    user = {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", "HOME": str(root / "home")}
    with (root / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, env=user)
    try:
        end = time.monotonic() + 120
        while subprocess.run(check, capture_output=True, timeout=60, env=user).returncode:
            assert process.poll() is None, (root / "log").read_text()
            assert time.monotonic() < end, "it never became healthy"
        yield f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{rest_port}"
    finally:
        process.terminate()
        process.wait(60)


def as_tensorflow_serving(command: list[str], ports: list[int]) -> list[str]:
    flags = ["--host=127.0.0.1", f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    return ["zoo-model-server", *flags, *command]


def as_zoo(command: list[str], ports: list[int]) -> list[str]:
    assert "--host=0.0.0.0" in command
    return [*command, "--host=127.0.0.1", f"--grpc-port={ports[0]}", f"--rest-port={ports[1]}"]


def test_a_compose_file_serves_its_folders(
    exported: Path,
    tmp_path: Path,
    photos: list[Path],
    run_curl: Callable[..., tuple[int, Any]],
    free_ports: Callable[[int], list[int]],
) -> None:
    file = yaml.safe_load(docker.compose([exported / "flowers", exported / "line"]))
    with (
        container(file, tmp_path, free_ports(2), as_tensorflow_serving) as (grpc_address, rest_url),
        serving.Client(grpc_address) as client,
    ):
        assert {label for label, _ in client.classify("flowers", photos[0])} == {"daisy", "rose", "tulip"}
        assert client.status("line") == {1: "AVAILABLE"}
        reply = run_curl(f"{rest_url}/v1/models/line:predict", {"instances": [[1, 2]]})
        assert reply == (200, {"predictions": [[3.0, 5.0]]})


def test_a_compose_file_of_our_own_server_serves_any_file(
    exported: Path,
    onnx_only: Path,
    tmp_path: Path,
    photos: list[Path],
    free_ports: Callable[[int], list[int]],
) -> None:
    file = yaml.safe_load(docker.compose_zoo([exported / "flowers", onnx_only]))
    dockerfile = file["services"]["serving"]["build"]["dockerfile_inline"]
    assert f'"cnn-zoo[serve,openvino,litert]=={metadata.version("cnn-zoo")}"' in dockerfile
    room = tmp_path / "container"
    room.mkdir()
    with (
        container(file, room, free_ports(2), as_zoo) as (grpc_address, _),
        serving.Client(grpc_address) as client,
    ):
        assert {label for label, _ in client.classify("flowers", photos[0])} == {"daisy", "rose", "tulip"}
        assert client.status("colours") == {3: "AVAILABLE"}


def test_our_own_server_has_the_rights_of_the_folders_owner_and_reads_alone(onnx_only: Path) -> None:
    service = yaml.safe_load(docker.compose_zoo([onnx_only], rest_port=9001))["services"]["serving"]
    assert service["user"] == f"{onnx_only.stat().st_uid}:{onnx_only.stat().st_gid}"
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:9001:8501"]
    assert service["read_only"] is True
    assert [volume["read_only"] for volume in service["volumes"]] == [True]


@pytest.mark.parametrize("compose", [docker.compose, docker.compose_zoo])
def test_a_compose_files_health_check_fails_while_nothing_is_served(
    compose: Any, exported: Path, free_ports: Callable[[int], list[int]]
) -> None:
    service = yaml.safe_load(compose([exported / "flowers"]))["services"]["serving"]
    (port,) = free_ports(1)
    check = [word.replace("8501", str(port)) for word in service["healthcheck"]["test"][1:]]
    assert subprocess.run(check, capture_output=True, timeout=60).returncode != 0


def test_a_compose_file_opens_loopback_alone_and_only_reads(exported: Path) -> None:
    service = yaml.safe_load(docker.compose([exported / "flowers"]))["services"]["serving"]
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    assert service["volumes"] == [
        {"type": "bind", "source": str(exported / "flowers"), "target": "/models/flowers", "read_only": True}
    ]
    asked = yaml.safe_load(docker.compose([exported / "flowers"], host="::", grpc_port=9000))
    assert asked["services"]["serving"]["ports"] == ["[::]:9000:8500", "[::]:8501:8501"]


def test_compose_takes_a_folders_name_as_it_is(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'a$b: "c" ü'
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "saved_model.pb").touch()
    file = yaml.safe_load(docker.compose([folder]))
    (volume,) = file["services"]["serving"]["volumes"]
    assert volume["source"].replace("$$", "$") == str(folder)
    assert volume["target"] == '/models/a$$b: "c" ü'
    assert r'name: "a$$b: \"c\" ü"' in file["configs"]["models"]["content"]


# --- KServe -------------------------------------------------------------------------------------------------


def test_a_manifest_has_a_service_for_each_folder(exported: Path) -> None:
    text = kserve.manifest([exported / "flowers", exported / "line"], "s3://bucket/models/")
    services = list(yaml.safe_load_all(text))
    assert [service["metadata"]["name"] for service in services] == ["flowers", "line"]
    for service in services:
        assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
        model = service["spec"]["predictor"]["model"]
        assert model["modelFormat"] == {"name": "tensorflow"}
        assert model["storageUri"] == f"s3://bucket/models/{service['metadata']['name']}"
        assert model["runtimeVersion"] in docker.compose([exported / "line"])


def test_a_manifest_refuses_what_a_cluster_cannot_have(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match='"/srv/models" is no place that a cluster can read: copy'):
        kserve.manifest([exported / "flowers"], "/srv/models")
    for name in ("my_flowers", "Flowers", "1flowers", "f" * 64, "flowers-"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "saved_model.pb").touch()
        with pytest.raises(DeployError, match=f'"{name}" can be no service on Kubernetes .*: rename'):
            kserve.manifest([tmp_path / name], "s3://bucket")


# --- all ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [docker.compose, lambda folders: kserve.manifest(folders, "gs://b/m")])
def test_tensorflow_serving_gets_no_folder_without_a_saved_model(write: Any, onnx_only: Path) -> None:
    with pytest.raises(
        DeployError, match=r"colours/3 has no SavedModel.*--formats saved_model.*--to docker-zoo or --to ray"
    ):
        write([onnx_only])


@pytest.mark.parametrize("write", [docker.compose, docker.compose_zoo, ray.config])
def test_folders_that_are_none_are_named(write: Any, tmp_path: Path, onnx_only: Path) -> None:
    with pytest.raises(DeployError, match="missing is no folder: give BASE/NAME"):
        write([tmp_path / "missing"])
    with pytest.raises(DeployError, match=r"3 holds no version .*: give the folder above it"):
        write([onnx_only / "3"])
    with pytest.raises(DeployError, match=r"Two models are named colours: .*; rename one folder"):
        write([onnx_only, tmp_path / "elsewhere" / "colours"])
