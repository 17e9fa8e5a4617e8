"""How long a network with fresh weights takes to build: ours against keras.applications', side by side.
Nothing else should run on the machine.

    python benchmarks/build.py
"""

import gc
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from keras import applications
from machine import machine

import zoo

ROUNDS = 7
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
    print(machine())
    print(f"medians of {ROUNDS} builds in seconds, weights=None")
    print(f"{'network':<24} {'zoo':>7} {'applications':>13} {'ratio':>6}")
    ratios = []
    for name, twin in TWINS.items():
        ours, theirs = medians(
            lambda name=name: zoo.load(name, weights=None), lambda twin=twin: twin(weights=None)
        )
        ratios.append(ours / theirs)
        print(f"{name:<24} {ours:7.2f} {theirs:13.2f} {ours / theirs:6.2f}", flush=True)
    print(f"{'median':<24} {'':>7} {'':>13} {statistics.median(ratios):6.2f}")


if __name__ == "__main__":
    main()
