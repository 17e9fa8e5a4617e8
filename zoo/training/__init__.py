"""Fine-tuning on one's own pictures: `fine_tune` -> `Result`, as a `Recipe` says."""

from zoo.training.recipe import Recipe
from zoo.training.result import Result
from zoo.training.tuning import fine_tune

__all__ = ["Recipe", "Result", "fine_tune"]
