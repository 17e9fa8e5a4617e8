"""A span per request where OpenTelemetry is installed. Where spans go is its own configuration: run the
server by `opentelemetry-instrument`, or set a tracer provider.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from serving.errors import Code
from serving.watching.calls import Call

try:
    from opentelemetry import propagate, trace
except ImportError:
    trace = None  # type: ignore[assignment]

_NOTHING = nullcontext()


def span(call: Call, headers: Iterable[tuple[str, str | bytes]]) -> AbstractContextManager[None]:
    """The call's span, a child of the one that its gRPC metadata or HTTP headers name (W3C traceparent)."""
    # Without a configured provider a span would cost its time and reach nobody.
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return _NOTHING
    return _recorded(call, headers)


@contextmanager
def _recorded(call: Call, headers: Iterable[tuple[str, str | bytes]]) -> Iterator[None]:
    parent = propagate.extract({name: value for name, value in headers if isinstance(value, str)})
    with trace.get_tracer("serving").start_as_current_span(
        call.entrypoint,
        parent,
        trace.SpanKind.SERVER,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield
        finally:
            current.update_name(" ".join(filter(None, (call.entrypoint, call.api, call.model))))
            current.set_attributes({"serving.model": call.model, "serving.status": call.status.name})
            if call.status != Code.OK:
                current.set_status(trace.StatusCode.ERROR, call.status.name)
