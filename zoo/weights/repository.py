"""Networks on the hub and in folders: a config.json that describes one, with its weights beside it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

from zoo.errors import DownloadError, UnknownModelError, ZooError
from zoo.registry import Architecture, Weights
from zoo.weights.download import LIMIT
from zoo.weights.sources import from_repository

PREFIXES = ("hf-hub:", "hf_hub:", "hf://")
CONFIG = "config.json"
FILES = ("model.safetensors", "pytorch_model.bin")
Colours = tuple[float, float, float]  # of red, green and blue
CONFIG_LIMIT = 16 << 20  # bytes; the labels and descriptions of 21,000 classes take 2 MB


@dataclass(frozen=True)
class Repository:
    """What is said of the network: its weights, their pictures' (height, width) in pixels, the pooling (None:
    the network's own), what timm calls it (None: timm does not have it), which files hold the weights (the
    first that is there), and the one that must lie beside it (None: no other).
    """

    place: str
    architecture: Architecture
    weights: Weights
    input_size: tuple[int, int]
    pooling: str | None
    timm: str | None
    files: tuple[str, ...] = FILES
    beside: str | None = None

    def file(self) -> Path:
        """The weights, downloaded once from the hub. Raises DownloadError, WeightsError."""
        if self.beside:
            file_of(self.place, self.beside)
        failures = []
        for name in self.files:
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
    return (
        place.partition(":")[2].removeprefix("//")
        if place.startswith(PREFIXES)
        else Path(place).resolve().name
    )


def of_colours(numbers: Sequence[float]) -> Colours:
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


@cache
def elsewhere(library: str) -> dict[str, Any]:
    """The facts of another library's networks, by what its config.json calls their kind."""
    return tomllib.loads(files("zoo.catalog").joinpath(f"elsewhere/{library}.toml").read_text("utf-8"))


def refuse_other_networks(place: str, config: Mapping[str, Any], same: Mapping[str, Any]) -> None:
    """Raises ZooError where the config says otherwise than what the zoo builds; it may leave things out."""
    for name, value in same.items():
        if config.get(name, value) != value:
            raise ZooError(
                f"{place} was built with {name}={config[name]!r}, which the zoo does not build, but {value!r}"
            )


def network_of(
    place: str, kind: str, config: Mapping[str, Any], networks: Mapping[str, Mapping[str, Any]]
) -> str:
    """The network whose facts are those of the config. Raises UnknownModelError."""
    for name, facts in networks.items():
        if all(config[key] == value for key, value in facts.items()):
            return name
    keys = next(iter(networks.values()))
    stated = ", ".join(f"{key}={config[key]!r}" for key in keys)
    raise UnknownModelError(f"{place} is a {kind} with {stated}, which is not in the zoo")


def timm_of(architecture: Architecture, weights: Weights) -> str | None:
    """What timm calls the network with these conventions."""
    conventions = (weights.padding, weights.epsilon)
    known = [w for w in architecture.weights.values() if (w.padding, w.epsilon) == conventions]
    return next((w.timm_name for w in known if w.timm_name), None)
