"""A model's weights as a file under the reference's own names, for timm and PyTorch without this library."""

from __future__ import annotations

import json
import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from zoo.arguments import check_model
from zoo.classifier import facts
from zoo.errors import UnknownModelError, WeightsError
from zoo.registry import resolve
from zoo.weights.convert import slots, state_dict
from zoo.weights.repository import CONFIG, FILES
from zoo.weights.timm_config import config_of
from zoo.writing import complete

if TYPE_CHECKING:
    import keras


def save(model: keras.Model, path: str | PathLike[str]) -> Path:
    """Write a .safetensors file with the keys, shapes and layouts of the reference; or a new folder with it
    and a config.json, as timm.create_model("local-dir:FOLDER", pretrained=True) and `zoo.load` open it and
    the hub takes it. Complete or not at all.

    The same weights give the same bytes. PyTorch's load_state_dict(strict=True) takes the file: it counts
    BatchNorm's missing num_batches_tracked from 0. Raises WeightsError for another ending, a folder that is
    there, a folder for a network that timm does not build, and for variables that have no name there.
    """
    path = Path(path)
    if path.suffix not in ("", ".safetensors"):
        raise WeightsError(
            f'cannot save weights to "{path}": the name must end in .safetensors; a folder\'s has no ending'
        )
    _check(model)
    tensors = {key: np.ascontiguousarray(value) for key, value in _in_its_shapes(model).items()}
    if path.suffix:
        with complete(path) as partial:
            _write(tensors, partial)
    else:
        _write_folder(model, tensors, path)
    return path


def _write(tensors: dict[str, np.ndarray], path: Path) -> None:
    # What PyTorch's readers ask for.
    save_file(tensors, path, metadata={"format": "pt"})


def _write_folder(model: keras.Model, tensors: dict[str, np.ndarray], path: Path) -> None:
    if path.exists():
        raise WeightsError(f'"{path}" exists: give the name of a new folder')
    config = config_of(facts(model), list(slots(model)))
    with complete(path) as partial:
        partial.mkdir()
        _write(tensors, partial / FILES[0])
        (partial / CONFIG).write_text(f"{json.dumps(config, indent=2, ensure_ascii=False)}\n", "utf-8")


def _in_its_shapes(model: keras.Model) -> dict[str, np.ndarray]:
    """Linear layers that are pointwise convolutions in the reference have kernels [out, in, 1, 1] there."""
    pattern = _pointwise(model)
    if pattern is None:
        return state_dict(model)
    return {
        key: value[..., None, None]
        if value.ndim == 2 and re.search(pattern, key.rpartition(".")[0])
        else value
        for key, value in state_dict(model).items()
    }


def _pointwise(model: keras.Model) -> str | None:
    """None for a model that is none of the catalog's."""
    known = getattr(model, "zoo", None)
    try:
        return resolve(known.name.partition(".")[0])[0].pointwise if known else None
    except UnknownModelError:
        return None


def _check(model: keras.Model) -> None:
    """Every weight has a key, and each its own."""
    check_model(model)
    known = [slot.key for slot in slots(model)]
    if len(set(known)) < len(known):
        twice = next(key for key in known if known.count(key) > 1)
        raise WeightsError(f'two weights of {model.name} are called "{twice}"; give its layers unique names')
    named = {id(slot.variable) for slot in slots(model)}
    nameless = [variable.path for variable in model.weights if id(variable) not in named]
    if nameless:
        raise WeightsError(
            f'"{nameless[0]}" of {model.name} has no name in the reference; save a .keras file'
        )
