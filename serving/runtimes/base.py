"""What an engine shows to the server: signatures, and a way to run one. Nothing here knows an engine."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np

from serving.errors import ServingError, invalid
from serving.machine import cores
from serving.wire.tensors import DType, of_array

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

QUEUED = (
    4  # runs for each core that an engine with a queue of its own is given, for no core to wait for Python
)

Arrays = Mapping[str, np.ndarray]
T = TypeVar("T")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature: its tensor's name, its type and its shape (-1 = any size, None =
    any rank).
    """

    name: str
    dtype: DType
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        shape = "of any rank" if self.shape is None else str(list(self.shape)).replace("-1", "?")
        return f"{self.dtype.name} {shape}"


@dataclass(frozen=True)
class Signature:
    """A function of a model: inputs and outputs by alias; `defaults` fill inputs a request leaves out."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = PREDICT
    defaults: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A signature and the function behind it: inputs by alias and the outputs that are asked for -> these,
    perhaps with others.
    """

    signature: Signature
    function: Callable[[Arrays, Sequence[str]], Arrays]


@dataclass(frozen=True)
class Engines:
    """How the engines are to work, and which may: `fidelity` is one of candidates.FIDELITIES. 0 threads or
    interpreters means as many as there are cores.
    """

    tags: tuple[str, ...] = ("serve",)
    fidelity: str = "exact"
    prefer_tflite: bool = False
    interpreters: int = 0
    intra_op: int = 0
    inter_op: int = 0
    bfloat16: bool = False


DEFAULT_ENGINES = Engines()


class Runtime(Protocol):
    """A loaded model version. `run` may be called from many threads at once."""

    name: str
    signatures: Mapping[str, Signature]

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """The named outputs of a signature; ServingError when the inputs do not fit it."""


def queues(runtime: object) -> bool:
    """Whether what the cores have no time for waits in the engine itself, ready to run."""
    return getattr(runtime, "queues", False)


def covers(own: Signature, wanted: Signature) -> bool:
    """Whether a signature can stand for another: the same inputs, all its outputs, of the same types."""
    inputs = {alias: spec.dtype for alias, spec in own.inputs.items()}
    outputs = {alias: spec.dtype for alias, spec in own.outputs.items()}
    return inputs == {alias: spec.dtype for alias, spec in wanted.inputs.items()} and all(
        outputs.get(alias) == spec.dtype for alias, spec in wanted.outputs.items()
    )


class OfCalls:
    """A Runtime that is a call for each signature."""

    def __init__(self, calls: Mapping[str, Call]) -> None:
        self._calls = calls
        self.signatures: Mapping[str, Signature] = {name: call.signature for name, call in calls.items()}

    def run(self, signature: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        call = self._calls[signature]
        specs = call.signature.inputs
        fitted = {alias: conform(alias, array, specs[alias]) for alias, array in inputs.items()}
        results = call.function(fitted, outputs)
        return {alias: results[alias] for alias in outputs}


class FewOrMany(Generic[T]):
    """A model in two ways: while few run, of whatever model, all cores work on one after the other; while
    half as many run as there are cores, or more, each has a core of its own.
    """

    _running: ClassVar[int] = 0
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, for_few: T, for_many: T) -> None:
        self.for_few = for_few
        self.for_many = for_many
        self._many = max(1, cores() // 2)

    @contextmanager
    def fitting(self) -> Iterator[T]:
        """The one that suits how many run now, this run not counted."""
        with FewOrMany._lock:
            found = self.for_few if FewOrMany._running < self._many else self.for_many
            FewOrMany._running += 1
        try:
            yield found
        finally:
            with FewOrMany._lock:
                FewOrMany._running -= 1


@contextmanager
def one_of(idle: "SimpleQueue[T]") -> Iterator[T]:
    """One that nobody else uses."""
    one = idle.get()
    try:
        yield one
    finally:
        idle.put(one)


def failed_on(inputs: Arrays, error: Exception) -> ServingError:
    """INVALID_ARGUMENT: an engine's error, and the sizes it had."""
    described = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
    return invalid(f"The model failed on {described}: {error}")


def conform(alias: str, array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """The array in the type that the signature declares: uint8 pictures pass as float, anything else must
    match.
    """
    if array.dtype == spec.dtype.numpy:
        return array
    picture = spec.shape is not None and len(spec.shape) == 4
    if picture and array.dtype == np.uint8 and spec.dtype.name == "float":
        return array.astype(np.float32)
    raise invalid(f'Input "{alias}" must be {spec}, got {_described(array)}')


def check_shapes(signature: Signature, inputs: Arrays) -> None:
    """INVALID_ARGUMENT that names the first input that has not the declared shape."""
    for alias, array in inputs.items():
        _check_shape(alias, array, signature.inputs[alias])


def _check_shape(alias: str, array: np.ndarray, spec: TensorSpec) -> None:
    if spec.shape is None:
        return
    sizes = zip(array.shape, spec.shape, strict=False)
    if array.ndim != len(spec.shape) or any(want not in (-1, got) for got, want in sizes):
        raise invalid(f'Input "{alias}" must be {spec}, got {_described(array)}')


def _described(array: np.ndarray) -> str:
    return f"{of_array(array).name} {list(array.shape)}"
