"""From a JPEG's bytes to a network's input, by the libraries that decode it: docs/benchmarks.md's "Decoding".

    python benchmarks/decoding.py

Pillow, load_image (Pillow, which decodes large photos at a fraction of their size), and what is installed of
simplejpeg, PyTurboJPEG and opencv-python-headless; each followed by the zoo's resize and crop to 224 x 224.
TensorFlow decodes and resizes as the exported SavedModel does. Medians of processor time, in turns.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROUNDS = 15
SIZES = ((500, 375), (1000, 750), (1600, 1200), (2048, 1536), (4000, 3000))
NAMES = {
    "simplejpeg": "simplejpeg",
    "turbojpeg": "PyTurboJPEG",
    "cv2": "OpenCV",
}


def main() -> None:
    from benchmarks.machine import machine
    from benchmarks.page import replace_section

    ways = decoders()
    lines = [row(f"{width} x {height}", photo((width, height)), ways) for width, height in SIZES]
    text = "\n".join(
        [
            f"`python benchmarks/decoding.py`, on {machine()}. Milliseconds of processor time from a JPEG's "
            "bytes to 224 x 224 pixels, and by how much of 255 a pixel differs at most from Pillow's.",
            "",
            f"| photo | {' | '.join(ways)} |",
            f"| --- |{' --- |' * len(ways)}",
            *lines,
            "",
            f"Not installed: {', '.join(missing()) or 'none'}.",
        ]
    )
    print(text)
    replace_section("Decoding", text)


def missing() -> list[str]:
    return [name for module, name in NAMES.items() if not find_spec(module)]


def decoders() -> dict[str, Callable[[bytes], Any]]:
    """Bytes -> [224, 224, 3], by name; the first is what the others are compared with."""
    from zoo.preprocessing import Preprocessing, evaluate, load_image, read_image

    preprocessing = Preprocessing()
    ways: dict[str, Callable[[bytes], Any]] = {
        "Pillow": lambda data: evaluate(preprocessing, read_image(data)),
        "load_image": lambda data: load_image(preprocessing, data),
    }
    for module, decode in (("simplejpeg", by_simplejpeg), ("turbojpeg", by_turbojpeg), ("cv2", by_opencv)):
        if find_spec(module):
            ways[NAMES[module]] = after(decode(), preprocessing)
    return ways | {"TensorFlow": by_tensorflow(preprocessing)}


def after(decode: Callable[[bytes], Any], preprocessing: Any) -> Callable[[bytes], Any]:
    from zoo.preprocessing import evaluate

    return lambda data: evaluate(preprocessing, decode(data))


def by_simplejpeg() -> Callable[[bytes], Any]:
    import simplejpeg

    return simplejpeg.decode_jpeg


def by_turbojpeg() -> Callable[[bytes], Any]:
    import turbojpeg

    jpeg = turbojpeg.TurboJPEG()
    return lambda data: jpeg.decode(data, turbojpeg.TJPF_RGB)


def by_opencv() -> Callable[[bytes], Any]:
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    return lambda data: cv2.cvtColor(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )


def by_tensorflow(preprocessing: Any) -> Callable[[bytes], Any]:
    import tensorflow as tf

    from zoo.preprocessing import tf_decode, tf_evaluate

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def decoded(data: Any) -> Any:
        return tf_evaluate(preprocessing, tf_decode(data))

    return lambda data: decoded(tf.constant(data)).numpy()


def photo(size: tuple[int, int]) -> bytes:
    """A JPEG file of a photo resized to (width, height), as a camera writes it."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    buffer = io.BytesIO()
    Image.fromarray(load_sample_images().images[0]).resize(size).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def row(name: str, data: bytes, ways: dict[str, Callable[[bytes], Any]]) -> str:
    import numpy as np

    pixels = [np.asarray(way(data), int) for way in ways.values()]
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for way, times in zip(ways.values(), taken, strict=True):
            began = time.process_time()
            way(data)
            times.append(1e3 * (time.process_time() - began))
    cells = [
        f"{statistics.median(times):.1f} ms, {abs(found - pixels[0]).max()}"
        for times, found in zip(taken, pixels, strict=True)
    ]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
