"""Where weights come from (`sources`), where they are kept (`cache`), how a file is read (`readers`) and
written (`save`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.weights.writers import save

__all__ = ["save"]


if not TYPE_CHECKING:  # whose checkers would take any name for one that is here

    def __getattr__(name: str) -> Any:
        if name != "save":
            raise AttributeError(f"module 'zoo.weights' has no attribute {name!r}")
        return import_module("zoo.weights.writers").save
