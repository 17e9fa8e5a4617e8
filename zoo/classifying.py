"""What a Classifier sees in pictures, in the words of its labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from os import PathLike
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

from zoo.classifier import Facts, facts
from zoo.data.pictures import in_batches
from zoo.errors import DataError, ZooError
from zoo.outputs import heads
from zoo.preprocessing import Picture, Preprocessing, is_one, listed, load_image
from zoo.quiet import several_networks
from zoo.training.answers import answers

PROBABILITIES = "probabilities"
AT_ONCE = 32

Answer = list[tuple[str, float]]

_scoring: WeakKeyDictionary[keras.Model, tuple[list[int], keras.Model]] = WeakKeyDictionary()


def classify(
    model_or_name: keras.Model | str | PathLike[str], pictures: Picture | Iterable[Picture], top: int = 5
) -> Any:
    """[(label, probability), ...] of a picture, the likeliest first, `top` at most; a list of these for
    several pictures, which may be any number.

    A picture is a file's path, its bytes, an image of Pillow's, or an array [H, W, 3] or [H, W] of 0..255; an
    array [N, H, W, 3] is several. It is resized and cropped as the model's weights expect. Of a network that
    gives several labels, those above 0.5 are there. Raises DataError for what is no picture, ZooError for a
    `top` below 1 and a model that is no classifier, and what zoo.load and zoo.facts raise.
    """
    if top < 1:
        raise ZooError(f"top is how many classes are named, 1 or more, not {top}")
    rows = []
    for answer in each(model_or_name, listed(pictures), top):
        if isinstance(answer, DataError):
            raise answer
        rows.append(answer)
    return rows[0] if is_one(pictures) else rows


def each(
    model_or_name: keras.Model | str | PathLike[str], pictures: Sequence[Picture], top: int = 5
) -> Iterator[Answer | DataError]:
    """`classify` of many, in their order; for what is no picture the error that says why."""
    network, known = scoring(model_or_name)
    at_once = min(AT_ONCE, len(pictures)) or 1
    load_one = partial(_loaded, known.preprocessing)
    with several_networks():
        for batch in in_batches(f"classify by {known.name}", load_one, pictures, at_once):
            images = [image for image in batch if not isinstance(image, DataError)]
            rows = iter(answers(network, np.stack(images), at_once) if images else ())
            for image in batch:
                yield image if isinstance(image, DataError) else _best(next(rows), known.labels, top)


def scoring(model_or_name: keras.Model | str | PathLike[str]) -> tuple[keras.Model, Facts]:
    """Images [N, h, w, 3] -> probabilities [N, C], whatever the model's last activation, and the facts."""
    from zoo.loading import load

    model = model_or_name if isinstance(model_or_name, keras.Model) else load(model_or_name)
    known, variables = facts(model), list(map(id, model.variables))
    # Tracing takes longer than answering. Keras's quantize puts other variables into the same layers.
    if model not in _scoring or _scoring[model][0] != variables:
        outputs = heads(model)
        _scoring[model] = variables, keras.Model(outputs.inputs, outputs.output[PROBABILITIES])
    return _scoring[model][1], known


def _loaded(preprocessing: Preprocessing, picture: Picture) -> np.ndarray | DataError:
    try:
        return load_image(preprocessing, picture)
    except DataError as error:
        return error


def _best(probabilities: np.ndarray, labels: tuple[str, ...], top: int) -> Answer:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(labels[i], float(probabilities[i])) for i in order]
