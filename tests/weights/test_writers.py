"""Weights under the reference's names: keys and shapes as timm's and torchvision's, bytes the model's."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import zoo
from zoo.registry import resolve
from zoo.weights.convert import renamed
from zoo.weights.readers import read
from zoo.weights.sources import fetch

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))
from golden_rule import tensor  # noqa: E402

# Of each way that a reference keeps its weights: all kinds of layers, and what is a convolution there alone.
REFERENCES = (
    "convnextv2_atto",
    "densenet100_12_cifar",
    "dla34",
    "dpn68",
    "fastvit_t8",
    "ghostnet_050",
    "legacy_seresnet18",
    "mobilenetv3_small_050",
    "mobileone_s1",
    "nf_resnet50",
    "regnety_002",
    "repvgg_a0",
    "resnest14d",
    "resnetv2_50x1_bit",
    "rexnet_100",
    "san10_pairwise",
    "shufflenet_v2_x0_5",
    "skresnet18",
    "squeezenet1_1",
)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_file_of_the_reference_comes_back_byte_for_byte(name, tmp_path):
    golden = json.loads((TESTS / "golden" / f"{name}.json").read_text())
    reference = tmp_path / "reference.safetensors"
    save_file({key: tensor(key, shape) for key, shape in golden["keys"]}, reference, {"format": "pt"})
    model = zoo.load(golden["name"], weights=reference, input_size=golden["runs"][-1]["size"])
    file = zoo.weights.save(model, tmp_path / "x.safetensors")
    assert {key: value.shape for key, value in load_file(file).items()} == {
        key: tuple(shape) for key, shape in golden["keys"]
    }
    assert file.read_bytes() == reference.read_bytes()


def test_published_weights_come_back_unchanged(tmp_path):
    model, tag = zoo.load("efficientnet_lite0"), resolve("efficientnet_lite0")[1]
    published = renamed(model, read(fetch(tag)), tag.renames)
    file = zoo.weights.save(model, tmp_path / "deep" / "lite0.safetensors")
    saved = load_file(file)
    counted = {key for key in published if key.endswith("num_batches_tracked")}
    assert set(saved) == set(published) - counted
    assert all(np.array_equal(saved[key], published[key]) for key in saved)
    with safe_open(file, "np") as opened:
        assert opened.metadata() == {"format": "pt"}
    assert [path.name for path in file.parent.iterdir()] == ["lite0.safetensors"]


@keras.saving.register_keras_serializable("tests")
class Odd(keras.layers.Layer):
    def build(self, shape):
        self.odd = self.add_weight(shape=(1,), name="odd")

    def call(self, x):
        return x * self.odd


def test_what_cannot_be_written_is_refused(tmp_path):
    images = keras.Input((8,), name="images")
    model = keras.Model(images, Odd(name="strange")(images), name="own")
    with pytest.raises(zoo.WeightsError, match='"strange/odd" of own has no name in the reference'):
        zoo.weights.save(model, tmp_path / "x.safetensors")
    with pytest.raises(zoo.WeightsError, match=r'x.bin": the name must end in \.safetensors'):
        zoo.weights.save(model, tmp_path / "x.bin")
    assert list(tmp_path.iterdir()) == []
