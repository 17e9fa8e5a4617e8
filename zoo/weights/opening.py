"""Whose config.json it is."""

from __future__ import annotations

from os import PathLike

from zoo.errors import ZooError
from zoo.weights import timm_config, transformers_config
from zoo.weights.repository import CONFIG, Repository, facts_of


def open_repository(name: str | PathLike[str]) -> Repository:
    """Read the config.json of "hf-hub:USER/REPOSITORY[@REVISION]", or of a folder: timm's or that of Hugging
    Face's transformers.

    Raises ZooError for another one and for a network that is built otherwise than the zoo's,
    UnknownModelError for one that is not in it, DownloadError.
    """
    place = str(name)
    config = facts_of(place, CONFIG)
    reader = timm_config if "architecture" in config else transformers_config
    try:
        return reader.repository_of(place, config)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ZooError):
            raise
        raise ZooError(
            f"{place}: its {CONFIG} cannot be read ({type(error).__name__}: {error}); "
            "zoo.load(NAME, weights=PATH) reads a weight file by itself"
        ) from error
