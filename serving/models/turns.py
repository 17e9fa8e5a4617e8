"""Who runs next where nothing is batched: first come, first served within a model, models in turn, as many at
once as there are cores, or more where the engine has a queue of its own. A full queue answers UNAVAILABLE at
once, so that those who are let in know how long they wait.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from serving.errors import Code, ServingError
from serving.machine import cores
from serving.models.choosing import choice_of
from serving.runtimes import Runtime
from serving.runtimes.base import QUEUED, queues
from serving.watching import calls, metrics

QUEUE_LIMIT = 100  # requests of one model that may wait
CALLERS = 256  # threads of a face, made when they are needed: most of them wait here for a turn or a batch
LATE = "Deadline exceeded while the request waited for its turn"

T = TypeVar("T")
Arrays = Mapping[str, np.ndarray]
Load = Callable[[Path], Runtime]


@dataclass(frozen=True, eq=False)
class Task:
    """A request that waits for its turn."""

    call: calls.Call
    work: Callable[[], Any]
    done: "Future[Any]" = field(default_factory=Future)
    queued: float = field(default_factory=time.monotonic)


class Gate:
    """Lets `width` requests run at once; up to `limit` of a model wait, served in order, the models in
    turn.

    Who finds a turn free runs in his own thread. Those who wait are run by threads that go on while anyone
    waits: a thread woken for each turn would often be woken on the core that works while another idles, and
    a sixth of two cores was lost.
    """

    def __init__(self, width: int | None = None, limit: int = QUEUE_LIMIT) -> None:
        self._free = width or cores()
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: OrderedDict[object, deque[Task]] = OrderedDict()
        self._runners = ThreadPoolExecutor(self._free, "runner")

    def run(self, model: object, call: calls.Call, work: Callable[[], T]) -> T:
        """What `work` gives when its turn has come; UNAVAILABLE when too many wait, DEADLINE_EXCEEDED when
        time ran out.
        """
        task = self._enter(model, call, work)
        if task is None:
            try:
                return work()
            finally:
                self._pass_on()
        try:
            return result_of(task.done, call, Code.DEADLINE_EXCEEDED, LATE)
        finally:
            if task.done.cancelled():
                self._leave(model, task)

    def depths(self) -> dict[object, int]:
        """How many wait, by model."""
        with self._lock:
            return {model: len(queue) for model, queue in self._waiting.items()}

    def _enter(self, model: object, call: calls.Call, work: Callable[[], Any]) -> Task | None:
        """A task, which waits from now on; None where a turn is free, and now taken."""
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            queue = self._waiting.get(model, ())
            if len(queue) >= self._limit:
                raise ServingError(
                    Code.UNAVAILABLE,
                    f"The server is busy: {len(queue)} requests of this model wait and {self._limit} may",
                )
            task = Task(call, work)
            self._waiting.setdefault(model, deque()).append(task)
            metrics.enter_queue(call)
            return task

    def _leave(self, model: object, task: Task) -> None:
        with self._lock:
            queue = self._waiting.get(model, deque())
            if task in queue:
                queue.remove(task)
                metrics.leave_queue(task.call, time.monotonic() - task.queued)
            if not queue:
                self._waiting.pop(model, None)

    def _pass_on(self) -> None:
        if task := self._next():
            self._runners.submit(self._run_from, task)

    def _run_from(self, task: Task | None) -> None:
        """Keeps the turn for as long as anyone waits for it."""
        while task:
            _execute(task)
            task = self._next()

    def _next(self) -> Task | None:
        """Whose turn it is; None where nobody waits, and the turn is free again."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                return None
            model, queue = self._waiting.popitem(last=False)
            task = queue.popleft()
            if queue:
                self._waiting[model] = queue
            return task


def _execute(task: Task) -> None:
    metrics.leave_queue(task.call, time.monotonic() - task.queued)
    # Whose deadline has passed has cancelled it.
    if not task.done.set_running_or_notify_cancel():
        return
    try:
        result = task.work()
    except BaseException as error:
        task.done.set_exception(error)
    else:
        task.done.set_result(result)


def result_of(done: "Future[T]", call: calls.Call, code: Code, late: str) -> T:
    """What the future gives within the call's time; a ServingError of `code` and `late` where it has not
    begun by then, DEADLINE_EXCEEDED where it has.
    """
    try:
        return done.result(min(call.remaining(), threading.TIMEOUT_MAX))
    except TimeoutError as error:
        if done.cancel():
            raise ServingError(code, late) from error
        if done.done():
            return done.result()
        raise overran() from error


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

        def work() -> dict[str, np.ndarray]:
            started = time.monotonic()
            results = self._runtime.run(signature, inputs, outputs)
            metrics.count_run(call, self.name, time.monotonic() - started)
            return results

        results = self._gate.run(call.model, call, work)
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
