"""`load`: a name or a file -> a Classifier."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Never

import h5py
import keras
import numpy as np

from zoo import hub
from zoo.arguments import Size, classes_of, fixed, rate_of, refuse_words_of_others, sides
from zoo.build import build
from zoo.classifier import MODEL_FILES, Facts, attach, load_file
from zoo.errors import UnknownModelError, WeightsError, ZooError
from zoo.labels import labels_of
from zoo.registry import Architecture, Weights, card, is_known, resolve, weights_of
from zoo.weights import keras_hub_layout, keras_layout
from zoo.weights.cache import discard
from zoo.weights.convert import Slot, assign, from_bgr, renamed, slots, state_dict
from zoo.weights.keras_hub_config import HEAD, KERAS_HUB
from zoo.weights.opening import open_repository
from zoo.weights.readers import holds_model, read
from zoo.weights.repository import Repository, is_repository
from zoo.weights.sources import fetch
from zoo.weights.timm_config import recipe_of

log = logging.getLogger("zoo")

DEFAULT = "default"
MODEL_IN_FOLDER = "model.keras"
POOLS = ("global_pool.", "head_pool.")
WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".npz", *MODEL_FILES)


def load(
    name: str | PathLike[str],
    weights: str | PathLike[str] | None = DEFAULT,
    *,
    classes: int | Sequence[str] | None = None,
    input_size: int | Size | None = None,
    classifier_activation: str | None = "softmax",
    drop_rate: float | None = None,
    drop_path: float | None = None,
    pooling: str | None = None,
    auxiliary: bool = False,
    activation: str | None = None,
    initializer: str | None = None,
    **others: Never,
) -> keras.Model:
    """A pretrained Classifier by name, or a saved one by path.

    name: FAMILY, ARCHITECTURE, ARCHITECTURE.TAG, a published alias; or a .keras or .h5 file, or a folder
    with a model.keras (which comes before a network of that name); or what users of timm, of Hugging Face's
    transformers and of KerasHub publish, "hf-hub:USER/REPOSITORY[@REVISION]", or keep in a folder with its
    config.json; or "hub:" and the folder or address of a module of TensorFlow Hub (`zoo.hub.load`).
    weights: the name's own by default; a tag; the path of a .safetensors, .pth, .pt, .bin, .pth.tar, .npz,
    .keras, .h5 or .weights.h5 file, read with the name's conventions; None for fresh ones.
    classes: a number or the labels; another number than the weights' keeps the backbone, with a new head.
    input_size: pixels, one number or (height, width); (None, None) for pictures of any height and width,
    which need not be alike from call to call; `preprocessing` keeps the weights' own size.
    drop_rate, drop_path: the rates of dropout before the classifier, and of stochastic depth where a network
    has residual branches to drop; the paper's by default.
    pooling: how the last map becomes a vector: "avg", "max", "avgmax" (the mean of both) or "gem" (the
    generalised mean, its power learned from 3); the network's own by default.
    auxiliary: with the heads that help in training (describe(name).auxiliary: their names and the weights of
    their losses); the outputs are then a dict, "predictions" and one for each head.
    activation: the name of Keras's or a registered function, between the layers instead of the network's own,
    which pretrained weights were trained with. initializer: of the kernels where weights is None, such as
    "glorot_uniform"; "he_uniform" by default.

    The model takes RGB pictures [N, height, width, 3] in 0..255 (float or uint8) and gives [N, classes]:
    probabilities, or logits where classifier_activation is None.

    Raises UnknownModelError, WeightsError (damaged, or missing, left-over, misshapen keys), DownloadError,
    ZooError (an input size or a pooling that the network cannot take, an unknown activation or initializer,
    a rate out of 0..1, labels that are none, options beside a file, what Keras's or timm's functions call an
    option), TypeError (an option that nobody has).
    """
    refuse_words_of_others(others)
    classes, input_size = classes_of(classes), sides(input_size)
    drop_rate, drop_path = rate_of("drop_rate", drop_rate), rate_of("drop_path", drop_path)
    if str(name).startswith(hub.PREFIX):
        if weights != DEFAULT or pooling or drop_path or auxiliary or activation or initializer:
            raise ZooError(
                f"{name} is a whole network: weights, drop_path, activation, initializer, pooling, auxiliary "
                "go with a name"
            )
        return hub.load(
            str(name).removeprefix(hub.PREFIX),
            classes=classes,
            input_size=input_size,
            classifier_activation=classifier_activation,
            drop_rate=drop_rate,
        )
    if _is_repository(name):
        chosen = _published(open_repository(name), weights)
    elif _is_file(name):
        asked = (classes, input_size, pooling, drop_rate, drop_path, auxiliary, activation, initializer)
        plain = weights == DEFAULT and classifier_activation == "softmax" and not any(asked)
        return _from_file(Path(name), own=plain)
    else:
        chosen = _named(str(name), weights)
    if initializer and weights is not None:
        raise ZooError("an initializer is for a fresh network: give weights=None with it")
    size, pooling = input_size or chosen.input_size, pooling or chosen.pooling
    wanted = _count(chosen, classes)
    model = build(
        chosen.architecture,
        chosen.tag,
        classes=wanted,
        input_size=size,
        classifier_activation=classifier_activation,
        dropout=drop_rate,
        drop_path=drop_path,
        pooling=pooling,
        auxiliary=auxiliary,
        activation=activation,
        initializer=initializer,
    )
    if drop_path and not any(layer.name.endswith(".drop_path") for layer in model.layers):
        log.warning("%s has no branches to drop: drop_path changes nothing", chosen.architecture.name)
    if chosen.path:
        _fill_or_discard(model, chosen.architecture, chosen.tag, chosen.path, new_head=classes is not None)
    # timm ends in the embedding, and has no classifier behind it.
    timm = None if chosen.architecture.embedding else chosen.timm
    known = Facts(
        name=chosen.tag.name if chosen.path else chosen.architecture.name,
        labels=_labels(chosen.tag, wanted, classes),
        preprocessing=replace(chosen.tag.preprocessing, input_size=fixed(size, chosen.input_size)),
        card=_card(chosen) | recipe_of(timm, pooling, activation),
    )
    return attach(model, known)


@dataclass(frozen=True)
class _Chosen:
    """The network to build, the weights whose conventions count, the file to read (None: fresh variables),
    the pictures' (height, width) in pixels, the pooling (None: the network's own), and timm's name of it.
    """

    architecture: Architecture
    tag: Weights
    path: Path | None
    input_size: tuple[int, int]
    pooling: str | None
    timm: str | None


def _published(found: Repository, weights: Any) -> _Chosen:
    if weights is not None and weights != DEFAULT:
        raise ZooError(f'{found.place} has its own weights: others go with "{found.architecture.name}"')
    path = found.file() if weights else None
    return _Chosen(found.architecture, found.weights, path, found.input_size, found.pooling, found.timm)


def _named(name: str, weights: Any) -> _Chosen:
    architecture, named = resolve(name)
    tag, path = _choose(architecture, named, weights)
    return _Chosen(architecture, tag, path, tag.preprocessing.input_size, None, tag.timm_name)


def _count(chosen: _Chosen, classes: int | Sequence[str] | None) -> int:
    """How many classes the network is to have."""
    if classes is not None:
        return classes if isinstance(classes, int) else len(classes)
    own = chosen.tag.classes or (0 if chosen.path else chosen.architecture.classes)
    if not own:
        raise ZooError(
            f"{chosen.tag.name} has no classifier: give classes=, a number or labels, for a new one; "
            "zoo.embedder and zoo.features need none"
        )
    return own


def _is_repository(name: str | PathLike[str]) -> bool:
    """A folder with a model.keras is that model, whatever else is in it."""
    return is_repository(name) and not (Path(name) / MODEL_IN_FOLDER).is_file()


def load_trunk(
    name: str | PathLike[str], weights: str | PathLike[str] | None = DEFAULT, **options: Any
) -> keras.Model:
    """`load`, for those who leave the classifier off or put another in its place: weights may have none."""
    return load(name, weights, classes=None if _has_classifier(name, weights) else 1, **options)


def _has_classifier(name: str | PathLike[str], weights: str | PathLike[str] | None) -> bool:
    if _is_repository(name):
        return open_repository(name).weights.classes > 0
    if not _in_catalog(name):
        return True
    architecture, named = resolve(str(name))
    tag = architecture.weights.get(str(weights), named)
    return tag is None or tag.classes > 0


def has_auxiliary(name: str | PathLike[str], input_size: int | None = None) -> bool:
    """Whether it is the name of a network with auxiliary heads that can stand on pictures of this size."""
    if not _in_catalog(name):
        return False
    architecture, named = resolve(str(name))
    heads = architecture.auxiliary.values()
    side = input_size or min((named or _fresh(architecture)).preprocessing.input_size)
    return bool(heads) and side >= max(head.smallest for head in heads)


def _in_catalog(name: str | PathLike[str]) -> bool:
    """Whether the catalog is asked for it: it is neither a module, nor published elsewhere, nor on disk."""
    return not (str(name).startswith(hub.PREFIX) or _is_repository(name) or _is_file(name))


def _is_file(name: str | PathLike[str]) -> bool:
    """A model on disk; a folder or file that is none does not hide the network of its name."""
    path = Path(name)
    if path.suffix in MODEL_FILES or (path / MODEL_IN_FOLDER).is_file():
        return True
    return bool(str(name)) and path.exists() and not is_known(str(name))


def _from_file(path: Path, own: bool) -> keras.Model:
    if not own:
        raise ZooError(
            f'"{path}" is a whole model: weights, classes, input_size, activations, initializer, auxiliary, '
            "drop rates and pooling go with a name; zoo.heads(model) gives its logits"
        )
    if not path.is_dir():
        return load_file(path)
    if not (path / MODEL_IN_FOLDER).is_file():
        raise ZooError(
            f'"{path}" is a folder without {MODEL_IN_FOLDER} or config.json, neither tuned nor published. '
            "Of an exported model, give the Keras file in a version's folder, where that was exported"
        )
    return load_file(path / MODEL_IN_FOLDER)


def _fresh(architecture: Architecture) -> Weights:
    """The conventions of a network that has no public weights: its paper's pictures and classes."""
    return Weights(architecture.name, "none", input_size=architecture.macs_size, classes=architecture.classes)


def _choose(architecture: Architecture, named: Weights | None, weights: Any) -> tuple[Weights, Path | None]:
    """The tag whose conventions count, and the file to read (None: fresh variables)."""
    tag = named or _fresh(architecture)
    if weights is None:
        return tag, None
    if weights == DEFAULT:
        if named is None:
            raise UnknownModelError(
                f"{architecture.name} has no public weights; load it with weights=None or a file's path"
            )
        return tag, fetch(named)
    if isinstance(weights, str) and weights in architecture.weights:
        tag = architecture.weights[weights]
        return tag, fetch(tag)
    if not isinstance(weights, str | PathLike):
        raise ZooError(f"weights is a tag, the path of a file, or None for fresh ones, not {weights!r}")
    path = Path(weights)
    if not path.is_file():
        if path.suffix in WEIGHT_FILES:
            raise WeightsError(f'weights "{path}" does not exist')
        weights_of(architecture, str(weights))
    return tag, path


def _fill_or_discard(
    model: keras.Model, architecture: Architecture, tag: Weights, path: Path, *, new_head: bool
) -> None:
    """A file of the cache that does not fit is removed from it."""
    try:
        _fill(model, architecture, tag, path, new_head=new_head)
    except WeightsError as error:
        removed = [str(one) for one in _files(tag, path) if discard(one)]
        if removed:
            raise WeightsError(f"{error}. {' and '.join(removed)} was removed from the cache") from error
        raise


def _files(tag: Weights, path: Path) -> tuple[Path, ...]:
    """What holds the weights together."""
    return (path, path.with_name(HEAD)) if tag.layout == KERAS_HUB else (path,)


def _fill(
    model: keras.Model, architecture: Architecture, tag: Weights, path: Path, *, new_head: bool
) -> None:
    """Set the variables from the file; heads stay new where the file's have other classes, and auxiliary
    ones where it has none.
    """
    tensors = dict(_tensors(model, architecture, tag, path))
    own = {slot.key: slot for slot in slots(model)}
    sides = tuple(f"{name}." for name in architecture.auxiliary)
    tensors = {key: t for key, t in tensors.items() if key in own or not key.startswith(sides)}
    keep = [key for key in own if key.startswith(sides) and key not in tensors]
    for name in (architecture.classifier, *(side.classifier for side in architecture.auxiliary.values())):
        head = [key for key, slot in own.items() if slot.layer == name]
        key = next((key for key in head if own[key].is_kernel), "")
        if key not in tensors:
            headless = new_head and not tag.classes and name == architecture.classifier
            keep += head if headless else []
            continue
        wanted, stored = own[key].reference_shape[0], tensors[key].shape[0]
        if wanted == stored:
            continue
        if new_head:
            log.warning(
                'the head "%s" of %s is new (%d classes, the weights have %d): train it before use',
                name,
                tag.name,
                wanted,
                stored,
            )
            keep += head
        elif own.keys() == tensors.keys():
            raise WeightsError(
                f"{path} has the weights of {stored} classes, {tag.name} has {wanted}: classes={stored} "
                "keeps the file's head, another number makes a new one"
            )
    keep += [key for key in own if key.startswith(POOLS) and key not in tensors]
    fresh = {key: own[key].to_reference(np.asarray(own[key].variable)) for key in keep}
    assign(model, tensors | fresh)


def _tensors(
    model: keras.Model, architecture: Architecture, tag: Weights, path: Path
) -> Mapping[str, np.ndarray]:
    if tag.layout == KERAS_HUB:
        stored = _stored(model, architecture)
        return keras_hub_layout.reference_tensors(model, stored, _files(tag, path), tag.renames)
    if path.name.endswith(".weights.h5"):
        return state_dict(_from_weights_h5(architecture, tag, path))
    if tag.layout == "keras" and path.suffix == ".h5" and not holds_model(path):
        stored = _stored(model, architecture)
        tensors = keras_layout.reference_tensors(model, stored, read(path), order=tag.order)
    elif path.suffix in MODEL_FILES:
        return state_dict(load_file(path))
    else:
        found = read(path)
        tensors = renamed(model, found, tag.renames)
        # Under our own names it is a file of ours, whose colours are in our order.
        if tensors.keys() == found.keys():
            return tensors
    return from_bgr(model, tensors) if tag.channels == "bgr" else tensors


def _stored(model: keras.Model, architecture: Architecture) -> list[Slot]:
    """What files of Keras and KerasHub hold: no auxiliary heads, no pools that learn."""
    beside = (*(f"{name}." for name in architecture.auxiliary), *POOLS)
    return [slot for slot in slots(model) if not slot.key.startswith(beside)]


def _from_weights_h5(architecture: Architecture, tag: Weights, path: Path) -> keras.Model:
    """Keras names these files by position: they are read into a network with the file's own classes."""
    layer = "conv2d" if architecture.head == "convolution" else "dense"
    classes = _classes_in(path, layer) or tag.classes
    model = build(architecture, tag, classes=classes, input_size=tag.preprocessing.input_size)
    try:
        with warnings.catch_warnings():
            # One for every layer that does not fit; the error says it once.
            warnings.simplefilter("ignore")
            model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        # Behind it stand the values of a whole variable.
        reason = str(error).partition(" Target variable:")[0]
        raise WeightsError(f'"{path}" does not fit {architecture.name}: {reason}') from error
    return model


def _classes_in(path: Path, layer: str) -> int | None:
    """From the bias of the last layer of the classifier's kind; Keras numbers them dense, dense_1, ..."""
    try:
        with h5py.File(path) as file:
            found = [name for name in file["layers"] if re.fullmatch(rf"{layer}(_\d+)?", name)]
            last = max(found, key=lambda name: (len(name), name), default=None)
            bias = file.get(f"layers/{last}/vars/1")
            return None if bias is None else bias.shape[0]
    except (OSError, KeyError) as error:
        raise WeightsError(f'"{path}" is not a file of Keras weights: {error}') from error


def _labels(tag: Weights, count: int, classes: int | Sequence[str] | None) -> tuple[str, ...]:
    if classes is not None and not isinstance(classes, int):
        return tuple(classes)
    known = tag.labels or labels_of(tag.pictures)
    if count == tag.classes == len(known):
        return known
    return tuple(str(i) for i in range(count))


def _card(chosen: _Chosen) -> dict[str, Any]:
    facts = asdict(card(chosen.architecture, chosen.tag if chosen.path else None))
    del facts["weights"]
    return facts
