"""What the server counts, for Prometheus: TensorFlow Serving's series by its names, and our own beside them.

Times are microseconds in TensorFlow Serving's series, as there, and seconds in ours.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from serving.errors import Code
from serving.watching.calls import Call
from zoo.writing import complete

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # of the library: where workers count, each in files of its own
WORKERS_FILE = "workers.json"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

disable_created_metrics()
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_LATENCY = [10 * 1.8**i for i in range(33)]
_QUEUING = [100 * 1.2**i for i in range(52)]
_SIZES = [2**i for i in range(14)]
_COUNTED = {"Predict", "Classify", "Regress"}
# The library ends every counter's name in _total; of TensorFlow Serving's only one does.
_UPSTREAM_TOTAL = re.compile(
    rb"^((?:# (?:HELP|TYPE) )?:tensorflow:[\w:]+)(?<!example_count)_total\b", re.MULTILINE
)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
    return Histogram(name, text, labels, buckets=[float(f"{b:g}") for b in buckets], registry=REGISTRY)


REQUESTS = _counter(":tensorflow:serving:request_count", "Requests by their outcome", "model_name", "status")
REQUEST_LATENCY = _histogram(
    ":tensorflow:serving:request_latency",
    "Microseconds of a request that was answered OK",
    _LATENCY,
    "model_name",
    "API",
    "entrypoint",
)
RUNTIME_LATENCY = _histogram(
    ":tensorflow:serving:runtime_latency",
    "Microseconds of a model run",
    _LATENCY,
    "model_name",
    "API",
    "runtime",
)
EXAMPLES = _histogram(
    ":tensorflow:serving:request_example_counts",
    "Examples of a MultiInference request",
    [2**i for i in range(15)],
    "model",
)
EXAMPLES_TOTAL = _counter(
    ":tensorflow:serving:request_example_count", "Examples of MultiInference requests in all", "model"
)
WARMUP = _histogram(
    ":tensorflow:serving:model_warmup_latency",
    "Microseconds of a version's warm-up",
    _LATENCY,
    "model_path",
    "status",
)
WARMUP_RECORDS = _counter(
    ":tensorflow:serving:model_warmup_records_read",
    "Warm-up requests that were read",
    "model_path",
    "status",
)
LOGGED = _counter(
    ":tensorflow:serving:request_log_count",
    "Requests that were chosen for the request log",
    "model_name",
    "status_code",
)
_BATCH = ":tensorflow:serving:batching_session:"
QUEUING = _histogram(
    f"{_BATCH}queuing_latency", "Microseconds in a batch's queue", _QUEUING, "thread_pool_name"
)
BATCHES = _counter(f"{_BATCH}wrapped_run_count", "Batches run")
PADDING = _histogram(f"{_BATCH}padding_size", "Rows of padding in a batch", _SIZES, "execution_batch_size")
INPUT_ROWS = _histogram(f"{_BATCH}input_batch_size", "Rows of a request", _SIZES)
BATCH_ROWS = _histogram(f"{_BATCH}processed_batch_size", "Rows of a batch, padding included", _SIZES)
WAITED = _histogram(
    "zoo_serving_queue_seconds",
    "Seconds in a queue, of the requests that had to wait",
    [0.0001 * 4**i for i in range(10)],
    "model_name",
)
DEPTH = Gauge(
    "zoo_serving_queue_depth",
    "Requests that wait for their turn or their batch",
    ["model_name"],
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
REFUSED = _counter("zoo_serving_refused", "Requests refused because the queue was full", "model_name")


@cache
def _of(series: Any, *labels: str) -> Any:
    """One of a series by its labels, kept: the library checks and joins them anew at each look."""
    return series.labels(*labels)


def count_request(call: Call, seconds: float, known: Callable[[str], bool]) -> None:
    """Counts a request that has ended. Names that no model has are not told apart: a client makes them up."""
    if call.entrypoint == "GRPC" and call.api not in _COUNTED:
        return
    ok = call.status == Code.OK
    model = call.model if ok or known(call.model) else ""
    _of(REQUESTS, model, call.status.name).inc()
    if ok:
        _of(REQUEST_LATENCY, model, call.api, call.entrypoint).observe(seconds * 1e6)
    if call.status == Code.UNAVAILABLE:
        REFUSED.labels(model).inc()


def count_run(call: Call, runtime: str, seconds: float) -> None:
    """Counts a run of the model that has succeeded, the wait for its batch included."""
    _of(RUNTIME_LATENCY, call.model, call.api.capitalize(), runtime).observe(seconds * 1e6)


def count_examples(model: str, count: int) -> None:
    """Counts the examples of a MultiInference request."""
    EXAMPLES.labels(model).observe(count)
    EXAMPLES_TOTAL.labels(model).inc(count)


@contextmanager
def warming(path: str) -> Iterator[Callable[[], None]]:
    """Counts a version's warm-up; the context's value is to be called for each record."""
    started, status, read = time.monotonic(), Code.OK, 0

    def count() -> None:
        nonlocal read
        read += 1

    try:
        yield count
    except Exception as error:
        status = getattr(error, "code", Code.INTERNAL)
        raise
    finally:
        WARMUP.labels(path, status.name).observe((time.monotonic() - started) * 1e6)
        WARMUP_RECORDS.labels(path, status.name).inc(read)


def enter_queue(call: Call) -> None:
    """Counts a request that waits for its turn, or its batch to run."""
    _of(DEPTH, call.model).inc()


def leave_queue(call: Call, seconds: float) -> None:
    """Counts a request that has waited for so long."""
    _of(DEPTH, call.model).dec()
    _of(WAITED, call.model).observe(seconds)


def leave_batch_queue(call: Call, seconds: float) -> None:
    """Counts one whose batch is run after so long, in TensorFlow Serving's series too."""
    leave_queue(call, seconds)
    QUEUING.labels("").observe(seconds * 1e6)


def count_batch(rows: Sequence[int], size: int) -> None:
    """Counts a batch by the rows of its tasks and its rows in all, padding included."""
    for count in rows:
        INPUT_ROWS.observe(count)
    BATCHES.inc()
    PADDING.labels(str(size)).observe(size - sum(rows))
    BATCH_ROWS.observe(size)


@dataclass(frozen=True)
class Served:
    """A version that is loaded, its engine, and the seconds for a picture of each candidate that was measured
    when the engine was chosen.
    """

    model: str
    version: int
    runtime: str
    measured: Mapping[str, float]


class Runtimes(Collector):
    """Which engine runs each version that is loaded, and what was measured to choose it, as of now."""

    def __init__(self, loaded: Iterable[Served]) -> None:
        self._loaded = loaded

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            "zoo_serving_runtime",
            "1 for the engine that runs a version",
            labels=("model_name", "version", "runtime"),
        )
        measured = GaugeMetricFamily(
            "zoo_serving_candidate_seconds",
            "Seconds for a picture, of each candidate that was measured to choose a version's engine",
            labels=("model_name", "version", "candidate"),
        )
        for served in self._loaded:
            gauge.add_metric((served.model, str(served.version), served.runtime), 1)
            for candidate, seconds in served.measured.items():
                measured.add_metric((served.model, str(served.version), candidate), seconds)
        yield gauge
        yield measured


class Processes(Collector):
    """Memory, processor time and files of each worker, by its number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for number, pid in _workers(self._folder).items():
            for found in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
                for sample in found.samples:
                    family.add_sample(sample.name, {"worker": number}, sample.value)
        yield from families.values()


def write_workers(folder: Path, pids: Mapping[int, int]) -> None:
    """Which processes count in the folder, by their numbers."""
    with complete(folder / WORKERS_FILE) as file:
        file.write_text(json.dumps(pids), encoding="utf-8")


def _workers(folder: Path) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads((folder / WORKERS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def forget_worker(folder: Path, pid: int) -> None:
    """What a dead worker counted stays; who waited in its queue waits no more."""
    mark_process_dead(pid, os.fspath(folder))


def page(loaded: Iterable[Served]) -> bytes:
    """All series in Prometheus's text format, those of several workers summed; `loaded` is what is served."""
    others = CollectorRegistry()
    others.register(Runtimes(loaded))
    folder = os.environ.get(SHARED_FOLDER)
    if not folder:
        return _UPSTREAM_TOTAL.sub(rb"\1", generate_latest(REGISTRY) + generate_latest(others))
    MultiProcessCollector(others, folder)
    others.register(Processes(Path(folder)))
    return _UPSTREAM_TOTAL.sub(rb"\1", generate_latest(others))


def first_value(name: str) -> int:
    """The first cell of a series by TensorFlow's name, as /tensorflow/serving/request_count; 0 if none."""
    wanted = name.replace("/", ":")
    samples = (f.samples for f in REGISTRY.collect() if f.name == wanted and f.samples)
    return next((int(found[0].value) for found in samples), 0)
