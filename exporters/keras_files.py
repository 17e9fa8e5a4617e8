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
    """Raises ExportError for a model on a module of TensorFlow Hub, which the file would only refer to, and
    for operations in a .h5 file, which Keras writes and cannot read.
    """
    if any(isinstance(layer, HubModule) for layer in model.model.layers):
        raise ExportError(
            f"{file.name} cannot hold the module of TensorFlow Hub in {model.model.name}, which is no Keras "
            "layer; export saved_model or onnx"
        )
    if file.suffix == ".h5" and (operations := _operations(model.model)):
        raise ExportError(
            f'{file.name} holds layers only, and {model.model.name} has the operation "{operations[0]}": '
            "make it a layer (keras.layers.Rescaling, Add and the like), or export other formats"
        )
    save(model.model, file)


def _operations(model: keras.Model) -> list[str]:
    """What is no layer, such as the + between tensors, in the model and those inside."""
    models = [one for one in model._flatten_layers() if isinstance(one, keras.Model)]
    everything = [one for inner in models for one in getattr(inner, "operations", ())]
    return [one.name for one in everything if not isinstance(one, keras.layers.Layer)]


def reopen(model: Subject, file: Path) -> Run:
    loaded: Any = keras.saving.load_model(file)
    return subject(attach(loaded, model.facts)).run
