"""What the stages of a fine-tuning learn from: pictures where all of the network learns, else maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from zoo.build import OUTPUT
from zoo.training.answers import answers, together
from zoo.training.loop import Examples, Held, Stage
from zoo.training.network import SOFT, Network, with_soft_output
from zoo.training.recipe import Recipe
from zoo.training.tasks import Task, task_of
from zoo.training.views import MAPS, maps_of_views


@dataclass(frozen=True, eq=False)
class Lessons:
    """uint8 images [N, h, w, 3] to learn from, with targets float32 [N, C], and to judge by, with labels as
    in Pictures; teacher: images -> soft probabilities [N, C].
    """

    images: np.ndarray
    targets: np.ndarray
    held_images: np.ndarray
    held_labels: np.ndarray
    teacher: keras.Model | None = None

    @property
    def task(self) -> Task:
        return task_of(self.held_labels)

    def at_once(self, recipe: Recipe) -> int:
        """Pictures that what does not learn sees together."""
        return together(self.images, recipe.batch_size)


def stages(
    network: Network, lessons: Lessons, side_losses: Mapping[str, float], recipe: Recipe, folder: Path
) -> Iterator[Stage]:
    """The head on features, then the top with it; both from maps that the bottom computes once.

    side_losses: the weight of each auxiliary head's loss. folder: keeps what has been computed.
    """
    top = top_stage(network, lessons, side_losses, recipe, folder)
    if recipe.head_epochs:
        seen, unseen = top.examples, top.validation
        at_once = lessons.at_once(recipe)
        if network.whole_learns:
            x = maps_of_views(network.embed, lessons.images, recipe, folder / "features.npy")
        else:
            x = np.stack([answers(network.embed, view, at_once) for view in seen.x])
        features = Examples(x, lessons.targets, soft=_soft_views(lessons, recipe, folder))
        held = Held(answers(network.embed, unseen.x, at_once), lessons.held_labels)
        epochs, rate = recipe.head_epochs, recipe.head_rate
        head = Stage("head", network.head, features, held, epochs, rate, task=lessons.task)
        yield with_losses(head, {}, recipe)
    if recipe.epochs:
        yield top


def top_stage(
    network: Network, lessons: Lessons, side_losses: Mapping[str, float], recipe: Recipe, folder: Path
) -> Stage:
    if network.whole_learns:
        seen = Examples(lessons.images[None], lessons.targets, fresh=True, soft=lessons.teacher)
        held = Held(lessons.held_images, lessons.held_labels)
    else:
        views = maps_of_views(network.bottom, lessons.images, recipe, folder / "maps.npy")
        seen = Examples(views, lessons.targets, soft=_soft_views(lessons, recipe, folder))
        held_maps = answers(network.bottom, lessons.held_images, lessons.at_once(recipe))
        held = Held(held_maps.astype(MAPS), lessons.held_labels)
    outputs = network.top.output
    sides = (
        {name: side_losses[name] for name in outputs if name != OUTPUT} if isinstance(outputs, dict) else {}
    )
    stage = Stage("top", network.top, seen, held, recipe.epochs, recipe.rate, task=lessons.task)
    return with_losses(stage, sides, recipe)


def with_losses(stage: Stage, sides: Mapping[str, float], recipe: Recipe) -> Stage:
    """The soft labels' loss counts by the temperature's square, for its gradients shrink by that."""
    losses = {OUTPUT: 1.0, **sides}
    if stage.examples.soft is None:
        return replace(stage, losses=losses)
    share = recipe.distillation or 0.0
    losses |= {OUTPUT: 1 - share, SOFT: share * recipe.temperature**2}
    return replace(stage, model=with_soft_output(stage.model, recipe.temperature), losses=losses)


def _soft_views(lessons: Lessons, recipe: Recipe, folder: Path) -> np.ndarray | None:
    """The teacher sees the very views that the bottom has seen."""
    if lessons.teacher is None:
        return None
    return maps_of_views(lessons.teacher, lessons.images, recipe, folder / "soft.npy")
