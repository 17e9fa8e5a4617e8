"""What libraries say of their inner steps and is nothing to the user."""

from __future__ import annotations

import logging
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
