"""Weights of keras.applications in our networks: seeded ones, saved as the published files are."""

import pytest
from keras import applications

CASES = [
    pytest.param("vgg16", applications.VGG16, 224, marks=pytest.mark.large),
    pytest.param("vgg19", applications.VGG19, 224, marks=pytest.mark.large),
    ("inception_v3", applications.InceptionV3, 107),
    ("inception_resnet_v2", applications.InceptionResNetV2, 107),
    ("xception", applications.Xception, 75),
    ("resnet50", applications.ResNet50, 75),
    ("densenet121", applications.DenseNet121, 64),
    ("nasnetmobile", applications.NASNetMobile, 64),
    pytest.param("nasnetalarge", applications.NASNetLarge, 96, marks=pytest.mark.large),
    ("convnext_tiny", applications.ConvNeXtTiny, 64),
]


@pytest.mark.parametrize(("name", "application", "size"), CASES)
def test_seeded_weights_give_the_same_logits(equals_keras, name, application, size):
    equals_keras(f"{name}.keras_in1k", application, size)
