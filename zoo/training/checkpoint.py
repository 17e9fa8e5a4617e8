"""What a killed call leaves for the next one: files that are complete or absent."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FACTS = "facts"


@dataclass(frozen=True, eq=False)
class State:
    """history: one entry per epoch; best: the model's weights after the best of them; stopped: a callback
    wants no more. steps: the batches done of the epoch after them; counted: its metrics' state.
    """

    history: tuple[dict[str, Any], ...]
    best: tuple[np.ndarray, ...]
    stopped: bool = False
    steps: int = 0
    counted: tuple[np.ndarray, ...] = ()


def write_state(path: Path, state: State, variables: Sequence[Any]) -> None:
    facts = {"history": state.history, "stopped": state.stopped, "steps": state.steps}
    arrays: dict[str, Any] = {
        **_numbered("variable", [variable.numpy() for variable in variables]),
        **_numbered("best", state.best),
        **_numbered("counted", state.counted),
        FACTS: np.asarray(json.dumps(facts)),
    }
    partial = path.with_name(f".{path.name}")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(partial, path)


def read_state(path: Path, variables: Sequence[Any]) -> State | None:
    """The state, with the variables set to what they were then; None where there is no checkpoint."""
    if not path.exists():
        return None
    with np.load(path) as stored:
        for variable, value in zip(variables, _all(stored, "variable"), strict=True):
            variable.assign(value)
        facts = json.loads(stored[FACTS].item())
        history, best = tuple(facts["history"]), _all(stored, "best")
        return State(history, best, facts["stopped"], facts["steps"], _all(stored, "counted"))


def _numbered(name: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}{i}": array for i, array in enumerate(arrays)}


def _all(stored: Any, name: str) -> tuple[np.ndarray, ...]:
    count = sum(key.startswith(name) for key in stored.files)
    return tuple(stored[f"{name}{i}"] for i in range(count))


def write_table(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """A CSV under a line of titles, as `write_text` does."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """The whole text or, after a kill or on a full disk, what was there before."""
    partial = path.with_name(f".{path.name}")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)
