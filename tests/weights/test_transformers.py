"""Image classifiers of Hugging Face's transformers, by their config.json: the same logits, and what is
refused.

transformers/*.json were made with transformers 5.24: config, names and shapes of the weights, which the
golden rule fills, and the logits; with pictures where the processor is another than the others'. FocalNet
pads odd pictures there and MobileViTV2 loses the last row of odd maps: they are compared at even sizes.
LeViT-128S has an index beside its addends, as older files do.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from zoo.errors import DownloadError, UnknownModelError, ZooError

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))
import golden_rule  # noqa: E402

FOLDER = TESTS / "weights" / "transformers"
FILES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
LABELS = ("daisy", "dandelion", "rose", "sunflower", "tulip")
PICTURES = {
    "do_resize": True,
    "size": {"shortest_edge": 96},
    "crop_pct": 0.875,
    "resample": 3,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "image_processor_type": "ConvNextImageProcessor",
}


def folder_of(folder, config, pictures=None, keys=()):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    if pictures:
        (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    if keys:
        tensors = {key: golden_rule.tensor(key, shape) for key, shape in keys}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("name", FILES)
def test_its_logits_are_those_of_transformers(name, tmp_path):
    golden = FILES[name]
    pictures = golden.get("pictures", PICTURES)
    folder = folder_of(tmp_path / "model", golden["config"], pictures, golden["keys"])
    for run in golden["runs"]:
        model = zoo.load(folder, input_size=run["size"], classifier_activation=None)
        assert model.name == name
        assert model.zoo.labels == LABELS
        logits = model.predict(golden_rule.picture(run["size"], run["size"]), verbose=0)
        error = np.abs(logits - np.array(run["logits"])) / np.reshape(run["std"], (-1, 1))
        assert error.max() < 1e-4


@pytest.mark.parametrize(
    ("pictures", "size", "crop", "interpolation"),
    [
        ({}, (96, 96), 0.875, "bicubic"),
        ({"size": 224, "resample": 2}, (224, 224), 0.875, "bilinear"),
        ({"size": {"shortest_edge": 384}}, (384, 384), 1.0, "bicubic"),
        (
            {
                "size": {"shortest_edge": 256},
                "crop_size": {"height": 224, "width": 224},
            },
            (224, 224),
            0.875,
            "bicubic",
        ),
        ({"size": {"height": 96, "width": 128}}, (96, 128), 1.0, "bicubic"),
    ],
)
def test_its_pictures_are_prepared_as_its_processor_says(tmp_path, pictures, size, crop, interpolation):
    golden = FILES["resnet18"]
    folder = folder_of(tmp_path / "model", golden["config"], PICTURES | pictures)
    known = zoo.load(folder, weights=None).zoo.preprocessing
    assert (known.input_size, known.crop, known.interpolation) == (size, crop, interpolation)
    assert known.mean == (0.485, 0.456, 0.406)


def test_levits_processor_has_a_longer_edge_than_it_says(tmp_path):
    golden = FILES["levit_128s"]
    folder = folder_of(tmp_path / "model", golden["config"], golden["pictures"])
    known = zoo.load(folder, weights=None).zoo.preprocessing
    assert (known.input_size, known.crop) == ((224, 224), pytest.approx(224 / 256))


def test_efficientnets_processor_divides_twice_and_takes_the_nearest_pixels(tmp_path, caplog):
    changes = {
        "image_processor_type": "EfficientNetImageProcessor",
        "do_center_crop": False,
        "crop_size": {"height": 289, "width": 289},
        "size": {"height": 240, "width": 240},
        "image_std": [0.47853944, 0.4732864, 0.47434163],
        "include_top": True,
        "resample": 0,
    }
    folder = folder_of(tmp_path / "model", FILES["efficientnet_b1"]["config"], PICTURES | changes)
    known = zoo.load(folder, weights=None).zoo.preprocessing
    assert known.input_size == (240, 240)
    np.testing.assert_allclose(known.std, [0.229, 0.224, 0.225], atol=1e-6)
    assert known.interpolation == "bilinear"
    assert "resized by the nearest pixels; here bilinearly" in caplog.text
    assert "not cropped but squashed; here they are cropped" in caplog.text


def test_pictures_that_are_not_normalised_or_not_by_255(tmp_path):
    golden = FILES["resnet18"]
    plain = folder_of(tmp_path / "plain", golden["config"], PICTURES | {"do_normalize": False})
    known = zoo.load(plain, weights=None).zoo.preprocessing
    assert (known.mean, known.std) == ((0, 0, 0), (1, 1, 1))
    for name, change in (("raw", {"do_rescale": False}), ("signed", {"rescale_factor": 1 / 127.5})):
        other = folder_of(tmp_path / name, golden["config"], PICTURES | change)
        with pytest.raises(ZooError, match="its pictures were multiplied by"):
            zoo.load(other, weights=None)


def test_bit_with_another_border_is_refused(tmp_path):
    config = FILES["resnetv2_50x1_bit"]["config"] | {"global_padding": "SAME"}
    with pytest.raises(ZooError, match=r"built with global_padding='SAME', which the zoo does not build"):
        zoo.load(folder_of(tmp_path / "model", config, PICTURES))


def test_it_goes_to_timm_where_timm_has_the_same_network(tmp_path):
    resnet = folder_of(tmp_path / "resnet", FILES["resnet18"]["config"], PICTURES)
    saved = zoo.weights.save(zoo.load(resnet, weights=None), tmp_path / "saved")
    assert json.loads((saved / "config.json").read_text())["architecture"] == "resnet18"
    mobile = folder_of(tmp_path / "mobile", FILES["mobilenetv2_035"]["config"], PICTURES)
    model = zoo.load(mobile, weights=None)
    # It pads as TensorFlow does, which timm's of that name does not.
    assert "timm" not in model.zoo.card


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"model_type": "vit"}, UnknownModelError, r"model_type 'vit'.* it reads resnet, convnext"),
        ({"num_channels": 1}, ZooError, "built with num_channels=1"),
        ({"downsample_in_bottleneck": True}, ZooError, "built with downsample_in_bottleneck=True"),
        ({"depths": [1, 1, 1, 1]}, UnknownModelError, r"resnet with .*depths=.1, 1, 1, 1.* not in the zoo"),
        ({"id2label": None}, ZooError, "cannot be read"),
    ],
)
def test_another_network_is_refused(tmp_path, change, error, reason):
    folder = folder_of(tmp_path / "model", FILES["resnet18"]["config"] | change, PICTURES)
    with pytest.raises(error, match=reason):
        zoo.load(folder)


def test_a_folder_without_a_processor_is_refused(tmp_path):
    folder = folder_of(tmp_path / "model", FILES["resnet18"]["config"])
    with pytest.raises(DownloadError, match=r"preprocessor_config.json.* does not exist"):
        zoo.load(folder)


def test_a_resampling_that_is_another_is_named(tmp_path):
    folder = folder_of(tmp_path / "model", FILES["resnet18"]["config"], PICTURES | {"resample": 1})
    with pytest.raises(ZooError, match=r"interpolation is bilinear or bicubic, not .Pillow's 1"):
        zoo.load(folder, weights=None)


def test_means_of_other_than_three_colours_are_refused(tmp_path):
    folder = folder_of(tmp_path / "model", FILES["resnet18"]["config"], PICTURES | {"image_mean": [0.5]})
    with pytest.raises(ZooError, match=r"cannot be read .ValueError: not enough values"):
        zoo.load(folder, weights=None)


def test_several_labels_for_a_picture_are_told(tmp_path, caplog):
    config = FILES["resnet18"]["config"] | {"problem_type": "multi_label_classification"}
    zoo.load(folder_of(tmp_path / "model", config, PICTURES), weights=None)
    assert 'classifier_activation="sigmoid"' in caplog.text
