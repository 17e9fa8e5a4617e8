"""The pictures a model is most surely wrong about, small enough to show."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from zoo.data import Pictures
from zoo.data.pictures import pixels

SHOWN = 24
THUMBNAIL = 112


def worst_mistakes(
    pictures: Pictures, indices: np.ndarray, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """The wrong answers, surest first: name, label, predicted, the probability of both, a thumbnail."""
    labels, predicted = pictures.labels[indices], probabilities.argmax(axis=1)
    wrong = np.flatnonzero(labels != predicted)
    surest = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:SHOWN]
    return [
        {
            "name": pictures.names[indices[i]],
            "label": pictures.classes[labels[i]],
            "predicted": pictures.classes[predicted[i]],
            "probability": float(probabilities[i, predicted[i]]),
            "probability_of_label": float(probabilities[i, labels[i]]),
            "thumbnail": thumbnail(pixels(pictures.sources[indices[i]])),
        }
        for i in surest
    ]


def thumbnail(rgb: np.ndarray) -> str:
    """RGB uint8 [H, W, 3] -> the data URI of a PNG, at most 112 pixels a side."""
    image = Image.fromarray(rgb)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
