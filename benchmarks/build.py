"""How long a network with fresh weights takes to build: ours against keras.applications', side by side.
Nothing else should run on the machine.

    python benchmarks/build.py [NETWORK ...]
"""

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from keras import applications
from machine import machine
from page import replace_section

import zoo

ROUNDS = 5
TWINS: dict[str, Callable[..., keras.Model]] = {
    "vgg16": applications.VGG16,
    "inception_v3": applications.InceptionV3,
    "inception_resnet_v2": applications.InceptionResNetV2,
    "xception": applications.Xception,
    "resnet50": applications.ResNet50,
    "resnet152": applications.ResNet152,
    "resnetv2_50": applications.ResNet50V2,
    "densenet121": applications.DenseNet121,
    "nasnetmobile": applications.NASNetMobile,
    "mobilenetv1_100": applications.MobileNet,
    "mobilenetv2_100": applications.MobileNetV2,
    "mobilenetv3_small_100": applications.MobileNetV3Small,
    "mobilenetv3_large_100": applications.MobileNetV3Large,
    "efficientnet_b0": applications.EfficientNetB0,
    "efficientnet_b7": applications.EfficientNetB7,
    "efficientnetv2_s": applications.EfficientNetV2S,
    "convnext_tiny": applications.ConvNeXtTiny,
}


def seconds(build: Callable[[], keras.Model]) -> float:
    keras.backend.clear_session()
    gc.collect()
    start = time.perf_counter()
    build()
    return time.perf_counter() - start


def medians(ours: Callable[[], keras.Model], theirs: Callable[[], keras.Model]) -> tuple[float, float]:
    """In turns, so that a change in the machine's load falls on both; the first round is not counted."""
    rounds = [(seconds(ours), seconds(theirs)) for _ in range(1 + ROUNDS)][1:]
    own, others = zip(*rounds, strict=True)
    return statistics.median(own), statistics.median(others)


def main() -> None:
    lines = ["| network | zoo, s | keras.applications, s | ratio |", "| --- | --- | --- | --- |"]
    ratios = []
    for name in sys.argv[1:] or TWINS:
        ours, theirs = medians(
            lambda name=name: zoo.load(name, weights=None), lambda name=name: TWINS[name](weights=None)
        )
        ratios.append(ours / theirs)
        lines.append(f"| {name} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")
        print(lines[-1], flush=True)
    lines.append(f"| median | | | {statistics.median(ratios):.2f} |")
    command = f"`python benchmarks/build.py`, on {machine()}; medians of {ROUNDS} builds."
    text = "\n".join([f"Networks with fresh weights. {command}", "", *lines])
    print(text)
    if len(ratios) == len(TWINS):
        replace_section("Building", text)


if __name__ == "__main__":
    main()
