"""A Classifier -> a versioned model directory that the ecosystem's other tools open without this library.

`import exporters` loads neither TensorFlow nor Keras; they are imported when `export` is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporters.errors import ExportError
    from exporters.exporting import Export, export
    from exporters.parity import Parity

_HOME_OF = {
    "Export": "exporters.exporting",
    "ExportError": "exporters.errors",
    "Parity": "exporters.parity",
    "export": "exporters.exporting",
}

__all__ = ["Export", "ExportError", "Parity", "export"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'exporters' has no attribute {name!r}")
    # TensorFlow reads this once, when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
