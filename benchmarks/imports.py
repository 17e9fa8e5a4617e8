"""How long each dependency takes to import: median of five fresh processes, less a bare interpreter.

python benchmarks/imports.py tensorflow keras numpy
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 5


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start


def main(modules: list[str]) -> None:
    bare = statistics.median(seconds("pass") for _ in range(ROUNDS))
    for module in modules:
        took = statistics.median(seconds(f"import {module}") for _ in range(ROUNDS))
        print(f"{module:<40} {took - bare:6.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
