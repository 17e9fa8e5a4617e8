"""One progress bar for long work, on standard error or in a notebook, and none where nobody watches."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress(*columns: ProgressColumn) -> Iterator[Progress]:
    """A rich Progress on a terminal's standard error, or in a notebook, where it stays; else silent."""
    console = Console(stderr=True)
    watched = console.is_terminal or console.is_jupyter
    console.quiet = not watched  # rich before 15 ends a disabled bar with an empty line
    shown = columns or (MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *shown,
        console=console,
        disable=not watched,
        transient=console.is_terminal,
    ) as bar:
        yield bar
        bar.refresh()
