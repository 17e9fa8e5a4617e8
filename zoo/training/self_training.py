"""Noisy Student: a teacher labels pictures that nobody has, and a student learns from them with noise.

Xie et al., arXiv 1911.04252. The teacher sees the pictures as they are, the student changed ones.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.classifier import facts
from zoo.data import Pictures, Split
from zoo.data.pictures import batches
from zoo.errors import ZooError
from zoo.training.answers import answers
from zoo.training.distillation import teacher_of
from zoo.training.tasks import task_of

log = logging.getLogger("zoo")

GUESSES = "guesses.npy"
AT_ONCE = 64  # pictures that the teacher sees together


@dataclass(frozen=True, eq=False)
class Material:
    """What there is to learn from and to judge by.

    pictures: those that people have labelled, then those that a teacher has; sides: of all of them, the
    teacher's at the end of training; guesses: its probabilities of its own, float32 [M, C], or None of none.
    """

    pictures: Pictures
    sides: Split
    guesses: np.ndarray | None = None

    def targets(self) -> np.ndarray:
        """Of the training pictures, float32 [N, C]."""
        labels, classes = self.pictures.labels[self.sides.training], len(self.pictures.classes)
        targets = task_of(labels).targets(labels, classes)
        if self.guesses is not None:
            targets[-len(self.guesses) :] = self.guesses
        return targets

    def facts(self) -> dict[str, Any]:
        """Counts for people: of the labelled pictures and, beside them, of the teacher's."""
        if self.guesses is None:
            return self.pictures.facts()
        places, labelled = np.arange(len(self.pictures)), len(self.pictures) - len(self.guesses)
        guessed = self.pictures.chosen(places[labelled:]).facts()
        of_guesses = {name: guessed[name] for name in ("pictures", "per_class", "digest")}
        return {**self.pictures.chosen(places[:labelled]).facts(), "labelled_by_teacher": of_guesses}


def with_guesses(
    material: Material, unlabelled: Pictures, teacher: keras.Model, confidence: float, folder: Path
) -> Material:
    """The material and those of the unlabelled that the teacher is sure enough of, to be learnt from.

    Left out are pictures that are among the labelled ones, on whatever side, and copies of one another.
    folder: keeps the teacher's answers. Raises ZooError where nothing is left, and what `teacher_of` raises.
    """
    pictures, sides = material.pictures, material.sides
    new = _new(unlabelled, pictures)
    soft = _guesses(teacher, new, pictures, folder / GUESSES) if len(new) else np.zeros((0, 1))
    labels, sureness = task_of(pictures.labels).decided(soft)
    sure = np.flatnonzero(sureness >= confidence)
    _say(unlabelled, new, sure, confidence)
    guessed = replace(new, labels=labels, classes=pictures.classes).chosen(sure)
    training = np.append(sides.training, len(pictures) + np.arange(len(sure)))
    return Material(pictures.joined(guessed), replace(sides, training=training), soft[sure])


def _new(unlabelled: Pictures, pictures: Pictures) -> Pictures:
    places = {content: i for i, content in reversed([*enumerate(unlabelled.hashes)])}
    known = set(pictures.hashes)
    return unlabelled.chosen(sorted(i for content, i in places.items() if content not in known))


def _guesses(teacher: keras.Model, new: Pictures, pictures: Pictures, path: Path) -> np.ndarray:
    """float32 [N, C], of the pictures as the teacher takes them. A file that is there is complete."""
    if not path.exists():
        preprocessing = facts(teacher).preprocessing
        task = task_of(pictures.labels)
        asked = teacher_of(teacher, pictures.classes, preprocessing.input_size, 1.0, task)
        seen = batches("ask the teacher", preprocessing, new.sources, AT_ONCE)
        soft = np.concatenate([answers(asked, images, AT_ONCE) for images in seen])
        partial = path.with_name(f".{path.name}")
        np.save(partial, soft.astype(np.float32))
        os.replace(partial, path)
    return np.load(path)


def _say(unlabelled: Pictures, new: Pictures, sure: np.ndarray, confidence: float) -> None:
    known, unsure = len(unlabelled) - len(new), len(new) - len(sure)
    why = (
        f"{known} are among the labelled ones or copies, "
        f"the teacher is less than {confidence} sure of {unsure}"
    )
    if not len(sure):
        raise ZooError(f"none of {len(unlabelled)} unlabelled pictures can be learnt from: {why}")
    log.warning("%d of %d unlabelled pictures are learnt from: %s", len(sure), len(unlabelled), why)
