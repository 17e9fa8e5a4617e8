"""The bar of long work: on a terminal, in a notebook, and nowhere else."""

import os
import pty
import subprocess
import sys

WORK = """
from zoo.progress import progress
with progress() as bar:
    for _ in bar.track(range(3), description="pictures"):
        pass
"""
# rich takes this for a notebook; it draws with ipywidgets there.
NOTEBOOK = """
import builtins
class ZMQInteractiveShell:
    pass
builtins.get_ipython = ZMQInteractiveShell
"""


def said(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr


def test_it_is_silent_where_nobody_watches():
    assert said(WORK) == ""


def test_it_is_shown_on_a_terminal():
    watched, terminal = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", WORK], stderr=terminal, check=True, env={**os.environ, "TERM": "xterm"}
    )
    os.close(terminal)
    shown = os.read(watched, 10_000).decode()
    os.close(watched)
    assert "pictures" in shown
    assert "3/3" in shown


def test_a_notebook_is_watched():
    asked = "print(bar.disable)"
    ran = [sys.executable, "-c", NOTEBOOK + WORK + asked]
    assert subprocess.run(ran, capture_output=True, text=True, check=True).stdout.strip() == "False"
