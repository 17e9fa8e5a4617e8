"""Our TFLite files and those that TensorFlow's converter writes of the same networks, in LiteRT, side by
side: one picture, one thread. Nothing else should run on the machine.

    python benchmarks/tflite_beside_plain.py [NETWORK ...]

Weights are random: they change no time. Ours normalises the picture and has three outputs; the other takes
normalised pictures and gives the model's own output.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

NETWORKS = (
    "resnet50",
    "mobilenetv2_100",
    "efficientnet_b0",
    "convnext_tiny",
    "mobileone_s0",
    "fastvit_t8",
    "starnet_s1",
    "mambaout_femto",
    "caformer_s18",
    "mixnet_s",
    "van_tiny",
    "unireplknet_a",
    "edgenext_xx_small",
    "hornet_tiny",
    "nasnetmobile",
    "mobilevit_s",
)
ROUNDS = 30
GOAL = 1.05


def main() -> None:
    from importlib.metadata import version

    from benchmarks.machine import machine
    from benchmarks.page import beside, replace_section

    lines = list(beside(sys.argv[1:] or NETWORKS, milliseconds, GOAL))
    words = (
        "One picture in LiteRT, one thread: our file beside the one that TensorFlow's converter writes of "
        f"the same Keras model; medians of {ROUNDS}, in turns. Goal: at most {GOAL} x."
    )
    litert = f"ai-edge-litert {version('ai-edge-litert')}"
    command = f"`python benchmarks/tflite_beside_plain.py`, on {machine()}; {litert}."
    head = ["| network | ours | plain | ours to plain | reached |", "| --- | --- | --- | --- | --- |"]
    replace_section("TFLite beside plain conversion", "\n".join([f"{words} {command}", "", *head, *lines]))


def milliseconds(name: str) -> list[float]:
    import tensorflow as tf

    import exporters
    import zoo
    from benchmarks.export import medians

    model = zoo.load(name, None)
    with tempfile.TemporaryDirectory() as folder:
        ours = exporters.export(model, Path(folder) / "ours", "tflite").path / "model.tflite"
        plain = Path(folder) / "plain.tflite"
        plain.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
        return [1000 * seconds for seconds in medians([runner(file) for file in (ours, plain)], ROUNDS)]


def runner(file: Path) -> Callable[[], Any]:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=file.read_bytes(), num_threads=1)
    (images,) = interpreter.get_input_details()
    interpreter.allocate_tensors()
    picture = np.random.default_rng(0).random(images["shape"], np.float32)
    interpreter.set_tensor(images["index"], picture)
    interpreter.invoke()
    return interpreter.invoke


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
