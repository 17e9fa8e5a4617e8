"""TensorFlow Serving's stock image, or our own server, by Docker Compose
(https://docs.docker.com/reference/compose-file).
"""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from serving.addresses import address
from serving.deployment.tensorflow_serving import RELEASE, saved_models
from serving.folders import by_name

PYTHON = "3.13-slim"
# Raises where the answer is none of 200: a model has no version that answers.
READY = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/v1/health/ready')"
HOW_OFTEN = """\
      interval: 5s
      timeout: 5s
      start_period: 60s"""


def compose(
    folders: Sequence[str | Path],
    host: str = "127.0.0.1",
    grpc_port: int = 8500,
    rest_port: int = 8501,
) -> str:
    """A Compose file that serves BASE/NAME folders under their names, read-only, on two ports of `host`.

    Versions published later are served as they come. It needs Docker Compose 2.23.1 or newer, for the config
    file that it carries. Raises DeployError for a folder that holds no SavedModel.
    """
    found = saved_models(folders)
    return f"""\
{_start(found, host, grpc_port)}
    image: tensorflow/serving:{RELEASE}
    command: ["--model_config_file=/models/models.config"]
    # As the first process it would not hear that it is to stop.
    init: true
{_places(found, host, grpc_port, rest_port)}
    configs:
      - source: models
        target: /models/models.config
    healthcheck:
      test: ["CMD", "bash", "-c", {_quoted(" && ".join(map(_available, found)))}]
{HOW_OFTEN}
configs:
  models:
    content: |
      model_config_list {{
{_configs(found)}
      }}
"""


def compose_zoo(
    folders: Sequence[str | Path],
    host: str = "127.0.0.1",
    grpc_port: int = 8500,
    rest_port: int = 8501,
) -> str:
    """The same of our own server, in an image that Compose builds from the package, this release of it: any
    file that `zoo serve` takes. It runs as the first folder's owner. Raises DeployError for a folder without
    versions.
    """
    found = by_name(folders)
    owner = next(iter(found.values())).stat()
    served = ", ".join(_quoted(f"/models/{name}") for name in found)
    return f"""\
{_start(found, host, grpc_port)}
    build:
      dockerfile_inline: |
        FROM python:{PYTHON}
        RUN pip install --no-cache-dir "cnn-zoo[serve,openvino,litert]=={version("cnn-zoo")}"
    command: ["zoo", "serve", "--host=0.0.0.0", {served}]
    user: "{owner.st_uid}:{owner.st_gid}"
    read_only: true
    tmpfs: [/tmp]
    environment: {{HOME: /tmp}}
{_places(found, host, grpc_port, rest_port)}
    healthcheck:
      test: ["CMD", "python", "-c", {_quoted(READY)}]
{HOW_OFTEN}
"""


def _start(found: Mapping[str, Path], host: str, grpc_port: int) -> str:
    return f"""\
# docker compose -f compose.yaml up --detach --wait
# zoo predict {address(host, grpc_port)} {json.dumps(next(iter(found)))} rose.jpg
services:
  serving:"""


def _places(found: Mapping[str, Path], host: str, grpc_port: int, rest_port: int) -> str:
    return f"""\
    restart: unless-stopped
    security_opt: ["no-new-privileges:true"]
    ports:
      - {_quoted(f"{address(host, grpc_port)}:8500")}  # gRPC
      - {_quoted(f"{address(host, rest_port)}:8501")}  # REST
    volumes:
{_volumes(found)}"""


def _volumes(found: Mapping[str, Path]) -> str:
    return "\n".join(
        f"""\
      - type: bind
        source: {_quoted(str(path))}
        target: {_quoted(f"/models/{name}")}
        read_only: true"""
        for name, path in found.items()
    )


def _configs(found: Mapping[str, Path]) -> str:
    return "\n".join(
        f"        config {{ name: {_quoted(name)} base_path: {_quoted(f'/models/{name}')} "
        'model_platform: "tensorflow" }'
        for name in found
    )


def _available(name: str) -> str:
    """Succeeds where a version is served. The image has neither curl nor wget."""
    request = f"GET /v1/models/{quote(name, safe='')} HTTP/1.0"
    return (
        "exec 3<>/dev/tcp/127.0.0.1/8501 && "
        f"printf '%s\\r\\n\\r\\n' '{request}' >&3 && grep -qw AVAILABLE <&3"
    )


def _quoted(text: str) -> str:
    """For YAML, and for Compose, which puts variables in where it finds a dollar."""
    return json.dumps(text, ensure_ascii=False).replace("$", "$$")
