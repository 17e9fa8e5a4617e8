"""What differs by backend and device: XLA, and half of the bits."""

from __future__ import annotations

import keras

from zoo.errors import ZooError

BACKENDS = ("tensorflow", "jax", "torch")  # of Keras, those that have gradients
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
AMPERE = (8, 0)  # the first compute capability of NVIDIA's with bfloat16


def jit() -> bool | str:
    """TensorFlow's XLA trains convolutions many times slower on CPU than oneDNN does; all others gain."""
    return False if on_tensorflow_cpu() else "auto"


def check_backend() -> None:
    """Raises ZooError where Keras computes by a backend that cannot train."""
    backend = keras.backend.backend()
    if backend not in BACKENDS:
        raise ZooError(
            f"training needs Keras on {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}, not on {backend}: "
            f"set KERAS_BACKEND={BACKENDS[0]}"
        )


def on_tensorflow_cpu() -> bool:
    return keras.backend.backend() == "tensorflow" and not has("gpu")


def has(kind: str) -> bool:
    """Whether there is a "gpu" or a "tpu"."""
    if keras.backend.backend() == "torch":  # for which Keras lists no devices
        import torch

        return kind == "gpu" and torch.cuda.is_available()
    return any(device.startswith(kind) for device in keras.distribution.list_devices())


def sharers() -> int:
    """How many devices share each batch: those of keras.distribution or, on TensorFlow, of the tf.distribute
    strategy that is in force.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
    spread = keras.distribution.distribution()
    if spread is None:
        return 1
    mesh = spread.device_mesh
    return mesh.shape[mesh.axis_names.index(spread.batch_dim_name)]


def shareable(pictures: int) -> int:
    """The next number that the devices can share evenly."""
    return -(-pictures // sharers()) * sharers()


def precision_for_device(precision: str) -> str:
    """One of PRECISIONS -> the policy of Keras; auto is bfloat16 on TPUs and GPUs that compute in it."""
    if precision != "auto":
        return precision
    gains = has("tpu") or (has("gpu") and _gpu_has_bfloat16())
    return "mixed_bfloat16" if gains else "float32"


def _gpu_has_bfloat16() -> bool:
    if keras.backend.backend() == "torch":
        import torch

        return bool(torch.cuda.is_bf16_supported())
    if keras.backend.backend() == "jax":
        import jax

        capability = str(getattr(jax.devices()[0], "compute_capability", "0.0"))
        return tuple(map(int, capability.split("."))) >= AMPERE
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return details.get("compute_capability", (0, 0)) >= AMPERE
