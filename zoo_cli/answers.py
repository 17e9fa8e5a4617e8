"""What `zoo classify` and `zoo predict` take and print: pictures, and the likeliest labels of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.data.folders import pictures_in
from zoo.data.listing import READ
from zoo.errors import DataError

Answer = Sequence[tuple[str, float]]


def pictures_of(given: Sequence[Path]) -> list[Path]:
    """Files as they are, and for a folder the pictures in it and in its folders."""
    return [picture for path in given for picture in (_in_folder(path) if path.is_dir() else [path])]


def _in_folder(folder: Path) -> list[Path]:
    pictures = pictures_in(folder)
    if not pictures:
        raise DataError(f'"{folder}" holds no pictures ({READ})')
    return pictures


def answers_text(answers: Mapping[Path, Answer], as_json: bool) -> str:
    """A line for each picture, or one JSON object of [label, score] pairs by picture."""
    if as_json:
        return json.dumps({str(picture): answer for picture, answer in answers.items()})
    return "\n".join(
        f"{picture}: " + ", ".join(f"{label} {score:.3f}" for label, score in answer)
        for picture, answer in answers.items()
    )
