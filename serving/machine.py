"""What the machine, or the container, lets the server use."""

import ctypes
import math
import os
import platform
import re
import sys
from pathlib import Path

SHARE = "ZOO_SERVING_CORES"  # of one of several workers, and of what it starts


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The processors that this process may use: by its affinity, by its container's quota (cgroup 2), and by
    its share where several workers serve.
    """
    return min(_allowed(quota), int(os.environ.get(SHARE, sys.maxsize)))


def _allowed(quota: Path) -> int:
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        microseconds, period = quota.read_text(encoding="ascii").split()
        return max(1, min(found, math.ceil(int(microseconds) / int(period))))
    except (OSError, ValueError):
        # No such file outside of containers, "max" without a limit.
        return found


def processor(facts: Path = Path("/proc/cpuinfo")) -> str:
    """The kind of processor, by which measurements may be told apart."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", facts.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return f"{platform.machine()} {found[1] if found else platform.processor()}"


# glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEPT = 16 << 20  # bytes


def keep_freed_memory() -> None:
    """From now on the C library keeps what requests free for the next ones: given back and taken anew, the
    pages of one picture's floats cost half a millisecond. Nothing happens where the library is not glibc.
    """
    mallopt = platform.system() == "Linux" and getattr(ctypes.CDLL(None), "mallopt", None)
    if not mallopt:
        return
    mallopt(_TRIM_THRESHOLD, _KEPT)
    mallopt(_MMAP_THRESHOLD, _KEPT)
    # Each arena keeps its own, and there may be hundreds of threads.
    mallopt(_ARENA_MAX, cores())
