"""The call under way: which face asks for what, and by when. The layers below read it where they count, log
and wait.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from serving.errors import Code


@dataclass
class Call:
    """One request: `entrypoint` is GRPC or REST, `api` as the face names it ("" for a status or metadata
    read), `deadline` a time.monotonic().
    """

    entrypoint: str = ""
    api: str = ""
    model: str = ""
    deadline: float = math.inf
    status: Code = Code.OK
    started: float = field(default_factory=time.monotonic)

    def limit(self, seconds: float) -> None:
        """From now on it may take so many seconds."""
        self.deadline = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds until the deadline, 0 when it has passed."""
        return max(0.0, self.deadline - time.monotonic())


_current: ContextVar[Call] = ContextVar("call")


def current() -> Call:
    """The call of this thread; an anonymous one without a deadline where none began, as in a warm-up."""
    return _current.get(None) or Call()


@contextmanager
def begin(entrypoint: str, api: str, model: str, seconds: float | None = None) -> Iterator[Call]:
    """Makes a call the current one of this thread; it may take `seconds`. The face sets its status."""
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    token = _current.set(call := Call(entrypoint, api, model, deadline))
    try:
        yield call
    finally:
        _current.reset(token)
