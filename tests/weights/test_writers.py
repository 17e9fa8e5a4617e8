"""Weights under the reference's names: keys and shapes as timm's and torchvision's, bytes the model's."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import zoo
from zoo.registry import resolve
from zoo.weights.convert import renamed, slots
from zoo.weights.readers import read
from zoo.weights.sources import fetch

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = ("mobilenetv3_small_050", "convnext_atto", "resnest14d", "squeezenet1_1", "shufflenet_v2_x0_5")


@pytest.mark.parametrize("name", SMALL)
def test_keys_shapes_and_bytes(name, tmp_path):
    keras.utils.set_random_seed(1)
    model = zoo.load(name, weights=None)
    file = zoo.weights.save(model, tmp_path / "x.safetensors")
    golden = json.loads((GOLDEN / f"{name}.json").read_text())["keys"]
    tensors = load_file(file)
    assert {key: list(tensor.shape) for key, tensor in tensors.items()} == dict(map(tuple, golden))
    for slot in slots(model):
        assert tensors[slot.key].tobytes() == slot.to_reference(np.asarray(slot.variable)).tobytes()
    again = zoo.load(name, weights=file)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True))
    assert zoo.weights.save(again, tmp_path / "y.safetensors").read_bytes() == file.read_bytes()


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
