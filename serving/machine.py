"""What the machine, or the container, lets the server use."""

import math
import os
import platform
import re
from pathlib import Path


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The processors that this process may use: by its affinity, and by its container's quota (cgroup 2)."""
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
