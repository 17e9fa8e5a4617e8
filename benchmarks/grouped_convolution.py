"""A training step of one 3x3 convolution in groups (forward, and the gradients by map and kernel) against a
dense one of the same width and Keras's own in groups. It takes minutes, most of them Keras's; nothing else
should run on the machine.

    python benchmarks/grouped_convolution.py
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from machine import machine
from page import replace_section

from zoo.layers import GroupedConv2D

BATCH, GROUPS = 16, 32
MAPS = ((56, 128), (28, 256), (14, 512))  # pixels, channels of ResNeXt's 32 x 4d stages
ROUNDS = 20
SECONDS = 20.0  # for each layer and map, after which it is measured no more


def step(layer: Any, x: tf.Tensor) -> Callable[[], Any]:
    """Compiled by TensorFlow, not by XLA."""

    @tf.function
    def run() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(layer(x))
        return tape.gradient(loss, [x, layer.kernel.value])

    return run


def medians(steps: list[Callable[[], Any]]) -> list[float]:
    """Seconds of each, in turns, so that a change in the machine's load falls on all."""
    times: list[list[float]] = [[] for _ in steps]
    for run in steps:
        finish(run())
    for _ in range(ROUNDS):
        for run, taken in zip(steps, times, strict=True):
            if sum(taken) < SECONDS:
                start = time.perf_counter()
                finish(run())
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def finish(gradients: list[tf.Tensor]) -> None:
    """A GPU has computed a value when it is read."""
    for gradient in gradients:
        tf.reduce_sum(gradient).numpy()


def main() -> None:
    # It warns of every new function in a loop.
    tf.get_logger().setLevel("ERROR")
    lines = [
        "| map | grouped, ms | dense, ms | Keras's grouped, ms | grouped/dense | Keras/grouped |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for size, channels in MAPS:
        x = tf.random.normal((BATCH, size, size, channels))
        layers = [
            GroupedConv2D(channels, 3, padding="same", use_bias=False, groups=GROUPS),
            keras.layers.Conv2D(channels, 3, padding="same", use_bias=False),
            keras.layers.Conv2D(channels, 3, padding="same", use_bias=False, groups=GROUPS),
        ]
        for layer in layers:
            layer.build(x.shape)
        grouped, dense, stock = (1000 * seconds for seconds in medians([step(v, x) for v in layers]))
        lines.append(
            f"| {size} x {size} x {channels} | {grouped:.1f} | {dense:.0f} | {stock:.0f} | "
            f"{grouped / dense:.2f} | {stock / grouped:.0f} |"
        )
        print(lines[-1], flush=True)
    what = f"A training step of one 3x3 convolution, batch {BATCH}, {GROUPS} groups, float32"
    command = (
        f"`python benchmarks/grouped_convolution.py`, on {machine()}; medians of at most {ROUNDS} steps."
    )
    replace_section("Grouped convolution", "\n".join([f"{what}. {command}", "", *lines]))


if __name__ == "__main__":
    main()
