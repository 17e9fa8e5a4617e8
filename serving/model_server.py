"""zoo-model-server: tensorflow_model_server's command line, before the same server as `zoo serve`."""

import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from serving import flags, runtimes
from serving.errors import DeployError, ServingError, invalid
from serving.faces import tls
from serving.faces.grpc_face import GrpcOptions
from serving.faces.operations import METRICS_PATH
from serving.faces.rest_face import RestOptions
from serving.flags import IGNORED, REFUSED, BadFlagError, Parsed
from serving.models import choosing, config
from serving.models.batching import scheduled
from serving.models.versions import Load, ModelConfig, Timing
from serving.models.warmup import warmed
from serving.runtimes.base import Engines
from serving.server import Options, launch, log_to_stderr
from serving.wire.protos import message

log = logging.getLogger("serving")

PROGRAM = "zoo-model-server"
FAILURE = 255  # tensorflow_model_server's exit code for all that goes wrong before it serves


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT; exits 0 then, 255 when it could not start."""
    try:
        parsed = flags.parse(sys.argv[1:] if arguments is None else arguments)
    except BadFlagError as error:
        print(f"{error}\n{flags.usage(PROGRAM)}")
        sys.exit(FAILURE)
    if parsed.values["help"]:
        print(flags.usage(PROGRAM))
        return
    if parsed.values["version"]:
        print(f"TensorFlow ModelServer: {_version('cnn-zoo')} ({PROGRAM})")
        print(f"TensorFlow Library: {_version('tensorflow')}")
        return
    # As tensorflow_model_server does: it names the first and starts all the same.
    if parsed.unknown:
        print(f"unknown argument: {parsed.unknown[0]}\n{flags.usage(PROGRAM)}", flush=True)
    _start(parsed)


def _start(parsed: Parsed) -> None:
    log_to_stderr()
    try:
        check(parsed)
        launch("serving.model_server", {"values": parsed.values}, options(parsed.values))
    except (DeployError, ServingError, OSError) as error:
        print(f"Failed to start server. Error: {error}", flush=True)
        sys.exit(FAILURE)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def check(parsed: Parsed) -> None:
    """Warns of each flag that was given and does nothing here; INVALID_ARGUMENT for those that cannot be
    honoured or contradict each other.
    """
    values = parsed.values
    for flag in flags.FLAGS:
        changed = values[flag.name] != flag.default
        if flag.effect == REFUSED and changed:
            raise invalid(f"--{flag.name} is not supported: {flag.help}")
        if flag.effect == IGNORED and flag.name in parsed.given:
            log.warning("--%s is ignored: %s", flag.name, flag.help)
    runtimes.check_names(values["fidelity"], values["runtime"])
    if not values["port"] and not values["grpc_socket_path"]:
        raise invalid("server_options.grpc_port is not set.")
    if not values["model_base_path"] and not values["model_config_file"]:
        raise invalid("Both server_options.model_base_path and server_options.model_config_file are empty!")
    if values["workers"] < 1:
        raise invalid(f"--workers must be at least 1; was {values['workers']}")
    if values["workers"] > 1 and values["grpc_socket_path"]:
        raise invalid("Workers share ports, not Unix sockets: --grpc_socket_path needs --workers=1")
    if values["batching_parameters_file"] and not values["enable_batching"]:
        raise invalid(
            "server_options.batching_parameters_file is set without setting "
            "server_options.enable_batching to true."
        )
    threads = ("session", "intra_op", "inter_op")
    if all(values[f"tensorflow_{name}_parallelism"] > 0 for name in threads):
        raise invalid(
            "tensorflow_session_parallelism sets both other numbers: give it alone, or "
            "tensorflow_intra_op_parallelism and tensorflow_inter_op_parallelism"
        )


def options(values: Mapping[str, Any]) -> Options:
    """The server that the flags ask for; INVALID_ARGUMENT for a config file that is none."""
    return Options(
        models=_models(values),
        load=_scheduled(values, _load(values)),
        grpc=_grpc(values),
        rest=_rest(values),
        timing=Timing(
            poll=values["file_system_poll_wait_seconds"],
            retries=max(0, values["max_num_load_retries"]),
            retry_interval=max(0, values["load_retry_interval_micros"]) / 1e6,
            load_threads=values["num_load_threads"],
        ),
        free_labels=values["allow_version_labels_for_unavailable_models"],
        strict=values["enable_signature_method_name_check"],
        patient=True,
        config_file=values["model_config_file"] or None,
        config_poll=values["model_config_file_poll_wait_seconds"],
        access_log=values["access_log"],
        workers=values["workers"],
    )


def _models(values: Mapping[str, Any]) -> list[ModelConfig]:
    if values["model_config_file"]:
        return config.models(config.read_model_config(values["model_config_file"]))
    name = values["model_name"]
    return [ModelConfig(name, config.local_path(name, values["model_base_path"]))]


def _load(values: Mapping[str, Any]) -> Load:
    session = values["tensorflow_session_parallelism"]
    load = partial(
        choosing.load,
        runtime=values["runtime"] or None,
        engines=Engines(
            fidelity=values["fidelity"],
            tags=tuple(values["saved_model_tags"].split(",")),
            prefer_tflite=values["prefer_tflite_model"],
            interpreters=values["num_tflite_pools"] * max(1, values["num_tflite_interpreters_per_pool"]),
            intra_op=values["tensorflow_intra_op_parallelism"] or session,
            inter_op=values["tensorflow_inter_op_parallelism"] or session,
            bfloat16=values["mixed_precision"] == "bfloat16",
        ),
    )
    if not values["enable_model_warmup"]:
        return load
    return warmed(load, max(1, values["num_request_iterations_for_warmup"]))


def _scheduled(values: Mapping[str, Any], load: Load) -> Load:
    if not values["enable_batching"]:
        return scheduled(load)
    file = values["batching_parameters_file"]
    parameters = config.read_batching(file) if file else message("tensorflow.serving.BatchingParameters")()
    return scheduled(load, parameters, values["enable_per_model_batching_parameters"])


def _tls(values: Mapping[str, Any]) -> tls.Tls | None:
    return tls.read(values["ssl_config_file"]) if values["ssl_config_file"] else None


def _metrics_path(values: Mapping[str, Any]) -> str | None:
    if not values["monitoring_config_file"]:
        return None
    prometheus = config.read_monitoring(values["monitoring_config_file"]).prometheus_config
    path = prometheus.path or METRICS_PATH
    return f"/{path.removeprefix('/')}" if prometheus.enable else None


def _grpc(values: Mapping[str, Any]) -> GrpcOptions:
    threads = values["grpc_max_threads"]
    return GrpcOptions(
        host=values["host"],
        port=values["port"] or None,
        socket_path=values["grpc_socket_path"],
        arguments=channel_arguments(values["grpc_channel_arguments"]),
        content=values["enable_serialization_as_tensor_content"],
        health=values["enable_grpc_healthcheck_service"],
        profiler=values["enable_profiler"],
        tls=_tls(values),
        **({"threads": threads} if threads > 0 else {}),
    )


def _rest(values: Mapping[str, Any]) -> RestOptions | None:
    if not values["rest_api_port"]:
        return None
    if values["rest_api_port"] == values["port"]:
        log.error("--rest_api_port cannot be same as --port. Please use a different port for HTTP/REST API.")
        return None
    threads = values["rest_api_num_threads"]
    return RestOptions(
        host=values["host"],
        port=values["rest_api_port"],
        timeout=values["rest_api_timeout_in_ms"] / 1000,
        cors=values["rest_api_enable_cors_support"],
        metrics_path=_metrics_path(values),
        tls=_tls(values),
        **({"threads": threads} if threads > 0 else {}),
    )


def channel_arguments(text: str) -> dict[str, int | str]:
    """gRPC's channel arguments of NAME=VALUE,NAME=VALUE: numbers where they are, else text."""
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {name: int(value) if value.lstrip("-").isdecimal() else value for name, _, value in pairs}


if __name__ == "__main__":
    main()
