"""`export`: a Classifier -> BASE/NAME/VERSION/, every file proven equal to the model before any appears."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from exporters import card, keras_files, onnx, publish, saved_model, warmup
from exporters.card import File
from exporters.errors import ExportError
from exporters.parity import TOLERANCE, Parity, Reference, measure, measure_encoded, reference, require
from exporters.pictures import Picture, read, samples
from exporters.subject import Run, Subject, subject
from zoo.errors import ZooError
from zoo.progress import progress


@dataclass(frozen=True)
class Format:
    """file: its place in the version's folder; reopen: by the format's own runtime, from the file alone."""

    file: str
    write: Callable[[Subject, Path], None]
    reopen: Callable[[Subject, Path], Run]


FORMATS = {
    "saved_model": Format(".", saved_model.write, saved_model.reopen),
    "onnx": Format("model.onnx", onnx.write, onnx.reopen),
    "h5": Format("model.h5", keras_files.write, keras_files.reopen),
    "keras": Format("model.keras", keras_files.write, keras_files.reopen),
}
SERVED = ("saved_model", "onnx")
NOISY = ("tf2onnx", "tensorflow", "absl")


@dataclass(frozen=True)
class Export:
    """path: BASE/NAME/VERSION; files: by their path in there, card.json not counted; parity: by format."""

    path: Path
    name: str
    version: int
    files: Mapping[str, File]
    parity: Mapping[str, Parity]


def export(
    model: keras.Model,
    base: str | os.PathLike[str],
    formats: Sequence[str] = ("saved_model", "onnx", "h5"),
    *,
    pictures: Sequence[Picture] | None = None,
    metrics: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
) -> Export:
    """Write the model as BASE/NAME/VERSION/, where `base` is BASE/NAME and VERSION the highest there + 1.

    formats: of saved_model, onnx, h5, keras. pictures: to compare by; paths, encoded bytes or RGB uint8 [H,
    W, 3]; None: generated ones. metrics: for card.json; None: those of the model's training. tolerance: the
    largest difference allowed, of the logits relative to the largest of them (or to 1), and of the
    probabilities.

    A version is complete or absent: it appears by one rename, after each file was opened by its own runtime
    and compared. Raises ExportError (a format or a model that cannot be exported, a path that cannot be
    written, an export that is not equal, with the figure), ZooError for a model without facts, DataError
    for unreadable pictures.
    """
    chosen = _formats(formats)
    target = _target(base)
    exported = subject(model)
    preprocessing = exported.facts.preprocessing
    known = reference(exported, samples(preprocessing) if pictures is None else read(pictures))
    with _quiet(), publish.partial_folder(target) as folder, _steps(2 * len(chosen) + 1) as step:
        parity: dict[str, Parity] = {}
        for name in chosen:
            step(f"writing {name}")
            with _failures_of(name, target):
                FORMATS[name].write(exported, folder / FORMATS[name].file)
            step(f"comparing {name}")
            with _failures_of(name, target):
                parity |= _compare(name, known, folder)
            for path, figures in parity.items():
                require(figures, path, tolerance)
        step("publishing")
        with _failures_of("card.json", target):
            if set(chosen) & set(SERVED):
                warmup.write(preprocessing, target.name, folder)
            files = card.files_in(folder)
            facts = card.card(exported.facts, target.name, files, parity, metrics)
            version = publish.publish(folder, target, lambda number: card.write(facts, number, folder))
    return Export(target / str(version), target.name, version, files, parity)


def _formats(formats: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys((formats,) if isinstance(formats, str) else formats))
    for name in chosen:
        if name not in FORMATS:
            near = difflib.get_close_matches(str(name), FORMATS, n=1, cutoff=0.5)
            hint = f'did you mean "{near[0]}"?' if near else f"there are: {', '.join(FORMATS)}"
            raise ExportError(f'unknown format "{name}"; {hint}')
    if not chosen:
        raise ExportError(f"no format was given; there are: {', '.join(FORMATS)}")
    return chosen


def _target(base: str | os.PathLike[str]) -> Path:
    """BASE/NAME, absolute."""
    target = Path(os.path.abspath(base))
    if not target.name:
        raise ExportError(f'"{base}" is no folder to export to; give BASE/NAME, for instance models/flowers')
    if target.exists() and not target.is_dir():
        raise ExportError(f'"{base}" is a file; give a folder BASE/NAME, for instance models/flowers')
    return target


def _compare(name: str, known: Reference, folder: Path) -> dict[str, Parity]:
    run = FORMATS[name].reopen(known.model, folder / FORMATS[name].file)
    figures = {name: measure(run, known)}
    if isinstance(run, saved_model.Reopened):
        figures[f"{name} from encoded pictures"] = measure_encoded(run, known)
    return figures


@contextmanager
def _failures_of(what: str, target: Path) -> Iterator[None]:
    """Four libraries write and read the files, each with its own errors for a full disk, a foreign layer."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        raise ExportError(f'{what} for "{target}" failed, nothing was published: {error}') from error


@contextmanager
def _steps(total: int) -> Iterator[Callable[[str], None]]:
    """A function that names the step that begins."""
    with progress() as bar:
        task = bar.add_task("exporting", total=total)
        begun = -1

        def step(description: str) -> None:
            nonlocal begun
            begun += 1
            bar.update(task, description=description, completed=begun)

        yield step


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries' inner steps are not the user's. A filter, because they set their loggers' levels
    themselves.
    """
    loggers = [logging.getLogger(name) for name in NOISY]
    for logger in loggers:
        logger.addFilter(_is_error)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
