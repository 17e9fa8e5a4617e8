"""What timm's users publish: config.json and weights, from a hub on loopback and from folders, and back."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

import zoo
from zoo.errors import DownloadError, UnknownModelError, WeightsError, ZooError
from zoo.loading import has_auxiliary
from zoo.weights import download as download_module
from zoo.weights.convert import assign, slots, state_dict
from zoo.weights.repository import CONFIG_LIMIT

sys.path.insert(0, str(Path(__file__).parents[1]))
from golden_rule import tensor

SMALL = "mobilenetv3_small_050"
LABELS = ("daisy", "rose", "tulip")


@pytest.fixture(autouse=True)
def surroundings(cache_folder, monkeypatch, site):
    monkeypatch.setattr(download_module, "PAUSES", (0.0,) * 4)
    monkeypatch.setenv("ZOO_HUB_URL", site.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture(scope="module")
def trained():
    """A network as a user of timm would have it, and its pictures."""
    model = zoo.load(SMALL, weights=None, classes=3, input_size=64, classifier_activation=None)
    assign(model, {slot.key: tensor(slot.key, slot.reference_shape) for slot in slots(model)})
    pictures = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    return model, pictures, model.predict(pictures, verbose=0)


def config(architecture: str = SMALL, of_weights: dict | None = None, **changes) -> dict:
    """As timm 1.0.31 writes it for a network with three classes."""
    own = {
        "architecture": architecture,
        "num_classes": 3,
        "num_features": 1024,
        "global_pool": "avg",
        "label_names": list(LABELS),
        "model_args": {"num_classes": 3, "in_chans": 3, "drop_rate": 0.2},
    }
    weights = {
        "tag": "lamb_in1k",
        "custom_load": False,
        "input_size": [3, 64, 64],
        "fixed_input_size": False,
        "interpolation": "bilinear",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": 3,
        "pool_size": None,
        "first_conv": "conv_stem",
        "classifier": "classifier",
        "license": "mit",
    }
    return own | changes | {"pretrained_cfg": weights | (of_weights or {})}


def file_of(tensors: dict) -> bytes:
    return save({key: np.ascontiguousarray(value) for key, value in tensors.items()})


def publish(site, repository, weights: bytes, facts: dict, **options) -> None:
    site.publish_on_hub(repository, weights, **options)
    path = f"/{repository}/resolve/{options.get('revision', 'main')}/config.json"
    site.files[path] = json.dumps(facts).encode()


def folder_of(folder, facts: object, tensors: dict | None = None):
    folder.mkdir()
    written = facts if isinstance(facts, str | bytes) else json.dumps(facts)
    (folder / "config.json").write_bytes(written if isinstance(written, bytes) else written.encode())
    if tensors is not None:
        (folder / "model.safetensors").write_bytes(file_of(tensors))
    return folder


def test_a_published_network_answers_as_it_did(site, trained, cache_folder):
    model, pictures, logits = trained
    publish(site, "alice/flowers", file_of(state_dict(model)), config())
    opened = zoo.load("hf-hub:alice/flowers", classifier_activation=None)
    np.testing.assert_allclose(opened.predict(pictures, verbose=0), logits, atol=1e-6)
    assert opened.zoo.labels == LABELS
    assert opened.zoo.name == f"{SMALL}.alice/flowers"
    assert opened.zoo.card["licence"] == "mit"
    assert opened.zoo.preprocessing == replace(
        model.zoo.preprocessing, input_size=(64, 64), crop=0.9, interpolation="bilinear"
    )
    assert (cache_folder / "hub/alice/flowers/model.safetensors").is_file()
    asked = len(site.requests)
    card = zoo.describe("hf-hub:alice/flowers")
    assert (card.name, card.licence, card.input_size) == (f"{SMALL}.alice/flowers", "mit", (64, 64))
    assert [weights.labels for weights in card.weights] == [LABELS]
    zoo.load("hf_hub:alice/flowers")
    assert len(site.requests) == asked


def test_a_revision_is_another_file(site, trained, cache_folder):
    model, pictures, logits = trained
    publish(site, "alice/flowers", file_of(state_dict(model)), config(), revision="refs%2Fpr%2F1")
    opened = zoo.load("hf-hub:alice/flowers@refs/pr/1", classifier_activation=None)
    np.testing.assert_allclose(opened.predict(pictures, verbose=0), logits, atol=1e-6)
    with pytest.raises(DownloadError, match="404"):
        zoo.load("hf-hub:alice/flowers")


def test_older_repositories_hold_a_pickle_and_one_table(site, trained, torch_format):
    """Which is never unpickled freely; its table has all facts beside the name."""
    model, pictures, logits = trained
    whole = config()
    facts = {**whole["pretrained_cfg"], "architecture": SMALL, "labels": list(LABELS)}
    file = torch_format.zip_file(*torch_format.state_dict(state_dict(model)))
    site.files["/bob/old/resolve/main/config.json"] = json.dumps(facts).encode()
    site.publish_on_hub("bob/old", file, file="pytorch_model.bin")
    opened = zoo.load("hf-hub:bob/old", classifier_activation=None)
    np.testing.assert_allclose(opened.predict(pictures, verbose=0), logits, atol=1e-6)
    assert opened.zoo.labels == LABELS


def test_the_token_of_a_private_repository_stays_with_the_hub(site, trained, monkeypatch):
    model, _, _ = trained
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    store = site.url.replace("127.0.0.1", "localhost")
    publish(site, "alice/private", file_of(state_dict(model)), config(), store_url=store)
    zoo.load("hf-hub:alice/private")
    (at_hub,) = site.asked("/alice/private/resolve/main/model.safetensors")
    (at_store,) = site.asked("/store/alice/private")
    assert at_hub["Authorization"] == "Bearer hf_secret"
    assert "Authorization" not in at_store


def test_descriptions_are_the_labels_where_they_tell_all_apart(tmp_path, trained):
    tensors = state_dict(trained[0])
    names = {"label_names": ["n01", "n02", "n03"]}
    told = config(**names, label_descriptions={"n01": "daisy", "n02": "rose"})
    assert zoo.load(folder_of(tmp_path / "a", told, tensors)).zoo.labels == ("daisy", "rose", "n03")
    alike = config(**names, label_descriptions={"n01": "rose", "n02": "rose"})
    assert zoo.load(folder_of(tmp_path / "b", alike, tensors)).zoo.labels == ("n01", "n02", "n03")
    gap = config(label_names={"0": "daisy", "2": "tulip"})
    assert zoo.load(folder_of(tmp_path / "c", gap, tensors)).zoo.labels == ("daisy", "1", "tulip")
    more = config(label_names=["a", "b", "c", "d"])
    assert zoo.load(folder_of(tmp_path / "d", more, tensors)).zoo.labels == ("0", "1", "2")


def test_another_head_on_a_published_network(tmp_path, trained):
    tensors = state_dict(trained[0])
    folder = folder_of(tmp_path / "flowers", config(), tensors)
    model = zoo.load(folder, classes=("cat", "dog"), input_size=(96, 64))
    assert model.zoo.labels == ("cat", "dog")
    assert model.output_shape == (None, 2)
    np.testing.assert_array_equal(state_dict(model)["conv_stem.weight"], tensors["conv_stem.weight"])
    headless = {key: value for key, value in tensors.items() if not key.startswith("classifier.")}
    folder = folder_of(tmp_path / "headless", config(num_classes=0), headless)
    with pytest.raises(ZooError, match="has no classifier: give classes="):
        zoo.load(folder)
    assert zoo.load(folder, classes=5).output_shape == (None, 5)


def test_a_network_of_timm_is_what_transformers_saved(tmp_path, trained):
    tensors = {f"timm_model.{key}": value for key, value in state_dict(trained[0]).items()}
    facts = config(model_type="timm_wrapper", architectures=["TimmWrapperForImageClassification"])
    model = zoo.load(folder_of(tmp_path / "flowers", facts, tensors), classifier_activation=None)
    assert model.zoo.labels == LABELS
    np.testing.assert_array_equal(model.predict(trained[1], verbose=0), trained[2])


def test_an_embedding_is_no_classifier(tmp_path):
    """timm counts the numbers of CLIP's vectors as classes."""
    model = zoo.load("resnet50_clip", weights=None, classes=5, input_size=64)
    tensors = {key: value for key, value in state_dict(model).items() if not key.startswith("head.fc.")}
    colours = {key: list(getattr(model.zoo.preprocessing, key)) for key in ("mean", "std")}
    facts = config("resnet50_clip", colours | {"classifier": "head.proj"}, num_classes=1024, label_names=None)
    folder = folder_of(tmp_path / "clip", facts, tensors)
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    expected = zoo.heads(model)(picture.astype(np.float32))["features"]
    np.testing.assert_allclose(
        zoo.embedder(folder).predict(picture, verbose=0), expected, rtol=1e-4, atol=1e-3
    )
    with pytest.raises(ZooError, match="has no classifier: give classes="):
        zoo.load(folder)
    own = zoo.load(folder, classes=("cat", "dog"))
    with pytest.raises(WeightsError, match="timm does not build"):
        zoo.weights.save(own, tmp_path / "own")


def test_pictures_that_are_not_square_and_another_pooling(tmp_path, trained):
    tensors = state_dict(trained[0])
    facts = config(of_weights={"input_size": [3, 64, 96]}, model_args={"global_pool": "avgmax"})
    model = zoo.load(folder_of(tmp_path / "wide", facts, tensors), classifier_activation=None)
    assert model.input_shape == (None, 64, 96, 3)
    same = zoo.load(
        SMALL, tmp_path / "wide/model.safetensors", classes=3, input_size=(64, 96), pooling="avgmax",
        classifier_activation=None,
    )  # fmt: skip
    pictures = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3)).astype(np.uint8)
    np.testing.assert_array_equal(model.predict(pictures, verbose=0), same.predict(pictures, verbose=0))


def test_the_conventions_are_those_of_timm_s_name(tmp_path):
    """TensorFlow's padding and epsilon belong to tf_mixnet_s, PyTorch's to mixnet_s."""
    ported = zoo.load("tf_mixnet_s", weights=None, classes=3, input_size=64, classifier_activation=None)
    tensors = {slot.key: tensor(slot.key, slot.reference_shape) for slot in slots(ported)}
    assign(ported, tensors)
    pictures = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    answers = [
        zoo.load(folder_of(tmp_path / name, config(name), tensors), classifier_activation=None).predict(
            pictures, verbose=0
        )
        for name in ("tf_mixnet_s", "mixnet_s")
    ]
    np.testing.assert_allclose(answers[0], ported.predict(pictures, verbose=0), atol=1e-6)
    assert np.abs(answers[0] - answers[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("facts", "error", "reason"),
    [
        (config("vit_tiny_patch16_224"), UnknownModelError, 'unknown model "vit_tiny_patch16_224"'),
        (config(model_args={"in_chans": 1}), ZooError, "built with in_chans=1"),
        (config(of_weights={"input_size": [1, 64, 64]}, model_args={}), ZooError, "pictures of 1 channels"),
        (config(model_args={"act_layer": "silu"}), ZooError, "built with act_layer='silu'"),
        (config(of_weights={"interpolation": "lanczos"}), ZooError, "interpolation is bilinear or bicubic"),
        ({"model_type": "bert"}, UnknownModelError, "model_type 'bert', which the zoo does not read"),
        (config(of_weights={"mean": 0.5}), ZooError, "config.json cannot be read"),
        ([1, 2], ZooError, "holds a list, not a table"),
        ("not JSON", ZooError, "is not JSON"),
        (b"\xff\xfe", ZooError, "is not JSON"),
        (config(num_classes=4, label_names=None), WeightsError, "has the weights of 3 classes"),
    ],
)
def test_a_folder_that_is_something_else(tmp_path, trained, facts, error, reason):
    folder = folder_of(tmp_path / "folder", facts, state_dict(trained[0]))
    with pytest.raises(error, match=reason):
        zoo.load(folder)


def test_a_place_that_is_none(site, tmp_path, trained):
    for name in ("flowers", "a/b/c", "alice/..", "alice/flowers@../x", "alice/flowers?x=1"):
        with pytest.raises(ZooError, match="is no repository of the hub"):
            zoo.load(f"hf-hub:{name}")
    site.states["/alice/private/resolve/main/config.json"] = [401]
    with pytest.raises(DownloadError, match=r"401.*HF_TOKEN"):
        zoo.load("hf-hub:alice/private")
    site.files["/alice/large/resolve/main/config.json"] = b" " * (CONFIG_LIMIT + 1)
    with pytest.raises(DownloadError, match="more than the limit"):
        zoo.load("hf-hub:alice/large")
    folder = folder_of(tmp_path / "empty", config())
    with pytest.raises(DownloadError, match=r"model.safetensors.* does not exist"):
        zoo.load(folder)
    with pytest.raises(ZooError, match=f'has its own weights: others go with "{SMALL}"'):
        zoo.load(folder, weights="lamb_in1k")


def test_a_model_comes_back_from_the_folder_that_it_was_saved_to(tmp_path, trained):
    model = zoo.load(SMALL, weights=None, classes=("a", "ä", "c"), input_size=64, pooling="max")
    folder = zoo.weights.save(model, tmp_path / "deep" / "flowers")
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    back = zoo.load(folder)
    pictures = trained[1]
    np.testing.assert_array_equal(back.predict(pictures, verbose=0), model.predict(pictures, verbose=0))
    assert back.zoo.labels == ("a", "ä", "c")
    assert back.zoo.preprocessing == model.zoo.preprocessing
    assert zoo.weights.save(back, tmp_path / "again") == tmp_path / "again"
    first, second = ((f / "config.json").read_text() for f in (folder, tmp_path / "again"))
    tag = '"tag": "flowers"'
    assert second == first.replace('"tag": ""', tag)
    assert not has_auxiliary(folder)


def test_the_config_is_what_timm_reads(tmp_path):
    model = zoo.load("tf_efficientnet_b0", weights=None, classes=("a", "b"), input_size=(64, 96))
    folder = zoo.weights.save(model, tmp_path / "flowers")
    written = json.loads((folder / "config.json").read_text())
    stated = written.pop("pretrained_cfg")
    assert written == {
        "architecture": "tf_efficientnet_b0",
        "model_args": {},
        "num_classes": 2,
        "num_features": 1280,
        "label_names": ["a", "b"],
    }
    assert stated["input_size"] == [3, 64, 96]
    assert stated["first_conv"] == "conv_stem"
    assert stated["classifier"] == "classifier"
    assert load_file(folder / "model.safetensors")["classifier.weight"].shape == (2, 1280)


@pytest.mark.parametrize(("name", "sized"), [("coatnet_nano_rw_224", True), ("mobilenetv3_small_050", False)])
def test_timm_is_told_the_size_where_it_makes_a_network_for_one(tmp_path, name, sized):
    model = zoo.load(name, weights=None, classes=("a", "b"), input_size=64)
    folder = zoo.weights.save(model, tmp_path / "flowers")
    stated = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    assert stated["input_size"] == [3, 64, 64]
    assert stated["fixed_input_size"] is sized


def test_a_folder_is_not_written_over_nor_for_a_network_that_timm_lacks(tmp_path, trained):
    with pytest.raises(WeightsError, match="exists: give the name of a new folder"):
        zoo.weights.save(trained[0], tmp_path)
    other = zoo.load("hardnet39ds", weights=None, classes=2)
    swapped = zoo.load(SMALL, weights=None, classes=2, activation="gelu")
    helped = zoo.load("inception_v3", weights=None, classes=2, auxiliary=True)
    for model in (other, swapped, helped):
        with pytest.raises(WeightsError, match=r"timm does not build .* a name that ends in .safetensors"):
            zoo.weights.save(model, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_fine_tuned(tmp_path, trained):
    folder = folder_of(tmp_path / "flowers", config(), state_dict(trained[0]))
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (30, 64, 64, 3)).astype(np.uint8), np.arange(30) % 2
    result = zoo.fine_tune(folder, pictures, recipe="linear", epochs=1, views=1)
    assert result.model.output_shape == (None, 2)
    saved = zoo.weights.save(result.model, tmp_path / "tuned")
    assert zoo.load(saved).zoo.labels == result.model.zoo.labels
