"""What a user can act on. Every message names the thing and the remedy; the command line prints it and
exits with 1.
"""


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
