"""Weights of keras.applications in our networks for phones: seeded ones, saved as the published files are.

`make test` runs the smallest of each kind, `make parity` all.
"""

import pytest
from keras import applications

SIZE = 96
SMALLEST = {
    "mobilenetv1_025": (applications.MobileNet, {"alpha": 0.25}),
    "mobilenetv2_035": (applications.MobileNetV2, {"alpha": 0.35}),
    "mobilenetv3_small_075": (applications.MobileNetV3Small, {"alpha": 0.75}),
    "mobilenetv3_small_minimal_100": (applications.MobileNetV3Small, {"minimalistic": True}),
    "mobilenetv3_large_075": (applications.MobileNetV3Large, {"alpha": 0.75}),
    "efficientnet_b0": (applications.EfficientNetB0, {}),
    "efficientnetv2_b0": (applications.EfficientNetV2B0, {}),
    "efficientnetv2_s": (applications.EfficientNetV2S, {}),
}
OTHERS = {
    "mobilenetv1_050": (applications.MobileNet, {"alpha": 0.5}),
    "mobilenetv1_075": (applications.MobileNet, {"alpha": 0.75}),
    "mobilenetv1_100": (applications.MobileNet, {}),
    "mobilenetv2_050": (applications.MobileNetV2, {"alpha": 0.5}),
    "mobilenetv2_075": (applications.MobileNetV2, {"alpha": 0.75}),
    "mobilenetv2_100": (applications.MobileNetV2, {}),
    "mobilenetv2_130": (applications.MobileNetV2, {"alpha": 1.3}),
    "mobilenetv2_140": (applications.MobileNetV2, {"alpha": 1.4}),
    "mobilenetv3_small_100": (applications.MobileNetV3Small, {}),
    "mobilenetv3_large_100": (applications.MobileNetV3Large, {}),
    "mobilenetv3_large_minimal_100": (applications.MobileNetV3Large, {"minimalistic": True}),
    "efficientnet_b3": (applications.EfficientNetB3, {}),
    "efficientnetv2_b1": (applications.EfficientNetV2B1, {}),
    "efficientnetv2_b2": (applications.EfficientNetV2B2, {}),
    "efficientnetv2_b3": (applications.EfficientNetV2B3, {}),
}
CASES = SMALLEST | OTHERS


@pytest.mark.parametrize(
    "name", [*SMALLEST, *(pytest.param(name, marks=pytest.mark.large) for name in OTHERS)]
)
def test_seeded_weights_give_the_same_logits(equals_keras, name):
    application, options = CASES[name]
    equals_keras(f"{name}.keras_in1k", application, SIZE, **options)
