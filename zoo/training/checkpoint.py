"""What a killed call leaves for the next one: files that are complete or absent."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

HISTORY = "history"


@dataclass(frozen=True, eq=False)
class State:
    """history: one entry per epoch; best: the model's weights after the best of them."""

    history: tuple[dict[str, Any], ...]
    best: tuple[np.ndarray, ...]


def write_state(path: Path, state: State, variables: Sequence[Any]) -> None:
    arrays: dict[str, Any] = {
        f"variable{i}": keras.ops.convert_to_numpy(v.value) for i, v in enumerate(variables)
    }
    arrays |= {f"best{i}": value for i, value in enumerate(state.best)}
    arrays[HISTORY] = np.asarray(json.dumps(state.history))
    partial = path.with_name(f".{path.name}")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(partial, path)


def read_state(path: Path, variables: Sequence[Any]) -> State | None:
    """The state, with the variables set to what they were then; None where there is no checkpoint."""
    if not path.exists():
        return None
    with np.load(path) as stored:
        for i, variable in enumerate(variables):
            variable.assign(stored[f"variable{i}"])
        best = tuple(stored[f"best{i}"] for i in range(sum(name.startswith("best") for name in stored.files)))
        return State(tuple(json.loads(stored[HISTORY].item())), best)


def write_text(path: Path, text: str) -> None:
    """The whole text or, after a kill or on a full disk, what was there before."""
    partial = path.with_name(f".{path.name}")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)
