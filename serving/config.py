"""The text-proto configuration files of TensorFlow Serving, read and worded as it does."""

import sys
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from serving.errors import ServingError, invalid
from serving.protos import POOL, message


def read_model_config(file: str | Path) -> Any:
    """tensorflow.serving.ModelServerConfig, of --model_config_file."""
    return _read(file, "ModelServerConfig")


def read_batching(file: str | Path) -> Any:
    """tensorflow.serving.BatchingParameters, of --batching_parameters_file or a version's
    batching_params.pbtxt.
    """
    return _read(file, "BatchingParameters")


def read_monitoring(file: str | Path) -> Any:
    """tensorflow.serving.MonitoringConfig, of --monitoring_config_file."""
    return _read(file, "MonitoringConfig")


def read_ssl(file: str | Path) -> Any:
    """tensorflow.serving.SSLConfig, of --ssl_config_file: PEM texts, not paths."""
    return _read(file, "SSLConfig")


def _read(file: str | Path, kind: str) -> Any:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{file}': {error}") from error
    try:
        return parse(text, kind)
    except ServingError as error:
        # Clients and tests look for this line in standard error.
        print(error.message, file=sys.stderr, flush=True)
        raise invalid(f"Invalid protobuf file: '{file}'") from error


def parse(text: str, kind: str) -> Any:
    """The message tensorflow.serving.KIND of its text form; INVALID_ARGUMENT that names line and column."""
    parsed = message(f"tensorflow.serving.{kind}")()
    try:
        return text_format.Parse(text, parsed, descriptor_pool=POOL)
    except text_format.ParseError as error:
        place = f"{error.GetLine()}:{error.GetColumn()}: "
        reason = str(error).removeprefix(place.rstrip(": ")).lstrip(" :")
        raise invalid(f"Error parsing text-format tensorflow.serving.{kind}: {place}{reason}") from error
