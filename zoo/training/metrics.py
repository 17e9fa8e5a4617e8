"""What the numbers of a result mean, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 15  # of confidence, as Guo et al. have them


@dataclass(frozen=True)
class Wrong:
    """A wrong decision. picture: its row; place: the index of the class that it is about; label, predicted:
    what is true and what was said; probability: of the latter; of_label: of the former.
    """

    picture: int
    place: int
    label: str
    predicted: str
    probability: float
    of_label: float


def wrong_answers(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> list[Wrong]:
    """probabilities [N, C], labels int [N] -> the wrong first answers, surest first."""
    predicted = probabilities.argmax(axis=1)
    rows = np.flatnonzero(labels != predicted)
    surest = rows[np.argsort(-probabilities[rows, predicted[rows]], kind="stable")]
    return [
        Wrong(
            picture=int(i),
            place=int(predicted[i]),
            label=classes[labels[i]],
            predicted=classes[predicted[i]],
            probability=float(probabilities[i, predicted[i]]),
            of_label=float(probabilities[i, labels[i]]),
        )
        for i in surest
    ]


def log_loss_and_accuracy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """logits [N, C], labels int [N] -> mean of -ln p(label), without label smoothing; fraction right."""
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -log_probabilities[np.arange(len(labels)), labels].mean()
    return float(loss), float((logits.argmax(axis=1) == labels).mean())


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int [C, C]: rows are the true classes, columns the predicted ones."""
    return np.bincount(classes * labels + predicted, minlength=classes**2).reshape(classes, classes)


def per_class(confusion: np.ndarray, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """precision, recall and f1 in 0..1 (0 where there is nothing to count), pictures."""
    right = np.diag(confusion)
    predicted, there = confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(there, 1)
    f1 = 2 * right / np.maximum(predicted + there, 1)
    return {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "pictures": int(n)}
        for name, p, r, f, n in zip(names, precision, recall, f1, there, strict=True)
    }


def interval(accuracy: float, pictures: int) -> tuple[float, float]:
    """95 % confidence interval of an accuracy measured on so many pictures. Wilson, JASA 22 (1927)."""
    z2 = 1.96**2 / pictures
    middle, half = accuracy + z2 / 2, np.sqrt(z2 * (accuracy * (1 - accuracy) + z2 / 4))
    return float((middle - half) / (1 + z2)), float((middle + half) / (1 + z2))


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Predictions in fifteen bins by the probability of the first answer, those of them with pictures: from
    (excluded), to, mean confidence, accuracy, pictures.

    probabilities: [N, C], labels: int [N].
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        {
            "from": i / BINS,
            "to": (i + 1) / BINS,
            "confidence": float(confidence[place == i].mean()),
            "accuracy": float(right[place == i].mean()),
            "pictures": int((place == i).sum()),
        }
        for i in range(BINS)
        if (place == i).any()
    ]


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """0..1: the bins' differences between accuracy and mean confidence, averaged by their pictures. Guo et
    al., arXiv 1706.04599, equation 3.
    """
    bins = reliability(probabilities, labels)
    gaps = (one["pictures"] * abs(one["accuracy"] - one["confidence"]) for one in bins)
    return float(sum(gaps) / len(labels))


def evaluate(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """probabilities [N, C] -> accuracy, its interval, loss, ece, classes, confusion (rows true): JSON."""
    loss, accuracy = log_loss_and_accuracy(np.log(np.maximum(probabilities, 1e-12)), labels)
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1), len(classes))
    return {
        "accuracy": accuracy,
        "interval": list(interval(accuracy, len(labels))),
        "loss": loss,
        "ece": expected_calibration_error(probabilities, labels),
        "classes": per_class(confusion, classes),
        "confusion": confusion.tolist(),
    }
