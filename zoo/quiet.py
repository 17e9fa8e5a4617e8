"""What TensorFlow says of its inner steps and is nothing to the user."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def several_networks() -> Iterator[None]:
    """TensorFlow takes the steps of all of Keras's networks for one function, and warns that it is traced
    again and again: not so meanwhile.
    """
    logger = logging.getLogger("tensorflow")

    def is_other(record: logging.LogRecord) -> bool:
        return "retracing" not in record.getMessage()

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
