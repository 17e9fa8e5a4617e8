"""One stage of training: epochs over cached inputs, the best weights kept, a checkpoint after each epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.progress import progress
from zoo.training.augmentation import augmentation, mixtures
from zoo.training.checkpoint import State, read_state, write_state
from zoo.training.metrics import log_loss_and_accuracy
from zoo.training.network import jit
from zoo.training.optimizer import optimizer
from zoo.training.recipe import Recipe

EPOCH_SEEDS = 100_003  # more than epochs, so that no two seeds of a recipe share one


@dataclass(frozen=True, eq=False)
class Examples:
    """x: [views, N, ...] of any type; labels: int [N]; fresh: x are pictures, to be changed in each epoch."""

    x: np.ndarray
    labels: np.ndarray
    fresh: bool = False


@dataclass(frozen=True)
class Stage:
    """name: also the checkpoint's; epochs at most; rate: the highest learning rate."""

    name: str
    epochs: int
    rate: float


class Batches(keras.utils.PyDataset):
    """One epoch: every picture once, in an order and in views that (seed, epoch) alone decide."""

    def __init__(self, examples: Examples, classes: int, recipe: Recipe, epoch: int) -> None:
        super().__init__()
        random = np.random.default_rng([recipe.seed, epoch])
        self.order = random.permutation(len(examples.labels))
        self.views = random.integers(len(examples.x), size=len(examples.labels))
        self.examples, self.batch_size = examples, recipe.batch_size
        self.targets = np.eye(classes, dtype=np.float32)[examples.labels]
        seed = EPOCH_SEEDS * recipe.seed + epoch
        self.change = augmentation(recipe, seed) if examples.fresh else None
        self.mixtures = mixtures(recipe, seed) if examples.x.ndim == 5 else []
        self.random = random

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        x = self.examples.x[self.views[chosen], chosen].astype(np.float32)
        if self.change:
            x = self.change(x)
        if not self.mixtures:
            return np.asarray(x), self.targets[chosen]
        mixture = self.mixtures[self.random.integers(len(self.mixtures))]
        mixed = mixture({"images": x, "labels": self.targets[chosen]}, training=True)
        return np.asarray(mixed["images"]), np.asarray(mixed["labels"])


class Bar(keras.callbacks.Callback):
    def __init__(self, bar: Any, line: Any) -> None:
        super().__init__()
        self.bar, self.line = bar, line

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.bar.advance(self.line)


def train(
    stage: Stage, model: keras.Model, examples: Examples, validation: Examples, recipe: Recipe, folder: Path
) -> list[dict[str, Any]]:
    """Train, leave the weights of the lowest validation loss in the model, and return the stage's history.

    Epoch 0 is the state before training: no stage makes a model worse on the validation pictures. Where the
    folder holds a checkpoint of the stage, training goes on from there.
    """
    steps = -(-len(examples.labels) // recipe.batch_size)
    _compile(model, stage, steps, recipe)
    variables = [*model.variables, *model.optimizer.variables]
    path = folder / f"{stage.name}.npz"
    before = {"stage": stage.name, "epoch": 0}
    state = read_state(path, variables) or _next_state(State((), ()), before, model, validation)
    with progress() as bar:
        while not _finished(state.history, stage.epochs, recipe.patience):
            epoch = len(state.history)
            line = bar.add_task(_describe(stage, state.history), total=steps)
            entry = {
                "stage": stage.name,
                "epoch": epoch,
                **_epoch(model, examples, recipe, epoch, Bar(bar, line)),
            }
            state = _next_state(state, entry, model, validation)
            write_state(path, state, variables)
            bar.remove_task(line)
    model.set_weights(state.best)
    return list(state.history)


def _compile(model: keras.Model, stage: Stage, steps: int, recipe: Recipe) -> None:
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    made = optimizer(model, steps * stage.epochs, stage.rate, recipe)
    model.compile(made, loss, metrics=["accuracy"], jit_compile=jit())


def _epoch(model: keras.Model, examples: Examples, recipe: Recipe, epoch: int, bar: Bar) -> dict[str, float]:
    _seed_dropout(model, recipe.seed, epoch)
    batches = Batches(examples, model.output_shape[-1], recipe, epoch)
    weights = _class_weights(examples.labels) if recipe.class_weights else None
    logs = model.fit(batches, verbose=0, shuffle=False, callbacks=[bar], class_weight=weights).history
    return {"loss": float(logs["loss"][0]), "accuracy": float(logs["accuracy"][0])}


def _class_weights(labels: np.ndarray) -> dict[int, float]:
    """So that each class counts alike, and the pictures together as many as they are."""
    counts = np.bincount(labels)
    return {label: len(labels) / (len(counts) * count) for label, count in enumerate(counts) if count}


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """So that an epoch is the same in a process that goes on and in one that begins there."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    for i, state in enumerate(states):
        state.assign(np.asarray([1_000_003 * (seed + 1) + epoch, i], dtype=state.dtype))


def _next_state(state: State, entry: dict[str, Any], model: keras.Model, validation: Examples) -> State:
    logits = model.predict(validation.x[0].astype(np.float32), batch_size=256, verbose=0)
    loss, accuracy = log_loss_and_accuracy(logits, validation.labels)
    history = (*state.history, {**entry, "val_loss": loss, "val_accuracy": accuracy})
    better = _best(history) == len(history) - 1
    return State(history, tuple(model.get_weights()) if better else state.best)


def _best(history: tuple[dict[str, Any], ...]) -> int:
    return min(range(len(history)), key=lambda epoch: history[epoch]["val_loss"])


def _finished(history: tuple[dict[str, Any], ...], epochs: int, patience: int) -> bool:
    return len(history) > epochs or len(history) - 1 - _best(history) >= patience


def _describe(stage: Stage, history: tuple[dict[str, Any], ...]) -> str:
    last = history[-1]
    figures = f"validation loss {last['val_loss']:.3f}, accuracy {last['val_accuracy']:.3f}"
    return f"{stage.name} {len(history)}/{stage.epochs}, {figures}"
