"""Which of a version's files serves it, by which engine: the fastest of those that are faithful.

They are measured in a process of their own (serving.models.measuring), and the figures kept in the cache
folder: a version is measured once on a machine, and again when its files, the engines or what is asked of
them change.
"""

import hashlib
import json
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from serving.errors import ServingError
from serving.machine import cores, processor
from serving.models.measuring import Measured, Question, Report, saved_signatures
from serving.processes import run_apart
from serving.runtimes import Candidate, Runtime, Signature, found, start
from serving.runtimes.base import DEFAULT_ENGINES, Arrays, Engines, covers, queues
from serving.runtimes.candidates import SAVED_MODEL
from zoo import caching
from zoo.digests import sha256_of
from zoo.writing import complete

log = logging.getLogger("serving")

SECONDS = 2.0  # of a model's runs; loading comes on top
NOISE = 1.05  # times the fastest: no slower than that
PACKAGES = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai-edge-litert",
    "tensorflow": "tensorflow",
}
IN_TENSORFLOW = Candidate("tensorflow", SAVED_MODEL)
UNSERVED = (".keras", ".h5")


@dataclass(frozen=True)
class Choice:
    """The candidate that serves, why, and the figures of all, where they were measured; `reference` is what
    the others were held against.
    """

    chosen: Candidate
    fidelity: str
    why: str
    reference: str = ""
    measured: tuple[Measured, ...] = ()


class ChosenRuntime:
    """The engine that was chosen; the SavedModel, loaded when it is first needed, for the signatures `rest`
    that it alone has.
    """

    def __init__(
        self,
        runtime: Runtime,
        choice: Choice,
        rest: Mapping[str, Signature],
        load_saved_model: Callable[[], Runtime],
    ) -> None:
        self.name = runtime.name
        self.queues = queues(runtime)
        self.choice = choice
        self.signatures: Mapping[str, Signature] = {**runtime.signatures, **rest}
        self._runtime = runtime
        self._rest = rest
        self._load_saved_model = load_saved_model
        self._saved_model: Runtime | None = None
        self._loading = threading.Lock()

    def run(self, signature: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        runtime = self._fallback() if signature in self._rest else self._runtime
        return runtime.run(signature, inputs, outputs)

    def _fallback(self) -> Runtime:
        with self._loading:
            if self._saved_model is None:
                self._saved_model = self._load_saved_model()
            return self._saved_model


def choice_of(runtime: object) -> Choice | None:
    """How a served runtime was chosen; None where nothing was to choose from."""
    return getattr(runtime, "choice", None)


def load(version_dir: Path, runtime: str | None = None, engines: Engines = DEFAULT_ENGINES) -> ChosenRuntime:
    """Loads BASE/NAME/VERSION/ with the fastest candidate whose numbers agree with the reference's within the
    fidelity; with the preferred file of one runtime where that is asked for, unmeasured and without fallback.

    Raises ServingError (INVALID_ARGUMENT, FAILED_PRECONDITION, NOT_FOUND or DATA_LOSS) that says what the
    directory lacks.
    """
    candidates = found(version_dir, engines.fidelity, runtime, engines.prefer_tflite)
    asked_for = bool(runtime) or (engines.prefer_tflite and candidates[0].runtime == "litert")
    choice = None if asked_for else _fastest(version_dir, candidates, engines)
    if choice:
        main = start(choice.chosen, version_dir, engines)
    else:
        chosen, main = _first_that_loads(version_dir, candidates, engines)
        settled = _settled(candidates, engines.fidelity)
        why = "asked for" if asked_for else "the only one" if settled else "nothing was measured"
        choice = Choice(chosen, engines.fidelity, why)
    log.info("%s is served by %s", version_dir, described(choice))
    saved = {} if asked_for else saved_signatures(version_dir, engines.tags)
    load_saved_model = partial(start, IN_TENSORFLOW, version_dir, engines)
    return ChosenRuntime(main, choice, _rest(main.signatures, saved), load_saved_model)


def _rest(own: Mapping[str, Signature], saved: Mapping[str, Signature]) -> Mapping[str, Signature]:
    """The SavedModel's signatures that an engine has not, or has otherwise."""
    return {name: s for name, s in saved.items() if name not in own or not covers(own[name], s)}


def described(choice: Choice) -> str:
    """A choice in one line: what was chosen and why, and each candidate's figures."""
    figures = "; ".join(_figures(measured, choice.fidelity) for measured in choice.measured)
    against = f", held against {choice.reference}: {figures}" if choice.measured else ""
    return f"{choice.chosen}: {choice.why} (fidelity {choice.fidelity}){against}"


def _figures(measured: Measured, fidelity: str) -> str:
    said = [] if measured.milliseconds is None else [f"{measured.milliseconds:.2f} ms a picture"]
    if measured.difference is not None:
        said += [f"difference {measured.difference:.1e}", f"cosine {measured.cosine:.4f}"]
        said += [] if measured.agrees(fidelity) else ["too far off"]
    return f"{measured.candidate} {', '.join([*said, *filter(None, [measured.trouble])])}"


def _first_that_loads(
    version_dir: Path, candidates: Sequence[Candidate], engines: Engines
) -> tuple[Candidate, Runtime]:
    """The first one's error where none does."""
    errors = []
    for candidate in candidates:
        try:
            return candidate, start(candidate, version_dir, engines)
        except ServingError as error:
            log.warning("%s of %s is passed over: %s", candidate, version_dir, error.message)
            errors.append(error)
    raise errors[0]


# --- measuring ----------------------------------------------------------------------------------------------


def _fastest(version_dir: Path, candidates: Sequence[Candidate], engines: Engines) -> Choice | None:
    """Of those that agree; None where there is nothing to choose from, or nothing could be measured."""
    if _settled(candidates, engines.fidelity):
        return None
    report = _report(Question(os.fspath(version_dir), tuple(candidates), engines, SECONDS))
    agreeing = [measured for measured in report.measured if measured.agrees(engines.fidelity)]
    if not agreeing:
        return None
    times = [measured.milliseconds or 0.0 for measured in agreeing]
    # In the candidates' order, the more precise first.
    chosen = next(m for m, time in zip(agreeing, times, strict=True) if time <= NOISE * min(times))
    why = f"the fastest of {len(agreeing)} that agree"
    return Choice(chosen.candidate, engines.fidelity, why, report.reference, report.measured)


def _settled(candidates: Sequence[Candidate], fidelity: str) -> bool:
    """One exact file: what another engine might gain is less than measuring would delay the start."""
    return len(candidates) == 1 or (fidelity == "exact" and len({c.file for c in candidates}) == 1)


def _report(question: Question) -> Report:
    """As it was kept, or made now."""
    folder = caching.folder() / "serving"
    file = folder / f"{_key(question)}.json"
    with _alone(folder):
        if kept := _kept(file):
            return kept
        report = _asked(question)
        if report.reference:
            _keep(file, report)
        return report


def _asked(question: Question) -> Report:
    """By a process of its own; again without the candidate that ended it, should one do so."""
    try:
        done = run_apart("serving.models.measuring", question.to_json())
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("%s could not be measured: %s", question.version_dir, error)
        return Report("", ())
    lines = done.stdout.splitlines()
    if done.returncode == 0:
        return Report.from_json(lines[-1])
    if not lines:
        log.warning("%s could not be measured: %s", question.version_dir, done.stderr.strip()[-500:])
        return Report("", ())
    culprit = question.candidates[int(lines[-1])]
    trouble = f"it ended the process that measured it ({done.returncode})"
    others = tuple(candidate for candidate in question.candidates if candidate != culprit)
    report = _asked(replace(question, candidates=others)) if others else Report("", ())
    return replace(report, measured=(*report.measured, Measured(culprit, trouble=trouble)))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While nobody else measures, in this process or another: they would disturb each other."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        log.warning("Measurements cannot be kept: %s", error)
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _kept(file: Path) -> Report | None:
    with suppress(OSError, ValueError, LookupError, TypeError):
        return Report.from_json(file.read_text(encoding="utf-8"))
    return None


def _keep(file: Path, report: Report) -> None:
    try:
        with complete(file) as partial_file:
            partial_file.write_text(report.to_json(), encoding="utf-8")
    except OSError as error:
        log.warning("Measurements cannot be kept: %s", error)


def _key(question: Question) -> str:
    """Changes with all that the figures depend on: files, engines and their versions, the processor."""
    folder = Path(question.version_dir)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix not in UNSERVED)
    facts = {
        "files": {path.relative_to(folder).as_posix(): sha256_of(path) for path in files},
        "question": asdict(replace(question, version_dir="")),
        "processor": [processor(), cores()],
        "versions": {c.runtime: _version(PACKAGES[c.runtime]) for c in question.candidates},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
