"""Warm-up: the requests in assets.extra/tf_serving_warmup_requests, answered before a version is served."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.errors import Code, ServingError, invalid
from serving.models import inference
from serving.models.inference import DEFAULT_SIGNATURE
from serving.models.versions import Load
from serving.runtimes import Runtime
from serving.runtimes.base import CLASSIFY
from serving.watching import metrics
from serving.wire import records, requests
from serving.wire.protos import PredictionLog

log = logging.getLogger("serving")

FILE = "assets.extra/tf_serving_warmup_requests"
LIMIT = 1000  # records


def warmed(load: Load, repeats: int = 1) -> Load:
    """Loads versions that have answered each of their warm-up requests `repeats` times."""

    def warmed_load(path: Path) -> Runtime:
        runtime = load(path)
        warm_up(runtime, path, repeats)
        return runtime

    return warmed_load


def warm_up(runtime: Runtime, version_dir: Path, repeats: int = 1) -> None:
    """Replays a version's warm-up file, if it has one. Raises ServingError when the file is broken, too long,
    or holds a request that fails: such a version is not to be served.
    """
    file = version_dir / FILE
    if not file.is_file():
        log.info("No warmup data file found at %s", file)
        return
    count = 0
    with metrics.warming(str(version_dir)) as counted:
        for entry in entries(version_dir):
            count += 1
            if count > LIMIT:
                raise invalid(f"Number of warmup records exceeds the maximum ({LIMIT}) at {file}")
            for _ in range(repeats):
                _replay(runtime, entry)
            counted()
    log.info("Finished reading warmup data for model at %s. Number of warmup records read: %d.", file, count)


def entries(version_dir: Path) -> Iterator[Any]:
    """The PredictionLogs of a version's warm-up file; ServingError where it is broken, OSError without it."""
    file = version_dir / FILE
    return (_parsed(record, file) for record in _records(file))


def _records(file: Path) -> Iterator[bytes]:
    try:
        yield from records.read(file)
    except ServingError as error:
        raise ServingError(
            error.code, f"{error.message}. Please verify your warmup data is in TFRecord format."
        ) from error


def _parsed(record: bytes, file: Path) -> Any:
    try:
        return PredictionLog.FromString(record)
    except Exception as error:
        raise invalid(
            f"Failed to parse warmup record: {file} holds something that is no PredictionLog"
        ) from error


def _replay(runtime: Runtime, entry: Any) -> None:
    kind = entry.WhichOneof("log_type")
    if kind == "predict_log":
        request = entry.predict_log.request
        feed = requests.feed(request.inputs)
        inference.predict(runtime, _signature(request.model_spec), feed, request.output_filter)
    elif kind == "classify_log":
        request = entry.classify_log.request
        inference.classify(runtime, _signature(request.model_spec), requests.examples(request.input))
    elif kind == "regress_log":
        request = entry.regress_log.request
        inference.regress(runtime, _signature(request.model_spec), requests.examples(request.input))
    elif kind == "multi_inference_log":
        _replay_tasks(runtime, entry.multi_inference_log.request)
    else:
        number = PredictionLog.DESCRIPTOR.fields_by_name[kind].number if kind else 0
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")


def _replay_tasks(runtime: Runtime, request: Any) -> None:
    examples = requests.examples(request.input)
    for task in request.tasks:
        run = inference.classify if task.method_name == CLASSIFY else inference.regress
        run(runtime, _signature(task.model_spec), examples)


def _signature(spec: Any) -> str:
    return spec.signature_name or DEFAULT_SIGNATURE
