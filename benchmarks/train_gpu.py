"""Pictures a second in training on one GPU, in bfloat16: ours against timm with torch.compile, side by side:
docs/benchmarks.md's "Training on a GPU".

    pip install 'cnn-zoo[gpu]' 'jax[cuda12]' torch timm
    python benchmarks/train_gpu.py

Every measurement is a process of its own, in turns; nothing else should run on the machine. Fresh weights,
1000 classes, AdamW, the same batch of float32 pictures sent from the host at every step.
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
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

NETWORKS = {"resnet50": "resnet50", "efficientnet_b0": "efficientnet_b0"}  # ours: timm's
SIDES = ("tensorflow", "jax", "timm")
SIZE, CLASSES, ROUNDS, WARM_UP = 224, 1000, 3, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--side", choices=SIDES, help="measure one side of one network in this process")
    parser.add_argument("--network", choices=NETWORKS, default="resnet50")
    given = parser.parse_args()
    if given.side:
        side = timm_side if given.side == "timm" else keras_side
        print(f"{side(given.network, given.batch, given.steps):.1f}")
        return
    _require_gpu_and_peers()
    rows = []
    for network in NETWORKS:
        speeds: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(ROUNDS):
            for side in SIDES:
                speeds[side].append(_in_a_process(side, network, given))
        rows.append(_row(network, {side: statistics.median(found) for side, found in speeds.items()}))
    head = (
        "| network | Keras on TensorFlow | Keras on JAX | timm | the better of ours to timm | reached 1.0 |"
    )
    table = "\n".join([head, "| --- | --- | --- | --- | --- | --- |", *rows])
    print(table)
    from benchmarks.machine import machine
    from benchmarks.page import replace_section

    how = f"batches of {given.batch}, bfloat16. `python benchmarks/train_gpu.py`, on {machine()}."
    replace_section("Training on a GPU", f"Pictures a second, {how}\n\n{table}")


def _require_gpu_and_peers() -> None:
    try:
        subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        sys.exit("train_gpu.py measures on an NVIDIA GPU, and nvidia-smi finds none here")
    missing = [name for name in ("torch", "timm", "jax") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"train_gpu.py compares with {', '.join(missing)}: pip install them first")


def _in_a_process(side: str, network: str, given: argparse.Namespace) -> float:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    if side != "timm":
        environment["KERAS_BACKEND"] = side
    command = [sys.executable, __file__, "--side", side, "--network", network]
    command += ["--batch", str(given.batch), "--steps", str(given.steps)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def _row(network: str, speeds: dict[str, float]) -> str:
    ratio = max(speeds["tensorflow"], speeds["jax"]) / speeds["timm"]
    figures = " | ".join(f"{speeds[side]:.0f}" for side in SIDES)
    return f"| {network} | {figures} | {ratio:.2f} x | {'yes' if ratio >= 1 else 'no'} |"


def keras_side(network: str, batch: int, steps: int) -> float:
    """The stage that `fine_tune` trains, by the same compile and fit."""
    import keras

    import zoo
    from zoo.training import Recipe
    from zoo.training.loop import Examples, Stage, compile_for
    from zoo.training.network import precision, prepare

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
    nothing = Examples(np.zeros((1, 1, SIZE, SIZE, 3), np.uint8), np.zeros(1, int))
    with precision(whole, recipe.precision):
        compile_for(Stage("top", whole.top, nothing, nothing, 1, 1e-3), recipe, 1e-3)
        whole.top.fit(Same(WARM_UP), verbose=0)
        return _speed(lambda: whole.top.fit(Same(steps), verbose=0), batch * steps)


def timm_side(network: str, batch: int, steps: int) -> float:
    """As timm's own train.py runs with --amp, --amp-dtype bfloat16, --channels-last and --torchcompile."""
    import timm
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True
    model = timm.create_model(NETWORKS[network], num_classes=CLASSES).cuda()
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    x, y = pictures_and_targets(batch)
    pictures = (
        torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).pin_memory()
    )
    targets = torch.from_numpy(y).pin_memory()

    @torch.compile
    def loss(images: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            return loss_of(model(images / 255), wanted)

    def train(count: int) -> None:
        for _ in range(count):
            images, wanted = (tensor.cuda(non_blocking=True) for tensor in (pictures, targets))
            loss(images, wanted).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()

    train(WARM_UP)
    return _speed(lambda: train(steps), batch * steps)


def pictures_and_targets(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [batch, SIZE, SIZE, 3] in 0..255, one-hot [batch, CLASSES]."""
    random = np.random.default_rng(0)
    pictures = random.uniform(0, 255, (batch, SIZE, SIZE, 3)).astype(np.float32)
    return pictures, np.eye(CLASSES, dtype=np.float32)[random.integers(CLASSES, size=batch)]


def _speed(work: Callable[[], object], pictures: int) -> float:
    began = time.perf_counter()
    work()
    return pictures / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
