"""timm's config.json, read and written: the keys of timm.models.save_for_hf, timm 1.0.31."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UnknownModelError, WeightsError, ZooError
from zoo.registry import Architecture, Weights, resolve
from zoo.weights.repository import Repository, of_colours, tag_of

if TYPE_CHECKING:
    from zoo.classifier import Facts
    from zoo.weights.convert import Slot

log = logging.getLogger("zoo")

POOLINGS = ("avg", "max", "avgmax")
# Arguments that a network may have been made with and is the same without.
HARMLESS = ("num_classes", "drop_rate", "drop_path_rate", "img_size")


def repository_of(place: str, config: Mapping[str, Any]) -> Repository:
    """What it describes. Raises UnknownModelError for a network that is not in the zoo, ZooError for one that
    is built otherwise than the zoo's.
    """
    # Before it had a part of its own, all of the weights' facts stood beside the name.
    stated = config.get("pretrained_cfg", config)
    timm = config["architecture"]
    try:
        architecture, named = resolve(timm)
    except UnknownModelError as error:
        raise UnknownModelError(f"{place} has a network that is not in the zoo: {error}") from error
    arguments = config.get("model_args", {})
    _refuse_other_networks(place, arguments)
    channels, height, width = stated.get("input_size", (3, 224, 224))
    if channels != 3:
        raise ZooError(f"{place} takes pictures of {channels} channels; the zoo's networks take RGB")
    if stated.get("crop_mode", "center") != "center":
        log.warning("%s: its pictures were not cropped but %sed; here they are", place, stated["crop_mode"])
    # What timm counts as the classes of an embedding are its numbers.
    classes = 0 if architecture.embedding else int(config.get("num_classes", stated.get("num_classes", 1000)))
    like = _conventions(architecture, named, timm, stated.get("tag"))
    weights = Weights(
        architecture=architecture.name,
        tag=tag_of(place),
        url=place,
        licence=stated.get("license", "unknown"),
        classes=classes,
        labels=_labels(place, config, stated, classes),
        input_size=int(height),
        crop=float(stated.get("crop_pct", 0.875)),
        interpolation=stated.get("interpolation", "bicubic"),
        mean=of_colours(stated.get("mean", like.mean)),
        std=of_colours(stated.get("std", like.std)),
        padding=like.padding,
        epsilon=like.epsilon,
        build=like.build,
    )
    size, pooling = (int(height), int(width)), arguments.get("global_pool")
    return Repository(place, architecture, weights, size, pooling, timm)


def _refuse_other_networks(place: str, arguments: Mapping[str, Any]) -> None:
    known = {"in_chans": (3,), "global_pool": POOLINGS}
    for name, value in arguments.items():
        if name not in HARMLESS and value not in known.get(name, ()):
            raise ZooError(f"{place} was built with {name}={value!r}, which the zoo does not build")


def _conventions(architecture: Architecture, named: Weights | None, timm: str, tag: str | None) -> Weights:
    """Public weights of the same network of timm's, by which its padding and epsilon are known."""
    same = [weights for weights in architecture.weights.values() if weights.timm_name == timm]
    exact = [weights for weights in same if weights.tag == tag]
    return next(iter([*exact, *same]), named or Weights(architecture.name, "none"))


def _labels(
    place: str, config: Mapping[str, Any], stated: Mapping[str, Any], classes: int
) -> tuple[str, ...] | None:
    """Each class by its description, where those tell all apart, else by its name; a gap by its number."""
    names = config.get("label_names") or stated.get("label_names") or stated.get("labels")
    if not names:
        return None
    given = names if isinstance(names, Mapping) else {str(i): name for i, name in enumerate(names)}
    if not classes or not given.keys() <= {str(i) for i in range(classes)}:
        log.warning("%s names %d labels for %d classes: they are left out", place, len(given), classes)
        return None
    descriptions = config.get("label_descriptions") or stated.get("label_descriptions") or {}
    plain = tuple(str(given.get(str(i), i)) for i in range(classes))
    described = tuple(str(descriptions.get(name, name)) for name in plain)
    return described if len(set(described)) == classes else plain


def recipe_of(timm: str | None, pooling: str | None, activation: str | None) -> dict[str, Any]:
    """By what timm.create_model builds the same network: the part of config.json that a model's card keeps,
    as "timm"; nothing where timm cannot.
    """
    if not timm or activation or (pooling and pooling not in POOLINGS):
        return {}
    arguments = {"global_pool": pooling} if pooling else {}
    return {"timm": {"architecture": timm, "model_args": arguments}}


def config_of(facts: Facts, slots: Sequence[Slot]) -> dict[str, Any]:
    """The config.json of a model, from its facts and its variables in order.

    Raises WeightsError where timm does not have the network, or not with its auxiliary heads.
    """
    recipe: dict[str, Any] = facts.card.get("timm", {})
    architecture = resolve(recipe["architecture"])[0] if recipe else None
    if not architecture or any(slot.key.partition(".")[0] in architecture.auxiliary for slot in slots):
        raise WeightsError(
            f"timm does not build {facts.name} as it is, so a folder for it cannot be written; "
            "a name that ends in .safetensors saves the weights by themselves"
        )
    kernels = [slot for slot in slots if slot.is_kernel]
    heads = [slot for slot in kernels if slot.layer == architecture.classifier]
    names = [slot.key.rpartition(".")[0] for slot in heads]
    taken = facts.preprocessing
    return {
        **recipe,
        "num_classes": len(facts.labels),
        "num_features": heads[0].reference_shape[1],
        "label_names": list(facts.labels),
        "pretrained_cfg": {
            "tag": facts.name.partition(".")[2],
            "license": facts.card.get("licence") or "unknown",
            "num_classes": len(facts.labels),
            "input_size": [3, *taken.input_size],
            "fixed_input_size": architecture.sized,
            "interpolation": taken.interpolation,
            "crop_pct": taken.crop,
            "crop_mode": "center",
            "mean": list(taken.mean),
            "std": list(taken.std),
            "pool_size": None,
            "first_conv": kernels[0].key.rpartition(".")[0],
            "classifier": names if len(names) > 1 else names[0],
        },
    }
