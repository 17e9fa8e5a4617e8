"""docs/benchmarks.md: what each script measured, a section for each; a run replaces its own alone."""

import re
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
