"""Pictures a second in training on one GPU, in bfloat16: ours against timm with torch.compile, side by side:
docs/benchmarks.md's "Training on a GPU".

    pip install 'cnn-zoo[gpu]' 'jax[cuda12]' torch timm
    python benchmarks/train_gpu.py

Each side is a process of its own that compiles once and then trains in turns with the others; nothing else
should run on the machine. Fresh weights, 1000 classes, AdamW, the same batch of uint8 pictures sent from the
host at every step. What is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

NETWORKS = ("resnet50", "efficientnet_b0")
BACKENDS = ("tensorflow", "jax", "torch")
SIDES = (*BACKENDS, "timm")
SIZE, CLASSES, WARM_UP = 224, 1000, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=[side for side in SIDES if _installed(side)]
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument(
        "--work", choices=SIDES, help="be this side's process: a round for each line of input"
    )
    given = parser.parse_args()
    if given.work:
        _work(given)
        return
    _require_gpu()
    rows = [_row(network, _measure(network, given)) for network in given.networks]
    head = [
        "network",
        *(f"Keras on {side}" for side in BACKENDS),
        "timm",
        "the best of ours to timm",
        "reached 1.0",
    ]
    table = "\n".join(["| " + " | ".join(head) + " |", "| --- " * len(head) + "|", *rows])
    print(table)
    from benchmarks.page import replace_section

    how = f"batches of {given.batch}, bfloat16, medians of {given.rounds} rounds of {given.steps} steps"
    where = f"`python benchmarks/train_gpu.py`, on {_machine(given.sides)}"
    replace_section("Training on a GPU", f"Pictures a second, {how}. {where}.\n\n{table}")


def _installed(side: str) -> bool:
    return all(importlib.util.find_spec(name) for name in (side, "torch" if side == "timm" else "keras"))


def _require_gpu() -> None:
    try:
        subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        sys.exit("train_gpu.py measures on an NVIDIA GPU, and nvidia-smi finds none here")
    if not _installed("timm"):
        sys.exit("train_gpu.py compares with timm: pip install torch timm")


def _measure(network: str, given: argparse.Namespace) -> dict[str, float]:
    """Pictures a second of each side, the median of its rounds; the sides take turns."""
    workers = {side: _start(side, network, given) for side in given.sides}
    for side, worker in workers.items():
        print(f"{network} on {side} compiles", file=sys.stderr)
        _ask(worker, f"{side}, {network}")
    speeds: dict[str, list[float]] = {side: [] for side in given.sides}
    for round_ in range(given.rounds):
        for side, worker in workers.items():
            speeds[side].append(_ask(worker, f"{side}, {network}"))
            print(
                f"{network} on {side}, round {round_ + 1}: {speeds[side][-1]:.0f} pictures/s", file=sys.stderr
            )
    for worker in workers.values():
        worker.communicate()
    return {side: statistics.median(found) for side, found in speeds.items()}


def _start(side: str, network: str, given: argparse.Namespace) -> subprocess.Popen[str]:
    """A process that compiles when it is first asked."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several processes share the card
    if side != "timm":
        environment["KERAS_BACKEND"] = side
    command = [sys.executable, __file__, "--work", side, "--networks", network]
    command += ["--batch", str(given.batch), "--steps", str(given.steps)]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _ask(worker: subprocess.Popen[str], who: str) -> float:
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write("go\n")
    worker.stdin.flush()
    answer = worker.stdout.readline()
    if not answer:
        sys.exit(f"the process of {who} ended with {worker.wait()}")
    return float(answer)


def _work(given: argparse.Namespace) -> None:
    side = timm_side if given.work == "timm" else keras_side
    train = side(given.networks[0], given.batch)
    for steps, _ in zip(_warm_up_then(given.steps), sys.stdin, strict=False):
        began = time.perf_counter()
        train(steps)
        print(f"{steps * given.batch / (time.perf_counter() - began):.1f}", flush=True)


def _warm_up_then(steps: int):
    yield WARM_UP
    while True:
        yield steps


def _row(network: str, speeds: dict[str, float]) -> str:
    ratio = max(speeds[side] for side in BACKENDS if side in speeds) / speeds["timm"]
    figures = " | ".join(f"{speeds[side]:.0f}" if side in speeds else "not measured" for side in SIDES)
    return f"| {network} | {figures} | {ratio:.2f} x | {'yes' if ratio >= 1 else 'no'} |"


def _machine(sides: list[str]) -> str:
    from benchmarks.machine import processor

    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    gpu = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()[0]
    packages = dict.fromkeys([*sides, "torch", "keras"])
    return f"{gpu}, {os.cpu_count()} x {processor()}; " + ", ".join(
        f"{name} {version(name)}" for name in packages
    )


def keras_side(network: str, batch: int) -> Callable[[int], object]:
    """The stage that `fine_tune` trains, by the same compile and fit."""
    import keras

    import zoo
    from zoo.training import Recipe
    from zoo.training.loop import Examples, Held, Stage, compile_for
    from zoo.training.network import learning, precision, prepare

    class Same(keras.utils.PyDataset):
        def __init__(self, length: int) -> None:
            super().__init__()
            self.batch, self.length = pictures_and_targets(batch), length

        def __len__(self) -> int:
            return self.length

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return self.batch

    whole = prepare(zoo.load(network, weights=None, input_size=SIZE), CLASSES, 1.0)
    recipe = Recipe(batch_size=batch, precision="mixed_bfloat16")
    picture = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    seen = Examples(picture[None], np.zeros((1, CLASSES), np.float32))
    held = Held(picture, np.zeros(1, int))

    def train(steps: int) -> None:
        with precision(whole, recipe.precision), learning(whole.top, freeze_norms=False):
            whole.top.fit(Same(steps), verbose=0)

    with precision(whole, recipe.precision):
        compile_for(Stage("top", whole.top, seen, held, 1, 1e-3), recipe, 1e-3)
    return train


def timm_side(network: str, batch: int) -> Callable[[int], object]:
    """As timm's own train.py runs with --amp, --amp-dtype bfloat16, --channels-last and --torchcompile."""
    import timm
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True
    model = timm.create_model(network, num_classes=CLASSES).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    x, y = pictures_and_targets(batch)
    pictures = torch.from_numpy(x).permute(0, 3, 1, 2)
    targets = torch.from_numpy(y)
    if device == "cuda":
        pictures, targets = pictures.pin_memory(), targets.pin_memory()

    @torch.compile
    def loss(images: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, dtype=torch.bfloat16):
            return loss_of(model(images / 255), wanted)

    def train(steps: int) -> None:
        for _ in range(steps):
            images, wanted = (tensor.to(device, non_blocking=True) for tensor in (pictures, targets))
            step_loss = loss(images, wanted)
            step_loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step_loss.item()

    return train


def pictures_and_targets(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [batch, SIZE, SIZE, 3], float32 one-hot [batch, CLASSES]."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8)
    return pictures, np.eye(CLASSES, dtype=np.float32)[random.integers(CLASSES, size=batch)]


if __name__ == "__main__":
    main()
