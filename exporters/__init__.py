"""A Classifier -> a versioned model directory that the ecosystem's other tools open without this library.

`import exporters` loads neither TensorFlow nor Keras; they are imported when `export` is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.quiet import untold

if TYPE_CHECKING:
    from exporters.checking import Checked, check
    from exporters.errors import ExportError
    from exporters.exporting import Export, export
    from exporters.inspecting import Inspected, inspect
    from exporters.parity import Parity

untold()

_HOME_OF = {
    "Checked": "exporters.checking",
    "Export": "exporters.exporting",
    "ExportError": "exporters.errors",
    "Inspected": "exporters.inspecting",
    "Parity": "exporters.parity",
    "check": "exporters.checking",
    "export": "exporters.exporting",
    "inspect": "exporters.inspecting",
}

__all__ = ["Checked", "Export", "ExportError", "Inspected", "Parity", "check", "export", "inspect"]


if not TYPE_CHECKING:  # whose checkers would take any name for one that is here

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'exporters' has no attribute {name!r}")
        # TensorFlow reads this once, when it is imported.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
