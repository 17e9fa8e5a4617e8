"""A module of ours in a process of its own, whose memory, or crash, ends with it."""

import subprocess
import sys

PATIENCE = 300.0  # seconds until it is given up


def run_apart(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs `python -m module arguments` to its end; OSError where it cannot be started,
    subprocess.TimeoutExpired after PATIENCE.
    """
    return subprocess.run(  # noqa: S603 - our own module, arguments as a list
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        # A Ctrl-C is for the server; it is no crash of what runs here.
        start_new_session=True,
    )
