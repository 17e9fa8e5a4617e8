"""The last step of a fine-tuning: what the test pictures say of the network, and what is odd about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from zoo.data import Pictures, Split, images, near_duplicates
from zoo.preprocessing import Preprocessing, read_image
from zoo.training.calibration import judge_calibration
from zoo.training.mistakes import shown, thumbnail, with_heat, worst
from zoo.training.tasks import task_of

DUPLICATES_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Judgement:
    """What `Result` says of them."""

    metrics: dict[str, Any]
    mistakes: list[dict[str, Any]]
    near_duplicates: list[dict[str, Any]]


Answer = Callable[[np.ndarray], np.ndarray]


def judge(
    model: keras.Model,
    answer: Answer,
    pictures: Pictures,
    sides: Split,
    preprocessing: Preprocessing,
    held: np.ndarray,
) -> Judgement:
    """model: images -> probabilities [N, C]; answer: the same, of any number of images.

    The temperature is fitted on the validation pictures: `held` is what the network says of them, [V, C].
    """
    test = images(pictures, preprocessing, sides.test)
    probabilities, labels = answer(test), pictures.labels[sides.test]
    task = task_of(pictures.labels)
    calibration = judge_calibration(
        *task.decisions(probabilities, labels),
        *task.decisions(held, pictures.labels[sides.validation]),
    )
    wrong = worst(task.wrong(probabilities, labels, pictures.classes))
    places = [one.place for one in wrong]
    counts = {name: len(getattr(sides, name)) for name in ("training", "validation", "test")}
    return Judgement(
        metrics={
            **task.evaluate(probabilities, labels, pictures.classes),
            "calibration": calibration,
            "pictures": counts,
            "held_out": f"{counts['test']} test pictures, seen by neither training nor early stopping",
        },
        mistakes=with_heat(shown(wrong, pictures, sides.test), places, model, pictures, preprocessing),
        near_duplicates=[
            {**pair, "thumbnails": [thumbnail(read_image(pictures.sources[i])) for i in pair["indices"]]}
            for pair in near_duplicates(pictures, sides)[:DUPLICATES_SHOWN]
        ],
    )
