"""model.keras and model.h5: the whole model, for plain Keras 3 where its layers are Keras's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from exporters.subject import Run, Subject, subject
from zoo.classifier import attach, save


def write(model: Subject, file: Path) -> None:
    save(model.model, file)


def reopen(model: Subject, file: Path) -> Run:
    loaded: Any = keras.saving.load_model(file)
    return subject(attach(loaded, model.facts)).run
