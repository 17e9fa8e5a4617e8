"""A recipe on the command line: FIELD=VALUE, all of its fields as text, and what came of it."""

from __future__ import annotations

import json
from typing import Any

import click

from zoo.classifier import facts
from zoo.training import Recipe, Result
from zoo.training.tasks import TASKS


def changes_of(settings: tuple[str, ...]) -> dict[str, Any]:
    """("epochs=3", "augment=trivial") -> {"epochs": 3, "augment": "trivial"}; true, false, null as in JSON.

    Raises click.BadParameter for what has no "=".
    """
    changes = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f'"{setting}" is not FIELD=VALUE', param_hint="--set")
        changes[name.strip()] = _value(value.strip())
    return changes


def space_of(settings: tuple[str, ...]) -> dict[str, Any] | None:
    """("rate=1e-4:1e-2", "augment=light,trivial") -> {"rate": (1e-4, 1e-2), "augment": ["light", "trivial"]};
    None where nothing is said.
    """
    return {name: _tried(str(value)) for name, value in changes_of(settings).items()} or None


def _tried(text: str) -> Any:
    lowest, colon, highest = text.partition(":")
    return (_value(lowest), _value(highest)) if colon else [_value(choice) for choice in text.split(",")]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def trials_text(trials: list[dict[str, Any]]) -> str:
    """A line for each trial of a search, the best one first."""
    lines = sorted(trials, key=lambda trial: trial["val_loss"])
    columns = {name: [name, *(_short(trial[name]) for trial in lines)] for name in lines[0]}
    padded = [[text.rjust(max(map(len, texts))) for text in texts] for texts in columns.values()]
    return "\n".join("  ".join(row) for row in zip(*padded, strict=True))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def headline(result: Result) -> str:
    """What the test pictures say of it, in a line."""
    key, name = TASKS[facts(result.model).task].headline
    return f"held-out {name} {result.metrics[key]:.4f}"


def recipe_text(recipe: Recipe) -> str:
    fields = ", ".join(f"{name}={json.dumps(value)}" for name, value in recipe.to_dict().items())
    return click.wrap_text(f"recipe: {fields}", width=100, subsequent_indent="  ")
