"""What can go wrong with an export."""

from zoo.errors import ZooError


class ExportError(ZooError):
    """A model cannot be exported or written, or its export is not equal to it; nothing was published."""
