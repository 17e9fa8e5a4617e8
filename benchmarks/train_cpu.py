"""One step of training on a CPU, three ways side by side: the forms that `fine_tune` trains layers in, the
same network as Keras has it, and timm's on torch. Nothing else should run on the machine.

    pip install torch timm
    python benchmarks/train_cpu.py [NETWORK ...]

Fresh weights, float32, 1000 classes, AdamW, the same pictures at every step.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

NETWORKS = (
    "resnet50",
    "densenet121",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "regnety_008",
    "mixnet_s",
    "convnext_atto",
    "mambaout_femto",
    "fasternet_t0",
    "starnet_s1",
    "mobilevit_s",
)
PICTURES, SIDE = 8, 224
WARM_UP, ROUNDS = 2, 7


def main() -> None:
    if not all(importlib.util.find_spec(name) for name in ("torch", "timm")):
        sys.exit("train_cpu.py compares with timm: pip install torch timm")
    import timm
    import torch

    from benchmarks.machine import machine
    from benchmarks.page import replace_section

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    lines = [row(name) for name in sys.argv[1:] or NETWORKS]
    words = (
        f"Milliseconds of a step on {PICTURES} pictures of {SIDE} x {SIDE}, float32, AdamW; medians of "
        f"{ROUNDS}, in turns. Keras's is the same network without the forms of `zoo/training/forms.py`."
    )
    versions = f"timm {timm.__version__}, torch {torch.__version__}"
    head = ["| network | ours | Keras's | timm's | ours to Keras's | ours to timm's |", "| --- " * 6 + "|"]
    command = f"`python benchmarks/train_cpu.py`, on {machine()}; {versions}."
    replace_section("Training on a CPU", "\n".join([f"{words} {command}", "", *head, *lines]))


def row(name: str) -> str:
    from benchmarks.export import medians

    sides = [keras_step(name, formed=True), keras_step(name, formed=False), timm_step(name)]
    medians(sides, WARM_UP)
    ours, keras, timm = (1000 * seconds for seconds in medians(sides, ROUNDS))
    line = f"| {name} | {ours:.0f} | {keras:.0f} | {timm:.0f} | {ours / keras:.2f} x | {ours / timm:.2f} x |"
    print(line, flush=True)
    return line


def some_pictures() -> np.ndarray:
    return np.random.default_rng(0).random((PICTURES, SIDE, SIDE, 3), np.float32)


def keras_step(name: str, formed: bool) -> Callable[[], Any]:
    import keras

    import zoo
    from zoo.training.forms import computed_as, fastest_forms

    model = zoo.load(name, None, input_size=SIDE)
    model.compile(keras.optimizers.AdamW(1e-3), "sparse_categorical_crossentropy", jit_compile=False)
    pictures, labels = some_pictures(), np.arange(PICTURES)
    with computed_as(model, fastest_forms() if formed else ()):
        model.train_on_batch(pictures, labels)  # traced once, so the forms stay
    return lambda: model.train_on_batch(pictures, labels)


def timm_step(name: str) -> Callable[[], Any]:
    import timm
    import torch

    model = timm.create_model(name).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    pictures = torch.from_numpy(some_pictures()).permute(0, 3, 1, 2)  # channels last in memory
    labels = torch.arange(PICTURES)

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(pictures), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
