"""tensorflow_model_server's command line as a table: every flag, its type, its default, its effect here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WORKS, IGNORED, REFUSED = "works", "ignored", "refused"


@dataclass(frozen=True)
class Flag:
    """One flag. An ignored one is accepted with a warning, a refused one stops the start unless it has its
    default; `help` then says why.
    """

    name: str
    kind: str
    default: Any
    help: str
    effect: str = WORKS


FLAGS = (
    # where to listen
    Flag("port", "int32", 8500, "TCP port for gRPC; 0 = none."),
    Flag("rest_api_port", "int32", 0, "TCP port for REST; 0 = none."),
    Flag("host", "string", "0.0.0.0", "Address of both ports (not in tensorflow_model_server)."),  # noqa: S104
    Flag("grpc_socket_path", "string", "", "Unix socket for gRPC, beside or instead of the port."),
    Flag("grpc_channel_arguments", "string", "", "gRPC's own arguments, as NAME=VALUE,NAME=VALUE."),
    Flag("workers", "int32", 1, "Processes that share the ports and processors (not upstream)."),
    Flag("grpc_max_threads", "int32", 0, "gRPC requests answered or waiting at once; 0 = 256."),
    Flag("rest_api_num_threads", "int32", 0, "REST requests answered or waiting at once; 0 = 256."),
    Flag("rest_api_timeout_in_ms", "int32", 30000, "How long a REST request may take."),
    Flag("rest_api_enable_cors_support", "bool", False, "Replies that other web sites' pages may read."),
    Flag("enable_grpc_healthcheck_service", "bool", True, "grpc.health.v1 (off by default upstream)."),
    Flag("ssl_config_file", "string", "", "SSLConfig in text form: keys and certificates."),
    Flag("use_alts_credentials", "bool", False, "ALTS exists inside Google Cloud only.", REFUSED),
    # what to serve
    Flag("model_name", "string", "default", "Name of the model at model_base_path."),
    Flag("model_base_path", "string", "", "The model's folder, which holds its versions."),
    Flag("model_config_file", "string", "", "ModelServerConfig in text form, instead of the two above."),
    Flag("model_config_file_poll_wait_seconds", "int32", 0, "Read that file anew so often; 0 = never."),
    Flag("file_system_poll_wait_seconds", "int32", 1, "Look for versions so often; 0 = once, less = never."),
    Flag("saved_model_tags", "string", "serve", "Tags of the graph in a SavedModel, comma-separated."),
    Flag("prefer_tflite_model", "bool", False, "Serve model.tflite where a version has it."),
    Flag("allow_version_labels_for_unavailable_models", "bool", False, "Labels of versions not loaded yet."),
    # loading
    Flag("max_num_load_retries", "int32", 5, "How often a failed load is tried again."),
    Flag("load_retry_interval_micros", "int64", 60_000_000, "The time between these tries."),
    Flag("num_load_threads", "int32", 0, "Versions loaded at once while serving; 0 = one."),
    Flag("num_unload_threads", "int32", 0, "The last request of a version frees it here.", IGNORED),
    Flag("enable_model_warmup", "bool", True, "Answer a version's warm-up requests before it is served."),
    Flag("num_request_iterations_for_warmup", "int32", 0, "How often, each of them; 0 = once."),
    Flag("enable_signature_method_name_check", "bool", False, "Signatures answer their own method only."),
    Flag("enable_serialization_as_tensor_content", "bool", False, "Replies of gRPC in tensor_content."),
    # batching and watching
    Flag("enable_batching", "bool", False, "Requests that arrive together run together."),
    Flag("batching_parameters_file", "string", "", "BatchingParameters in text form."),
    Flag("enable_per_model_batching_parameters", "bool", False, "A version's own batching_params.pbtxt."),
    Flag("monitoring_config_file", "string", "", "MonitoringConfig in text form: Prometheus."),
    Flag("access_log", "bool", False, "A line of JSON per request (not in tensorflow_model_server)."),
    Flag("enable_profiler", "bool", True, "tf.profiler's clients may ask on the gRPC port."),
    # engines
    Flag("fidelity", "string", "exact", "How exact a file may serve: exact, bf16, int8 (not upstream)."),
    Flag(
        "runtime", "string", "", "onnx, tensorflow, litert, openvino instead of the fastest (not upstream)."
    ),
    Flag("tensorflow_session_parallelism", "int64", 0, "Threads of a run, and runs at once; 0 = as found."),
    Flag("tensorflow_intra_op_parallelism", "int64", 0, "Threads of one operation; 0 = as found."),
    Flag("tensorflow_inter_op_parallelism", "int64", 0, "Operations at once; 0 = as found."),
    Flag("num_tflite_pools", "int32", 0, "Pools of interpreters; 0 = one for each processor."),
    Flag("num_tflite_interpreters_per_pool", "int32", 1, "Interpreters in each: requests that run at once."),
    Flag("mixed_precision", "string", "", 'TensorFlow computes in "bfloat16" where that is safe.'),
    Flag("per_process_gpu_memory_fraction", "float", 0.0, "TensorFlow takes what it needs.", IGNORED),
    Flag("tensorflow_session_config_file", "string", "", "There are no sessions to configure.", IGNORED),
    Flag("xla_cpu_compilation_enabled", "bool", False, "XLA is chosen at export.", IGNORED),
    Flag("xla_gpu_compilation_enabled", "bool", False, "XLA is chosen at export.", IGNORED),
    Flag("flush_filesystem_caches", "bool", True, "Model files are read once.", IGNORED),
    Flag("remove_unused_fields_from_bundle_metagraph", "bool", True, "The graph is not kept.", IGNORED),
    Flag("platform_config_file", "string", "", "It replaces the engine by a C++ plug-in.", REFUSED),
    Flag("thread_pool_factory_config_file", "string", "", "It names a C++ plug-in.", IGNORED),
    Flag("skip_initialize_tpu", "bool", False, "There is no TPU support.", IGNORED),
    # about
    Flag("version", "bool", False, "Print the version and stop."),
    Flag("help", "bool", False, "Print this and stop."),
)
_BY_NAME = {flag.name: flag for flag in FLAGS}
_LIMITS = {"int32": 2**31, "int64": 2**63}


class BadFlagError(Exception):
    """A flag's value is not of its type."""


@dataclass(frozen=True)
class Parsed:
    """The value of every flag by name, the names that were given, and the arguments that are no flags."""

    values: dict[str, Any]
    given: tuple[str, ...]
    unknown: tuple[str, ...]


def parse(arguments: Sequence[str]) -> Parsed:
    """--name=value, --name value and, for bools, --name; the last counts. BadFlagError for a bad value."""
    values = {flag.name: flag.default for flag in FLAGS}
    given, unknown = [], []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, text = argument.removeprefix("--").removeprefix("-").partition("=")
        flag = _BY_NAME.get(name)
        if flag is None or not argument.startswith("-"):
            unknown.append(argument)
            continue
        if not equals:
            text = "true" if flag.kind == "bool" else _next(rest)
        values[name] = _value(flag, text)
        given.append(name)
    return Parsed(values, tuple(given), tuple(unknown))


def _next(rest: list[str]) -> str:
    return rest.pop(0) if rest and not rest[0].startswith("--") else ""


def _value(flag: Flag, text: str) -> Any:
    try:
        if flag.kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if flag.kind in _LIMITS:
            number = int(text)
            if not -_LIMITS[flag.kind] <= number < _LIMITS[flag.kind]:
                raise ValueError(text)
            return number
        return float(text) if flag.kind == "float" else text
    except (KeyError, ValueError) as error:
        raise BadFlagError(f"--{flag.name} takes a value of type {flag.kind}, not {text!r}") from error


def usage(program: str) -> str:
    """Every flag on a line: its default, its type, and what it does."""
    lines = [f"usage: {program} --model_base_path=/models/flowers --model_name=flowers --rest_api_port=8501"]
    lines += ["Flags:"]
    for flag in FLAGS:
        note = "" if flag.effect == WORKS else f" [{flag.effect}]"
        lines.append(f"\t--{f'{flag.name}={_shown(flag.default)}':<52}\t{flag.kind}\t{flag.help}{note}")
    return "\n".join(lines)


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f'"{default}"' if isinstance(default, str) else str(default)


def table() -> str:
    """The flags as a table in Markdown."""
    rows = [
        f"| {f.name} | {f.kind} | {_shown(f.default) if f.default != '' else ''} | {f.effect} | {f.help} |"
        for f in FLAGS
    ]
    return "\n".join(["| flag | type | default | effect | meaning, or reason |", "| --- " * 5 + "|", *rows])
