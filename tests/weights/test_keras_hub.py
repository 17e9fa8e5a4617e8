"""Presets of KerasHub, its image classifiers by what save_to_preset writes: the same logits, and what is
refused.

keras_hub/*.json were made with KerasHub 0.32 and Keras 3.15: config.json, task.json, the paths in the weight
files, each with the reference's key (KerasHub's own converters of timm's weights tell it) and shape, which
the golden rule fills, and the logits.
"""

import json
import sys
from copy import deepcopy
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import zoo
from zoo.errors import DownloadError, UnknownModelError, WeightsError, ZooError

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))
import golden_rule  # noqa: E402

FOLDER = TESTS / "weights" / "keras_hub"
FILES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
LARGE = [pytest.param(name, marks=pytest.mark.large) for name in ("vgg11",)]
AXES = {2: (1, 0), 4: (2, 3, 1, 0)}


def preset(folder, golden, *, files=True, backbone=None, task=None, converter=None):
    """The folder that KerasHub writes, with changes to what it says of the backbone, task and pictures."""
    folder.mkdir()
    config = deepcopy(golden["config"])
    config["config"] |= backbone or {}
    said = deepcopy(golden["task"])
    said["config"] |= task or {}
    if converter:
        said["config"]["preprocessor"]["config"]["image_converter"]["config"] |= converter
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "task.json").write_text(json.dumps(said))
    for name, variables in golden["files"].items() if files else ():
        with h5py.File(folder / name, "w") as file:
            for path, (key, shape) in variables.items():
                file[path] = in_keras(path, golden_rule.tensor(key, shape))
    return folder


def in_keras(path, tensor):
    axes = (2, 3, 0, 1) if "depthwise_conv2d" in path else AXES.get(tensor.ndim)
    return tensor.transpose(axes) if axes else tensor


@pytest.mark.parametrize("name", [*(name for name in FILES if name != "vgg11"), *LARGE])
def test_its_logits_are_those_of_keras_hub(name, tmp_path):
    golden = FILES[name]
    folder = preset(tmp_path / "model", golden)
    for run in golden["runs"]:
        model = zoo.load(folder, input_size=run["size"], classifier_activation=None)
        assert model.name == name
        logits = model.predict(golden_rule.picture(run["size"], run["size"]), verbose=0)
        error = np.abs(logits - np.array(run["logits"])) / np.reshape(run["std"], (-1, 1))
        assert error.max() < 1e-4


def test_from_the_hub_by_keras_hubs_own_handle(tmp_path, site, cache_folder, monkeypatch):
    monkeypatch.setenv("ZOO_HUB_URL", site.url)
    for path in preset(tmp_path / "model", FILES["resnet18"]).iterdir():
        site.publish_on_hub("keras/resnet_18_own", path.read_bytes(), file=path.name)
    here, there = (zoo.load(name).get_weights() for name in (tmp_path / "model", "hf://keras/resnet_18_own"))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (cache_folder / "hub/keras/resnet_18_own/task.weights.h5").is_file()
    assert zoo.describe("hf://keras/resnet_18_own").name == "resnet18.keras/resnet_18_own"


def test_its_pictures_are_prepared_as_its_converter_says(tmp_path):
    known = zoo.load(
        preset(tmp_path / "model", FILES["resnet18"], files=False), weights=None
    ).zoo.preprocessing
    assert (known.input_size, known.crop, known.interpolation) == ((64, 64), 1.0, "bicubic")
    np.testing.assert_allclose(known.mean, [0.485, 0.456, 0.406], rtol=1e-5)
    np.testing.assert_allclose(known.std, [0.229, 0.224, 0.225], rtol=1e-5)


def test_one_factor_for_all_colours_and_no_offset(tmp_path):
    golden, change = FILES["resnet18"], {"scale": 1 / 127.5, "offset": None, "image_size": [48, 80]}
    known = zoo.load(preset(tmp_path / "model", golden, converter=change), weights=None).zoo.preprocessing
    assert known.input_size == (48, 80)
    np.testing.assert_allclose([known.mean, known.std], [[0, 0, 0], [0.5, 0.5, 0.5]], atol=1e-7)


def test_without_a_preprocessor_pictures_stay_as_they_are(tmp_path):
    golden = FILES["resnetv2_50"]
    known = zoo.load(preset(tmp_path / "model", golden, files=False), weights=None).zoo.preprocessing
    assert known.input_size == (224, 224)
    np.testing.assert_allclose(np.multiply(known.std, 255), 1)


def test_pictures_that_were_padded_are_told(tmp_path, caplog):
    change = {"pad_to_aspect_ratio": True, "crop_to_aspect_ratio": False}
    zoo.load(preset(tmp_path / "model", FILES["resnet18"], files=False, converter=change), weights=None)
    assert "not cropped but padded or squashed; here they are cropped" in caplog.text


def test_a_new_head_keeps_the_backbone(tmp_path, caplog):
    folder = preset(tmp_path / "model", FILES["resnet18"])
    whole, new = zoo.load(folder), zoo.load(folder, classes=["ant", "bee"])
    assert "the head" in caplog.text
    assert new.zoo.labels == ("ant", "bee")
    kernels = [model.get_layer("layer4.1.conv2").kernel.numpy() for model in (whole, new)]
    np.testing.assert_array_equal(*kernels)


def test_the_pooling_is_the_tasks(tmp_path):
    folder = preset(tmp_path / "model", FILES["resnet18"], files=False, task={"pooling": "max"})
    model = zoo.load(folder, weights=None)
    assert isinstance(model.get_layer("global_pool"), keras.layers.GlobalMaxPooling2D)


def test_features_an_embedder_and_timm_take_it(tmp_path):
    folder = preset(tmp_path / "model", FILES["resnet18"])
    assert zoo.features(folder, levels=4, input_size=64).output_shape == (None, 4, 4, 256)
    assert zoo.embedder(folder, input_size=64).output_shape == (None, 512)
    saved = zoo.weights.save(zoo.load(folder), tmp_path / "saved")
    assert json.loads((saved / "config.json").read_text())["architecture"] == "resnet18"


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (
            {"backbone": {"stackwise_num_blocks": [1, 1, 1, 1]}},
            UnknownModelError,
            r"ResNetBackbone with .*not in",
        ),
        (
            {"backbone": {"image_shape": [None, None, 1]}},
            ZooError,
            r"the shape .None, None, 1.; the zoo.s networks take RGB",
        ),
        ({"task": {"pooling": "sum"}}, ZooError, r"cannot be read .KeyError: 'sum'"),
        ({"converter": {"interpolation": "lanczos3"}}, ZooError, r"bilinear or bicubic, not .lanczos3"),
    ],
)
def test_another_network_is_refused(tmp_path, change, error, reason):
    folder = preset(tmp_path / "model", FILES["resnet18"], **change)
    with pytest.raises(error, match=reason):
        zoo.load(folder)


def test_another_backbone_and_another_task_are_refused(tmp_path):
    vit = deepcopy(FILES["resnet18"])
    vit["config"]["class_name"] = "ViTBackbone"
    with pytest.raises(UnknownModelError, match=r"ViTBackbone of KerasHub.* it reads ResNetBackbone, VGG"):
        zoo.load(preset(tmp_path / "vit", vit, files=False))
    detector = deepcopy(FILES["resnet18"])
    detector["task"]["class_name"] = "RetinaNetObjectDetector"
    with pytest.raises(
        ZooError, match="RetinaNetObjectDetector of KerasHub; the zoo reads its image classif"
    ):
        zoo.load(preset(tmp_path / "detector", detector, files=False))


def test_what_keras_itself_saved_is_told_apart(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    keras.saving.save_model(model, tmp_path / "own", zipped=False)
    with pytest.raises(UnknownModelError, match=r"a whole model that Keras saved.*keras\.saving\.load_model"):
        zoo.load(tmp_path / "own")


def test_a_backbone_alone_is_refused(tmp_path):
    folder = preset(tmp_path / "model", FILES["resnet18"])
    (folder / "task.json").unlink()
    with pytest.raises(DownloadError, match=r"a preset without a classifier.*task.json"):
        zoo.load(folder)


def test_weights_that_do_not_fit_or_are_damaged_are_refused(tmp_path):
    folder = preset(tmp_path / "model", FILES["resnet18"])
    with h5py.File(folder / "model.weights.h5", "a") as file:
        del file["layers/conv2d_19"]
    with pytest.raises(WeightsError, match=r"missing: .*misshapen|misshapen: "):
        zoo.load(folder)
    (folder / "model.weights.h5").write_bytes(b"not HDF5")
    with pytest.raises(WeightsError, match=r"model.weights.h5: not a readable file of Keras weights"):
        zoo.load(folder)
    (folder / "task.weights.h5").unlink()
    with pytest.raises(DownloadError, match=r"task.weights.h5. does not exist"):
        zoo.load(folder)


def test_arrays_that_lie_in_another_file_are_refused(tmp_path):
    folder = preset(tmp_path / "model", FILES["resnet18"])
    (folder / "secret").write_bytes(bytes(64 * 3 * 49 * 4))
    with h5py.File(folder / "model.weights.h5", "a") as file:
        del file["layers/conv2d/vars/0"]
        file.create_dataset(
            "layers/conv2d/vars/0",
            (7, 7, 3, 64),
            "f4",
            external=[(str(folder / "secret"), 0, 64 * 3 * 49 * 4)],
        )
    with pytest.raises(WeightsError, match="lies in another file"):
        zoo.load(folder)
