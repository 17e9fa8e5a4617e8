"""`export`: a Classifier -> BASE/NAME/VERSION/, every file proven equal to the model before any appears."""

from __future__ import annotations

import gc
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from exporters import (
    batches,
    card,
    keras_files,
    onnx,
    onnx_int8,
    onnx_pictures,
    openvino,
    publish,
    saved_model,
    tflite,
    warmup,
)
from exporters.card import File
from exporters.errors import ExportError
from exporters.parity import (
    FLOAT16,
    FLOAT32,
    INT8,
    Limits,
    Parity,
    Reference,
    measure,
    measure_encoded,
    reference,
    require_all,
)
from exporters.pictures import Source, calibration, given
from exporters.subject import Run, Subject, subject
from zoo.errors import ZooError, did_you_mean
from zoo.preprocessing import Preprocessing
from zoo.progress import progress
from zoo.quiet import heard_only

Check = Callable[[Any, Reference], Parity]


@dataclass(frozen=True)
class Format:
    """file: its place in the version's folder; reopen: by the format's own runtime, from the file alone;
    limits: how equal it must be; checks: what is compared, by what it is called beside the format's name;
    calibrated: needs calibration pictures; batched: can be made for a fixed number of pictures.
    """

    file: str
    write: Callable[[Subject, Path], None]
    reopen: Callable[[Subject, Path], Run]
    limits: Limits = FLOAT32
    checks: Mapping[str, Check] = field(default_factory=lambda: {"": measure})
    calibrated: bool = False
    batched: bool = False


FORMATS = {
    "saved_model": Format(
        ".",
        saved_model.write,
        saved_model.reopen,
        checks={"": measure, " from encoded pictures": measure_encoded},
    ),
    "onnx": Format("model.onnx", onnx.write, onnx.reopen, batched=True),
    "h5": Format("model.h5", keras_files.write, keras_files.reopen),
    "keras": Format("model.keras", keras_files.write, keras_files.reopen),
    "onnx_any_size": Format(
        "model_any_size.onnx",
        onnx.write_any_size,
        onnx.reopen,
        checks={"": measure, " at a larger size": onnx.measure_larger},
        batched=True,
    ),
    "onnx_pictures": Format(
        "model_pictures.onnx",
        onnx_pictures.write,
        onnx_pictures.reopen,
        checks={"": onnx_pictures.measure},
        batched=True,
    ),
    "onnx_int8": Format("model_int8.onnx", onnx_int8.write, onnx.reopen, INT8, calibrated=True, batched=True),
    "tflite": Format("model.tflite", tflite.write, tflite.reopen, batched=True),
    "tflite_float16": Format(
        "model_float16.tflite", tflite.write_float16, tflite.reopen, FLOAT16, batched=True
    ),
    "tflite_dynamic": Format("model_dynamic.tflite", tflite.write_dynamic, tflite.reopen, INT8, batched=True),
    "tflite_int8": Format(
        "model_int8.tflite", tflite.write_int8, tflite.reopen, INT8, calibrated=True, batched=True
    ),
    "openvino": Format("model.xml", openvino.write, openvino.reopen, FLOAT16, batched=True),
}
SERVED = ("saved_model", "onnx")
NOISY = ("tf2onnx", "tensorflow", "absl", "root")
RUNS, SECONDS = 5, 0.3
FROZEN_BY_PYTHON = 1000  # at most: 3.12 begins with 375 objects set aside, a program's own are thousands

Tolerance = float | Mapping[str, float] | None


@dataclass(frozen=True)
class Cost:
    """bytes: of the format's files; seconds: to write and compare; milliseconds: the median for one picture
    in the format's own runtime, on this machine; a picture's share of a fixed batch.
    """

    bytes: int
    seconds: float
    milliseconds: float


@dataclass(frozen=True)
class Export:
    """path: BASE/NAME/VERSION; files: by their path in there, card.json not counted; parity: by format and
    what was compared; costs: by format.
    """

    path: Path
    name: str
    version: int
    files: Mapping[str, File] = field(repr=False)
    parity: Mapping[str, Parity] = field(repr=False)
    costs: Mapping[str, Cost] = field(repr=False)


def export(
    model: keras.Model,
    base: str | os.PathLike[str],
    formats: Sequence[str] = ("saved_model", "onnx", "h5"),
    *,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    pictures: Source | None = None,
    calibrate: Source | None = None,
    metrics: Mapping[str, Any] | None = None,
    tolerance: Tolerance = None,
    batch: int | None = None,
) -> Export:
    """Write the model as BASE/NAME/VERSION/, where `base` is BASE/NAME and VERSION the highest there + 1.

    model: a Classifier, or any Keras 3 classifier of RGB pictures in 0..255, made of layers, with
    preprocessing (what its pictures are resized to) and labels (the numbers from 0 by default).
    formats: of FORMATS. pictures: to compare by; a folder (with one folder for each class, accuracy is
    compared too), {label: pictures}, or pictures: paths, encoded bytes or RGB uint8 [H, W, 3], all held in
    memory; None: those of `calibrate`, or generated ones. calibrate: the same, for the int8 formats that
    need it. metrics: for card.json; None: those of the model's training. tolerance: instead of the formats'
    limits; a number for those in float32, or a number by format: the largest difference of the logits
    relative to the largest of them (or to 1) and of the probabilities; for the others 1 - the least cosine
    of the logits, and the most pictures in another class. batch: how many pictures the files of ONNX, TFLite
    and OpenVINO take at a time, for engines that want fixed shapes; None: any number. The other formats take
    any number always.

    A version is complete or absent: it appears by one rename, after each file was opened by its own runtime
    and compared. Raises ExportError (a format or a model that cannot be exported, a path that cannot be
    written, an export that is not equal, with the figure), ZooError for a model without facts, DataError
    for unreadable pictures.
    """
    chosen = _formats(formats)
    limits = _limits(chosen, tolerance)
    _check_batch(batch, chosen)
    target = _target(base)
    exported = replace(_calibrated(subject(model, labels, preprocessing), chosen, calibrate), batch=batch)
    known = reference(exported, given(calibrate if pictures is None else pictures, exported.facts))
    with (
        heard_only(_is_error, NOISY),
        _older_objects_left_alone(),
        publish.partial_folder(target) as folder,
        _steps(2 * len(chosen) + 1) as step,
    ):
        parity: dict[str, Parity] = {}
        costs: dict[str, Cost] = {}
        for name in chosen:
            begun = time.perf_counter()
            step(f"writing {name}")
            with _failures_of(name, target):
                size = _write(name, exported, folder)
            step(f"comparing {name}")
            with _failures_of(name, target):
                run = FORMATS[name].reopen(exported, folder / FORMATS[name].file)
                figures = compare(name, run, known)
            require_all(figures, limits[name], known)
            parity |= figures
            count = batch or 1 if FORMATS[name].batched else 1
            taken = time.perf_counter() - begun
            costs[name] = Cost(size, taken, _milliseconds(run, known.images, count))
            del run
            # TensorFlow's graphs are cycles, with all their weights.
            gc.collect()
        step("publishing")
        with _failures_of("card.json", target):
            if set(chosen) & set(SERVED):
                warmup.write(known, target.name, folder)
            files = card.files_in(folder)
            facts = card.card(exported.facts, target.name, files, parity, metrics, batch)
            version = publish.publish(folder, target, lambda number: card.write(facts, number, folder))
    return Export(target / str(version), target.name, version, files, parity, costs)


def _limits(chosen: Sequence[str], tolerance: Tolerance) -> dict[str, Limits]:
    if isinstance(tolerance, Mapping):
        for name in tolerance:
            _known_format(name)
        own = {name: tolerance.get(name) for name in chosen}
    else:
        own = {name: None if FORMATS[name].limits.difference is None else tolerance for name in chosen}
    return {
        name: FORMATS[name].limits if value is None else FORMATS[name].limits.with_tolerance(value)
        for name, value in own.items()
    }


def _check_batch(batch: int | None, chosen: Sequence[str]) -> None:
    batches.check(batch)
    if batch is not None and not any(FORMATS[name].batched for name in chosen):
        able = ", ".join(name for name in FORMATS if FORMATS[name].batched)
        raise ExportError(
            f"batch (--batch) fixes nothing in {', '.join(chosen)}, which take any number of pictures; leave "
            f"it out, or add one of {able}"
        )


def _calibrated(exported: Subject, chosen: Sequence[str], calibrate: Source | None) -> Subject:
    needing = [name for name in chosen if FORMATS[name].calibrated]
    if not needing:
        return exported
    if calibrate is None:
        raise ExportError(
            f"{needing[0]} needs pictures to calibrate with, a hundred or more of the usual ones; "
            "give calibrate (--calibrate): a folder, or a list"
        )
    return replace(exported, calibration=calibration(calibrate, exported.facts.preprocessing))


def _write(name: str, exported: Subject, folder: Path) -> int:
    """The bytes written. Raises ExportError for layers that Keras quantized and the format cannot hold."""
    before = _bytes_in(folder)
    try:
        FORMATS[name].write(exported, folder / FORMATS[name].file)
    except Exception as error:  # each converter has its own
        layers = exported.model.layers
        quantized = next((each for each in layers if getattr(each, "quantization_mode", None)), None)
        if quantized is None or isinstance(error, ZooError):
            raise
        raise ExportError(
            f'{name} cannot hold the layer "{quantized.name}", which Keras quantized to '
            f"{quantized.quantization_mode}; export the model without quantize(): tflite_int8 and onnx_int8 "
            "round it themselves"
        ) from error
    return _bytes_in(folder) - before


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _milliseconds(run: Run, images: np.ndarray, count: int) -> float:
    """A picture's share of the time for `count` at once; the median, of fewer runs where they are slow."""
    answer = run.classified if isinstance(run, saved_model.Reopened) else run
    together = np.resize(images, (count, *images.shape[1:]))
    times: list[float] = []
    while len(times) < RUNS and sum(times) < SECONDS:
        begun = time.perf_counter()
        answer(together)
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times) / count


def _formats(formats: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys((formats,) if isinstance(formats, str) else formats))
    for name in chosen:
        _known_format(name)
    if not chosen:
        raise ExportError(f"no format was given; there are: {', '.join(FORMATS)}")
    return chosen


def _known_format(name: Any) -> None:
    if name not in FORMATS:
        hint = did_you_mean(str(name), FORMATS, f"there are: {', '.join(FORMATS)}", cutoff=0.5)
        raise ExportError(f'unknown format "{name}"; {hint}')


def _target(base: str | os.PathLike[str]) -> Path:
    """BASE/NAME, absolute."""
    target = Path(os.path.abspath(base))
    if not target.name:
        raise ExportError(f'"{base}" is no folder to export to; give BASE/NAME, for instance models/flowers')
    if target.exists() and not target.is_dir():
        raise ExportError(f'"{base}" is a file; give a folder BASE/NAME, for instance models/flowers')
    return target


def compare(name: str, run: Run, known: Reference, left_out: Sequence[Check] = ()) -> dict[str, Parity]:
    """What the format checks of its reopened file, by the names of card.json's figures."""
    checks = {what: check for what, check in FORMATS[name].checks.items() if check not in left_out}
    return {f"{name}{what}": check(run, known) for what, check in checks.items()}


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
        bar.update(task, completed=total)


@contextmanager
def _older_objects_left_alone() -> Iterator[None]:
    """Python looks for garbage among what the export makes, not among all that was there before: that took a
    tenth of the time. A process that set its own objects aside is left as it is.
    """
    if gc.get_freeze_count() > FROZEN_BY_PYTHON:
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
