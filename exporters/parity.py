"""Is an exported file the same function as the Keras model? Measured in the file's own runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from exporters.errors import ExportError
from exporters.pictures import fit
from exporters.saved_model import Reopened
from exporters.subject import Run, Subject
from zoo.preprocessing import tf_evaluate

# Of float32 runtimes on the same network: the worst seen is 3.4e-5, most are below 1e-5.
TOLERANCE = 1e-4
# Pixels, of 0..255: what resizing in the graph may differ from Pillow's.
PIXELS = 2.0
BATCH = 16


@dataclass(frozen=True)
class Parity:
    """max_abs: the largest difference of the logits (of the probabilities where a format gives no logits);
    max_rel: that / max(1, largest |logit|); max_probability: of the probabilities; top1: the fraction of
    the pictures that get the same class, or for which the model's first two classes are too close to tell.
    """

    max_abs: float
    max_rel: float
    max_probability: float
    top1: float
    pictures: int


@dataclass(frozen=True)
class Reference:
    """pictures: RGB uint8 [H, W, 3] of any sizes; images: float32 [N, h, w, 3] at the input size; outputs:
    the model's.
    """

    model: Subject
    pictures: Sequence[np.ndarray]
    images: np.ndarray
    outputs: Mapping[str, np.ndarray]


def reference(model: Subject, pictures: Sequence[np.ndarray]) -> Reference:
    """Raises ExportError for a model that answers with NaN or infinity."""
    images = fit(model.facts.preprocessing, pictures)
    outputs = _batched(model.run, images)
    if not np.isfinite(outputs["logits"]).all():
        raise ExportError(f"{model.model.name} answers with NaN or infinity; it cannot be compared")
    return Reference(model, pictures, images, outputs)


def measure(run: Run, known: Reference) -> Parity:
    return compare(_batched(run, known.images), known.outputs)


def measure_encoded(reopened: Reopened, known: Reference) -> Parity:
    """From encoded pictures on. Raises ExportError where their pixels are not those of
    zoo.preprocessing.evaluate.
    """
    preprocessing = known.model.facts.preprocessing
    images = np.stack(
        [tf_evaluate(preprocessing, tf.constant(picture)).numpy() for picture in known.pictures]
    )
    difference = float(np.abs(images - known.images).max())
    if difference > PIXELS:
        raise ExportError(
            f"resizing in the graph is {difference:.0f} of 255 off Pillow's, more than {PIXELS:.0f}"
        )
    batches = [known.pictures[i : i + BATCH] for i in range(0, len(images), BATCH)]
    probabilities = np.concatenate([reopened.encoded(batch)["probabilities"] for batch in batches])
    return compare({"probabilities": probabilities}, _batched(known.model.run, images))


def compare(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> Parity:
    """Both: "probabilities" [N, C] and, in `want` at least, "logits" [N, C]."""
    name = "logits" if "logits" in got else "probabilities"
    a, b = got[name].astype(np.float64), want[name].astype(np.float64)
    max_abs = float(np.abs(a - b).max())
    max_rel = max_abs / max(1.0, float(np.abs(b).max()))
    best = np.sort(b, axis=-1)[:, -2:]
    close = best[:, -1] - best[:, 0] < 10 * max_rel
    return Parity(
        max_abs=max_abs,
        max_rel=max_rel,
        max_probability=float(np.abs(got["probabilities"] - want["probabilities"]).max()),
        top1=float(np.mean((a.argmax(-1) == b.argmax(-1)) | close)),
        pictures=len(b),
    )


def require(parity: Parity, what: str, tolerance: float) -> None:
    """Raises ExportError with the figure that is beyond the tolerance; NaN is beyond any."""
    limits = {"max_rel": tolerance, "max_probability": tolerance}
    for name, limit in limits.items():
        value = getattr(parity, name)
        if not value <= limit:
            raise ExportError(f"{what} is not equal to the model: {name} {value:.3g}, allowed is {limit:.3g}")
    if parity.top1 < 1:
        raise ExportError(
            f"{what} is not equal to the model: the same class for only {parity.top1:.1%} of the pictures"
        )


def _batched(run: Run, images: np.ndarray) -> dict[str, np.ndarray]:
    parts = [run(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
