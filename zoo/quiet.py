"""What libraries say that is nothing to the user, or tell their makers of him."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def heard_only(wanted: Callable[[logging.LogRecord], bool], loggers: Iterable[str]) -> Iterator[None]:
    """Of these loggers, meanwhile, the records that are wanted. A filter, because libraries set their
    loggers' levels themselves.
    """

    def passes(record: logging.LogRecord) -> bool:  # a filter of its own: one may stand in another
        return wanted(record)

    filtered = [logging.getLogger(name) for name in loggers]
    for logger in filtered:
        logger.addFilter(passes)
    try:
        yield
    finally:
        for logger in filtered:
            logger.removeFilter(passes)


@contextmanager
def several_networks() -> Iterator[None]:
    """TensorFlow takes the steps of all of Keras's networks for one function, and warns that it is traced
    again and again: not so meanwhile.
    """
    with heard_only(lambda record: "retracing" not in record.getMessage(), ("tensorflow",)):
        yield


def untold() -> None:
    """Nobody is told what runs here: to be called before ONNX Runtime and OpenVINO are imported.

    ORT_DISABLE_TELEMETRY=0 lets the former. The latter asks nobody, and does without the package by which it
    tells.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
