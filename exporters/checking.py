"""Is a published version still what was published? Its files by their hashes, then by their runtimes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, cast

from exporters.errors import ExportError
from exporters.exporting import FORMATS, SERVED, compare
from exporters.inspecting import CARD, GRAPH, read_card, versions
from exporters.onnx import measure_larger
from exporters.parity import Parity, Reference, reference, require_all
from exporters.pictures import Source, given
from exporters.subject import Run, Subject, subject
from zoo.classifier import Facts, attach, load_file
from zoo.digests import sha256_of
from zoo.preprocessing import Preprocessing

KERAS = ("keras", "h5")


@dataclass(frozen=True)
class Checked:
    """files: how many were read; parity: as in card.json, measured now; problems: each names its file.

    Where a file is not the published one, none is opened, and parity is empty.
    """

    path: Path
    files: int
    parity: Mapping[str, Parity]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """What the files of a version are compared with where the Keras model is not among them."""

    facts: Facts
    run: Run

    @property
    def model(self) -> SimpleNamespace:
        return SimpleNamespace(name=self.facts.name)


def check(folder: str | os.PathLike[str], pictures: Source | None = None) -> tuple[Checked, ...]:
    """A version's folder, or a model's with all its versions.

    Every file must have the size and the sha256 that card.json records, and no other file may be there. Then
    each is opened by its own runtime and compared as at export: with model.keras or model.h5 if there, else
    with the SavedModel, else with the first of them (which compares at the input size alone), on `pictures`
    (as in `export`: generated ones by default). Raises ExportError for a folder without card.json, or with
    one that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ExportError(f'"{folder}" is no folder; give that of a published version')
    chosen = [folder] if (folder / CARD).exists() else versions(folder) or [folder]
    return tuple(_check(version, pictures) for version in chosen)


def _check(folder: Path, pictures: Source | None) -> Checked:
    card = read_card(folder)
    try:
        recorded = {str(name): dict(entry) for name, entry in card["files"].items()}
        known = Facts(
            str(card["architecture"]),
            tuple(card["labels"]),
            Preprocessing.from_dict(card["preprocessing"]),
            dict(card["card"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ExportError(f'"{folder / CARD}" is not as it was written: {error!r}') from error
    problems = tuple(filter(None, (_difference(folder, name, entry) for name, entry in recorded.items())))
    problems += tuple(f'"{folder / name}" is not in {CARD}' for name in _present(folder) - recorded.keys())
    if problems:
        return Checked(folder, len(recorded), {}, problems)
    parity, problems = _parity(folder, [name for name in FORMATS if _file(name) in recorded], known, pictures)
    return Checked(folder, len(recorded), parity, problems)


def _file(name: str) -> str:
    return GRAPH if FORMATS[name].file == "." else FORMATS[name].file


def _present(folder: Path) -> set[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return {name for name in found if name != CARD}


def _difference(folder: Path, name: str, entry: Mapping[str, Any]) -> str:
    """What is wrong with the file, or nothing."""
    file = folder / name
    if PurePosixPath(name).is_absolute() or not file.resolve().is_relative_to(folder.resolve()):
        return f'"{name}" in {CARD} is outside of "{folder}"'
    try:
        size, digest = file.stat().st_size, sha256_of(file)
    except FileNotFoundError:
        return f'"{file}" is missing'
    except OSError as error:
        return f'"{file}" cannot be read: {error.strerror}'
    if size != entry.get("bytes"):
        return f'"{file}" has {size} bytes, {entry.get("bytes")} were published'
    return "" if digest == entry.get("sha256") else f'"{file}" was changed: its sha256 is {digest}'


def _parity(
    folder: Path, names: list[str], known: Facts, pictures: Source | None
) -> tuple[dict[str, Parity], tuple[str, ...]]:
    if not names:
        return {}, (f'"{folder}" holds no file that could be compared',)
    order = [name for name in (*KERAS, *SERVED, *names) if name in names]
    with_keras = order[0] in KERAS
    looked_at = given(pictures, known)
    parity: dict[str, Parity] = {}
    problems = []
    try:
        model = _model(folder, order[0], known) if with_keras else _published(folder, order[0], known)
        compared = reference(model, looked_at)
    except Exception as error:  # each runtime has its own
        return {}, (f'"{folder / FORMATS[order[0]].file}" cannot be run: {error}',)
    for name in names:
        try:
            parity |= _compare(folder, name, compared)
        except Exception as error:
            problems.append(f'"{folder / FORMATS[name].file}": {error}')
    return parity, tuple(problems)


def _model(folder: Path, name: str, known: Facts) -> Subject:
    return subject(attach(load_file(folder / FORMATS[name].file), known))


def _published(folder: Path, name: str, known: Facts) -> Subject:
    """Runtimes reopen their files with the facts alone, and comparing needs an answer alone."""
    facts_alone = cast(Subject, Published(known, lambda images: {}))
    run = FORMATS[name].reopen(facts_alone, folder / FORMATS[name].file)
    return cast(Subject, Published(known, run))


def _compare(folder: Path, name: str, compared: Reference) -> dict[str, Parity]:
    run = FORMATS[name].reopen(compared.model, folder / FORMATS[name].file)
    # A file of one size says nothing of others.
    left_out = (measure_larger,) if isinstance(compared.model, Published) else ()
    measured = compare(name, run, compared, left_out)
    require_all(measured, FORMATS[name].limits, compared)
    return measured
