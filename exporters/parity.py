"""Is an exported file the same function as the Keras model? Measured in the file's own runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from exporters.errors import ExportError
from exporters.pictures import Given, fit
from exporters.saved_model import Reopened
from exporters.subject import Run, Subject
from zoo.classifier import MULTI_LABEL, SINGLE_LABEL
from zoo.preprocessing import tf_evaluate

# Of float32 runtimes on the same network: the worst seen is 3.4e-5, most are below 1e-5.
TOLERANCE = 1e-4
# A network that was never trained may answer 0.1 apart when its pictures change by a millionth: no float32
# runtime is nearer to it. Files may be ROUNDINGS as far off as that, unless it is UNCERTAIN itself.
MILLIONTH = 2.0**-20
ROUNDINGS = 10
UNCERTAIN = 1e-2
# Pixels, of 0..255: what resizing in the graph may differ from Pillow's.
PIXELS = 2.0
DIFFERENCES = ("max_rel", "max_probability")
BATCH = 4  # pictures at once: Keras, run eagerly, keeps the maps of all layers, 0.4 GiB of one for Xception


@dataclass(frozen=True)
class Limits:
    """What a format must keep to.

    difference: the most that the logits, relative to the largest of them, and the probabilities may differ,
    with every picture in the same class. For formats that round the weights such a number says nothing, but
    cosine: of the logits, at least, for every picture; agreement: the least fraction of real pictures in the
    same class.
    """

    difference: float | None = None
    cosine: float | None = None
    agreement: float | None = None

    def with_tolerance(self, tolerance: float) -> Limits:
        """For a rounding format it is 1 - cosine, and the fraction of the pictures in another class."""
        if self.difference is not None:
            return Limits(difference=tolerance)
        return Limits(cosine=1 - tolerance, agreement=1 - tolerance)


FLOAT32 = Limits(difference=TOLERANCE)
FLOAT16 = Limits(cosine=0.99, agreement=0.98)
INT8 = Limits(cosine=0.95, agreement=0.9)


@dataclass(frozen=True)
class Parity:
    """max_abs: the largest difference of the logits (of the probabilities where a format gives no logits);
    max_rel: that / max(1, largest |logit|); max_probability: of the probabilities; top1: the fraction of
    the pictures that get the same class, or for which the model's first two classes are too close to tell;
    cosine: of the logits, the smallest of all pictures; agreement: the fraction in the same class, close or
    not; where a picture may have several labels, both are of the labels' yes and no; accuracy: of the file,
    where the pictures' classes are known, and model_accuracy: of the model.
    """

    max_abs: float
    max_rel: float
    max_probability: float
    top1: float
    pictures: int
    cosine: float
    agreement: float
    accuracy: float | None = None
    model_accuracy: float | None = None


@dataclass(frozen=True)
class Reference:
    """images: float32 [N, h, w, 3], the pictures at the input size; outputs: the model's."""

    model: Subject
    given: Given
    images: np.ndarray
    outputs: Mapping[str, np.ndarray]

    @cached_property
    def own_rounding(self) -> dict[str, float]:
        """The most that the model differs from itself, by DIFFERENCES, in three runs with every pixel changed
        by up to a millionth: what float32 leaves undecided.
        """
        generator = np.random.default_rng(0)
        shape, runs = self.images.shape, []
        for _ in range(3):
            factors = 1 + generator.uniform(-MILLIONTH, MILLIONTH, shape)
            shaken = self.images * factors.astype(np.float32)
            runs.append(compare_as(self, batched(self.model.run, shaken), self.outputs))
        return {name: max(getattr(each, name) for each in runs) for name in DIFFERENCES}


def reference(model: Subject, given: Given) -> Reference:
    """Raises ExportError for a model that answers with NaN or infinity."""
    images = fit(model.facts.preprocessing, given.pictures)
    outputs = batched(model.run, images)
    if not np.isfinite(outputs["logits"]).all():
        raise ExportError(f"{model.model.name} answers with NaN or infinity; it cannot be compared")
    return Reference(model, given, images, outputs)


def measure(run: Run, known: Reference) -> Parity:
    return compare_as(known, batched(run, known.images), known.outputs)


def measure_encoded(reopened: Reopened, known: Reference) -> Parity:
    """From encoded pictures on. Raises ExportError where their pixels are not those of
    zoo.preprocessing.evaluate.
    """
    preprocessing, pictures = known.model.facts.preprocessing, known.given.pictures
    images = np.stack([tf_evaluate(preprocessing, tf.constant(picture)).numpy() for picture in pictures])
    require_pixels(images, known)
    found = {"probabilities": batched(reopened.encoded, pictures)["probabilities"]}
    return compare_as(known, found, batched(known.model.run, images))


def require_pixels(images: np.ndarray, known: Reference) -> None:
    """images: the reference's pictures as a graph resized them. Raises ExportError where Pillow's differ."""
    difference = float(np.abs(images - known.images).max())
    if not difference <= PIXELS:
        raise ExportError(
            f"resizing in the graph is {difference:.0f} of 255 off Pillow's, more than {PIXELS:.0f}"
        )


def compare_as(known: Reference, got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> Parity:
    """What two networks say of the reference's pictures, by their classes and the model's task."""
    return compare(got, want, known.given.truth, known.model.facts.task)


def compare(
    got: Mapping[str, np.ndarray],
    want: Mapping[str, np.ndarray],
    truth: np.ndarray | None = None,
    task: str = SINGLE_LABEL,
) -> Parity:
    """Both: "probabilities" [N, C] and, in `want` at least, "logits" [N, C]. truth: the classes [N]; task: as
    in zoo.Facts.
    """
    name = "logits" if "logits" in got else "probabilities"
    a, b = got[name].astype(np.float64), want[name].astype(np.float64)
    max_abs = float(np.abs(a - b).max())
    max_rel = max_abs / max(1.0, float(np.abs(b).max()))
    if task == MULTI_LABEL:
        border = 0.0 if name == "logits" else 0.5
        close = np.abs(b - border) < 10 * max_rel
        agree = (a > border) == (b > border)
    else:
        best = np.sort(b, axis=-1)[:, -2:]
        close = best[:, -1] - best[:, 0] < 10 * max_rel
        agree = a.argmax(-1) == b.argmax(-1)
    return Parity(
        max_abs=max_abs,
        max_rel=max_rel,
        max_probability=float(np.abs(got["probabilities"] - want["probabilities"]).max()),
        top1=float(np.mean(agree | close)),
        pictures=len(b),
        cosine=float(_cosines(a, b).min()),
        agreement=float(np.mean(agree)),
        accuracy=None if truth is None else float(np.mean(a.argmax(-1) == truth)),
        model_accuracy=None if truth is None else float(np.mean(b.argmax(-1) == truth)),
    )


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of the rows; those of two rows of zeros are equal."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    both_zero = ~(a.any(-1) | b.any(-1))
    return np.where(both_zero, 1.0, (a * b).sum(-1) / np.where(norms == 0, 1.0, norms))


def require_all(figures: Mapping[str, Parity], limits: Limits, known: Reference) -> None:
    """figures: by what was compared. Raises ExportError for what is beyond the limits, unless it is as near
    to the model as float32 can tell, and nobody asks for more.
    """
    for what, parity in figures.items():
        try:
            require(parity, what, limits, real=known.given.real)
        except ExportError as error:
            if limits.difference is None or limits.difference < TOLERANCE:
                raise
            _require_own_rounding(error, parity, limits.difference, known)


def _require_own_rounding(error: ExportError, parity: Parity, limit: float, known: Reference) -> None:
    own = known.own_rounding
    if own["max_rel"] > UNCERTAIN:
        raise ExportError(
            f"{error}; the model's own answers change by {own['max_rel']:.2g} when its pictures change by a "
            "millionth, as those of untrained networks may: train it or load weights, then export it"
        ) from None
    if not all(getattr(parity, name) <= max(limit, ROUNDINGS * own[name]) for name in DIFFERENCES):
        raise error


def require(parity: Parity, what: str, limits: Limits, *, real: bool = True) -> None:
    """Raises ExportError with the figure that is beyond the limits; NaN is beyond any. real: the pictures
    are no generated ones, on which nobody needs two networks to agree about the class.
    """
    if limits.difference is not None:
        for name in DIFFERENCES:
            _require(getattr(parity, name) <= limits.difference, parity, what, name, limits.difference)
        _require(parity.top1 >= 1, parity, what, "top1", 1.0)
    if limits.cosine is not None:
        _require(parity.cosine >= limits.cosine, parity, what, "cosine", limits.cosine)
    if limits.agreement is not None and real:
        _require(parity.agreement >= limits.agreement, parity, what, "agreement", limits.agreement)


def _require(holds: bool, parity: Parity, what: str, name: str, limit: float) -> None:
    if holds:
        return
    value = getattr(parity, name)
    if name in ("top1", "agreement"):
        figure = f"the same class for only {value:.1%} of the pictures, {limit:.1%} are asked for"
    else:
        asked, digits = ("asked for", 6) if name == "cosine" else ("allowed", 3)
        figure = f"{name} {value:.{digits}g}, {asked} is {limit:.{digits}g}"
    raise ExportError(f"{what} is not equal to the model: {figure}")


def batched(
    run: Callable[[Any], Mapping[str, np.ndarray]], images: Sequence[np.ndarray] | np.ndarray
) -> dict[str, np.ndarray]:
    """A few pictures at once, so that memory does not depend on how many there are."""
    parts = [run(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
