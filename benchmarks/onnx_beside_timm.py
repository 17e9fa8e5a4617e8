"""The ONNX files of our networks and of timm's, which torch.onnx writes, in ONNX Runtime, side by side: one
picture, one thread. Nothing else should run on the machine.

    pip install torch timm
    python benchmarks/onnx_beside_timm.py [NETWORK ...]

Weights are random: they change no time. timm's parallel branches are made one first, as the exporters do.
Ours normalises the picture and ends in probabilities; timm's takes planes, normalised, and gives logits.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

NETWORKS = (
    "resnet50",
    "resnetv2_50x1_bit",
    "densenet121",
    "resnext50_32x4d",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "regnety_008",
    "res2net50_26w_4s",
    "repvgg_a0",
    "mobileone_s0",
    "convnext_tiny",
    "poolformer_s12",
    "mobilevitv2_050",
    "fastvit_t8",
    "fasternet_t0",
    "efficientformerv2_s0",
    "hrnet_w18_small",
)
GOAL = 1.05


def main() -> None:
    if not all(importlib.util.find_spec(name) for name in ("torch", "timm")):
        sys.exit("onnx_beside_timm.py compares with timm: pip install torch timm")
    import onnxruntime
    import timm
    import torch

    from benchmarks.export import ROUNDS, RUNS
    from benchmarks.machine import machine
    from benchmarks.page import beside, replace_section

    lines = list(beside(sys.argv[1:] or NETWORKS, milliseconds, GOAL))
    versions = f"timm {timm.__version__}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    words = (
        "One picture in ONNX Runtime, one thread: our file beside the one that torch.onnx writes of timm's "
        f"network; medians of {ROUNDS * RUNS}, in turns. Goal: at most {GOAL} x."
    )
    command = f"`python benchmarks/onnx_beside_timm.py`, on {machine()}; {versions}."
    head = ["| network | ours | timm's | ours to timm's | reached |", "| --- | --- | --- | --- | --- |"]
    replace_section("ONNX beside timm's", "\n".join([f"{words} {command}", "", *head, *lines]))


def milliseconds(name: str) -> list[float]:
    from benchmarks.export import latencies

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "ours", Path(folder) / "timm.onnx"]
        side = write_timms(name, files[1])
        return [1000 * seconds for seconds in latencies([write_ours(name, side, files[0]), files[1]])]


def write_timms(name: str, file: Path) -> int:
    """Returns the side of its pictures."""
    import timm
    import torch
    from timm.utils.model import reparameterize_model

    network: Any = timm.create_model(name, exportable=True).eval()
    shape = network.pretrained_cfg["input_size"]
    names: dict[str, Any] = {"input_names": ["images"], "dynamic_axes": {"images": {0: "batch"}}}
    torch.onnx.export(
        reparameterize_model(network), (torch.rand(2, *shape),), file, dynamo=False, opset_version=17, **names
    )
    return shape[-1]


def write_ours(name: str, side: int, folder: Path) -> Path:
    import exporters
    import zoo

    return exporters.export(zoo.load(name, None, input_size=side), folder, "onnx").path / "model.onnx"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
