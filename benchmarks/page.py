"""docs/benchmarks.md: what each script measured, a section for each; a run replaces its own alone."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Measured

Each section is written by the script that it names: medians, side by side in one run, on the machine that it
states.
"""


def replace_section(title: str, text: str, page: Path = PAGE) -> None:
    """Set what stands under "## title" to the text (Markdown, with headings of lower levels if wanted); a new
    section comes last.
    """
    before = page.read_text("utf-8") if page.exists() else HEAD
    section = f"## {title}\n\n{text.strip()}\n"
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", before, re.MULTILINE | re.DOTALL)
    if found:
        after = before[: found.start()] + section + "\n" + before[found.end() :]
    else:
        after = before.rstrip() + "\n\n" + section
    page.write_text(after.rstrip() + "\n", "utf-8")


def beside(
    names: Iterable[str], milliseconds: Callable[[str], Sequence[float]], goal: float
) -> Iterator[str]:
    """A row for each network, printed as it comes; milliseconds: a name -> ours and theirs; goal: the most
    that ours may take of theirs.
    """
    for name in names:
        ours, theirs = milliseconds(name)
        reached = "yes" if ours <= goal * theirs else "no"
        line = f"| {name} | {ours:.2f} ms | {theirs:.2f} ms | {ours / theirs:.2f} x | {reached} |"
        print(line, flush=True)
        yield line
