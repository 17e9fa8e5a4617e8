"""card.json: where a version came from, what it needs, how equal it is, and the hashes of its files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from exporters.parity import Parity
from zoo.classifier import Facts

FORMAT = 1
PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "onnx",
    "onnxruntime",
    "tf2onnx",
    "h5py",
    "ai-edge-litert",
    "openvino",
)


@dataclass(frozen=True)
class File:
    """size in bytes; sha256 in hex digits."""

    bytes: int
    sha256: str


def card(
    facts: Facts,
    name: str,
    files: Mapping[str, File],
    parity: Mapping[str, Parity],
    metrics: Mapping[str, Any] | None,
    batch: int | None,
) -> dict[str, Any]:
    """What card.json holds, but for the version. Without metrics, those that the model was trained with;
    batch: how many pictures the files take that are made for a fixed number, else None.
    """
    return {
        "format": FORMAT,
        "name": name,
        "architecture": facts.name,
        "labels": list(facts.labels),
        "preprocessing": facts.preprocessing.to_dict(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "card": facts.card,
        "batch": batch,
        "metrics": dict(facts.card.get("metrics", {}) if metrics is None else metrics),
        "files": {path: asdict(file) for path, file in files.items()},
        "parity": {path: asdict(figures) for path, figures in parity.items()},
        "versions": _versions(),
    }


def write(card: Mapping[str, Any], version: int, folder: Path) -> None:
    """card.json for this version number. Raises TypeError for metrics that JSON has no words for."""
    text = json.dumps({**card, "version": version}, indent=1, ensure_ascii=False, default=_plain)
    (folder / "card.json").write_text(text + "\n", "utf-8")


def files_in(folder: Path) -> dict[str, File]:
    """Every file in the folder by its path there; all are on disk when this returns."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _read(path) for path in paths}


def _versions() -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _read(path: Path) -> File:
    with path.open("rb") as file:
        # A full disk may show only here.
        os.fsync(file.fileno())
        return File(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written into card.json")
