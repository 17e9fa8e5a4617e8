"""How good a Classifier is on labelled pictures, and whether another one is better."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from os import PathLike
from typing import Any

import keras
import numpy as np

from zoo.classifying import scoring
from zoo.data import Pictures, open_data
from zoo.data.pictures import batches
from zoo.errors import DataError, ZooError, did_you_mean
from zoo.labels import other_names
from zoo.quiet import several_networks
from zoo.training.tasks import ONE_LABEL, TASKS, Task, task_of
from zoo.wording import counted

log = logging.getLogger("zoo")

TOP = 5


@dataclass(frozen=True, eq=False)
class Evaluation:
    """name: the model's; task: as in zoo.Facts; metrics: accuracy 0..1, its 95 % interval, loss, ece, and
    precision, recall and f1 of each class that has pictures; of more than five classes also top5, how many
    have the label among the first five answers, 0..1; where a picture may have several labels, what
    zoo.training.multi_label.evaluate says; right: bool [N], in the data's order: all labels are; hashes: of
    the pictures' contents; seconds: that the network took for one picture, in batches, without decoding.
    """

    name: str
    task: str
    metrics: dict[str, Any]
    right: np.ndarray
    hashes: tuple[str, ...]
    seconds: float

    def __repr__(self) -> str:
        low, high = self.metrics["interval"]
        return (
            f"Evaluation({self.name}: accuracy {self.metrics['accuracy']:.3f} ({low:.3f} to {high:.3f}) on "
            f"{counted(len(self.right), 'picture')}, {1000 * self.seconds:.1f} ms each)"
        )


@dataclass(frozen=True)
class Comparison:
    """difference: the second model's accuracy less the first's, 0..1, with its 95 % interval; only_first and
    only_second: pictures that only one of them names right; p: of McNemar's exact test.
    """

    difference: float
    interval: tuple[float, float]
    only_first: int
    only_second: int
    p: float


@several_networks()
def evaluate(
    model_or_name: keras.Model | str | PathLike[str], data: Any, *, batch_size: int = 32
) -> Evaluation:
    """Judge a Classifier on all the pictures of `data` (what zoo.data.open_data takes).

    The data's classes must be labels of the model, or their places from 0; ImageNet's may be called as its
    folders are (n01440764). A network that gives several labels is judged by them all:
    what the data doesn't name is not in the pictures. Raises DataError naming a class that is no label, for
    pictures with several labels where the model gives one, and what zoo.load and open_data raise.
    """
    network, known = scoring(model_or_name)
    pictures = open_data(data, to_split=False)
    task = TASKS[known.task]
    labels = _labels(pictures, known.labels, task)
    answers, seconds = [], []
    for images in batches(f"evaluate {known.name}", known.preprocessing, pictures.sources, batch_size):
        begin = time.perf_counter()
        answers.append(network.predict_on_batch(images))
        seconds.append((time.perf_counter() - begin) / len(images))
    probabilities = np.concatenate(answers)
    judged = task.evaluate(probabilities, labels, known.labels)
    judged["classes"] = {name: row for name, row in judged["classes"].items() if row["pictures"]}
    if task is ONE_LABEL and len(known.labels) > TOP:
        first = np.argpartition(-probabilities, TOP, axis=1)[:, :TOP]
        judged["top5"] = float(np.mean((first == labels[:, None]).any(axis=1)))
    right = task.right(probabilities, labels)
    # The first batch waits for the network to be traced.
    took = float(np.median(seconds[1:] or seconds))
    return Evaluation(known.name, task.name, judged, right, pictures.hashes, took)


def _labels(pictures: Pictures, labels: tuple[str, ...], task: Task) -> np.ndarray:
    """The pictures' labels as the model has them: the index of the one, or bool [N, C]."""
    places = np.asarray(_places(pictures.classes, labels))
    given = task_of(pictures.labels)
    if task is ONE_LABEL:
        if given is not task:
            raise DataError(
                "the pictures have several labels and the model gives one: fine-tune it on such pictures; "
                'if it gives several, say so: zoo.attach(model, zoo.Facts(..., card={"task": "multi-label"}))'
            )
        return places[pictures.labels]
    targets = np.zeros((len(pictures), len(labels)), bool)
    targets[:, places] = given.targets(pictures.labels, len(pictures.classes))
    return targets


def _places(classes: tuple[str, ...], labels: tuple[str, ...]) -> list[int]:
    """Of the data's classes among the model's labels, or among what else data calls those."""
    for names in (labels, *other_names(labels)):
        place = {name: i for i, name in enumerate(names)}
        if all(name in place for name in classes):
            found = [place[name] for name in classes]
            if names is not labels:
                log.warning('the class "%s" is taken for "%s", and so on', classes[0], labels[found[0]])
            return found
    strange = next(name for name in classes if name not in labels)
    hint = did_you_mean(strange, labels, f"it has {', '.join(labels[:5])} ...")
    raise DataError(f'the model has no class "{strange}"; {hint}')


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """Two evaluations of the same pictures, pair by pair. McNemar, Psychometrika 12 (1947).

    A picture with several labels is right where all are. Raises ZooError for evaluations of different
    pictures, and for two models of which one gives one label and the other several.
    """
    if first.task != second.task:
        raise ZooError(
            f"{first.name} is a {first.task} network, {second.name} is {second.task}: compare two of a kind"
        )
    if first.hashes != second.hashes:
        raise ZooError("the two evaluations are of different pictures; evaluate both models on the same data")
    n = len(first.right)
    b = int(np.sum(first.right & ~second.right))
    c = int(np.sum(~first.right & second.right))
    difference = (c - b) / n
    half = 1.96 * math.sqrt(max(b + c - (c - b) ** 2 / n, 0)) / n
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    return Comparison(difference, (difference - half, difference + half), b, c, min(1.0, 2 * tail))
