"""Keras's torch backend keeps a layer's variables in a torch module under their paths, where torch allows no
dot; our layers bear the references' names, which have them.
"""

from __future__ import annotations

import torch
from keras.src.backend.torch.layer import TorchLayer


class _Parameters(torch.nn.ParameterDict):
    """Any string is a key: torch's attribute has dashes where the key has dots."""

    def _key_to_attr(self, key: str) -> str:
        return key.replace(".", "-")


def _track_variables(layer: TorchLayer) -> None:
    layer._torch_params = _Parameters({variable.path: variable.value for variable in layer.variables})


def allow_dots() -> None:
    """For every layer that is built from now on."""
    TorchLayer._track_variables = _track_variables
