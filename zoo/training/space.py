"""What a search may try: of each field of a recipe a list of choices, or a tuple of lowest and highest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError, did_you_mean
from zoo.training.recipe import Recipe

if TYPE_CHECKING:
    import optuna

Space = Mapping[str, list[Any] | tuple[float, float]]

CHANGES: Space = {
    "weight_decay": (1e-4, 1e-1),
    "label_smoothing": (0.0, 0.2),
    "augment": ["none", "light", "trivial"],
}
OF_THE_TOP: Space = {"rate": (1e-4, 1e-2), "lowest_rate": (0.01, 1.0)}
OF_THE_HEAD: Space = {"head_rate": (1e-3, 1e-1)}
JUDGED_BY = ("validation", "test")  # losses of other pictures cannot be compared
APART = 10  # a highest so many times the lowest: the scale is one of logarithms


def usual(base: Recipe) -> Space:
    return {**(OF_THE_TOP if base.epochs else OF_THE_HEAD), **CHANGES}


def checked(space: Space, base: Recipe) -> Space:
    """Raises ZooError naming a field that recipes do not have, or that cannot be what the space says."""
    known = [field.name for field in fields(Recipe) if field.name not in JUDGED_BY]
    for name, values in space.items():
        if name not in known:
            hint = did_you_mean(name, known, f"there are: {', '.join(known)}")
            raise ZooError(f'"{name}" is no field to search; {hint}')
        if not (_is_range(values) or (isinstance(values, list) and values)):
            raise ZooError(
                f"{name} can be searched in a list of choices, or in a tuple of the lowest and the highest "
                f"number, not in {values!r}"
            )
        for value in values:
            base.with_changes(**{name: value})
    return space


def _is_range(values: Any) -> bool:
    numbers = isinstance(values, tuple) and [type(value) in (int, float) for value in values] == [True, True]
    return numbers and values[0] < values[1]


def suggested(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """What the trial shall try of each field."""
    return {name: _suggested(trial, name, values) for name, values in space.items()}


def _suggested(trial: optuna.Trial, name: str, values: Any) -> Any:
    if isinstance(values, list):
        return trial.suggest_categorical(name, values)
    whole = all(isinstance(value, int) for value in values) and not isinstance(getattr(Recipe, name), float)
    suggest = trial.suggest_int if whole else trial.suggest_float
    return suggest(name, *values, log=is_logarithmic(values))


def is_logarithmic(values: tuple[float, float]) -> bool:
    return values[0] > 0 and values[1] >= APART * values[0]


def among(recipe: Recipe, space: Space) -> dict[str, Any]:
    """The recipe's own values, where the space has them."""
    return {name: value for name, value in recipe.to_dict().items() if _has(space.get(name, []), value)}


def _has(values: Any, value: Any) -> bool:
    if isinstance(values, list):
        return value in values
    return value is not None and values[0] <= value <= values[1]
