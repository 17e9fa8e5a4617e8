"""The presets of KerasHub 0.32: image classifiers that its save_to_preset writes, and keras publishes.

config.json is of the backbone, task.json of the classifier and its pictures; each has its weights beside it.
Networks: zoo/catalog/elsewhere/keras_hub.toml.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from zoo.errors import DownloadError, UnknownModelError, ZooError
from zoo.registry import Weights, resolve
from zoo.weights.repository import (
    Colours,
    Repository,
    elsewhere,
    facts_of,
    network_of,
    of_colours,
    refuse_other_networks,
    tag_of,
    timm_of,
)

log = logging.getLogger("zoo")

KERAS_HUB = "keras_hub"
TASK = "task.json"
BACKBONE, HEAD = "model.weights.h5", "task.weights.h5"
# "flatten" is the VGG of its paper, whose first linear layer is a convolution over the whole map here.
POOLINGS = {"avg": None, "flatten": None, "max": "max"}


def repository_of(place: str, config: Mapping[str, Any]) -> Repository:
    """What it describes. Raises UnknownModelError for a network that is not in the zoo, ZooError for one that
    is built otherwise than the zoo's, DownloadError.
    """
    kind, backbone = config["class_name"], config["config"]
    facts = _facts(place, kind, str(config["registered_name"]))
    refuse_other_networks(place, backbone, facts["same"])
    shape = backbone.get("image_shape") or backbone["input_shape"]
    if shape[-1] != 3:
        raise ZooError(f"{place} takes pictures of the shape {shape}; the zoo's networks take RGB")
    architecture, _ = resolve(network_of(place, kind, backbone, facts["networks"]))
    task = _task(place)
    pictures = _pictures(place, task)
    size = tuple(pictures.get("image_size") or (architecture.macs_size,) * 2)
    mean, std = _mean_and_std(pictures)
    weights = Weights(
        architecture=architecture.name,
        tag=tag_of(place),
        url=place,
        layout=KERAS_HUB,
        renames=tuple((pattern, name) for pattern, name in facts.get("renames", ())),
        classes=task["num_classes"],
        input_size=size[0],
        crop=1.0,
        interpolation=pictures.get("interpolation", "bilinear"),
        mean=mean,
        std=std,
        padding=facts["padding"],
        epsilon=facts["epsilon"],
    )
    pooling, timm = POOLINGS[task.get("pooling", "avg")], timm_of(architecture, weights)
    return Repository(place, architecture, weights, size, pooling, timm, (BACKBONE,), HEAD)


def _facts(place: str, kind: str, registered: str) -> dict[str, Any]:
    """What is known of the backbone."""
    if not registered.startswith("keras_hub>"):
        raise UnknownModelError(
            f"{place} is a whole model that Keras saved, no preset of KerasHub: keras.saving.load_model "
            f'opens its folder, or "hf://{tag_of(place)}"; zoo.attach(model, zoo.Facts(...)) tells its labels'
        )
    kinds = elsewhere(KERAS_HUB)
    if kind not in kinds:
        raise UnknownModelError(
            f"{place} is a {kind} of KerasHub, which the zoo does not read; it reads {', '.join(kinds)}"
        )
    return kinds[kind]


def _task(place: str) -> Mapping[str, Any]:
    """What is said of the classifier."""
    try:
        task = facts_of(place, TASK)
    except DownloadError as error:
        raise DownloadError(f"{place} is a preset without a classifier, or not to be had: {error}") from error
    if not str(task["class_name"]).endswith("ImageClassifier"):
        raise ZooError(f"{place} is a {task['class_name']} of KerasHub; the zoo reads its image classifiers")
    return task["config"]


def _pictures(place: str, task: Mapping[str, Any]) -> Mapping[str, Any]:
    """What its image converter does; nothing where it has none."""
    preprocessor = (task.get("preprocessor") or {}).get("config", {})
    pictures = (preprocessor.get("image_converter") or {}).get("config", {})
    if pictures.get("pad_to_aspect_ratio") or not pictures.get("crop_to_aspect_ratio", True):
        log.warning("%s: its pictures were not cropped but padded or squashed; here they are cropped", place)
    return pictures


def _mean_and_std(pictures: Mapping[str, Any]) -> tuple[Colours, Colours]:
    """Of pictures in 0..1, where KerasHub says by what to multiply 0..255 and what to add then."""
    scale, offset = (pictures.get(key) for key in ("scale", "offset"))
    std = of_colours([1 / (255 * factor) for factor in _colours(1.0 if scale is None else scale)])
    added = _colours(0.0 if offset is None else offset)
    return of_colours([-more * deviation for more, deviation in zip(added, std, strict=True)]), std


def _colours(stated: Any) -> Colours:
    return of_colours(stated if isinstance(stated, list) else [stated] * 3)
