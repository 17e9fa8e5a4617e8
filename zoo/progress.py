"""One progress bar for long work, on standard error, and none where nobody watches."""

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
    """A rich Progress on standard error; silent when standard error is not a terminal."""
    console = Console(stderr=True)
    shown = columns or (MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *shown,
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        yield bar
