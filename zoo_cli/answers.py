"""What `zoo classify` and `zoo predict` take and print: pictures, and the likeliest labels of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from zoo.data.folders import pictures_in
from zoo.data.listing import READ
from zoo.errors import DataError, ZooError
from zoo.preprocessing import read_image

Answer = Sequence[tuple[str, float]]
Found = Mapping[Path, Answer | DataError]


def pictures_of(given: Sequence[Path]) -> list[Path]:
    """Files as they are, and for a folder the pictures in it and in its folders."""
    return [picture for path in given for picture in (_in_folder(path) if path.is_dir() else [path])]


def _in_folder(folder: Path) -> list[Path]:
    pictures = pictures_in(folder)
    if not pictures:
        raise DataError(f'"{folder}" holds no pictures ({READ})')
    return pictures


def answered(ask: Callable[[Sequence[Path]], Sequence[Answer]], pictures: Sequence[Path]) -> Found:
    """What `ask` says of each; where it refuses because some are no pictures, why, and what it says of the
    others.
    """
    try:
        return dict(zip(pictures, ask(pictures), strict=True))
    except ZooError:
        errors = _unreadable(pictures)
        if not errors:
            raise
    readable = [picture for picture in pictures if picture not in errors]
    return {**dict(zip(readable, ask(readable), strict=True)), **errors}


def _unreadable(pictures: Sequence[Path]) -> dict[Path, DataError]:
    found = {}
    for picture in pictures:
        try:
            read_image(picture)
        except DataError as error:
            found[picture] = error
    return found


def show(found: Found, as_json: bool) -> None:
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
