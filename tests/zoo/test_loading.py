"""What a user sees of `zoo.load`: real labels of real photos, own classes, own sizes, files of every kind,
and clear refusals.
"""

import json
import logging
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.datasets import load_sample_images

import zoo
from zoo.preprocessing import evaluate, load_images
from zoo.weights.convert import state_dict


@pytest.fixture(scope="module")
def default():
    return zoo.load("efficientnet")


@pytest.fixture(scope="module")
def small():
    """A random network whose weights the file tests write and read."""
    keras.utils.set_random_seed(1)
    return zoo.load("resnet18", weights=None, classes=6, input_size=64)


FRESH = {"name": "resnet18", "weights": None}
PICTURES = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)


def outputs(model):
    """Eagerly: tracing a graph for two pictures takes longer than they do."""
    return np.asarray(model(PICTURES, training=False))


@pytest.mark.parametrize(("photo", "label", "score"), [(0, "palace", 0.298), (1, "daisy", 0.323)])
def test_the_embedded_weights_name_real_photos(default, photo, label, score):
    image = load_sample_images().images[photo]
    known = zoo.facts(default)
    probabilities = default.predict_on_batch(evaluate(known.preprocessing, image)[None])[0]
    assert known.labels[probabilities.argmax()] == label
    assert probabilities.max() == pytest.approx(score, abs=0.01)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "score"), [("efficientnet_lite1", 240, 0.554), ("efficientnet_lite2", 260, 0.378)]
)
def test_larger_lite_networks_come_from_their_packages(name, size, score):
    model = zoo.load(name)
    known = zoo.facts(model)
    assert known.preprocessing.input_size == (size, size)
    image = evaluate(known.preprocessing, load_sample_images().images[0])
    probabilities = model.predict_on_batch(image[None])[0]
    assert known.labels[probabilities.argmax()] == "palace"
    assert probabilities.max() == pytest.approx(score, abs=0.01)


def test_it_works_without_a_network_and_without_a_cache(tmp_path):
    code = "import zoo; print(zoo.load('efficientnet').zoo.name)"
    environment = {"PATH": "", "ZOO_OFFLINE": "1", "ZOO_CACHE": str(tmp_path / "none"), "HOME": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert answer.stdout.strip() == "efficientnet_lite0.ml_illustrated_in1k", answer.stderr


def test_bytes_and_floats_give_the_same(default):
    image = load_images(zoo.facts(default).preprocessing, [load_sample_images().filenames[0]])
    np.testing.assert_array_equal(
        default.predict_on_batch(image), default.predict_on_batch(image.astype(np.float32))
    )


def test_other_classes_keep_the_backbone_and_say_that_the_head_is_new(default, caplog):
    with caplog.at_level(logging.WARNING, "zoo"):
        model = zoo.load("efficientnet", classes=["rose", "tulip"])
    assert "is new (2 classes, the weights have 1000)" in caplog.text
    assert zoo.facts(model).labels == ("rose", "tulip")
    ours, theirs = state_dict(model), state_dict(default)
    assert ours.pop("classifier.weight").shape == (2, 1280)
    del ours["classifier.bias"]
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], key)


def test_any_input_size_takes_the_same_weights(default):
    model = zoo.load("efficientnet", input_size=(96, 160))
    assert model.input_shape == (None, 96, 160, 3)
    assert zoo.facts(model).preprocessing.input_size == (96, 160)
    expected = state_dict(default)
    for key, value in state_dict(model).items():
        np.testing.assert_array_equal(value, expected[key])


def test_without_a_size_it_takes_pictures_of_any_from_call_to_call(default, tmp_path):
    free = zoo.load("efficientnet", input_size=(None, None))
    assert free.input_shape == (None, None, None, 3)
    assert zoo.facts(free) == zoo.facts(default)
    free = zoo.load(zoo.save(free, tmp_path / "free.keras"))
    for size in ((96, 160), (131, 75)):
        picture = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype(np.float32)
        of_one_size = zoo.load("efficientnet", input_size=size)
        np.testing.assert_allclose(free(picture), of_one_size(picture), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "step"), [("tresnet_m", 4), ("dla46x_c", 32)])
def test_sides_a_network_cannot_halve_are_refused_by_name(name, step, tmp_path):
    remedy = rf"sides are multiples of {step} pixels, not \(64, 98\); resize or pad them"
    with pytest.raises(zoo.ZooError, match=remedy):
        zoo.load(name, weights=None, input_size=(64, 98))
    free = zoo.load(name, weights=None, classes=3, input_size=(None, None))
    free = zoo.load(zoo.save(free, tmp_path / "free.keras"))
    with pytest.raises(zoo.ZooError, match=remedy):
        free.predict(np.zeros((1, 64, 98, 3), np.float32), verbose=0)
    assert free(np.zeros((1, 64, 96, 3), np.float32)).shape == (1, 3)


def test_logits_and_probabilities_agree(small, tmp_path):
    path = zoo.save(small, tmp_path / "small.keras")
    logits = zoo.load("resnet18", weights=path, classes=6, input_size=64, classifier_activation=None)
    z = outputs(logits)
    softmax = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    np.testing.assert_allclose(outputs(small), softmax, atol=1e-6)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".keras", ".h5", ".weights.h5"])
def test_weights_come_from_files_of_every_kind(small, tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    if suffix == ".safetensors":
        save_file({k: np.ascontiguousarray(v) for k, v in state_dict(small).items()}, path)
    elif suffix == ".npz":
        np.savez(path, **state_dict(small))
    elif suffix == ".weights.h5":
        small.save_weights(path)
    else:
        zoo.save(small, path)
    model = zoo.load("resnet18.a1_in1k", weights=path, classes=6, input_size=64)
    np.testing.assert_allclose(outputs(model), outputs(small), atol=1e-6)
    fewer = zoo.load("resnet18.a1_in1k", weights=path, classes=3, input_size=64)
    assert fewer.output_shape == (None, 3)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_model_comes_back_with_its_facts(small, tmp_path, suffix):
    path = zoo.save(small, tmp_path / f"model{suffix}")
    back = zoo.load(path)
    assert zoo.facts(back) == zoo.facts(small)
    np.testing.assert_allclose(outputs(back), outputs(small), atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_plain_keras_opens_it_without_the_zoo(small, tmp_path):
    path = zoo.save(small, tmp_path / "model.keras")
    code = f"import keras, sys; keras.saving.load_model({str(path)!r}); print('zoo' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, timeout=120
    )
    assert answer.stdout.strip() == "False"


def test_dropout_and_stochastic_depth_act_in_training_only(small):
    keras.utils.set_random_seed(2)
    model = zoo.load("resnet18", weights=None, classes=6, input_size=64, drop_rate=0.5, drop_path=0.5)
    once, again = (np.asarray(model(PICTURES, training=True)) for _ in range(2))
    assert np.abs(once - again).max() > 1e-3
    np.testing.assert_array_equal(model(PICTURES, training=False), model(PICTURES, training=False))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "efficentnet"}, zoo.UnknownModelError, 'did you mean "efficientnet"?'),
        ({"name": "resnet18", "weights": "a1_in1kk"}, zoo.UnknownModelError, 'did you mean "a1_in1k"?'),
        (
            {"name": "resnet18", "weights": "absent.safetensors"},
            zoo.WeightsError,
            '"absent.safetensors" does not exist',
        ),
        ({"name": "absent.keras"}, zoo.ZooError, '"absent.keras" does not exist'),
        ({"name": "."}, zoo.ZooError, '"." is a folder without model.keras or config.json'),
        ({"name": "resnet18", "weights": None, "input_size": 16}, zoo.ZooError, "at least 32 x 32"),
        ({"name": "resnet18", "weights": None, "classes": 0}, zoo.ZooError, "classes must be at least 1"),
        (
            {"name": "resnet18", "weights": True},
            zoo.ZooError,
            "weights is a tag, the path of a file, or None",
        ),
        ({"name": "resnet18", "pretrained": True}, zoo.ZooError, "networks are, unless weights=None"),
        ({"name": "VGG16", "include_top": False}, zoo.ZooError, "zoo.embedder(name) ends in the vector"),
        ({"name": "resnet18", "num_classes": 5}, zoo.ZooError, "load takes no num_classes: give classes="),
        ({"name": "resnet18", "clases": 5}, TypeError, "unexpected keyword argument 'clases'"),
        (
            {"name": "efficientnetv2_s.in21k", "weights": None, "classes": []},
            zoo.ZooError,
            "classes must be at least 1",
        ),
        ({**FRESH, "classes": "abc"}, zoo.ZooError, "classes is a number or a list of labels, not 'abc'"),
        ({**FRESH, "classes": 5.0}, zoo.ZooError, "classes is a number or a list of labels, not 5.0"),
        ({**FRESH, "classes": ["a", None]}, zoo.ZooError, "None is none"),
        ({**FRESH, "classes": ["a", "b", "a"]}, zoo.ZooError, 'two classes are called "a"'),
        (
            {**FRESH, "input_size": (64,)},
            zoo.ZooError,
            "a number of pixels, (height, width), or (None, None) for any, not (64,)",
        ),
        ({**FRESH, "input_size": (64, 64, 3)}, zoo.ZooError, "for any, not (64, 64, 3)"),
        ({**FRESH, "input_size": (64, None)}, zoo.ZooError, "for any, not (64, None)"),
        ({**FRESH, "input_size": 64.5}, zoo.ZooError, "for any, not 64.5"),
        ({**FRESH, "drop_rate": 1.5}, zoo.ZooError, "drop_rate is a share of at least 0"),
        ({**FRESH, "drop_path": -0.1}, zoo.ZooError, "drop_path is a share of at least 0"),
        (
            {**FRESH, "classifier_activation": "sofmax"},
            zoo.ZooError,
            'unknown classifier_activation "sofmax"; did you mean "softmax"?',
        ),
        ({"name": ""}, zoo.UnknownModelError, 'unknown model ""'),
        ({"name": "VVG16"}, zoo.UnknownModelError, 'did you mean "vgg16"'),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        zoo.load(**arguments)


@pytest.mark.parametrize(("name", "said"), [("squeezenet1_1", 1), ("resnet18", 0)])
def test_stochastic_depth_that_changes_nothing_is_told(name, said, caplog):
    with caplog.at_level(logging.WARNING, "zoo"):
        zoo.load(name, weights=None, classes=2, input_size=64, drop_path=0.1)
    assert caplog.text.count("has no branches to drop") == said


def test_numbers_of_numpy_are_numbers():
    model = zoo.load("resnet18", weights=None, classes=np.int64(3), input_size=np.int64(64))
    assert (model.output_shape, model.zoo.labels) == ((None, 3), ("0", "1", "2"))
    model = zoo.load("resnet18", weights=None, classes=np.array(["cat", "dog"]), input_size=[64, 32])
    assert (model.input_shape, model.zoo.labels) == ((None, 64, 32, 3), ("cat", "dog"))


def test_a_folder_or_file_that_is_no_model_does_not_hide_a_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet18").mkdir()
    (tmp_path / "resnet34").write_text("notes")
    for name in ("resnet18", "resnet34"):
        assert zoo.load(name, weights=None, classes=2, input_size=64).name == name


def test_a_folder_with_a_model_comes_before_the_network_of_its_name(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zoo.save(small, "resnet34/model.keras")
    assert zoo.load("resnet34").zoo.labels == small.zoo.labels


@pytest.mark.parametrize("option", [{"classifier_activation": None}, {"auxiliary": True}, {"classes": 6}])
def test_options_of_a_name_are_not_ignored_beside_a_file(small, tmp_path, option):
    path = zoo.save(small, tmp_path / "model.keras")
    with pytest.raises(zoo.ZooError, match=r"is a whole model: .* go with a name"):
        zoo.load(path, **option)


@pytest.mark.parametrize("name", ["small.weights.h5", "small.safetensors"])
def test_weights_alone_are_no_model(small, tmp_path, name):
    (zoo.weights.save if name.endswith("safetensors") else keras.Model.save_weights)(small, tmp_path / name)
    with pytest.raises(zoo.ZooError, match=r"zoo\.load\(NAME, weights=PATH\)"):
        zoo.load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "heads", "width"),
    [
        ("repvit_m0_9", ["head.head.l", "head.head_dist.l"], 384),
        ("swiftformer_xs", ["head", "head_dist"], 220),
    ],
)
def test_a_classifier_of_two_heads_is_filled_renewed_and_written(name, heads, width, tmp_path, caplog):
    path, other = tmp_path / "taught.safetensors", tmp_path / "again.safetensors"
    taught = zoo.load(name, weights=None, classes=5)
    kernels = [weight for weight in taught.get_layer("head").weights if "kernel" in weight.name]
    assert not np.array_equal(*kernels)
    zoo.weights.save(taught, path)
    for head in heads:
        assert state_dict(taught)[f"{head}.weight"].shape == (5, width)
    loaded = zoo.load(name, weights=path, classes=5)
    zoo.weights.save(loaded, other)
    assert path.read_bytes() == other.read_bytes()
    assert "is new" not in caplog.text
    renewed = zoo.load(name, weights=path, classes=3)
    assert renewed.output_shape == (None, 3)
    assert "is new (3 classes, the weights have 5)" in caplog.text
    folder = zoo.weights.save(taught, tmp_path / "folder")
    assert json.loads((folder / "config.json").read_text())["pretrained_cfg"]["classifier"] == heads
    assert zoo.load(folder, classes=2).output_shape == (None, 2)


def test_a_file_of_other_classes_says_how_to_keep_its_head(small, tmp_path):
    path = zoo.weights.save(small, tmp_path / "small.safetensors")
    with pytest.raises(zoo.WeightsError, match=r"the weights of 6 classes.*classes=6 keeps"):
        zoo.load("resnet18", weights=path)


def test_quantised_weights_are_refused(small, tmp_path):
    path = tmp_path / "quantised.npz"
    np.savez(path, **{key: value.astype(np.int8) for key, value in state_dict(small).items()})
    with pytest.raises(zoo.WeightsError, match=r"no fractions: conv1\.weight is int8 and \d+ more"):
        zoo.load("resnet18", weights=path, classes=6)


def test_keras_weights_of_another_network_are_refused_in_two_lines(small, tmp_path, recwarn):
    path = tmp_path / "small.weights.h5"
    small.save_weights(path)
    with pytest.raises(zoo.WeightsError, match=r"does not fit resnet34") as error:
        zoo.load("resnet34", weights=path, classes=6)
    assert len(str(error.value)) < 600
    assert not [warning for warning in recwarn if "container" in str(warning.message)]


def test_a_damaged_file_is_named(small, tmp_path):
    path = zoo.save(small, tmp_path / "model.keras")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(zoo.ZooError, match=r"model\.keras"):
        zoo.load(path)


def test_weights_of_another_network_are_refused(small, tmp_path):
    path = zoo.save(small, tmp_path / "model.keras")
    with pytest.raises(
        zoo.WeightsError, match=r"do not fit resnet50: missing: layer1\.0\.downsample\.0\.weight"
    ):
        zoo.load("resnet50", weights=path, classes=6)


def test_a_cached_file_of_another_network_is_refused_and_removed(small, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    cached = tmp_path / "hub/timm/resnet34.a1_in1k/model.safetensors"
    cached.parent.mkdir(parents=True)
    save_file({k: np.ascontiguousarray(v) for k, v in state_dict(small).items()}, cached)
    with pytest.raises(
        zoo.WeightsError, match=r"missing: layer1\.2\.conv1\.weight.* was removed from the cache"
    ):
        zoo.load("resnet34.a1_in1k")
    assert not cached.exists()


def test_weights_that_cannot_be_downloaded_say_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(zoo.DownloadError, match=r"ZOO_OFFLINE") as error:
        zoo.load("resnet18")
    assert "timm/resnet18.a1_in1k" in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "weights=PATH" in str(error.value)


def test_what_is_no_model_has_no_facts():
    with pytest.raises(zoo.ZooError, match=r"give a model, such as zoo\.load returns, not 'flowers\.keras'"):
        zoo.facts("flowers.keras")
