"""What TensorFlow says of its inner steps, in a process whose loggers nobody has touched."""

import subprocess
import sys

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
