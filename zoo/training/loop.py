"""One stage of training: epochs over cached inputs, the best weights kept, a checkpoint after each epoch and
every few minutes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.build import OUTPUT
from zoo.progress import progress
from zoo.training.answers import answers
from zoo.training.augmentation import augmentation, mixtures
from zoo.training.callbacks import Bar, Relay, Restart, Saver
from zoo.training.checkpoint import State, read_state, write_state
from zoo.training.device import jit, shareable, sharers
from zoo.training.feeding import feed
from zoo.training.network import SOFT, logits_of
from zoo.training.optimizer import averaging, optimizer, rates
from zoo.training.recipe import Recipe
from zoo.training.tasks import ONE_LABEL, Task

AT_ONCE = 256  # the most pictures that are judged together
FETCHED_AHEAD = 16  # batches, and more than TensorFlow does for any number of devices
EPOCH_SEEDS = 100_003  # more than epochs, so that no two seeds of a recipe share one


@dataclass(frozen=True, eq=False)
class Examples:
    """x: [views, N, ...] of any type; targets: float32 [N, C]; fresh: x are pictures, changed in each epoch.

    soft: a teacher's probabilities of each view, [views, N, C]; where the pictures are fresh, the teacher
    itself, images -> probabilities.
    """

    x: np.ndarray
    targets: np.ndarray
    fresh: bool = False
    soft: np.ndarray | keras.Model | None = None


@dataclass(frozen=True, eq=False)
class Held:
    """x: [N, ...] of any type; labels: the pictures', as in zoo.data.Pictures."""

    x: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Stage:
    """What learns, from what, how long and how fast.

    name: also the checkpoint's; model: x -> logits, or a dict of them by output; losses: the weight of each
    output's loss; epochs: at most; rate: the highest learning rate; first: the number that callbacks know
    its first epoch by; task: what its labels are.
    """

    name: str
    model: keras.Model
    examples: Examples
    validation: Held
    epochs: int
    rate: float
    first: int = 0
    losses: Mapping[str, float] = field(default_factory=lambda: {OUTPUT: 1.0})
    task: Task = ONE_LABEL

    def steps(self, recipe: Recipe) -> int:
        """Batches of an epoch."""
        return -(-len(self.examples.targets) // recipe.batch_size)


@dataclass(frozen=True)
class Watch:
    """Who is told of a training, and how many minutes of it a kill may cost."""

    callbacks: Sequence[keras.callbacks.Callback] = ()
    minutes: float = 10.0


class Batches(keras.utils.PyDataset):
    """One epoch: every picture once, in an order and in views that (seed, epoch) alone decide; from the
    batch `first` on as if those before it had been taken. Where several devices share the batches, some
    pictures come twice, so that the last one can be shared, too.
    """

    def __init__(self, stage: Stage, recipe: Recipe, epoch: int, first: int = 0) -> None:
        super().__init__()
        examples = stage.examples
        random = np.random.default_rng([recipe.seed, epoch])
        count = len(examples.targets)
        self.order = np.resize(random.permutation(count), shareable(count))
        self.views = random.integers(len(examples.x), size=count)
        self.examples, self.batch_size, self.first = examples, recipe.batch_size, first
        self.weights = stage.task.picture_weights(examples.targets) if recipe.class_weights else None
        self.outputs = tuple(stage.losses) if isinstance(stage.model.output, dict) else None
        seed = EPOCH_SEEDS * recipe.seed + epoch
        self.change = augmentation(recipe, seed) if examples.fresh else None
        self.mixtures = mixtures(recipe, seed) if examples.x.ndim == 5 else []
        self.random = random
        # Each batch is made once and in its turn, though Keras looks at the first two beforehand and, where
        # several devices share them, at as many as TensorFlow fetches ahead, by another thread.
        self.batch = lru_cache(maxsize=2 if sharers() == 1 else FETCHED_AHEAD)(self._make)
        self.one_at_a_time = threading.Lock()
        if self.change or self.mixtures:
            for index in range(first):
                self.batch(index)

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size) - self.first

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        with self.one_at_a_time:
            return self.batch(self.first + index)

    def _make(self, index: int) -> tuple[Any, ...]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        x = self.examples.x[self.views[chosen], chosen].astype(np.float32)
        labels, soft = self.examples.targets[chosen], self.examples.soft
        if isinstance(soft, np.ndarray):
            labels = np.concatenate([labels, soft[self.views[chosen], chosen]], axis=1, dtype=np.float32)
        if self.change:
            x = self.change(x)
        if self.mixtures:
            mixture = self.mixtures[self.random.integers(len(self.mixtures))]
            mixed = mixture({"images": x, "labels": labels}, training=True)
            x, labels = (keras.ops.convert_to_numpy(mixed[part]) for part in ("images", "labels"))
        if isinstance(soft, keras.Model):
            labels = np.concatenate([labels, soft.predict_on_batch(x)], axis=1)
        return self._by_output(x, labels)

    def _by_output(self, x: np.ndarray, labels: np.ndarray) -> tuple[Any, ...]:
        """labels: [n, C], or [n, 2 C] where the teacher's stand behind."""
        classes = self.examples.targets.shape[1]
        hard, soft = labels[:, :classes], labels[:, classes:]
        y = {name: soft if name == SOFT else hard for name in self.outputs} if self.outputs else hard
        return (x, y) if self.weights is None else (x, y, hard @ self.weights)


def train(stage: Stage, recipe: Recipe, folder: Path, watch: Watch | None = None) -> list[dict[str, Any]]:
    """Train, leave the weights of the lowest validation loss in the model, and return the stage's history.

    Epoch 0 is the state before training: no stage makes a model worse on the validation pictures. Where the
    folder holds a checkpoint of the stage, training goes on from there.
    """
    model, watch = stage.model, watch or Watch()
    compile_for(stage, recipe, rates(stage.steps(recipe) * stage.epochs, stage.rate, recipe))
    variables = [*model.variables, *model.optimizer.variables]
    path = folder / f"{stage.name}.npz"
    state = read_state(path, variables) or _next_state(State((), ()), {}, stage)
    if not _finished(state, stage, recipe):
        save = partial(write_state, path, variables=variables)
        state = _train(stage, recipe, state, save, watch)
    model.set_weights(state.best)
    return list(state.history)


def compile_for(stage: Stage, recipe: Recipe, rate: Any) -> None:
    """rate: a number, or a schedule of Keras."""

    def loss(output: str) -> Any:
        if output == SOFT:
            return stage.task.loss(0.0, None)
        targets = stage.examples.targets if recipe.class_weights else None
        return stage.task.loss(recipe.label_smoothing, targets)

    accuracy = stage.task.accuracy()
    several = isinstance(stage.model.output, dict)
    stage.model.compile(
        optimizer(stage.model, rate, replace(recipe, ema=averaging(recipe, stage.steps(recipe)))),
        {output: loss(output) for output in stage.losses} if several else loss(OUTPUT),
        loss_weights=dict(stage.losses) if several else None,
        metrics={OUTPUT: [accuracy]} if several else [accuracy],
        jit_compile=jit(),
    )


def _train(stage: Stage, recipe: Recipe, state: State, save: Callable[[State], None], watch: Watch) -> State:
    steps = stage.steps(recipe)
    listeners = keras.callbacks.CallbackList(
        list(watch.callbacks), model=stage.model, epochs=stage.epochs, steps=steps, stage=stage.name
    )
    listeners.on_train_begin()
    with progress() as bar:
        line = bar.add_task(stage.name, total=steps)
        while not _finished(state, stage, recipe):
            bar.reset(line, description=_describe(stage, state.history), completed=state.steps)
            own = [
                Restart(state.counted),
                Bar(bar, line),
                Saver(partial(_save_between, save, state), watch.minutes, state.steps, steps),
                Relay(listeners, state.steps),
            ]
            state = _epoch(stage, recipe, state, own, listeners)
            save(state)
    listeners.on_train_end()
    return state


def _save_between(
    save: Callable[[State], None], state: State, steps: int, counted: tuple[np.ndarray, ...]
) -> None:
    save(replace(state, steps=steps, counted=counted))


def _epoch(
    stage: Stage,
    recipe: Recipe,
    state: State,
    own: list[keras.callbacks.Callback],
    listeners: keras.callbacks.CallbackList,
) -> State:
    model, epoch = stage.model, len(state.history)
    number = stage.first + epoch - 1
    if not state.steps:
        _seed_dropout(model, recipe.seed, epoch)
    listeners.on_epoch_begin(number)
    batches = feed(Batches(stage, recipe, epoch, state.steps))
    logs = model.fit(batches, verbose=0, shuffle=False, callbacks=own).history
    for variable in model.trainable_variables:
        # On jax the moving average that Keras has just put there is one array with the optimizer's, and a
        # prediction gives the model's arrays away.
        variable.assign(keras.ops.copy(variable))
    accuracy = logs["accuracy"] if "accuracy" in logs else logs[f"{OUTPUT}_accuracy"]
    state = _next_state(state, {"loss": float(logs["loss"][0]), "accuracy": float(accuracy[0])}, stage)
    figures = {name: value for name, value in state.history[-1].items() if name not in ("stage", "epoch")}
    listeners.on_epoch_end(number, figures)
    return replace(state, stopped=bool(model.stop_training))


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """So that an epoch is the same in a process that goes on and in one that begins there."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    for i, state in enumerate(states):
        state.assign(np.asarray([1_000_003 * (seed + 1) + epoch, i], dtype=state.dtype))


def _next_state(state: State, learnt: dict[str, float], stage: Stage) -> State:
    """With the epoch that has just been learnt judged, and what it has left where it is the best."""
    loss, accuracy = stage.task.score(validation_logits(stage), stage.validation.labels)
    head = {"stage": stage.name, "epoch": len(state.history)}
    history = (*state.history, {**head, **learnt, "val_loss": loss, "val_accuracy": accuracy})
    better = _best(history) == len(history) - 1
    return State(history, tuple(stage.model.get_weights()) if better else state.best)


def validation_logits(stage: Stage) -> np.ndarray:
    """[N, C], by the network as it is."""
    x = stage.validation.x
    batches = -(-len(x) // AT_ONCE)
    return logits_of(answers(stage.model, x, at_once=-(-len(x) // batches)))


def _best(history: tuple[dict[str, Any], ...]) -> int:
    return min(range(len(history)), key=lambda epoch: history[epoch]["val_loss"])


def _finished(state: State, stage: Stage, recipe: Recipe) -> bool:
    epochs = len(state.history) - 1
    return state.stopped or epochs >= stage.epochs or epochs - _best(state.history) >= recipe.patience


def _describe(stage: Stage, history: tuple[dict[str, Any], ...]) -> str:
    last = history[-1]
    figures = f"validation loss {last['val_loss']:.3f}, accuracy {last['val_accuracy']:.3f}"
    return f"{stage.name} {len(history)}/{stage.epochs}, {figures}"
