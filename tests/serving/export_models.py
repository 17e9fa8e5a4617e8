"""Writes versions to choose from, below a folder: `python export_models.py OUT`.

A process of its own, because only making them needs TensorFlow.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

import exporters
import zoo

FORMATS = (
    "saved_model",
    "onnx",
    "onnx_int8",
    "openvino",
    "tflite",
    "tflite_float16",
    "tflite_dynamic",
    "tflite_int8",
)


def flowers(out: Path) -> None:
    """A small classifier in every format that is served."""
    keras.utils.set_random_seed(1)
    images = keras.Input((32, 40, 3), name="images")
    x = keras.layers.Rescaling(1 / 64, -2.0)(images)
    x = keras.layers.Conv2D(32, 3, 2, activation="relu", name="conv1")(x)
    x = keras.layers.Conv2D(64, 3, 2, activation="relu", name="conv2")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(stddev=1.0), name="fc")(x)
    model = keras.Model(images, keras.layers.Activation("softmax")(x), name="flowers")
    zoo.attach(model, zoo.Facts("flowers", ("daisy", "rose", "tulip"), zoo.Preprocessing((32, 40))))
    rng = np.random.default_rng(0)
    noise, flat = (rng.integers(0, 256, (20, *size, 3), np.uint8) for size in ((40, 50), (1, 1)))
    pictures = [*noise, *np.broadcast_to(flat, noise.shape)]
    exporters.export(model, out / "flowers", FORMATS, calibrate=pictures)


class Line(tf.Module):
    """y = 2 x + 1, and a signature of text that only TensorFlow runs."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
    def line(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 2 * x + 1}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def shout(self, words: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"loud": tf.strings.upper(words)}


def line(out: Path) -> None:
    """A SavedModel of two signatures, and one of them as an ONNX file."""
    module, version = Line(), out / "line" / "1"
    signatures = {"serving_default": module.line, "shout": module.shout}
    tf.saved_model.save(module, str(version), signatures)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "one"], ["y"]),
    ]
    weights = [numpy_helper.from_array(np.float32(n), name) for name, n in (("two", 2), ("one", 1))]
    graph = helper.make_graph(nodes, "line", [x], [y], weights)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), version / "model.onnx")


if __name__ == "__main__":
    flowers(Path(sys.argv[1]))
    line(Path(sys.argv[1]))
