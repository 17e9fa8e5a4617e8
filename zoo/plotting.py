"""Figures outside of pyplot: no window, no state shared with the caller's plots."""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.writing import complete

DOTS = 120  # per inch


def new_figure(width: float, height: float) -> Any:
    """A matplotlib Figure of so many inches. Raises ZooError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ZooError("a plot needs matplotlib: pip install 'cnn-zoo[train]'") from error
    return Figure(figsize=(width, height), layout="constrained", dpi=DOTS)


def write_png(figure: Any, path: str | PathLike[str]) -> Path:
    """Into a folder that need not be there, complete or not at all."""
    path = Path(path)
    with complete(path) as partial:
        figure.savefig(partial, format="png")
    return path


def png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
