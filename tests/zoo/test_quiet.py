"""What libraries say, to people and to their makers, in processes whose loggers nobody has touched."""

import os
import subprocess
import sys

import pytest

ANSWER = """
import keras, numpy as np, tensorflow as tf
import contextlib
from zoo.quiet import several_networks

def answer():
    for width in range(1, 7):
        keras.Sequential([keras.layers.Dense(width)]).predict_on_batch(np.zeros((1, 3)))

with {context}:
    tf.get_logger().warning("of another kind")
    answer()
"""
USE = """
import numpy as np
import zoo

pictures = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
model = zoo.load("resnet20_cifar", None, classes=2)
tuned = zoo.fine_tune(model, (pictures, np.arange(12) % 2), epochs=1, head_epochs=1, views=1, batch_size=4)
zoo.evaluate(tuned.model, (pictures, np.arange(12) % 2))
zoo.explain(tuned.model, pictures[0])
"""


def said(script):
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def test_several_networks_are_no_function_traced_again():
    assert "retracing" in said(ANSWER.format(context="contextlib.nullcontext()"))
    quiet = said(ANSWER.format(context="several_networks()"))
    assert "retracing" not in quiet
    assert "of another kind" in quiet


def test_a_training_a_judgement_and_an_explanation_are_silent_of_it():
    assert "retracing" not in said(USE)


TOLD = """
import sys
import onnxruntime, openvino

import numpy as np
from onnx import TensorProto, helper
value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
session = onnxruntime.InferenceSession(model.SerializeToString())
assert session.run(None, {"x": np.ones(1, np.float32)})[0] == 1
print("openvino_telemetry.main" in sys.modules)
"""


@pytest.mark.parametrize(
    ("first", "told"), [("", True), ("import exporters", False), ("import serving.runtimes", False)], ids=str
)
def test_no_maker_of_an_engine_is_told_what_runs_here(first, told, tmp_path):
    code = f"{first}\n{TOLD}"
    # nothing else of the environment: where CI is set, for one, both makers keep silent by themselves
    user = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=user)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(told)]
    assert any(tmp_path.rglob("deviceid")) == told
