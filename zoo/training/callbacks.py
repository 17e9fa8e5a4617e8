"""What is told of a training while it runs: Keras's callbacks, by name or as they are, and our own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.errors import ZooError, did_you_mean


def callbacks_of(wanted: Any, folder: Path | None) -> list[keras.callbacks.Callback]:
    """wanted: a callback or the name of one of NAMED, or several of them; these write into the folder.

    Raises ZooError for an unknown name, what is no callback, and a name without a folder.
    """
    several = wanted if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]
    return [one if isinstance(one, keras.callbacks.Callback) else _named(one, folder) for one in several]


def _named(name: Any, folder: Path | None) -> keras.callbacks.Callback:
    if not isinstance(name, str):
        raise ZooError(f"{name!r} is no callback; give a keras.callbacks.Callback or one of {_known()}")
    if name not in NAMED:
        raise ZooError(f'unknown callback "{name}"; ' + did_you_mean(name, NAMED, f"there are: {_known()}"))
    if folder is None:
        raise ZooError(f'the callback "{name}" writes into the out folder: give fine_tune one')
    return NAMED[name](folder)


def _known() -> str:
    return ", ".join(NAMED)


def _tensorboard(folder: Path) -> keras.callbacks.Callback:
    if find_spec("tensorboard") is None:
        raise ZooError("TensorBoard is not installed: pip install 'cnn-zoo[tensorboard]'")
    return keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)


NAMED: dict[str, Callable[[Path], keras.callbacks.Callback]] = {
    "tensorboard": _tensorboard,
    "csv": lambda folder: keras.callbacks.CSVLogger(folder / "log.csv", append=True),
}


class Relay(keras.callbacks.Callback):
    """Tells the listeners of an epoch's batches, from number `first` on; of epochs they hear elsewhere."""

    def __init__(self, listeners: keras.callbacks.CallbackList, first: int) -> None:
        super().__init__()
        self.listeners, self.first = listeners, first

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.listeners.on_train_batch_begin(self.first + batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.listeners.on_train_batch_end(self.first + batch, logs)


class Bar(keras.callbacks.Callback):
    def __init__(self, bar: Any, line: Any) -> None:
        super().__init__()
        self.bar, self.line = bar, line

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.bar.advance(self.line)


class Saver(keras.callbacks.Callback):
    """Calls save(batches done, what the metrics have counted) every so many minutes, but not at the end."""

    def __init__(
        self, save: Callable[[int, tuple[np.ndarray, ...]], None], minutes: float, first: int, steps: int
    ) -> None:
        super().__init__()
        self.save, self.seconds, self.first, self.steps = save, 60 * minutes, first, steps
        self.last = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        done = self.first + batch + 1
        if done < self.steps and time.monotonic() - self.last >= self.seconds:
            metrics = self.model.metrics_variables
            self.save(done, tuple(keras.ops.convert_to_numpy(variable) for variable in metrics))
            self.last = time.monotonic()


class Restart(keras.callbacks.Callback):
    """Gives the metrics of a half-done epoch back what they had counted, after Keras has reset them."""

    def __init__(self, counted: tuple[np.ndarray, ...]) -> None:
        super().__init__()
        self.counted = counted

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if not self.counted:
            return
        model = self.model
        # Keras makes some of its metrics only when there is something to count.
        y = keras.tree.map_structure(lambda tensor: np.zeros((1, tensor.shape[-1]), np.float32), model.output)
        model.compute_loss(y=y, y_pred=y)
        model.compute_metrics(None, y, y)
        for variable, value in zip(model.metrics_variables, self.counted, strict=True):
            variable.assign(value)
