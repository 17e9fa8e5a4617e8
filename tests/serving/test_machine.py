"""What the server makes of the machine."""

import sys
from collections.abc import Callable

import pytest

from serving import machine

FAULTS = """
import resource
import numpy as np
from serving.machine import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        pictures = [np.ones((224, 224, 3), np.float32) for _ in range(4)]
        del pictures
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_the_memory_of_a_request_is_there_for_the_next_one(run_python: Callable[..., str]) -> None:
    before, after = map(int, run_python(FAULTS).split())
    assert before > 50 * 100
    assert after < 50


def test_a_worker_counts_its_share_of_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    every = machine.cores()
    monkeypatch.setenv(machine.SHARE, "1")
    assert machine.cores() == 1
    monkeypatch.setenv(machine.SHARE, str(every + 1))
    assert machine.cores() == every
