"""What fine-tuning gives back, and the folder it is kept in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from zoo.classifier import load_file
from zoo.errors import ZooError
from zoo.training.checkpoint import write_table, write_text
from zoo.training.recipe import Recipe

MODEL = "model.keras"
RECIPE = "recipe.json"
RESULT = "result.json"
HISTORY = "history.csv"
REPORT = "report.html"
COLUMNS = ("stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True, eq=False)
class Result:
    """What was learnt, and how well.

    model: a Classifier that gives probabilities; metrics: of the test pictures (accuracy 0..1, interval,
    loss, ece, calibration, classes, confusion, pictures, held_out; where pictures have several labels, what
    zoo.training.multi_label.evaluate says instead of confusion); history: a dict per epoch, epoch 0 is the
    state before a stage; data: the pictures' facts; mistakes: the surest wrong answers; near_duplicates:
    pairs of pictures that look alike on two sides of the split, the likest first; out: the folder that keeps
    all this.
    """

    model: keras.Model
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    recipe: Recipe
    data: dict[str, Any]
    mistakes: list[dict[str, Any]]
    near_duplicates: list[dict[str, Any]]
    out: Path | None

    def __repr__(self) -> str:
        low, high = self.metrics["interval"]
        return (
            f"Result({self.model.name}: accuracy {self.metrics['accuracy']:.3f} ({low:.3f} to {high:.3f}), "
            f"{self.metrics['held_out']}, out={str(self.out) if self.out else None!r})"
        )

    def report(self, folder: str | PathLike[str] | None = None) -> Path:
        """Write report.html, one file that needs no network, into the folder (by default `out`).

        Raises ZooError where neither folder is given, or the extra `train` is not installed.
        """
        from zoo.training.report import render

        home = folder if folder is not None else self.out
        if home is None:
            raise ZooError('say where the report goes: result.report("report/")')
        path = Path(home) / REPORT
        html = render(self)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, html)
        return path


def is_finished(folder: Path) -> bool:
    return (folder / RESULT).exists()


def write_result(result: Result, folder: Path) -> None:
    """The JSON comes last: where it is, the folder is finished."""
    write_table(folder / HISTORY, COLUMNS, result.history)
    known = {
        name: getattr(result, name) for name in ("metrics", "history", "data", "mistakes", "near_duplicates")
    }
    write_text(folder / RESULT, json.dumps({**known, "recipe": result.recipe.to_dict()}, indent=1))


def read_result(folder: Path) -> Result:
    known = json.loads((folder / RESULT).read_text("utf-8"))
    recipe = Recipe(**known.pop("recipe"))
    return Result(model=load_file(folder / MODEL), recipe=recipe, out=folder, **known)
