"""model.keras and model.h5: the whole model, for plain Keras 3 where its layers are Keras's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from exporters.errors import ExportError
from exporters.subject import Run, Subject, subject
from zoo.classifier import attach, save
from zoo.hub import HubModule


def write(model: Subject, file: Path) -> None:
    """Raises ExportError for a model on a module of TensorFlow Hub, which the file would only refer to."""
    if any(isinstance(layer, HubModule) for layer in model.model.layers):
        raise ExportError(
            f"{file.name} cannot hold the module of TensorFlow Hub in {model.model.name}, which is no Keras "
            "layer; export saved_model or onnx"
        )
    save(model.model, file)


def reopen(model: Subject, file: Path) -> Run:
    loaded: Any = keras.saving.load_model(file)
    return subject(attach(loaded, model.facts)).run
