"""What a benchmark ran on, in a line."""

import os
import platform
from pathlib import Path

SETS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bfloat16", "amx_tile": "AMX"}


def machine() -> str:
    import keras
    import tensorflow as tf

    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    names = [str(details.get("device_name", "GPU")) for details in gpus]
    where = ", ".join([f"{os.cpu_count()} x {processor()}", *names])
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")
    return f"{where}; TensorFlow {tf.__version__}, Keras {keras.__version__}; TF_ENABLE_ONEDNN_OPTS {onednn}"


def processor() -> str:
    """Its name and what it computes with, which a virtual machine's "AMD EPYC" leaves open."""
    facts = Path("/proc/cpuinfo")
    if not facts.exists():
        return platform.processor() or platform.machine()
    entries = (line.partition(":") for line in facts.read_text("utf-8").splitlines())
    values = {key.strip(): value.strip() for key, _, value in entries}
    sets = [name for flag, name in SETS.items() if flag in values.get("flags", "").split()]
    return f"{values.get('model name', platform.machine())} ({', '.join(sets)})"
