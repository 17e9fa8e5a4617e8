"""The config.json and preprocessor_config.json of Hugging Face's transformers 5.24: image classifiers that
AutoModelForImageClassification saved. Networks and names of layers: zoo/catalog/elsewhere/transformers.toml.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.errors import UnknownModelError, ZooError
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

PICTURES = "preprocessor_config.json"
INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
NEAREST = 0
SQUASHED = 384  # pixels, from which ConvNextImageProcessor does not crop


def repository_of(place: str, config: Mapping[str, Any]) -> Repository:
    """What it describes. Raises UnknownModelError for a network that is not in the zoo, ZooError for one that
    is built otherwise than the zoo's, DownloadError.
    """
    kind = config.get("model_type")
    kinds = elsewhere("transformers")
    if kind not in kinds:
        known = ", ".join(kinds)
        raise UnknownModelError(
            f"{place} has the model_type {kind!r}, which the zoo does not read; it reads {known}"
        )
    facts = kinds[kind]
    _refuse_other_networks(place, config, facts["same"], facts.get("absent", ()))
    architecture, _ = resolve(network_of(place, kind, config, facts["networks"]))
    before = facts.get("before", {}).get(architecture.name, ())
    pictures = {**facts.get("pictures", {}), **facts_of(place, PICTURES)}
    size, crop = _size_and_crop(place, pictures)
    mean, std = _mean_and_std(place, pictures)
    if config.get("problem_type") == "multi_label_classification":
        log.warning('%s names several labels for a picture: give classifier_activation="sigmoid"', place)
    labels = _labels(config)
    weights = Weights(
        architecture=architecture.name,
        tag=tag_of(place),
        url=place,
        renames=tuple((pattern, name) for pattern, name in [*before, *facts["renames"]]),
        classes=len(labels),
        labels=labels,
        input_size=size[0],
        crop=crop,
        interpolation=_interpolation(place, pictures),
        mean=mean,
        std=std,
        channels="bgr" if pictures.get("do_flip_channel_order") else "rgb",
        padding=facts["padding"],
        epsilon=facts["epsilon"],
    )
    return Repository(place, architecture, weights, size, None, timm_of(architecture, weights))


def _refuse_other_networks(
    place: str, config: Mapping[str, Any], same: Mapping[str, Any], absent: Sequence[str]
) -> None:
    for name in absent:
        if config.get(name) is not None:
            raise ZooError(f"{place} was built with {name}={config[name]!r}, which the zoo does not build")
    refuse_other_networks(place, config, {"num_channels": 3, **same})


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = {int(number): str(name) for number, name in config["id2label"].items()}
    return tuple(names.get(i, str(i)) for i in range(max(names) + 1))


def _interpolation(place: str, pictures: Mapping[str, Any]) -> str:
    resample = pictures.get("resample", 3)
    if resample == NEAREST:
        log.warning("%s: its pictures were resized by the nearest pixels; here bilinearly", place)
        return "bilinear"
    return INTERPOLATIONS.get(resample, f"Pillow's {resample}")


def _mean_and_std(place: str, pictures: Mapping[str, Any]) -> tuple[Colours, Colours]:
    """Of pictures in 0..1; ZooError for those that were brought to another range."""
    factor = pictures.get("rescale_factor", 1 / 255) if pictures.get("do_rescale", True) else 1.0
    if not math.isclose(factor, 1 / 255, rel_tol=1e-4):
        raise ZooError(f"{place}: its pictures were multiplied by {factor}, not by 1 / 255 as the zoo's")
    if not pictures.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean, std = of_colours(pictures["image_mean"]), of_colours(pictures["image_std"])
    red, green, blue = std
    # EfficientNet's processor divides twice, by what it says is a deviation and is the root of one.
    return mean, (red**2, green**2, blue**2) if pictures.get("include_top") else std


def _size_and_crop(place: str, pictures: Mapping[str, Any]) -> tuple[tuple[int, int], float]:
    """(height, width) in pixels, and the fraction that the centre crop keeps."""
    size = pictures["size"]
    size = {"shortest_edge": size} if isinstance(size, int) else size
    cropped = pictures.get("crop_size")
    if cropped and pictures.get("do_center_crop", True):
        cropped = {"height": cropped, "width": cropped} if isinstance(cropped, int) else cropped
        edge = size.get("shortest_edge") or min(size["height"], size["width"])
        whole = (cropped["height"], cropped["width"])
        return whole, min(1.0, min(whole) / (edge * pictures.get("margin", 1)))
    edge = size.get("shortest_edge")
    if edge and edge < SQUASHED:
        return (edge, edge), float(pictures.get("crop_pct", 224 / 256))
    log.warning("%s: its pictures were not cropped but squashed; here they are cropped", place)
    return ((edge, edge) if edge else (size["height"], size["width"])), 1.0
