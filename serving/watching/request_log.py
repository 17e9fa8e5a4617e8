"""A sample of the answered requests as TFRecord files of PredictionLog: TensorFlow Serving's logging_config.

Each file holds at most as many records as a warm-up file may, so that every one can be used as
assets.extra/tf_serving_warmup_requests.
"""

import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from serving.errors import Code
from serving.models import warmup
from serving.models.service import ModelSpec, Served
from serving.watching import metrics
from serving.wire import records, replies, tensors
from serving.wire.protos import message

log = logging.getLogger("serving")

BACKLOG = 100  # answers that may wait to be written; more are left out rather than kept in memory


@dataclass
class _File:
    """The file that a prefix's records go to now."""

    stream: IO[bytes]
    left: int = warmup.LIMIT


@dataclass
class RequestLog:
    """Hears every answer of a service and writes some, in a thread of its own; `config_of` gives the
    LoggingConfig of a model, or None.
    """

    config_of: Callable[[str], Any]
    _waiting: "queue.Queue[tuple[str, Served] | None]" = field(default_factory=lambda: queue.Queue(BACKLOG))
    _files: dict[str, _File] = field(default_factory=dict)
    _opened: int = 0
    _trouble: str = ""

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._work, name="request-log", daemon=True)
        self._thread.start()

    def hear(self, served: Served) -> None:
        """Takes an answer for the log, or not, as the model's sampling rate has it; returns at once."""
        config = self.config_of(served.spec.name)
        # Sampling is no secret.
        if config is None or random.random() >= config.sampling_config.sampling_rate:  # noqa: S311
            return
        try:
            self._waiting.put_nowait((config.log_collector_config.filename_prefix, served))
            code = Code.OK
        except queue.Full:
            code = Code.RESOURCE_EXHAUSTED
        metrics.LOGGED.labels(served.spec.name, code.name).inc()

    def close(self) -> None:
        """Writes what waits and closes the files."""
        self._waiting.put(None)
        self._thread.join()
        for file in self._files.values():
            file.stream.close()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                self._write(item[0], prediction_log(item[1]).SerializeToString())
                self._trouble = ""
            except Exception as error:
                reason = getattr(error, "strerror", None) or error
                self._say(f"Requests cannot be logged to {item[0]}: {reason}")

    def _say(self, trouble: str) -> None:
        """Logs a trouble when it begins, not at every request."""
        if trouble != self._trouble:
            log.error(trouble)
        self._trouble = trouble

    def _write(self, prefix: str, record: bytes) -> None:
        file = self._files.get(prefix)
        if file is None or not file.left:
            if file:
                file.stream.close()
            file = self._files[prefix] = _File(self._open(prefix))
        file.left -= 1
        file.stream.write(records.framed(record))
        file.stream.flush()

    def _open(self, prefix: str) -> IO[bytes]:
        self._opened += 1
        now = time.strftime("%Y%m%dT%H%M%S")
        return open(f"{prefix}-{now}-{os.getpid()}-{self._opened:05}", "xb")


def prediction_log(served: Served) -> Any:
    """The tensorflow.serving.PredictionLog of an answer."""
    entry = message("tensorflow.serving.PredictionLog")()
    _fill_spec(entry.log_metadata.model_spec, served.spec)
    pair = getattr(entry, f"{served.kind}_log")
    _FILL[served.kind](pair, served)
    return entry


def _predict(pair: Any, served: Served) -> None:
    _fill_spec(pair.request.model_spec, served.spec)
    for alias, array in served.asked.items():
        pair.request.inputs[alias].CopyFrom(tensors.to_proto(array))
    pair.request.output_filter.extend(served.outputs)
    pair.response.CopyFrom(replies.predicted(served.spec, served.answer))


def _classify(pair: Any, served: Served) -> None:
    _fill_spec(pair.request.model_spec, served.spec)
    _fill_examples(pair.request.input, served.asked)
    pair.response.CopyFrom(replies.classified(served.spec, served.answer))


def _regress(pair: Any, served: Served) -> None:
    _fill_spec(pair.request.model_spec, served.spec)
    _fill_examples(pair.request.input, served.asked)
    pair.response.CopyFrom(replies.regressed(served.spec, served.answer))


def _multi_inference(pair: Any, served: Served) -> None:
    tasks, examples = served.asked
    for spec, method in tasks:
        task = pair.request.tasks.add(method_name=method)
        _fill_spec(task.model_spec, spec)
    _fill_examples(pair.request.input, examples)
    pair.response.CopyFrom(replies.multiple(tasks, served.answer))


_FILL: dict[str, Callable[[Any, Served], None]] = {
    "predict": _predict,
    "classify": _classify,
    "regress": _regress,
    "multi_inference": _multi_inference,
}


def _fill_spec(proto: Any, spec: ModelSpec) -> None:
    proto.name = spec.name
    proto.signature_name = spec.signature
    if spec.version is not None:
        proto.version.value = spec.version
    if spec.label is not None:
        proto.version_label = spec.label


def _fill_examples(proto: Any, examples: Sequence[bytes]) -> None:
    for serialised in examples:
        proto.example_list.examples.add().ParseFromString(serialised)
