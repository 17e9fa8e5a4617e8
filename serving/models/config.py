"""The text-proto configuration files of TensorFlow Serving, read and worded as it does."""

import logging
import re
import sys
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from serving.errors import ServingError, invalid
from serving.models.versions import ALL_VERSIONS, ModelConfig, VersionPolicy
from serving.wire.protos import POOL, message

log = logging.getLogger("serving")


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


# --- the models of a ModelServerConfig ----------------------------------------------------------------------


def models(server_config: Any) -> list[ModelConfig]:
    """What a ModelServerConfig message asks for; INVALID_ARGUMENT that names the model at fault."""
    if server_config.WhichOneof("config") == "custom_model_config":
        raise invalid("custom_model_config needs a plug-in of TensorFlow Serving: list the models instead")
    listed = list(server_config.model_config_list.config)
    names = [given.name for given in listed]
    for name in names:
        if names.count(name) > 1:
            raise invalid(f"Illegal to list model {name} multiple times in config list")
    return [_model(given) for given in listed]


def _model(given: Any) -> ModelConfig:
    base_path = local_path(given.name, given.base_path)
    _check_platform(given)
    return ModelConfig(
        name=given.name,
        base_path=base_path,
        policy=_policy(given.model_version_policy),
        labels=dict(given.version_labels),
        logging=_logging(given) if given.HasField("logging_config") else None,
    )


def _logging(given: Any) -> Any:
    rate = given.logging_config.sampling_config.sampling_rate
    if not given.logging_config.log_collector_config.filename_prefix:
        raise invalid(f"logging_config of model {given.name} needs a log_collector_config.filename_prefix")
    if not 0 <= rate <= 1:
        raise invalid(f"logging_config of model {given.name}: sampling_rate must be in 0..1; was {rate:g}")
    return given.logging_config


def local_path(model: str, base_path: str) -> Path:
    """A model's base path, which must be absolute or a file: URI; INVALID_ARGUMENT otherwise."""
    path = re.sub(r"^file:(//)?(?=/)", "", base_path)
    if "://" in path:
        raise invalid(
            f"Model {model} is at {base_path}, which cannot be read from here: mount or copy it, and give "
            "its path"
        )
    if not path.startswith("/"):
        raise invalid(f"Expected model {model} to have an absolute path or URI; got base_path()={base_path}")
    return Path(path)


def _check_platform(given: Any) -> None:
    both = "ModelServerConfig::model_type(deprecated)"
    if given.model_type and given.model_platform:
        raise invalid(f"Illegal setting both {both} and ModelServerConfig::model_platform.")
    if not given.model_type and not given.model_platform:
        raise invalid(f"Illegal setting neither {both} nor ModelServerConfig::model_platform.")
    if given.model_type:
        log.warning(
            "Deprecated ModelServerConfig::model_type field used. Prefer ModelServerConfig::model_platform."
        )
    kind = (
        type(given).DESCRIPTOR.fields_by_name["model_type"].enum_type.values_by_number[given.model_type].name
    )
    platform = given.model_platform or kind.lower()
    if platform != "tensorflow":
        raise invalid(f"Model {given.name} requests unsupported platform {platform}")


def _policy(given: Any) -> VersionPolicy:
    kind = given.WhichOneof("policy_choice")
    if kind == "all":
        return ALL_VERSIONS
    if kind == "specific":
        return VersionPolicy(specific=tuple(given.specific.versions))
    return VersionPolicy(latest=max(1, given.latest.num_versions))
