"""A Classifier is an ordinary keras.Model that knows its name, labels and preprocessing: `model.zoo`."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.arguments import check_model
from zoo.errors import ZooError
from zoo.preprocessing import Preprocessing
from zoo.weights.archives import check_zip
from zoo.writing import complete

if TYPE_CHECKING:
    import keras

FACTS_MEMBER = "zoo.json"
MODEL_FILES = (".keras", ".h5")
SINGLE_LABEL, MULTI_LABEL = "single-label", "multi-label"
BEST = 5
WEIGHTS_ALONE = (".weights.h5", ".safetensors", ".npz")
PICKLES = (".pkl", ".pickle", ".joblib", ".pth", ".pt", ".bin", ".tar")


@dataclass(frozen=True)
class Facts:
    """Who a model is.

    name: ARCHITECTURE.TAG; labels: one per class, in the order of the outputs; card: what the catalog and
    training know of it, JSON-able. Its "task" is "multi-label" where a picture may have any number of labels,
    each with a probability of its own; without, a picture has one.
    """

    name: str
    labels: tuple[str, ...] = field(repr=False)
    preprocessing: Preprocessing
    card: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def task(self) -> str:
        """Raises ZooError for a card with another word."""
        task = self.card.get("task", SINGLE_LABEL)
        if task not in (SINGLE_LABEL, MULTI_LABEL):
            raise ZooError(f'{self.name} has the task "{task}": there are {SINGLE_LABEL} and {MULTI_LABEL}')
        return str(task)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Facts:
        preprocessing = Preprocessing.from_dict(facts["preprocessing"])
        return cls(facts["name"], tuple(facts["labels"]), preprocessing, facts.get("card", {}))


def named(labels: int, task: str) -> int:
    """How many labels a network's exported signatures name for a picture: all that it may have."""
    return labels if task == MULTI_LABEL else min(BEST, labels)


def attach(model: keras.Model, facts: Facts) -> keras.Model:
    """The same model, knowing its facts; of no labels where it is no classifier, as what zoo.features gives.

    Raises ZooError for what is no graph of layers that takes pictures, and for facts that do not fit it.
    """
    check_graph(model)
    _check_input(model, facts)
    if facts.labels:
        _check_output(model, facts)
    model.zoo = facts
    return model


def check_graph(model: keras.Model) -> None:
    """Raises ZooError for a model that is no graph of layers from one input, or not wholly one."""
    check_model(model)
    inputs = model.inputs if model.built else ()
    if not inputs:
        raise ZooError(
            f"{model.name} is no graph of layers, or was never built: make it keras.Model(inputs, outputs) "
            "or a Sequential model with an Input"
        )
    if len(inputs) != 1:
        raise ZooError(f"{model.name} has {len(inputs)} inputs; a classifier of pictures has one")
    # A task of KerasHub does so in predict and fit alone.
    if getattr(model, "preprocessor", None) is not None:
        raise ZooError(
            f"{model.name} prepares its pictures outside of its graph, in model.preprocessor, which would be "
            "left out: model.save_to_preset(FOLDER) and zoo.load(FOLDER) take it in; or set "
            "model.preprocessor = None and put its scaling in front (keras.layers.Rescaling)"
        )


def _check_input(model: keras.Model, facts: Facts) -> None:
    shape, size = model.inputs[0].shape, facts.preprocessing.input_size
    sides_fit = all(side in (None, own) for side, own in zip(shape[1:3], size, strict=False))
    if len(shape) != 4 or shape[3] != 3 or not sides_fit:
        raise ZooError(
            f"{model.name} takes {list(shape)}, its preprocessing gives [None, {size[0]}, {size[1]}, 3]"
        )


def _check_output(model: keras.Model, facts: Facts) -> None:
    from zoo.outputs import predictions_of

    strangers = [label for label in facts.labels if not isinstance(label, str)]
    if strangers:
        raise ZooError(f"labels are strings, and {strangers[0]!r} is none")
    shape = predictions_of(model).shape
    if len(shape) != 2:
        raise ZooError(f"{model.name} gives {list(shape)}; a classifier of pictures gives [None, classes]")
    if shape[1] != len(facts.labels):
        raise ZooError(
            f"{model.name} has {shape[1]} classes and {len(facts.labels)} labels; give one label per class"
        )


def facts(model: keras.Model) -> Facts:
    """Raises ZooError for what is no model, or one that this library neither built nor saved."""
    known = getattr(model, "zoo", None)
    check_model(model)
    if not isinstance(known, Facts):
        raise ZooError(
            f'model "{model.name}" does not know its labels and preprocessing; '
            "give them: zoo.attach(model, zoo.Facts(...)); a file has them from zoo.save, not from model.save"
        )
    return known


def save(model: keras.Model, path: str | PathLike[str]) -> Path:
    """Write a .keras or .h5 file that plain Keras opens, with the facts inside; complete or not at all."""
    path = Path(path)
    if path.suffix not in MODEL_FILES:
        raise ZooError(f'cannot save to "{path}": the name must end in .keras or .h5')
    known = json.dumps(facts(model).to_dict())
    with complete(path) as partial:
        model.save(partial)
        _write_facts(partial, known)
    return path


def load_file(path: str | PathLike[str]) -> keras.Model:
    """A .keras or .h5 file -> the model, with its facts where `save` put some. No code in it is run.

    Raises ZooError naming a damaged file, one that holds code (a Lambda layer, a pickle), and an archive
    whose members leave it or unpack to far more than it.
    """
    import keras

    path = Path(path)
    if not path.is_file():
        raise ZooError(f'"{path}" does not exist')
    if path.suffix not in MODEL_FILES or path.name.endswith(WEIGHTS_ALONE):
        raise ZooError(_no_keras_file(path))
    try:
        if path.suffix == ".keras":
            check_zip(path)
        model = keras.saving.load_model(path, compile=path.suffix != ".h5", safe_mode=True)
        known = _read_facts(path)
    except ZooError:
        raise
    except (ValueError, OSError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        if "`Lambda` layer" in str(error):
            raise ZooError(_lambda(path)) from error
        raise ZooError(f'"{path}" is not a Keras model that can be loaded: {error}') from error
    return attach(model, known) if known else model


def _no_keras_file(path: Path) -> str:
    if path.suffix in PICKLES:
        return (
            f'"{path}" is a pickle, which runs code of its author when it is read: it is refused. Weights of '
            "PyTorch are read without running any: zoo.load(NAME, weights=PATH); else save it as .keras"
        )
    if path.name.endswith(WEIGHTS_ALONE):
        return f'"{path}" holds weights without their network; name that: zoo.load(NAME, weights=PATH)'
    return f'"{path}" is no model: files end in {" or ".join(MODEL_FILES)}'


def _lambda(path: Path) -> str:
    return (
        f'"{path}" has a Lambda layer: code of its author, which would run on this machine. It is refused. '
        "If you trust the file, load it with keras.saving.load_model(PATH, safe_mode=False) and zoo.attach "
        "its facts; better, replace the layer by one of Keras's own"
    )


def _write_facts(path: Path, known: str) -> None:
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(FACTS_MEMBER, known)
    else:
        import h5py

        with h5py.File(path, "a") as file:
            file.attrs["zoo"] = known


def _read_facts(path: Path) -> Facts | None:
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            known = archive.read(FACTS_MEMBER) if FACTS_MEMBER in archive.namelist() else None
    else:
        import h5py

        with h5py.File(path, "r") as file:
            known = file.attrs.get("zoo")
    return Facts.from_dict(json.loads(known)) if known else None
