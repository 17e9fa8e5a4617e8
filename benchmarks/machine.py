"""What a benchmark ran on, in a line."""

import os
import platform

import keras
import tensorflow as tf


def machine() -> str:
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    names = [str(details.get("device_name", "GPU")) for details in gpus]
    where = ", ".join([f"{os.cpu_count()} x {processor()}", *names])
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")
    return f"{where}; TensorFlow {tf.__version__}, Keras {keras.__version__}; TF_ENABLE_ONEDNN_OPTS {onednn}"


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(": ")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
