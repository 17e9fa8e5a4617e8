"""Has a picture one label, or any number? A network's last activation, its loss and how it is judged follow.

Labels are int [N], or bool [N, C] where a picture may have several: as in zoo.data.Pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from zoo.classifier import MULTI_LABEL, SINGLE_LABEL
from zoo.training import metrics, multi_label
from zoo.training.metrics import Wrong


@dataclass(frozen=True)
class Task:
    """name: as in zoo.Facts.task; headline: the key of `evaluate` that says most, and what people call it.

    activation: of the logits, by its name in Keras.
    targets: labels and the number of classes -> float32 [N, C].
    decided: probabilities -> labels, and how sure each picture's is, [N], 0..1.
    loss: of logits, by label smoothing and, where rare labels count as much as common ones, the targets.
    picture_weights: targets -> the weight of a picture by its label, float32 [C]; None where the loss weighs
    labels instead.
    accuracy: a metric of logits that Keras keeps while it trains, named "accuracy".
    score: logits and labels -> loss without smoothing, and the accuracy.
    right: probabilities and labels -> which pictures are all right, bool [N].
    decisions: probabilities and labels -> probabilities [M, K] and labels int [M] of the single decisions, of
    which calibration speaks.
    wrong: probabilities, labels and the classes' names -> the wrong decisions, surest first.
    evaluate: the same -> metrics, JSON-able.
    """

    name: str
    activation: str
    headline: tuple[str, str]
    targets: Callable[[np.ndarray, int], np.ndarray]
    decided: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    loss: Callable[[float, np.ndarray | None], Any]
    picture_weights: Callable[[np.ndarray], np.ndarray | None]
    accuracy: Callable[[], keras.metrics.Metric]
    score: Callable[[np.ndarray, np.ndarray], tuple[float, float]]
    right: Callable[[np.ndarray, np.ndarray], np.ndarray]
    decisions: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    wrong: Callable[[np.ndarray, np.ndarray, tuple[str, ...]], list[Wrong]]
    evaluate: Callable[[np.ndarray, np.ndarray, tuple[str, ...]], dict[str, Any]]


def _class_weights(targets: np.ndarray) -> np.ndarray:
    """So that each class counts alike, and the pictures together as many as they are."""
    counts = targets.sum(axis=0, dtype=np.float64)
    return (len(targets) / (len(counts) * np.maximum(counts, 1))).astype(np.float32)


ONE_LABEL = Task(
    name=SINGLE_LABEL,
    activation="softmax",
    headline=("accuracy", "accuracy"),
    targets=lambda labels, classes: np.eye(classes, dtype=np.float32)[labels],
    decided=lambda probabilities: (probabilities.argmax(axis=1), probabilities.max(axis=1)),
    loss=lambda smoothing, _: keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing
    ),
    picture_weights=_class_weights,
    accuracy=lambda: keras.metrics.CategoricalAccuracy(name="accuracy"),
    score=metrics.log_loss_and_accuracy,
    right=lambda probabilities, labels: probabilities.argmax(axis=1) == labels,
    decisions=lambda probabilities, labels: (probabilities, labels),
    wrong=metrics.wrong_answers,
    evaluate=metrics.evaluate,
)
SEVERAL_LABELS = Task(
    name=MULTI_LABEL,
    activation="sigmoid",
    headline=("average_precision", "mean average precision"),
    targets=lambda labels, _: labels.astype(np.float32),
    decided=multi_label.decided,
    loss=multi_label.loss,
    picture_weights=lambda targets: None,
    accuracy=multi_label.accuracy,
    score=multi_label.log_loss_and_accuracy,
    right=multi_label.right,
    decisions=multi_label.decisions,
    wrong=multi_label.wrong_answers,
    evaluate=multi_label.evaluate,
)
TASKS = {task.name: task for task in (ONE_LABEL, SEVERAL_LABELS)}


def task_of(labels: np.ndarray) -> Task:
    return SEVERAL_LABELS if labels.ndim == 2 else ONE_LABEL
