"""What a user can act on. Every message names the thing and the remedy; the command line prints it and
exits with 1.
"""

import difflib
from collections.abc import Iterable


class ZooError(Exception):
    """Base of all errors that a user can act on."""


class UnknownModelError(ZooError, ValueError):
    """No architecture, tag or file answers to the name."""


class WeightsError(ZooError, ValueError):
    """A weight file is damaged, hostile, or does not fit the network."""


class DownloadError(ZooError, OSError):
    """A file could not be fetched."""


class DataError(ZooError, ValueError):
    """Pictures or a data set cannot be used."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str, cutoff: float = 0.6) -> str:
    """The end of a message about an unknown name: the nearest known one, or `otherwise` where none is near
    (cutoff: of difflib's likeness, 0..1).
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f'did you mean "{near[0]}"?' if near else otherwise
