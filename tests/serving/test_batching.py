"""Who runs next and what runs together, by runtimes that tell what they were given."""

import gc
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from serving.errors import Code, ServingError, invalid
from serving.machine import cores
from serving.models import turns
from serving.models.batching import (
    BatchedRuntime,
    Batching,
    Pool,
    batched,
    batched_by_file,
    threads,
)
from serving.models.config import parse
from serving.models.turns import Gate, GatedRuntime, Gates
from serving.runtimes import Signature, load
from serving.watching import calls

Inputs = Mapping[str, np.ndarray]


class Doubler:
    """y = 2x; runs only while its gate is open, remembers each batch, and refuses rows that hold 13."""

    name = "doubler"
    signatures: Mapping[str, Signature] = {}

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.started = threading.Semaphore(0)
        self.seen: list[np.ndarray] = []
        self.threads: list[int] = []

    def run(self, signature: str, inputs: Inputs, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        self.started.release()
        assert self.open.wait(60)
        self.seen.append(inputs["x"])
        self.threads.append(threading.get_ident())
        if (inputs["x"] == 13).any():
            raise invalid(f"row {int(np.argwhere(inputs['x'] == 13)[0][0])} is 13")
        results = {
            "y": inputs["x"] * 2,
            "scalar": np.float32(1),
            "half": inputs["x"][: len(inputs["x"]) // 2],
        }
        return {alias: np.asarray(results[alias]) for alias in outputs}


@pytest.fixture
def doubler() -> Iterator[Doubler]:
    runtime = Doubler()
    yield runtime
    runtime.open.set()


@pytest.fixture
def together() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as executor:
        yield executor


def parameters(text: str) -> Batching:
    return Batching.from_proto(parse(text, "BatchingParameters"))


def row(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array([values], np.float32)}


class Batched:
    """A batched doubler whose thread is busy until `go`, so that what is asked meanwhile forms batches."""

    def __init__(self, doubler: Doubler, executor: ThreadPoolExecutor, text: str) -> None:
        self.doubler = doubler
        self.executor = executor
        self.pool = Pool(1)
        self.runtime = BatchedRuntime(doubler, self.pool, parameters(text))
        doubler.open.clear()
        self.ask({"x": np.zeros((1, 1), "u1")})
        assert doubler.started.acquire(timeout=60)

    def ask(
        self, inputs: Inputs, output: str = "y", seconds: float = 60, queued: int | None = None
    ) -> "Future[np.ndarray]":
        """Asks in another thread; returns once `queued` tasks wait, if given."""

        def run() -> np.ndarray:
            with calls.begin("GRPC", "Predict", "m", seconds):
                return self.runtime.run("s", inputs, [output])[output]

        future = self.executor.submit(run)
        while queued is not None and self.pool.depths().get("m", 0) < queued and not future.done():
            os.sched_yield()
        return future

    def go(self) -> list[np.ndarray]:
        """Lets all run; the batches that were."""
        self.doubler.open.set()
        return self.doubler.seen


@pytest.fixture
def busy(doubler: Doubler, together: ThreadPoolExecutor) -> Iterator[Callable[[str], Batched]]:
    yield lambda text: Batched(doubler, together, text)
    doubler.open.set()


def message(future: "Future[Any]") -> tuple[Code, str]:
    error = future.exception(60)
    assert isinstance(error, ServingError), error
    return error.code, error.message


# --- batches --------------------------------------------------------------------------------------------


def test_waiting_requests_share_a_run_and_get_their_own_rows(busy: Callable[[str], Batched]) -> None:
    batch = busy("max_batch_size { value: 4 }")
    asked = [batch.ask(row(i), queued=i + 1) for i in range(3)]
    seen = batch.go()
    assert [future.result(60).tolist() for future in asked] == [[[0]], [[2]], [[4]]]
    assert seen[1].tolist() == [[0], [1], [2]]


def test_types_shapes_and_outputs_do_not_mix(busy: Callable[[str], Batched]) -> None:
    batch = busy("max_batch_size { value: 8 } num_batch_threads { value: 1 }")
    kinds = [row(1), row(1, 2), {"x": np.ones((1, 1), np.int32)}, row(3), row(4, 5)]
    asked = [batch.ask(inputs, queued=i + 1) for i, inputs in enumerate(kinds)]
    seen = batch.go()
    for inputs, future in zip(kinds, asked, strict=True):
        np.testing.assert_array_equal(future.result(60), inputs["x"] * 2)
    assert sorted(array.shape for array in seen[1:]) == [(1, 1), (2, 1), (2, 2)]


def test_a_bad_request_fails_alone_and_reads_of_its_own_rows(busy: Callable[[str], Batched]) -> None:
    batch = busy("max_batch_size { value: 8 }")
    asked = [batch.ask(row(value), queued=i + 1) for i, value in enumerate((1, 13, 2))]
    batch.go()
    assert message(asked[1]) == (Code.INVALID_ARGUMENT, "row 0 is 13")
    assert [asked[0].result(60).item(), asked[2].result(60).item()] == [2, 4]


def test_batches_are_padded_to_the_next_allowed_size(busy: Callable[[str], Batched]) -> None:
    batch = busy("max_batch_size { value: 8 } allowed_batch_sizes: [2, 4, 8]")
    asked = [batch.ask(row(i), queued=i + 1) for i in range(3)]
    seen = batch.go()
    assert [future.result(60).tolist() for future in asked] == [[[0]], [[2]], [[4]]]
    assert seen[1].tolist() == [[0], [1], [2], [2]]


def test_variable_lengths_are_padded_by_the_first_element(busy: Callable[[str], Batched]) -> None:
    batch = busy("max_batch_size { value: 8 } pad_variable_length_inputs: true")
    asked = [batch.ask(row(5, 6, 7), queued=1), batch.ask(row(9), queued=2), batch.ask(row(1, 2), queued=3)]
    seen = batch.go()
    assert asked[1].result(60).tolist() == [[18, 18, 18]]
    assert seen[1].tolist() == [[5, 6, 7], [9, 9, 9], [1, 2, 1]]


def test_a_large_request_is_split_and_joined(busy: Callable[[str], Batched]) -> None:
    batch = busy(
        "max_batch_size { value: 8 } max_execution_batch_size { value: 3 } "
        "enable_large_batch_splitting { value: true }"
    )
    one = batch.ask(row(100), queued=1)
    many = batch.ask({"x": np.arange(7, dtype="f4")[:, None]}, queued=4)
    seen = batch.go()
    assert many.result(60)[:, 0].tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert one.result(60).item() == 200
    assert [len(array) for array in seen[1:]] == [3, 3, 2]


def test_a_split_request_without_room_is_refused_whole(busy: Callable[[str], Batched]) -> None:
    batch = busy(
        "max_batch_size { value: 8 } max_execution_batch_size { value: 3 } max_enqueued_batches { value: 2 } "
        "enable_large_batch_splitting { value: true }"
    )
    waiting = batch.ask({"x": np.ones((2, 1), "f4")}, queued=1)
    code, text = message(batch.ask({"x": np.ones((5, 1), "f4")}))
    assert code == Code.UNAVAILABLE
    assert "is full; task size is 5 but scheduling capacity is only 4 (num_enqueued_batches=1" in text
    batch.go()
    assert waiting.result(60).shape == (2, 1)


def test_a_full_queue_answers_unavailable_at_once(busy: Callable[[str], Batched]) -> None:
    batch = busy("max_batch_size { value: 2 } max_enqueued_batches { value: 2 }")
    asked = [batch.ask(row(i), queued=i + 1) for i in range(4)]
    assert message(batch.ask(row(9))) == (
        Code.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued "
        "and max_enqueued_batches is 2",
    )
    batch.go()
    assert [future.result(60).item() for future in asked] == [0, 2, 4, 6]


def test_a_request_larger_than_a_batch_is_refused(busy: Callable[[str], Batched]) -> None:
    batch = busy("max_batch_size { value: 32 }")
    assert message(batch.ask({"x": np.ones((50, 1), "f4")})) == (
        Code.INVALID_ARGUMENT,
        "Task size 50 is larger than maximum input batch size 32",
    )


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "must have at least one input tensor"),
        ({"x": np.float32(1)}, "input tensors must have at least one dimension"),
        ({"x": np.ones(2), "z": np.ones(3)}, "input tensors must have equal 0th-dimension size"),
    ],
)
def test_inputs_without_rows_are_refused(busy: Callable[[str], Batched], inputs: Inputs, text: str) -> None:
    batch = busy("")
    arrays = {alias: np.asarray(value) for alias, value in inputs.items()}
    assert message(batch.ask(arrays)) == (Code.INVALID_ARGUMENT, f"Batching Run() {text}")


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("scalar", "Batched output tensor has 0 dimensions"),
        ("half", "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes"),
    ],
)
def test_outputs_without_rows_are_refused(busy: Callable[[str], Batched], output: str, text: str) -> None:
    batch = busy("")
    future = batch.ask(row(1), output, queued=1)
    batch.go()
    code, found = message(future)
    assert code == Code.FAILED_PRECONDITION
    assert found.startswith(text)


def test_who_waits_too_long_is_told_and_not_run(busy: Callable[[str], Batched]) -> None:
    batch = busy("max_batch_size { value: 8 }")
    late = batch.ask(row(1), seconds=0.02)
    assert message(late) == (
        Code.RESOURCE_EXHAUSTED,
        "Run() timeout exceeded while waiting in batching queue",
    )
    patient = batch.ask(row(2))
    seen = batch.go()
    assert patient.result(60).item() == 4
    assert seen[1].tolist() == [[2]]


def test_a_run_that_outlasts_the_deadline(busy: Callable[[str], Batched], doubler: Doubler) -> None:
    batch = busy("")
    batch.go()
    batch.ask(row(1)).result(60)
    doubler.open.clear()
    assert message(batch.ask(row(2), seconds=0.05)) == (
        Code.DEADLINE_EXCEEDED,
        "Deadline exceeded while the model ran",
    )


def test_a_batch_waits_for_company_as_long_as_it_was_told(
    doubler: Doubler, together: ThreadPoolExecutor
) -> None:
    waits = parameters("max_batch_size { value: 3 } batch_timeout_micros { value: 60000000 }")
    runtime = BatchedRuntime(doubler, Pool(1), waits)
    asked = [together.submit(runtime.run, "s", row(i), ["y"]) for i in range(3)]
    assert [future.result(30)["y"].item() for future in asked] == [0, 2, 4]
    assert [len(array) for array in doubler.seen] == [3]
    soon = parameters("batch_timeout_micros { value: 1000 }")
    assert BatchedRuntime(doubler, Pool(1), soon).run("s", row(4), ["y"])["y"].item() == 8


def test_a_version_is_freed_with_its_last_reference() -> None:
    pool, doubler = Pool(2), Doubler()
    alive = weakref.ref(doubler)
    runtime = BatchedRuntime(doubler, pool, parameters("batch_timeout_micros { value: 2000 }"))
    assert runtime.run("s", row(1), ["y"])["y"].item() == 2
    gc.disable()
    try:
        del runtime, doubler
        end = time.monotonic() + 60
        while alive() is not None:
            assert time.monotonic() < end, gc.get_referrers(alive())
            os.sched_yield()
    finally:
        gc.enable()


def test_an_empty_request_passes(doubler: Doubler) -> None:
    padded = parameters("max_batch_size { value: 4 } allowed_batch_sizes: 4")
    found = BatchedRuntime(doubler, Pool(1), padded).run("s", {"x": np.ones((0, 2), "f4")}, ["y"])
    assert found["y"].shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        (
            "max_batch_size { value: 4 } allowed_batch_sizes: [2, 2, 4]",
            "allowed_batch_sizes entries must be positive and monotonically increasing",
        ),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("batch_timeout_micros { value: -5 }", "batch_timeout_micros must be non-negative; was -5"),
        (
            "max_batch_size { value: 4 } max_execution_batch_size { value: 8 } "
            "enable_large_batch_splitting { value: true }",
            "max_execution_batch_size must not exceed max_batch_size; was 8, max_batch_size 4",
        ),
    ],
)
def test_parameters_that_contradict_each_other(text: str, wrong: str) -> None:
    with pytest.raises(ServingError) as caught:
        parameters(text)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, wrong)


def test_parameters_default_as_upstream() -> None:
    assert parameters("") == Batching(1000, 0.0, 10, (), False, False, 1000)
    proto = parse("num_batch_threads { value: 3 }", "BatchingParameters")
    assert threads(proto) == 3


# --- files ----------------------------------------------------------------------------------------------


@pytest.fixture
def add(tmp_path: Path, publish: Callable[..., None], add_model: Callable[..., onnx.ModelProto]) -> Path:
    publish(tmp_path / "add", 1, add_model(), labels=None)
    return tmp_path / "add" / "1"


def ask_add(runtime: Any, b: int) -> dict[str, np.ndarray]:
    inputs = {"a": np.ones((1, 2), "f4"), "b": np.full((1, b), 2, "f4"), "text": np.array([b"x"], object)}
    return runtime.run("serving_default", inputs, ["total", "text_bytes"])


def test_a_versions_own_file_batches_it(add: Path) -> None:
    by_file = batched_by_file(load, Pool(1), Gates())
    assert isinstance(by_file(add), GatedRuntime)
    (add / "batching_params.pbtxt").write_text("max_batch_size { value: 4 }")
    runtime = by_file(add)
    assert isinstance(runtime, BatchedRuntime)
    assert ask_add(runtime, 2)["total"].tolist() == [[3, 3]]
    with pytest.raises(ServingError, match=r'Input "b" must be float \[\?, 2\], got float \[1, 3\]'):
        ask_add(runtime, 3)
    (add / "batching_params.pbtxt").write_text("max_batch_size { value: ")
    with pytest.raises(ServingError, match=r"Invalid protobuf file: '.*batching_params\.pbtxt'"):
        by_file(add)


def test_wrong_parameters_fail_the_load(add: Path) -> None:
    proto = parse("allowed_batch_sizes: [4]", "BatchingParameters")
    with pytest.raises(ServingError, match="last entry was 4; expected 1000"):
        batched(load, Pool(1), proto)(add)


# --- one at a time --------------------------------------------------------------------------------------


class Gated:
    """A gated doubler of width 1 that is busy until `go`."""

    def __init__(self, doubler: Doubler, executor: ThreadPoolExecutor, limit: int) -> None:
        self.gate = Gate(1, limit)
        self.doubler = doubler
        self.executor = executor
        self.runtime = GatedRuntime(doubler, self.gate)
        doubler.open.clear()
        self.first = self.ask(0)
        assert doubler.started.acquire(timeout=60)

    def ask(
        self, value: float, model: str = "m", seconds: float = math.inf, queued: int | None = None
    ) -> "Future[Any]":
        def run() -> Any:
            with calls.begin("GRPC", "Predict", model, None if seconds == math.inf else seconds):
                return self.runtime.run("s", row(value), ["y"])["y"].item()

        future = self.executor.submit(run)
        while queued is not None and sum(self.gate.depths().values()) < queued:
            os.sched_yield()
        return future


@pytest.fixture
def gated(doubler: Doubler, together: ThreadPoolExecutor) -> Iterator[Callable[[int], Gated]]:
    yield lambda limit: Gated(doubler, together, limit)
    doubler.open.set()


def test_requests_are_served_in_order_and_models_in_turn(gated: Callable[[int], Gated]) -> None:
    one = gated(10)
    asked = [one.ask(value, "m", queued=value) for value in (1, 2, 3)]
    asked += [one.ask(value, "other", queued=value) for value in (4, 5)]
    one.doubler.open.set()
    assert [future.result(60) for future in asked] == [2, 4, 6, 8, 10]
    assert [array.item() for array in one.doubler.seen] == [0, 1, 4, 2, 5, 3]


def test_those_who_wait_are_run_by_one_thread(gated: Callable[[int], Gated]) -> None:
    one = gated(10)
    asked = [one.ask(value, queued=value) for value in (1, 2, 3, 4)]
    one.doubler.open.set()
    assert [future.result(60) for future in asked] == [2, 4, 6, 8]
    first, *others = one.doubler.threads
    assert set(others) == {others[0]} != {first}


def test_who_fails_after_waiting_is_told_and_the_others_go_on(gated: Callable[[int], Gated]) -> None:
    one = gated(10)
    wrong, right = one.ask(13, queued=1), one.ask(2, queued=2)
    one.doubler.open.set()
    assert message(wrong) == (Code.INVALID_ARGUMENT, "row 0 is 13")
    assert right.result(60) == 4
    assert one.ask(3).result(60) == 6


def test_who_has_waited_is_answered_by_his_deadline_though_the_model_runs(
    doubler: Doubler, together: ThreadPoolExecutor
) -> None:
    gate, began, go = Gate(1), threading.Event(), threading.Event()
    runtime = GatedRuntime(doubler, gate)

    def first() -> bool:
        began.set()
        return go.wait(60)

    before = together.submit(gate.run, "m", calls.Call(), first)
    assert began.wait(60)
    doubler.open.clear()

    def ask() -> None:
        with calls.begin("GRPC", "Predict", "m", 0.5):
            runtime.run("s", row(1), ["y"])

    asked = together.submit(ask)
    while not gate.depths():
        os.sched_yield()
    go.set()
    assert before.result(60)
    assert message(asked) == (Code.DEADLINE_EXCEEDED, "Deadline exceeded while the model ran")
    assert not doubler.open.is_set()


def test_beyond_the_limit_is_unavailable_at_once_for_that_model_alone(gated: Callable[[int], Gated]) -> None:
    one = gated(2)
    asked = [one.ask(1, queued=1), one.ask(2, queued=2)]
    assert message(one.ask(3)) == (
        Code.UNAVAILABLE,
        "The server is busy: 2 requests of this model wait and 2 may",
    )
    asked.append(one.ask(4, "other", queued=3))
    one.doubler.open.set()
    assert [future.result(60) for future in asked] == [2, 4, 8]
    assert one.ask(5).result(60) == 10


class Queueing(Doubler):
    """As an engine that keeps what it has no time for in a queue of its own."""

    queues = True


@pytest.mark.parametrize(("kind", "at_once"), [(Doubler, 1), (Queueing, 3)])
def test_an_engine_that_queues_is_given_more_at_once(
    kind: type[Doubler], at_once: int, together: ThreadPoolExecutor, tmp_path: Path
) -> None:
    doubler, gates = kind(), Gates(Gate(1), Gate(3))
    doubler.open.clear()
    runtime = turns.gated(lambda path: doubler, gates)(tmp_path)
    asked = [together.submit(runtime.run, "s", row(value), ["y"]) for value in range(5)]
    while sum(gates.of(doubler).depths().values()) < 5 - at_once:
        os.sched_yield()
    for _ in range(at_once):
        assert doubler.started.acquire(timeout=60)
    assert not doubler.started.acquire(blocking=False)
    doubler.open.set()
    assert [future.result(60)["y"].item() for future in asked] == [0, 2, 4, 6, 8]


def test_who_gives_up_waiting_leaves_the_others_their_turn(gated: Callable[[int], Gated]) -> None:
    one = gated(5)
    late = one.ask(1, seconds=0.02)
    patient = one.ask(2)
    assert message(late) == (
        Code.DEADLINE_EXCEEDED,
        "Deadline exceeded while the request waited for its turn",
    )
    one.doubler.open.set()
    assert (one.first.result(60), patient.result(60)) == (0, 4)
    assert [array.item() for array in one.doubler.seen] == [0, 2]
    assert one.gate.depths() == {}


def test_a_containers_quota_counts(tmp_path: Path) -> None:
    every = cores(tmp_path / "none")
    for text, expected in {
        "max 100000": every,
        "50000 100000": 1,
        "9000000 100000": every,
        "x": every,
    }.items():
        (tmp_path / "cpu.max").write_text(text)
        assert cores(tmp_path / "cpu.max") == expected
    assert every >= 1


def test_many_callers_never_exceed_the_width(together: ThreadPoolExecutor) -> None:
    gate, running, most = Gate(3, 1000), [], []

    def work() -> None:
        running.append(None)
        most.append(len(running))
        running.pop()

    def ask(model: int) -> None:
        gate.run(model, calls.Call(), work)

    assert len(list(together.map(ask, [i % 4 for i in range(2000)]))) == 2000
    assert max(most) <= 3
