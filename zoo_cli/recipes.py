"""A recipe on the command line: FIELD=VALUE, and all of its fields as text."""

from __future__ import annotations

import json
from typing import Any

import click

from zoo.training import Recipe


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


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def recipe_text(recipe: Recipe) -> str:
    fields = ", ".join(f"{name}={json.dumps(value)}" for name, value in recipe.to_dict().items())
    return click.wrap_text(f"recipe: {fields}", width=100, subsequent_indent="  ")
