"""Which learning rate suits a network and pictures: the range test of Smith, arXiv 1506.01186."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.classifier import facts
from zoo.data import open_data, split
from zoo.errors import ZooError
from zoo.plotting import new_figure, write_png
from zoo.precision import float32_policy
from zoo.quiet import several_networks
from zoo.training.loop import Batches, Stage, compile_for, train
from zoo.training.network import learning, precision, prepare
from zoo.training.recipe import Recipe, resolve
from zoo.training.self_training import Material
from zoo.training.stages import stages
from zoo.training.tasks import task_of
from zoo.training.tuning import lessons_of, load_student, load_teacher, preprocessing_of, side_losses

SMOOTHING = 0.9  # of the losses: an exponential average over about ten batches
NOISY = 10  # the first batches, of which the average knows too few
TOO_MUCH = 4.0  # times the lowest loss: there the test ends


@dataclass(frozen=True, eq=False)
class RateTest:
    """rates: float [K], one for each batch, rising; losses: float [K], smoothed; suggested: the rate at which
    the loss fell fastest, for `fine_tune(..., rate=...)`.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggested: float

    def save(self, path: str | PathLike[str]) -> Path:
        """Plot loss over rate as a PNG. Raises ZooError where matplotlib is not installed."""
        figure = new_figure(6, 4)
        ax = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="loss")
        ax.plot(self.rates, self.losses)
        ax.axvline(self.suggested, linestyle="--", color="grey", label=f"suggested: {self.suggested:.1e}")
        ax.legend()
        return write_png(figure, path)


@float32_policy()
@several_networks()
def find_rate(
    model_or_name: keras.Model | str | PathLike[str],
    data: Any,
    out: str | PathLike[str] | None = None,
    *,
    recipe: Recipe | str | PathLike[str] | None = None,
    lowest: float = 1e-6,
    highest: float = 1.0,
    batches: int = 100,
    **changes: Any,
) -> RateTest:
    """Train with a rate that rises from batch to batch, and see where the loss falls and where it bursts.

    model_or_name, data, recipe and changes: as in `fine_tune`, whose rate of the top is looked for, after the
    head has learnt; where the recipe has no epochs, that of the head. out: where to save the plot, a PNG.

    Raises ZooError for rates that do not rise, and what `fine_tune` raises.
    """
    if not 0 < lowest < highest or batches < 10:
        raise ZooError("the rates must rise from above 0, over at least 10 batches")
    resolved = resolve(recipe, **changes)
    pictures = open_data(data)
    keras.utils.set_random_seed(resolved.seed)
    model = load_student(model_or_name, resolved)
    known, teacher = facts(model), load_teacher(None, resolved)
    network = prepare(model, len(pictures.classes), resolved.top, task_of(pictures.labels).activation)
    material = Material(pictures, split(pictures, resolved.validation, resolved.test))
    lessons = lessons_of(material, preprocessing_of(known, resolved), resolved, teacher)
    rates = np.geomspace(lowest, highest, batches)
    with tempfile.TemporaryDirectory(prefix="find-rate-") as passing, precision(network, resolved.precision):
        for stage in stages(network, lessons, side_losses(known), resolved, Path(passing)):
            with learning(stage.model, resolved.frozen_norms):
                if stage.name == "head" and resolved.epochs:
                    train(stage, resolved, Path(passing))
                else:
                    found = _test(stage, resolved, rates)
    if out is not None:
        found.save(out)
    return found


def _test(stage: Stage, recipe: Recipe, rates: np.ndarray) -> RateTest:
    compile_for(stage, recipe, float(rates[0]))
    smoothed: list[float] = []
    average = 0.0
    for i, (rate, batch) in enumerate(zip(rates, _endless(stage, recipe), strict=False), start=1):
        stage.model.optimizer.learning_rate = float(rate)
        stage.model.reset_metrics()
        loss = float(stage.model.train_on_batch(*batch, return_dict=True)["loss"])
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        unbiased = average / (1 - SMOOTHING**i)
        if not np.isfinite(loss) or unbiased > TOO_MUCH * min(smoothed, default=unbiased):
            break
        smoothed.append(unbiased)
    return suggest(rates[: len(smoothed)], np.asarray(smoothed))


def suggest(rates: np.ndarray, losses: np.ndarray) -> RateTest:
    """Raises ZooError where the loss falls nowhere."""
    if len(losses) < 3 or losses.min() >= losses[0]:
        raise ZooError("the loss fell at no rate: begin with a lower one, or look at the pictures' labels")
    end = int(np.argmin(losses)) + 1
    start = min(NOISY, end - 1)
    slopes = np.gradient(losses, np.log(rates))
    steepest = start + int(np.argmin(slopes[start:end]))
    return RateTest(rates, losses, float(rates[steepest]))


def _endless(stage: Stage, recipe: Recipe) -> Iterator[tuple[Any, ...]]:
    for epoch in count(1):
        batches = Batches(stage, recipe, epoch)
        yield from (batches[i] for i in range(len(batches)))
