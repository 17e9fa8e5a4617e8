"""TensorFlow speaks of CPUs and CUDA while it is imported, past every log level, and of every further network
that it traces as if it were the same one again.
"""

import importlib
import os


def import_tensorflow() -> None:
    """Import TensorFlow with standard error turned away; later it says errors only. A failing import still
    raises.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        importlib.import_module("tensorflow").get_logger().setLevel("ERROR")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
