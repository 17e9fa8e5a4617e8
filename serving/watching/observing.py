"""Every request of both faces passes here: it becomes the current call, counted and logged at its end."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from serving.errors import Code
from serving.watching import calls, metrics, tracing

_access = logging.getLogger("serving.access")
_access.propagate = False


@contextmanager
def observed(
    entrypoint: str,
    api: str,
    model: str,
    seconds: float | None,
    known: Callable[[str], bool],
    headers: Iterable[tuple[str, str | bytes]] = (),
) -> Iterator[calls.Call]:
    """The call that the context's body answers, within `seconds`. An error that leaves the body gives the
    call its status: its `code`, else INTERNAL. `known` tells whether a model of a name is served;
    `headers` may name the trace that the request belongs to.
    """
    with calls.begin(entrypoint, api, model, seconds) as call, tracing.span(call, headers):
        try:
            yield call
        except BaseException as error:
            call.status = getattr(error, "code", Code.INTERNAL) if call.status == Code.OK else call.status
            raise
        finally:
            took = time.monotonic() - call.started
            metrics.count_request(call, took, known)
            if _access.handlers:
                _access.info(_line(call, took))


def log_requests(stream: Any = None) -> None:
    """From now on writes one line of JSON per request, to standard error unless told otherwise."""
    _access.setLevel(logging.INFO)
    _access.handlers = [logging.StreamHandler(stream or sys.stderr)]


def _line(call: calls.Call, seconds: float) -> str:
    return json.dumps(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "entrypoint": call.entrypoint,
            "api": call.api,
            "model": call.model,
            "status": call.status.name,
            "milliseconds": round(seconds * 1e3, 3),
        }
    )
