"""A temperature for the logits, so that what is called 0.8 is right four times of five: Guo et al., arXiv
1706.04599.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from zoo.classifier import attach, facts
from zoo.errors import ZooError
from zoo.outputs import classifier_layer, flat
from zoo.training.metrics import expected_calibration_error, log_loss_and_accuracy, reliability

LOWEST, HIGHEST = 0.05, 20.0  # a temperature where validation asks for a sharper or a flatter one still
STEPS = 60  # halvings of that range: to float64's precision


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T that gives softmax(logits / T) the least log loss, within 0.05..20; logits may be logarithms of
    probabilities.

    The loss is convex in 1 / T, so its only zero of the slope is found by halving.
    """
    logits = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(labels)), labels].mean()
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(STEPS):
        middle = (low + high) / 2
        weights = np.exp(middle * logits)
        expected = ((weights * logits).sum(axis=1) / weights.sum(axis=1)).mean()
        low, high = (middle, high) if expected < own else (low, middle)
    return float(2 / (low + high))


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """What softmax gives of their logits divided by the temperature: [N, C]."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-12)) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def judge_calibration(
    probabilities: np.ndarray, labels: np.ndarray, held: np.ndarray, held_labels: np.ndarray
) -> dict[str, Any]:
    """The test pictures' probabilities before and after the temperature that the validation pictures ask for:
    temperature, ece, loss and reliability, and the three of them after: JSON-able.
    """
    temperature = fit_temperature(np.log(np.maximum(held, 1e-12)), held_labels)
    after = tempered(probabilities, temperature)
    return {"temperature": temperature, **_state(probabilities, labels), "after": _state(after, labels)}


def _state(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {
        "ece": expected_calibration_error(probabilities, labels),
        "loss": log_loss_and_accuracy(np.log(np.maximum(probabilities, 1e-12)), labels)[0],
        "reliability": reliability(probabilities, labels),
    }


def calibrate(model: keras.Model, temperature: float | None = None) -> keras.Model:
    """A copy of a Classifier whose logits are divided by the temperature: kernel and bias of its last layer
    carry it, so that every file it is exported to does. Its answers stay, their probabilities change.

    temperature: by default the one that zoo.fine_tune fitted on its validation pictures. Raises ZooError
    where there is none, it is not above 0, or the model's classifier has no weights of its own.
    """
    known = facts(model)
    if temperature is None:
        temperature = known.card.get("metrics", {}).get("calibration", {}).get("temperature")
    if temperature is None:
        raise ZooError(f"no temperature was fitted for {known.name}: give one, zoo.calibrate(model, 1.5)")
    if not 0 < temperature < float("inf"):
        raise ZooError(f"the temperature must be above 0, not {temperature}")
    if "temperature" in known.card:
        raise ZooError(f"{known.name} is calibrated already, by {known.card['temperature']:.3g}")
    network = flat(model)
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    layer = classifier_layer(copy)
    if not layer.weights:
        raise ZooError(
            f'the classifier of {known.name}, "{layer.name}", has no weights to carry a temperature'
        )
    for weight in layer.weights:
        weight.assign(weight / temperature)
    return attach(copy, replace(known, card={**known.card, "temperature": temperature}))
