"""Exporting, side by side with the plain tools: how long it takes with all files compared, and how fast the
ONNX is. Nothing else should run on the machine.

    python benchmarks/export.py [NETWORK]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

NETWORK = "efficientnet_lite0"
FORMATS = ("saved_model", "onnx", "h5")
ROUNDS = 5
RUNS = 30  # of the network, in each round
SLOWER, LATENCY, TRANSPOSES = 1.5, 1.05, 1
# How tf2onnx alone is called; the last takes pictures channels first.
PATHS: dict[str, dict[str, Any]] = {
    "opset 17": {"opset": 17},
    "opset 18": {"opset": 18},
    "channels first": {"opset": 17, "inputs_as_nchw": ["images"]},
}


def main() -> None:
    import zoo
    from benchmarks.machine import machine
    from benchmarks.page import replace_section

    name = (*sys.argv[1:], NETWORK)[0]
    model = zoo.load(name)
    with tempfile.TemporaryDirectory() as folder:
        rows = [*times(model, Path(folder)), *graphs(model, Path(folder))]
    lines = [
        f"| {what} | {goal} | {figure} | {'yes' if reached else 'no'} |"
        for what, goal, figure, reached in rows
    ]
    words = f"{name} to {', '.join(FORMATS)}; plain: Keras's export and save, and tf2onnx, without comparing."
    command = f"`python benchmarks/export.py`, on {machine()}; medians of {ROUNDS} rounds, side by side."
    table = ["| what | goal | measured | reached |", "| --- | --- | --- | --- |", *lines]
    text = "\n".join([f"{words} {command}", "", *table])
    print(text)
    replace_section("Exporting", text)


def times(model: Any, folder: Path) -> list[tuple[str, str, str, bool]]:
    """All files written, opened again and compared by us, against written by the plain tools."""
    import exporters

    def ours() -> None:
        exporters.export(model, folder / "ours", FORMATS)

    def plain() -> None:
        model.export(folder / "plain", verbose=False)
        convert(model, folder / "plain.onnx", **PATHS["opset 17"])
        model.save(folder / "plain.h5")

    mine, theirs = medians([ours, plain], ROUNDS)
    figure = f"{mine:.1f} s with parity, {theirs:.1f} s plain without: {mine / theirs:.2f} x"
    return [("time", f"<= {SLOWER} x", figure, mine <= SLOWER * theirs)]


def graphs(model: Any, folder: Path) -> list[tuple[str, str, str, bool]]:
    """The ONNX files: Transposes for pictures with channels last, and milliseconds for one picture."""
    import onnx

    files = {"ours": folder / "ours" / "1" / "model.onnx"}
    for path, options in PATHS.items():
        files[path] = folder / f"{path}.onnx"
        convert(model, files[path], **options)
    kinds = [node.op_type for node in onnx.load(files["ours"]).graph.node]
    count = kinds.count("Transpose")
    taken = dict(zip(files, latencies(list(files.values())), strict=True))
    fastest = min(PATHS, key=taken.__getitem__)
    ratio = taken["ours"] / taken[fastest]
    figure = ", ".join(f"{path} {1000 * seconds:.2f} ms" for path, seconds in taken.items())
    return [
        ("Transposes in the ONNX", f"<= {TRANSPOSES}", str(count), count <= TRANSPOSES),
        (
            "ONNX, one thread, one picture",
            f"<= {LATENCY} x the fastest of tf2onnx",
            f"{figure}: {ratio:.2f} x",
            ratio <= LATENCY,
        ),
    ]


def convert(model: Any, file: Path, **options: Any) -> None:
    """By tf2onnx alone."""
    import tensorflow as tf
    import tf2onnx

    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="images")
    tf2onnx.convert.from_keras(model, [spec], output_path=os.fspath(file), **options)


def latencies(files: list[Path]) -> list[float]:
    """Seconds for one picture in ONNX Runtime with one thread."""
    return medians([runner(file) for file in files], ROUNDS * RUNS)


def runner(file: Path) -> Callable[[], Any]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    shape = [side if isinstance(side, int) else 1 for side in images.shape]
    feed: Mapping[str, Any] = {
        images.name: np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    }
    session.run(None, feed)
    return lambda: session.run(None, feed)


def medians(sides: list[Callable[[], Any]], rounds: int) -> list[float]:
    """Seconds of each, in turns, so that a change in the machine's load falls on all."""
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for run, seconds in zip(sides, taken, strict=True):
            begun = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begun)
    return [statistics.median(seconds) for seconds in taken]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
