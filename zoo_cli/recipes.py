"""A recipe on the command line: its name or file, and fields that are to be different."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from zoo.errors import ZooError


def changes_of(given: Iterable[str]) -> dict[str, Any]:
    """FIELD=VALUE, the value as in JSON or a bare word -> the fields. Raises ZooError for anything else."""
    changes = {}
    for text in given:
        field, equals, value = text.partition("=")
        if not equals:
            raise ZooError(f'"{text}" is no change of the recipe: give FIELD=VALUE, for instance flip=true')
        try:
            changes[field.strip().replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            changes[field.strip().replace("-", "_")] = value
    return changes
