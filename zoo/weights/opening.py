"""Whose config.json it is."""

from __future__ import annotations

from os import PathLike

from zoo.errors import ZooError
from zoo.weights import keras_hub_config, timm_config, transformers_config
from zoo.weights.repository import CONFIG, Repository, facts_of

# By what only their config.json has.
READERS = {"architecture": timm_config, "registered_name": keras_hub_config}


def open_repository(name: str | PathLike[str]) -> Repository:
    """Read the config.json of "hf-hub:USER/REPOSITORY[@REVISION]", or of a folder: timm's, that of Hugging
    Face's transformers, or KerasHub's.

    Raises ZooError for another one and for a network that is built otherwise than the zoo's,
    UnknownModelError for one that is not in it, DownloadError.
    """
    place = str(name)
    config = facts_of(place, CONFIG)
    reader = next((one for key, one in READERS.items() if key in config), transformers_config)
    try:
        return reader.repository_of(place, config)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ZooError):
            raise
        raise ZooError(
            f"{place}: its {CONFIG} cannot be read ({type(error).__name__}: {error}); "
            "zoo.load(NAME, weights=PATH) reads a weight file by itself"
        ) from error
