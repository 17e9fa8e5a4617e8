"""What `zoo classify` and `zoo predict` take and print: pictures, and the likeliest labels of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from zoo.data.folders import pictures_in
from zoo.data.listing import READ
from zoo.errors import DataError
from zoo.preprocessing import read_image

Answer = Sequence[tuple[str, float]]


def pictures_of(given: Sequence[Path]) -> list[Path]:
    """Files as they are, and for a folder the pictures in it and in its folders."""
    return [picture for path in given for picture in (_in_folder(path) if path.is_dir() else [path])]


def _in_folder(folder: Path) -> list[Path]:
    pictures = pictures_in(folder)
    if not pictures:
        raise DataError(f'"{folder}" holds no pictures ({READ})')
    return pictures


def unreadable(pictures: Sequence[Path]) -> dict[Path, DataError]:
    """Those that are no pictures, and why."""
    found = {}
    for picture in pictures:
        try:
            read_image(picture)
        except DataError as error:
            found[picture] = error
    return found


def show(found: Mapping[Path, Answer | DataError], as_json: bool) -> None:
    """A line for each picture, or one JSON object of [label, score] pairs by picture; then what is no
    picture, which makes the exit code 1.
    """
    errors = [error for error in found.values() if isinstance(error, DataError)]
    answers = {str(picture): of for picture, of in found.items() if not isinstance(of, DataError)}
    if as_json:
        click.echo(json.dumps(answers))
    else:
        for picture, answer in answers.items():
            click.echo(f"{picture}: " + ", ".join(f"{label} {score:.3f}" for label, score in answer))
    for error in errors:
        click.echo(f"error: {error}", err=True)
    if errors:
        click.get_current_context().exit(1)
