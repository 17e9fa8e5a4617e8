"""How fast and how faithful each candidate of a version is: all answer the version's warm-up requests.

A process of its own, `python -m serving.models.measuring QUESTION`: engines that are not chosen, TensorFlow
above all, leave nothing in the server's memory, and one that crashes does not end it.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import Code, ServingError
from serving.machine import cores
from serving.models import inference, warmup
from serving.models.inference import DEFAULT_SIGNATURE, Arrays, Feed
from serving.runtimes import FIDELITIES, Candidate, Runtime, Signature, TensorSpec, pictures, start
from serving.runtimes.base import Engines, covers
from serving.runtimes.candidates import SAVED_MODEL
from serving.runtimes.tensorflow import read_signatures
from serving.wire import requests, tensors

PROBES = 8
ROUNDS = 30
RECORDED = "the recorded replies"


@dataclass(frozen=True)
class Measured:
    """milliseconds: for one picture (one row of the requests), the mean of what a caller alone waits and of
    what it takes with a caller for each core; difference: the largest from the reference's
    numbers, relative to their largest or to 1; cosine: the least, of a row of numbers. None, and a `trouble`,
    where there is no such figure.
    """

    candidate: Candidate
    milliseconds: float | None = None
    difference: float | None = None
    cosine: float | None = None
    trouble: str = ""

    def agrees(self, fidelity: str) -> bool:
        """Whether its numbers are as near to the reference's as the fidelity asks."""
        limits = FIDELITIES[fidelity]
        if self.difference is None or self.cosine is None:
            return False
        near = limits.difference is None or self.difference <= limits.difference
        return near and (limits.cosine is None or self.cosine >= limits.cosine)


@dataclass(frozen=True)
class Report:
    """What was measured, in the candidates' order; `reference`: whose numbers the others were held against,
    "" when there was nothing to ask or nobody to answer.
    """

    reference: str
    measured: tuple[Measured, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Report":
        found = json.loads(text)
        measured = (m | {"candidate": Candidate(**m["candidate"])} for m in found["measured"])
        return cls(found["reference"], tuple(Measured(**m) for m in measured))


@dataclass(frozen=True)
class Question:
    """The candidates of a version, how their engines work, and the seconds that all their runs may take."""

    version_dir: str
    candidates: tuple[Candidate, ...]
    engines: Engines
    seconds: float

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Question":
        found = json.loads(text)
        engines = found["engines"] | {"tags": tuple(found["engines"]["tags"])}
        candidates = tuple(Candidate(**candidate) for candidate in found["candidates"])
        return cls(found["version_dir"], candidates, Engines(**engines), found["seconds"])


def main() -> None:
    """Prints the number of each candidate before it is measured, the Report at the end."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    # What the engines print is not the answer.
    os.dup2(2, 1)
    question = Question.from_json(sys.argv[1])
    report = measure(question, lambda candidate: out.write(f"{question.candidates.index(candidate)}\n"))
    out.write(f"{report.to_json()}\n")


# --- the requests -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """A request: `feed` reads its arrays once the signature is known; `reply`: the one that was recorded."""

    signature: str
    feed: Feed
    outputs: Sequence[str] = ()
    reply: Arrays | None = None


def probes(version_dir: Path, signatures: Mapping[str, Signature]) -> list[Probe]:
    """The first of the version's warm-up requests; without such a file, generated ones of the signatures."""
    with suppress(ServingError, OSError):
        found = (probe for entry in warmup.entries(version_dir) if (probe := _recorded(entry)))
        if recorded := list(islice(found, PROBES)):
            return recorded
    return list(_generated(version_dir, signatures))


def _recorded(entry: Any) -> Probe | None:
    kind = entry.WhichOneof("log_type")
    if kind == "predict_log":
        request, response = entry.predict_log.request, entry.predict_log.response
        reply = {alias: tensors.to_array(proto, alias) for alias, proto in response.outputs.items()}
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        return Probe(name, requests.feed(request.inputs), request.output_filter, reply or None)
    if kind in ("classify_log", "regress_log"):
        request = getattr(entry, kind).request
        examples = np.array(requests.examples(request.input), object)
        return Probe(request.model_spec.signature_name or DEFAULT_SIGNATURE, _given({"inputs": examples}))
    return None


def _generated(version_dir: Path, signatures: Mapping[str, Signature]) -> Iterator[Probe]:
    """For the signatures of numbers whose sizes are known but for the first, which becomes 1."""
    card = version_dir / pictures.FILE
    size = pictures.Card.read(card).preprocessing.input_size if card.is_file() else (-1, -1)
    for name, signature in signatures.items():
        shapes = {alias: _shape(spec, size) for alias, spec in signature.inputs.items()}
        if shapes and all(shapes.values()):
            arrays = {a: _array(signature.inputs[a], shape) for a, shape in shapes.items() if shape}
            yield Probe(name, _given(arrays))


def _given(arrays: Arrays) -> Feed:
    return lambda signature: arrays


def _shape(spec: TensorSpec, size: tuple[int, int]) -> tuple[int, ...] | None:
    if not spec.shape or spec.dtype.name not in ("float", "uint8"):
        return None
    height_width = size if len(spec.shape) == 4 else ()
    known = [
        default if n == -1 else n for n, default in zip(spec.shape, (1, *height_width, -1), strict=False)
    ]
    shape = (*known, *spec.shape[len(known) :])
    return None if -1 in shape else shape


def _array(spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    """0..255 for what may be pictures, else around 0."""
    rng = np.random.default_rng(0)
    picture = len(shape) == 4 or spec.dtype.name == "uint8"
    numbers = rng.uniform(0, 255, shape) if picture else rng.normal(size=shape)
    return numbers.astype(spec.dtype.numpy)


# --- the runs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """To one probe: its seconds, for so many rows, None where others tell more of the engine; `numeric`: no
    pictures had to be decoded.
    """

    seconds: float | None
    rows: int
    numeric: bool
    reply: Arrays


Answers = Mapping[int, Answer]  # by the probe's number
Runs = dict[Candidate, Answers | str]  # or what went wrong
Replies = Mapping[int, Arrays]
Begin = Callable[[Candidate], object]


def measure(question: Question, begin: Begin = lambda candidate: None) -> Report:
    """Every candidate on the same probes; `begin` hears of each before it is loaded.

    The reference is the recorded replies, if a float32 file gives them; then the SavedModel is neither loaded
    nor measured. Else it is the SavedModel, or without one the first candidate that answers.
    """
    version_dir, engines = Path(question.version_dir), question.engines
    saved = saved_signatures(version_dir, engines.tags)
    asked = dict(enumerate(probes(version_dir, saved or _first_signatures(question, begin))))
    if not asked:
        return Report("", ())
    share = question.seconds / len(question.candidates)

    def run(candidates: Iterable[Candidate], asked: Mapping[int, Probe]) -> Runs:
        found: dict[Candidate, Answers | str] = {}
        for candidate in candidates:
            begin(candidate)
            try:
                found[candidate] = _answers(start(candidate, version_dir, engines), asked, saved, share)
            except Exception as error:
                found[candidate] = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        return found

    runs = run((candidate for candidate in question.candidates if candidate.file != SAVED_MODEL), asked)
    replies: Replies = {i: probe.reply for i, probe in asked.items() if probe.reply}
    reference = RECORDED
    if not _is_given(replies, runs):
        # What the SavedModel alone answers is nobody's loss.
        common = {i: asked[i] for i in _answered(runs)} or asked
        saved_model = (candidate for candidate in question.candidates if candidate.file == SAVED_MODEL)
        runs = run(saved_model, common) | runs
        reference, replies = _reference(runs)
    return Report(reference, tuple(_measured(candidate, runs, replies) for candidate in question.candidates))


def saved_signatures(version_dir: Path, tags: Sequence[str]) -> Mapping[str, Signature]:
    """Those of the version's SavedModel that can be called; none where it has none, or one that is broken."""
    with suppress(ServingError):
        return {
            name: signature
            for name, signature in read_signatures(version_dir, tags).items()
            if not name.startswith("__")
        }
    return {}


def _first_signatures(question: Question, begin: Begin) -> Mapping[str, Signature]:
    for candidate in question.candidates:
        begin(candidate)
        with suppress(Exception):
            return start(candidate, Path(question.version_dir), question.engines).signatures
    return {}


def _answers(
    runtime: Runtime, asked: Mapping[int, Probe], saved: Mapping[str, Signature], seconds: float
) -> Answers:
    """To the probes of the signatures that it has as the SavedModel has them; in turns, for so long: half of
    the time by one caller, half by as many as there are cores.
    """
    own = {name for name, s in runtime.signatures.items() if name not in saved or covers(s, saved[name])}
    known = {i: probe for i, probe in asked.items() if probe.signature in own}
    inputs = {i: list(probe.feed(runtime.signatures[probe.signature]).values()) for i, probe in known.items()}
    numeric = {i for i in known if all(array.dtype != object for array in inputs[i])}
    replies = {i: _ask(runtime, probe) for i, probe in known.items()}
    # Decoding takes longer than a small network and says nothing of the engine.
    timed = {i: known[i] for i in known if i in numeric} or known
    alone = _alone(runtime, timed, seconds / 2)
    # What a turn of all probes takes longer, or less, falls on each alike.
    crowded = _crowded(runtime, timed, seconds / 2) / sum(alone.values()) if timed else 1.0
    return {
        i: Answer(
            alone[i] * (1 + crowded) / 2 if i in timed else None,
            max(1, len(inputs[i][0]) if inputs[i] and inputs[i][0].ndim else 1),
            i in numeric,
            replies[i],
        )
        for i in known
    }


def _alone(runtime: Runtime, known: Mapping[int, Probe], seconds: float) -> dict[int, float]:
    """The median seconds of each probe, asked one after the other."""
    times: dict[int, list[float]] = {i: [] for i in known}
    end = time.perf_counter() + seconds
    for turn in range(ROUNDS):
        if turn and time.perf_counter() > end:
            break
        for i, probe in known.items():
            begun = time.perf_counter()
            _ask(runtime, probe)
            times[i].append(time.perf_counter() - begun)
    return {i: statistics.median(taken) for i, taken in times.items()}


def _crowded(runtime: Runtime, known: Mapping[int, Probe], seconds: float) -> float:
    """The seconds in which a turn of all probes is done, where as many callers ask as there are cores."""

    def turns(_: int) -> int:
        for turn in range(ROUNDS):
            if turn and time.perf_counter() > end:
                return turn
            for probe in known.values():
                _ask(runtime, probe)
        return ROUNDS

    with ThreadPoolExecutor(cores()) as callers:
        # Once for nothing: what an engine makes for its first crowd is not measured.
        end = time.perf_counter()
        list(callers.map(turns, range(cores())))
        begun = time.perf_counter()
        end = begun + seconds
        done = sum(callers.map(turns, range(cores())))
    return (time.perf_counter() - begun) / done


def _ask(runtime: Runtime, probe: Probe) -> Arrays:
    return inference.predict(runtime, probe.signature, probe.feed, probe.outputs)


# --- the comparison -----------------------------------------------------------------------------------------


def _is_given(recorded: Replies, runs: Runs) -> bool:
    """Whether a float32 candidate gives the recorded replies, which may be those of another model: a request
    log's.
    """
    return bool(recorded) and any(
        _measured(candidate, runs, recorded).agrees("exact")
        for candidate in runs
        if candidate.precision == "f32"
    )


def _reference(runs: Runs) -> tuple[str, Replies]:
    """The first that answered, and its replies."""
    for candidate, answers in runs.items():
        if not isinstance(answers, str) and answers:
            return str(candidate), {i: answer.reply for i, answer in answers.items()}
    return "", {}


def _measured(candidate: Candidate, runs: Runs, replies: Replies) -> Measured:
    if candidate not in runs:
        return Measured(candidate, trouble=f"not needed: another file gives {RECORDED}")
    answers = runs[candidate]
    if isinstance(answers, str):
        return Measured(candidate, trouble=answers)
    wanted = _answered(runs) or set(answers)
    if not wanted <= set(answers) or not wanted:
        return Measured(candidate, trouble="it lacks signatures that the others have, or has them otherwise")
    timed = [(answers[i].seconds, answers[i].rows) for i in wanted]
    time_per_row = sum(seconds or 0.0 for seconds, _ in timed) / sum(
        rows for seconds, rows in timed if seconds
    )
    held = {i: replies[i] for i in sorted(wanted) if i in replies}
    # A decoder's pixels differ from another's: they say nothing of the network.
    held = {i: reply for i, reply in held.items() if answers[i].numeric} or held
    if not held:
        return Measured(candidate, 1000 * time_per_row, trouble=f"none of {RECORDED} is to what it was asked")
    try:
        figures = [_compared(answers[i].reply, reply) for i, reply in held.items()]
        difference, cosine = max(d for d, _ in figures), min(c for _, c in figures)
    except ServingError as error:
        return Measured(candidate, 1000 * time_per_row, trouble=error.message)
    return Measured(candidate, 1000 * time_per_row, difference, cosine)


def _answered(runs: Runs) -> set[int]:
    """The probes that a candidate other than the SavedModel answers."""
    return {i for c, run in runs.items() if c.file != SAVED_MODEL and not isinstance(run, str) for i in run}


def _compared(got: Arrays, wanted: Arrays) -> tuple[float, float]:
    """difference and cosine of a reply; text and whole numbers count where there are no other numbers, for
    classes change places when their scores are equal. FAILED_PRECONDITION for replies that do not compare.
    """
    for alias, array in wanted.items():
        if alias not in got or got[alias].shape != array.shape:
            raise ServingError(Code.FAILED_PRECONDITION, f'its "{alias}" has another shape, or is missing')
        if array.dtype.kind == "f" and not np.isfinite([got[alias], array]).all():
            raise ServingError(
                Code.FAILED_PRECONDITION, f'its "{alias}" or the reference holds NaN or infinity'
            )
    pairs = [(got[a].astype(float), b.astype(float)) for a, b in wanted.items() if b.dtype.kind == "f"]
    if not pairs and not all(np.array_equal(got[alias], array) for alias, array in wanted.items()):
        raise ServingError(Code.FAILED_PRECONDITION, "it gives other values")
    return max((_difference(a, b) for a, b in pairs), default=0.0), min(
        (_cosine(a, b) for a, b in pairs), default=1.0
    )


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max(initial=0) / max(1.0, np.abs(b).max(initial=0)))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    rows = (len(b), -1) if b.ndim > 1 and len(b) else (1, -1)
    a, b = a.reshape(rows), b.reshape(rows)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    equal = (a == b).all(axis=1)
    return float(np.where(equal, 1.0, (a * b).sum(axis=1) / np.where(lengths, lengths, 1.0)).min())


if __name__ == "__main__":
    main()
