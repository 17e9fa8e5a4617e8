"""Of pictures with any number of labels: loss and metrics. Every label is its own decision, yes above 0.5.

labels: bool [N, C]; probabilities and logits: [N, C].
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.training.metrics import Wrong, expected_calibration_error, interval

YES = 0.5
RESAMPLES = 1000
CHUNK = 50  # resamples at once
RESAMPLED = ("average_precision", "micro_f1", "macro_f1")


def decided(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and how sure the least sure of each picture's decisions is, [N]."""
    return probabilities > YES, np.maximum(probabilities, 1 - probabilities).min(axis=1)


def loss(smoothing: float, targets: np.ndarray | None) -> Any:
    """The mean binary cross-entropy. targets: weighs the yes of each label by its no's for one yes."""
    if targets is None:
        return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
    counts = targets.sum(axis=0, dtype=np.float64)
    weights = ((len(targets) - counts) / np.maximum(counts, 1)).astype(np.float32)

    def weighted(y: Any, logits: Any) -> Any:
        y = y * (1 - smoothing) + smoothing / 2
        yes, no = ops.softplus(-logits), ops.softplus(logits)
        return ops.mean(y * weights * yes + (1 - y) * no, axis=-1)

    return weighted


def accuracy() -> keras.metrics.Metric:
    """Of logits: the fraction of pictures whose labels are all right."""

    def all_right(y: Any, logits: Any) -> Any:
        return ops.all(ops.equal(y > YES, logits > 0), axis=-1)

    return keras.metrics.MeanMetricWrapper(all_right, name="accuracy")


def log_loss_and_accuracy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The mean of -ln p(yes or no) over all labels; the fraction of pictures whose labels are all right."""
    logits = logits.astype(np.float64)
    loss = np.logaddexp(0, np.where(labels, -logits, logits)).mean()
    return float(loss), float(((logits > 0) == labels).all(axis=1).mean())


def right(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whose labels are all right: bool [N]."""
    return ((probabilities > YES) == labels).all(axis=1)


def decisions(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every label of every picture as a choice of no or yes: [N * C, 2], int [N * C]."""
    yes = probabilities.ravel().astype(np.float64)
    return np.stack([1 - yes, yes], axis=1), labels.ravel().astype(np.int64)


def wrong_answers(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> list[Wrong]:
    """The labels that were said or missed wrongly, surest first."""
    rows, columns = np.nonzero((probabilities > YES) != labels)
    yes = probabilities[rows, columns]
    sure = np.maximum(yes, 1 - yes)
    found = []
    for i in np.argsort(-sure, kind="stable"):
        row, place = int(rows[i]), int(columns[i])
        answers = (f"no {classes[place]}", classes[place])
        there = int(labels[row, place])
        found.append(
            Wrong(row, place, answers[there], answers[1 - there], float(sure[i]), 1 - float(sure[i]))
        )
    return found


def average_precision(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Of one label, probabilities and bool [N]: the precision at every threshold, weighted by the recall won
    there; 0 where no picture has the label.
    """
    return float(average_precisions(probabilities, labels, np.ones((1, len(labels))))[0])


def average_precisions(probabilities: np.ndarray, labels: np.ndarray, times: np.ndarray) -> np.ndarray:
    """[R], of R sets, in which each of the pictures is so many times: times [R, N]."""
    if not labels.any():
        return np.zeros(len(times))
    order = np.argsort(-probabilities, kind="stable")
    hits, scores = labels[order], probabilities[order]
    last = np.append(scores[1:] != scores[:-1], True)  # of each threshold's pictures
    there = times[:, order]
    found, seen = (part.cumsum(axis=1)[:, last] for part in (there * hits, there))
    won = np.diff(found, axis=1, prepend=0)
    return (found / np.maximum(seen, 1) * won).sum(axis=1) / np.maximum(found[:, -1], 1)


def f1(hits: np.ndarray, said: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Counts of the right yes, all yes, and all that are there -> 0..1; 0 where there is nothing to count."""
    return 2 * hits / np.maximum(said + there, 1)


def evaluate(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """average_precision: the mean over the labels that any picture has; micro_f1 and macro_f1 of these; each
    with its NAME_interval (95 %, from resampled pictures: Efron, Ann. Statist. 7, 1979);
    accuracy: of pictures whose labels are all right, and its interval; loss, ece: of all decisions; classes:
    precision, recall, f1, average_precision, pictures. JSON-able.
    """
    yes = probabilities > YES
    hits, said, there = (part.sum(axis=0) for part in (yes & labels, yes, labels))
    known = there > 0
    each = [average_precision(probabilities[:, i], labels[:, i]) for i in range(len(classes))]
    precision, recall = hits / np.maximum(said, 1), hits / np.maximum(there, 1)
    clipped = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
    loss, accuracy = log_loss_and_accuracy(np.log(clipped) - np.log1p(-clipped), labels)
    return {
        "average_precision": float(np.mean(np.asarray(each)[known])) if known.any() else 0.0,
        "micro_f1": f1(*(part[known].sum(keepdims=True) for part in (hits, said, there))).item(),
        "macro_f1": float(np.mean(f1(hits, said, there)[known])) if known.any() else 0.0,
        **_intervals(probabilities[:, known], labels[:, known]),
        "accuracy": accuracy,
        "interval": list(interval(accuracy, len(labels))),
        "loss": loss,
        "ece": expected_calibration_error(*decisions(probabilities, labels)),
        "classes": {
            name: {"precision": p, "recall": r, "f1": f, "average_precision": ap, "pictures": n}
            for name, p, r, f, ap, n in zip(
                classes,
                precision.tolist(),
                recall.tolist(),
                f1(hits, said, there).tolist(),
                each,
                there.tolist(),
                strict=True,
            )
        },
    }


def _intervals(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    """From as many pictures drawn again and again, by the same seed."""
    if not labels.size:
        return {f"{name}_interval": [0.0, 0.0] for name in RESAMPLED}
    random = np.random.default_rng(0)
    yes = probabilities > YES
    counted = [part.astype(np.float32) for part in (yes & labels, yes, labels)]
    found: dict[str, list[np.ndarray]] = {name: [] for name in RESAMPLED}
    even = np.full(len(labels), 1 / len(labels))
    for _ in range(RESAMPLES // CHUNK):
        times = random.multinomial(len(labels), even, CHUNK).astype(np.float32)
        hits, said, there = (times @ part for part in counted)
        pairs = zip(probabilities.T, labels.T, strict=True)
        precisions = np.stack([average_precisions(*pair, times) for pair in pairs], axis=1)
        found["average_precision"].append(precisions.sum(axis=1) / np.maximum((there > 0).sum(axis=1), 1))
        found["micro_f1"].append(f1(hits.sum(axis=1), said.sum(axis=1), there.sum(axis=1)))
        found["macro_f1"].append(f1(hits, said, there).mean(axis=1))
    return {
        f"{name}_interval": np.quantile(np.concatenate(values), (0.025, 0.975)).tolist()
        for name, values in found.items()
    }
