"""What runs together: requests that agree in signature, outputs, types and shapes share a run, by TensorFlow
Serving's BatchingParameters. What is not batched waits its turn (serving/models/turns.py).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import Code, ServingError, invalid
from serving.machine import cores
from serving.models.choosing import choice_of
from serving.models.config import read_batching
from serving.models.turns import Arrays, Gates, Load, gated, result_of
from serving.runtimes import Runtime
from serving.watching import calls, metrics

PER_MODEL_FILE = "batching_params.pbtxt"
LATE = "Run() timeout exceeded while waiting in batching queue"


@dataclass(frozen=True)
class Batching:
    """TensorFlow Serving's BatchingParameters, its defaults filled in; `timeout` in seconds.

    `run_size` is max_execution_batch_size: the rows of one run, which a larger request is split into.
    """

    max_batch_size: int = 1000
    timeout: float = 0.0
    max_enqueued_batches: int = 10
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    split: bool = False
    run_size: int = 1000

    @classmethod
    def from_proto(cls, proto: Any) -> "Batching":
        """Of a BatchingParameters message; INVALID_ARGUMENT for values that contradict each other."""
        size = _value(proto, "max_batch_size", 1000)
        split = _value(proto, "enable_large_batch_splitting", False)
        run_size = _value(proto, "max_execution_batch_size", 0) if split else 0
        parameters = cls(
            max_batch_size=size,
            timeout=_value(proto, "batch_timeout_micros", 0) / 1e6,
            max_enqueued_batches=_value(proto, "max_enqueued_batches", 10),
            allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
            pad_variable_length_inputs=proto.pad_variable_length_inputs,
            split=split,
            run_size=run_size or size,
        )
        return _checked(parameters)

    def padded(self, rows: int) -> int:
        """The smallest allowed size that holds so many rows."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows) if rows else 0


def threads(proto: Any) -> int:
    """num_batch_threads of a BatchingParameters message; by default the cores."""
    return max(1, _value(proto, "num_batch_threads", cores()))


def _value(proto: Any, name: str, default: Any) -> Any:
    return getattr(proto, name).value if proto.HasField(name) else default


def _checked(parameters: Batching) -> Batching:
    for name in ("max_batch_size", "max_enqueued_batches", "run_size"):
        if getattr(parameters, name) <= 0:
            raise invalid(f"{name} must be positive; was {getattr(parameters, name)}")
    if parameters.timeout < 0:
        raise invalid(f"batch_timeout_micros must be non-negative; was {round(parameters.timeout * 1e6)}")
    if parameters.run_size > parameters.max_batch_size:
        raise invalid(
            f"max_execution_batch_size must not exceed max_batch_size; was {parameters.run_size}, "
            f"max_batch_size {parameters.max_batch_size}"
        )
    sizes = parameters.allowed_batch_sizes
    if list(sizes) != sorted(set(sizes)) or (sizes and sizes[0] <= 0):
        raise invalid("allowed_batch_sizes entries must be positive and monotonically increasing")
    if sizes and sizes[-1] != parameters.run_size:
        expected = "max_execution_batch_size" if parameters.split else "max_batch_size"
        raise invalid(
            f"Last entry in allowed_batch_sizes must match {expected}; last entry was {sizes[-1]}; "
            f"expected {parameters.run_size}"
        )
    return parameters


@dataclass(frozen=True)
class Task:
    """A request, or a piece of one, that waits for its share of a batch."""

    inputs: Arrays
    rows: int
    call: calls.Call
    done: "Future[dict[str, np.ndarray]]" = field(default_factory=Future)
    queued: float = field(default_factory=time.monotonic)


@dataclass
class Batch:
    """Tasks that will run together."""

    opened: float
    tasks: list[Task] = field(default_factory=list)
    rows: int = 0
    closed: bool = False

    def add(self, task: Task) -> None:
        self.tasks.append(task)
        self.rows += task.rows


class Queue:
    """The batches of one model version, signature and set of outputs that are not yet on a thread.

    Its methods are called under the lock of the pool that it belongs to.
    """

    def __init__(self, run: Callable[[Arrays], dict[str, np.ndarray]], parameters: Batching) -> None:
        self.run = run
        self.parameters = parameters
        self.batches: deque[Batch] = deque()
        self._open: dict[object, Batch] = {}

    def add(self, key: object, task: Task) -> list[Task]:
        """The pieces that the task was queued as, one unless it had to be split; `key` is what a batch's
        tasks have in common.
        """
        limits = self.parameters
        if task.rows > limits.max_batch_size and not limits.split:
            raise invalid(
                f"Task size {task.rows} is larger than maximum input batch size {limits.max_batch_size}"
            )
        room = self._room(key)
        if task.rows <= room:
            return [self._put(key, task)]
        if limits.split:
            return self._add_split(key, task, room)
        if len(self.batches) >= limits.max_enqueued_batches:
            raise self._full(
                f"currently {len(self.batches)} batches enqueued and max_enqueued_batches is "
                f"{limits.max_enqueued_batches}"
            )
        self._close(key)
        return [self._put(key, task)]

    def pop(self, now: float) -> Batch | None:
        """The first batch that is full or has waited long enough."""
        for batch in self.batches:
            if batch.closed or batch.opened + self.parameters.timeout <= now:
                self.batches.remove(batch)
                self._open = {key: other for key, other in self._open.items() if other is not batch}
                return batch
        return None

    def due(self) -> float:
        """When the next batch has waited long enough; only while there is one."""
        return min(batch.opened for batch in self.batches) + self.parameters.timeout

    def _add_split(self, key: object, task: Task, room: int) -> list[Task]:
        limits = self.parameters
        capacity = room + (limits.max_enqueued_batches - len(self.batches)) * limits.run_size
        if task.rows > capacity:
            raise self._full(
                f"task size is {task.rows} but scheduling capacity is only {capacity} "
                f"(num_enqueued_batches={len(self.batches)}, max_enqueued_batches="
                f"{limits.max_enqueued_batches}, max_execution_batch_size={limits.run_size})"
            )
        edges = [*([room] if room else []), *range(room + limits.run_size, task.rows, limits.run_size)]
        pieces = []
        for start, end in zip([0, *edges], [*edges, task.rows], strict=True):
            inputs = {alias: array[start:end] for alias, array in task.inputs.items()}
            if end - start > self._room(key):
                self._close(key)
            pieces.append(self._put(key, Task(inputs, end - start, task.call)))
        return pieces

    def _room(self, key: object) -> int:
        return self.parameters.run_size - self._open[key].rows if key in self._open else 0

    def _put(self, key: object, task: Task) -> Task:
        batch = self._open.get(key)
        if batch is None:
            batch = self._open[key] = Batch(task.queued)
            self.batches.append(batch)
        batch.add(task)
        if batch.rows >= self.parameters.run_size:
            self._close(key)
        return task

    def _close(self, key: object) -> None:
        if key in self._open:
            self._open.pop(key).closed = True

    def _full(self, details: str) -> ServingError:
        return ServingError(
            Code.UNAVAILABLE,
            f"The batch scheduling queue to which this task was submitted is full; {details}",
        )


class Pool:
    """The threads that run batches, shared by all models; the queues take turns."""

    def __init__(self, size: int | None = None) -> None:
        self._changed = threading.Condition()
        self._busy: deque[Queue] = deque()
        for number in range(size or cores()):
            threading.Thread(target=self._work, name=f"batch_threads-{number}", daemon=True).start()

    def submit(self, queue: Queue, key: object, task: Task) -> list[Task]:
        """Queues a task; its pieces' `done` hold the outputs. Raises what Queue.add does."""
        with self._changed:
            pieces = queue.add(key, task)
            for piece in pieces:
                metrics.enter_queue(piece.call)
            if queue not in self._busy:
                self._busy.append(queue)
            self._changed.notify()
            return pieces

    def depths(self) -> dict[str, int]:
        """How many tasks wait, by model."""
        found: dict[str, int] = {}
        with self._changed:
            for task in (task for queue in self._busy for batch in queue.batches for task in batch.tasks):
                found[task.call.model] = found.get(task.call.model, 0) + 1
        return found

    def _work(self) -> None:
        while True:
            # Without a variable: a waiting thread would keep alive what it ran last, and its model with it.
            _execute(*self._next())

    def _next(self) -> tuple[Queue, Batch]:
        with self._changed:
            while True:
                now = time.monotonic()
                if found := self._take(now):
                    return found
                soonest = min((queue.due() for queue in self._busy), default=None)
                self._changed.wait(None if soonest is None else max(0.0, soonest - now))

    def _take(self, now: float) -> tuple[Queue, Batch] | None:
        """The batch whose turn it is, its queue going to the back of the line."""
        for _ in range(len(self._busy)):
            queue = self._busy.popleft()
            batch = queue.pop(now)
            if queue.batches:
                self._busy.append(queue)
            if batch:
                return queue, batch
        return None


def _execute(queue: Queue, batch: Batch) -> None:
    for task in batch.tasks:
        metrics.leave_batch_queue(task.call, time.monotonic() - task.queued)
    # Those whose deadline has passed were cancelled by their waiting callers.
    tasks = [task for task in batch.tasks if task.done.set_running_or_notify_cancel()]
    if not tasks:
        return
    try:
        results = _run_together(queue, tasks)
    except Exception as error:
        if len(tasks) > 1 and not isinstance(error, UnbatchableError):
            _run_apart(queue, tasks)
            return
        for task in tasks:
            task.done.set_exception(error)
        return
    for task, result in zip(tasks, results, strict=True):
        task.done.set_result(result)


def _run_apart(queue: Queue, tasks: Sequence[Task]) -> None:
    """One of them has made the batch fail: it fails alone, with a message about its own rows."""
    for task in tasks:
        try:
            task.done.set_result(_run_together(queue, [task])[0])
        except Exception as error:
            task.done.set_exception(error)


def _run_together(queue: Queue, tasks: Sequence[Task]) -> list[dict[str, np.ndarray]]:
    rows = sum(task.rows for task in tasks)
    size = queue.parameters.padded(rows)
    stacked = {
        alias: _stack([task.inputs[alias] for task in tasks], size - rows) for alias in tasks[0].inputs
    }
    metrics.count_batch([task.rows for task in tasks], size)
    outputs = queue.run(stacked)
    for array in outputs.values():
        _check_output(array, size)
    ends = np.cumsum([task.rows for task in tasks]).tolist()
    return [
        {alias: array[end - task.rows : end] for alias, array in outputs.items()}
        for task, end in zip(tasks, ends, strict=True)
    ]


class UnbatchableError(ServingError):
    """The model's outputs have no rows to hand out, whoever asks."""


def _check_output(array: np.ndarray, size: int) -> None:
    if not array.ndim:
        raise UnbatchableError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
    if array.shape[0] != size:
        raise UnbatchableError(
            Code.FAILED_PRECONDITION,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
            "input tensors",
        )


def _stack(parts: list[np.ndarray], extra: int) -> np.ndarray:
    """The parts below each other, shorter ones padded, then `extra` copies of the last part's first row."""
    shape = tuple(np.max([part.shape[1:] for part in parts], axis=0)) if parts[0].ndim > 1 else ()
    rows = [_lengthened(part, shape) for part in parts]
    if extra:
        rows.append(np.repeat(next(part for part in reversed(rows) if len(part))[:1], extra, axis=0))
    return _joined(rows)


def _lengthened(part: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Padded at the ends of its rows with its own first element."""
    if part.shape[1:] == shape:
        return part
    filler = part.flat[0] if part.size else np.zeros((), part.dtype)[()]
    longer = np.full((len(part), *shape), filler, part.dtype)
    longer[tuple(slice(size) for size in part.shape)] = part
    return longer


class BatchedRuntime:
    """A runtime whose callers share runs."""

    def __init__(self, runtime: Runtime, pool: Pool, parameters: Batching) -> None:
        self.name = runtime.name
        self.signatures = runtime.signatures
        self.choice = choice_of(runtime)
        self._runtime = runtime
        self._pool = pool
        self._parameters = parameters
        self._queues: dict[tuple[str, tuple[str, ...]], Queue] = {}
        self._lock = threading.Lock()

    def run(self, signature: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        call = calls.current()
        task = Task(inputs, _rows(inputs), call)
        started = time.monotonic()
        pieces = self._pool.submit(self._queue(signature, tuple(sorted(outputs))), self._key(inputs), task)
        results = [result_of(piece.done, call, Code.RESOURCE_EXHAUSTED, LATE) for piece in pieces]
        metrics.count_run(call, self.name, time.monotonic() - started)
        return {alias: _joined([result[alias] for result in results]) for alias in outputs}

    def _queue(self, signature: str, outputs: tuple[str, ...]) -> Queue:
        with self._lock:
            if (signature, outputs) not in self._queues:
                # Not by self: in a circle of references a retired version would stay in memory for a while.
                run = partial(_run, self._runtime, signature, outputs)
                self._queues[signature, outputs] = Queue(run, self._parameters)
            return self._queues[signature, outputs]

    def _key(self, inputs: Arrays) -> object:
        """What requests must have in common to share a run."""
        by_rank = self._parameters.pad_variable_length_inputs
        return tuple(
            (alias, array.dtype.str, array.ndim if by_rank else array.shape[1:])
            for alias, array in sorted(inputs.items())
        )


def _run(runtime: Runtime, signature: str, outputs: Sequence[str], inputs: Arrays) -> dict[str, np.ndarray]:
    return runtime.run(signature, inputs, outputs)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _rows(inputs: Arrays) -> int:
    if not inputs:
        raise invalid("Batching Run() must have at least one input tensor")
    if any(not array.ndim for array in inputs.values()):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    sizes = {array.shape[0] for array in inputs.values()}
    if len(sizes) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


# --- loading ------------------------------------------------------------------------------------------------


def scheduled(load: Load, proto: Any = None, per_model: bool = False) -> Load:
    """Loads versions whose requests are batched by `proto`, a BatchingParameters message, if it is given; by
    the version's own file if `per_model`; else they wait their turn.
    """
    if per_model:
        return batched_by_file(load, Pool(threads(proto) if proto else None), Gates())
    return batched(load, Pool(threads(proto)), proto) if proto else gated(load, Gates())


def batched(load: Load, pool: Pool, proto: Any) -> Load:
    """Loads versions whose requests are batched by one set of parameters."""

    def batched_load(path: Path) -> Runtime:
        parameters = Batching.from_proto(proto)
        return BatchedRuntime(load(path), pool, parameters)

    return batched_load


def batched_by_file(load: Load, pool: Pool, gates: Gates) -> Load:
    """Batches the versions whose folder holds batching_params.pbtxt; the others wait their turn."""
    load_gated = gated(load, gates)

    def load_by_file(path: Path) -> Runtime:
        file = path / PER_MODEL_FILE
        if not file.is_file():
            return load_gated(path)
        parameters = Batching.from_proto(read_batching(file))
        return BatchedRuntime(load(path), pool, parameters)

    return load_by_file
