"""Pretrained convolutional networks for Keras 3: load by name, fine-tune on your own pictures.

Every name is imported when it is first used: `import zoo` loads neither TensorFlow nor Keras.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo import data as data
    from zoo import preprocessing as preprocessing
    from zoo import weights as weights
    from zoo.backbone import embedder, features
    from zoo.classifier import Facts, attach, facts, save
    from zoo.classifying import classify
    from zoo.errors import DataError, DownloadError, UnknownModelError, WeightsError, ZooError
    from zoo.evaluating import Comparison, Evaluation, compare, evaluate
    from zoo.explaining import Explanation, explain
    from zoo.fusing import fuse
    from zoo.loading import load
    from zoo.outputs import heads
    from zoo.preprocessing import Preprocessing
    from zoo.registry import Card, describe, list_models
    from zoo.training import Result, fine_tune
    from zoo.training.augmentation.showing import show_views
    from zoo.training.calibration import calibrate
    from zoo.training.rate_finding import RateTest, find_rate
    from zoo.training.search import Search, search

_HOMES = {
    "zoo.backbone": ("embedder", "features"),
    "zoo.classifier": ("Facts", "attach", "facts", "save"),
    "zoo.classifying": ("classify",),
    "zoo.errors": ("DataError", "DownloadError", "UnknownModelError", "WeightsError", "ZooError"),
    "zoo.evaluating": ("Comparison", "Evaluation", "compare", "evaluate"),
    "zoo.explaining": ("Explanation", "explain"),
    "zoo.fusing": ("fuse",),
    "zoo.loading": ("load",),
    "zoo.outputs": ("heads",),
    "zoo.preprocessing": ("Preprocessing",),
    "zoo.registry": ("Card", "describe", "list_models"),
    "zoo.training": ("Result", "fine_tune"),
    "zoo.training.augmentation.showing": ("show_views",),
    "zoo.training.calibration": ("calibrate",),
    "zoo.training.rate_finding": ("RateTest", "find_rate"),
    "zoo.training.search": ("Search", "search"),
}
_ROOMS = ("data", "preprocessing", "weights")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Card",
    "Comparison",
    "DataError",
    "DownloadError",
    "Evaluation",
    "Explanation",
    "Facts",
    "Preprocessing",
    "RateTest",
    "Result",
    "Search",
    "UnknownModelError",
    "WeightsError",
    "ZooError",
    "attach",
    "calibrate",
    "classify",
    "compare",
    "describe",
    "embedder",
    "evaluate",
    "explain",
    "facts",
    "features",
    "find_rate",
    "fine_tune",
    "fuse",
    "heads",
    "list_models",
    "load",
    "save",
    "search",
    "show_views",
]


if not TYPE_CHECKING:  # whose checkers would take any name for one that is here

    def __getattr__(name: str) -> Any:
        if name in _ROOMS:
            return import_module(f"zoo.{name}")
        if name not in _HOME_OF:
            raise AttributeError(f"module 'zoo' has no attribute {name!r}")
        return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
