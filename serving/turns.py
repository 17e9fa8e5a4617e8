"""Who runs next where nothing is batched: first come, first served within a model, models in turn, as many at
once as there are cores, or more where the engine has a queue of its own. A full queue answers UNAVAILABLE at
once, so that those who are let in know how long they wait.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from serving import calls, metrics
from serving.choosing import choice_of
from serving.errors import Code, ServingError
from serving.machine import cores
from serving.runtimes import Runtime
from serving.runtimes.base import QUEUED, queues

QUEUE_LIMIT = 100  # requests of one model that may wait
CALLERS = 256  # threads of a face, made when they are needed: most of them wait here for a turn or a batch

Arrays = Mapping[str, np.ndarray]
Load = Callable[[Path], Runtime]


class Gate:
    """Lets `width` requests run at once; up to `limit` of a model wait, served in order, the models in
    turn.
    """

    def __init__(self, width: int | None = None, limit: int = QUEUE_LIMIT) -> None:
        self._free = width or cores()
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: OrderedDict[object, deque[threading.Event]] = OrderedDict()

    @contextmanager
    def turn(self, model: object, call: calls.Call) -> Iterator[None]:
        """Waits for a turn and holds it; UNAVAILABLE when too many wait, DEADLINE_EXCEEDED when time ran
        out.
        """
        self._enter(model, call)
        try:
            yield
        finally:
            self._pass_on()

    def depths(self) -> dict[object, int]:
        """How many wait, by model."""
        with self._lock:
            return {model: len(queue) for model, queue in self._waiting.items()}

    def _enter(self, model: object, call: calls.Call) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            queue = self._waiting.get(model, ())
            if len(queue) >= self._limit:
                raise ServingError(
                    Code.UNAVAILABLE,
                    f"The server is busy: {len(queue)} requests of this model wait and {self._limit} may",
                )
            ticket = threading.Event()
            self._waiting.setdefault(model, deque()).append(ticket)
        with metrics.waiting(call):
            if not ticket.wait(min(call.remaining(), threading.TIMEOUT_MAX)):
                self._give_up(model, ticket)

    def _give_up(self, model: object, ticket: threading.Event) -> None:
        with self._lock:
            called = ticket.is_set()
            if not called:
                self._waiting[model].remove(ticket)
                if not self._waiting[model]:
                    del self._waiting[model]
        if called:
            self._pass_on()
        raise ServingError(Code.DEADLINE_EXCEEDED, "Deadline exceeded while the request waited for its turn")

    def _pass_on(self) -> None:
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            model, queue = self._waiting.popitem(last=False)
            queue.popleft().set()
            if queue:
                self._waiting[model] = queue


@dataclass(frozen=True)
class Gates:
    """For the engines that run at once what they are given, and for those that queue it."""

    narrow: Gate = field(default_factory=Gate)
    wide: Gate = field(default_factory=lambda: Gate(QUEUED * cores()))

    def of(self, runtime: Runtime) -> Gate:
        return self.wide if queues(runtime) else self.narrow


class GatedRuntime:
    """A runtime whose callers wait their turn."""

    def __init__(self, runtime: Runtime, gate: Gate) -> None:
        self.name = runtime.name
        self.signatures = runtime.signatures
        self.choice = choice_of(runtime)
        self._runtime = runtime
        self._gate = gate

    def run(self, signature: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        call = calls.current()
        with self._gate.turn(call.model, call), metrics.running(call, self.name):
            results = self._runtime.run(signature, inputs, outputs)
        if not call.remaining():
            raise overran()
        return results


def overran() -> ServingError:
    """Of a call whose time ran out while its model ran."""
    return ServingError(Code.DEADLINE_EXCEEDED, "Deadline exceeded while the model ran")


def gated(load: Load, gates: Gates) -> Load:
    """Loads versions whose requests wait their turn."""

    def gated_load(path: Path) -> Runtime:
        runtime = load(path)
        return GatedRuntime(runtime, gates.of(runtime))

    return gated_load
