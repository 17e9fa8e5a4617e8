"""Networks on the hub and in folders: a config.json that describes one, with its weights beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from zoo.errors import DownloadError, ZooError
from zoo.registry import Architecture, Weights
from zoo.weights.download import LIMIT
from zoo.weights.sources import from_repository

PREFIXES = ("hf-hub:", "hf_hub:")
CONFIG = "config.json"
FILES = ("model.safetensors", "pytorch_model.bin")
CONFIG_LIMIT = 16 << 20  # bytes; the labels and descriptions of 21,000 classes take 2 MB


@dataclass(frozen=True)
class Repository:
    """What is said of the network: its weights, their pictures' (height, width) in pixels, the pooling (None:
    the network's own), and what timm calls it (None: timm does not have it).
    """

    place: str
    architecture: Architecture
    weights: Weights
    input_size: tuple[int, int]
    pooling: str | None
    timm: str | None

    def file(self) -> Path:
        """The weights, downloaded once from the hub. Raises DownloadError, WeightsError."""
        failures = []
        for name in FILES:
            try:
                return file_of(self.place, name)
            except DownloadError as error:
                failures.append(f"- {error}")
        raise DownloadError("\n".join((f"{self.place}: no weights could be had. Tried:", *failures)))


def is_repository(name: str | PathLike[str]) -> bool:
    """Whether it is "hf-hub:USER/REPOSITORY", or a folder with a config.json."""
    return str(name).startswith(PREFIXES) or (bool(str(name)) and (Path(name) / CONFIG).is_file())


def tag_of(place: str) -> str:
    """USER/REPOSITORY[@REVISION], or the folder's name."""
    return place.partition(":")[2] if place.startswith(PREFIXES) else Path(place).resolve().name


def of_colours(numbers: Sequence[float]) -> tuple[float, float, float]:
    """Of red, green and blue. Raises ValueError for fewer or more."""
    red, green, blue = map(float, numbers)
    return red, green, blue


def file_of(place: str, name: str, limit: int = LIMIT) -> Path:
    """One of its files, of at most `limit` bytes. Raises DownloadError, WeightsError."""
    if place.startswith(PREFIXES):
        return from_repository(tag_of(place), name, limit=limit)
    path = Path(place) / name
    if not path.is_file():
        raise DownloadError(f'"{path}" does not exist')
    return path


def facts_of(place: str, name: str) -> dict[str, Any]:
    """A JSON file. Raises ZooError where it is none that holds a table, DownloadError."""
    try:
        path = file_of(place, name, CONFIG_LIMIT)
    except DownloadError as error:
        raise DownloadError(f"{place}: {error}. A private repository needs a token in HF_TOKEN") from error
    try:
        facts = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ZooError(f"{place}: its {name} is not JSON: {error}") from error
    if not isinstance(facts, dict):
        raise ZooError(f"{place}: its {name} holds a {type(facts).__name__}, not a table of facts")
    return facts
