"""Model files of strangers: nothing in them runs, nothing is written or read outside of them."""

import json
import pickle
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import zoo


class Touch:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def save(folder: Path, name: str, *layers: keras.layers.Layer) -> Path:
    images = keras.Input((8, 8, 3), name="images")
    x = images
    for layer in layers:
        x = layer(x)
    x = keras.layers.Dense(2, name="fc")(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(images, x).save(folder / name)
    return folder / name


def add_member(file: Path, name: str, content: bytes, mode: int = 0) -> None:
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    member.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(member, content)


def edit_config(file: Path, edit) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    edit(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_lambda_is_refused(tmp_path, name):
    file = save(tmp_path, name, keras.layers.Lambda(lambda x: x * 2))
    with pytest.raises(zoo.ZooError, match=f'"{file}" has a Lambda layer: code of its author.*It is refused'):
        zoo.load(file)


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".joblib", ".pth", ".pt", ".bin", ".pth.tar"])
def test_a_pickle_is_refused(tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    file.write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(zoo.ZooError, match=r"is a pickle, which runs code of its author .* it is refused"):
        zoo.load(file)
    assert not (tmp_path / "ran").exists()
    file.rename(tmp_path / "model.keras")
    with pytest.raises(zoo.ZooError, match="is not a Keras model that can be loaded"):
        zoo.load(tmp_path / "model.keras")
    assert not (tmp_path / "ran").exists()


def test_other_files_are_no_models(tmp_path):
    (tmp_path / "model.doc").write_text("")
    with pytest.raises(zoo.ZooError, match=r"is no model: files end in \.keras or \.h5"):
        zoo.load(tmp_path / "model.doc")


def test_a_config_that_names_a_function_of_python_is_refused(tmp_path):
    file = save(tmp_path, "model.keras")

    def edit(config) -> None:
        dense = config["config"]["layers"][-1]["config"]
        named = {"module": "pathlib", "class_name": "Path.touch", "registered_name": None}
        dense["kernel_initializer"] = {**named, "config": str(tmp_path / "ran")}

    edit_config(file, edit)
    with pytest.raises(zoo.ZooError, match="is not a Keras model that can be loaded"):
        zoo.load(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "member", ["../escaped", "a/../../escaped", "/tmp/escaped", "..\\escaped", "C:\\escaped"]
)
def test_members_that_leave_the_archive_are_refused(tmp_path, member):
    file = save(tmp_path, "model.keras")
    add_member(file, member, b"x")
    with pytest.raises(zoo.WeightsError, match="would be written outside of its folder"):
        zoo.load(file)


def test_links_in_an_archive_are_refused(tmp_path):
    file = save(tmp_path, "model.keras")
    add_member(file, "assets/link", b"/etc/passwd", mode=0o120777)
    with pytest.raises(zoo.WeightsError, match='"assets/link" in it is a link or a device'):
        zoo.load(file)


def test_bombs_are_refused(tmp_path):
    file = save(tmp_path, "model.keras")
    add_member(file, "zoo.json", bytes(65 << 20))
    assert file.stat().st_size < 1 << 20
    with pytest.raises(zoo.WeightsError, match="it unpacks to more than 67108864 bytes"):
        zoo.load(file)


def test_an_archive_of_many_members_is_refused(tmp_path):
    file = save(tmp_path, "model.keras")
    with zipfile.ZipFile(file, "a") as archive:
        for i in range(10_000):
            archive.writestr(f"assets/{i}", b"")
    with pytest.raises(zoo.WeightsError, match="or 10000 files"):
        zoo.load(file)


def test_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"no archive")
    with pytest.raises(zoo.ZooError, match="is not a Keras model that can be loaded: File is not a zip file"):
        zoo.load(tmp_path / "model.keras")


def test_facts_that_are_none_of_ours(tmp_path):
    file = save(tmp_path, "model.keras")
    add_member(file, "zoo.json", b'{"name": 1, "labels": 2, "preprocessing": 3}')
    with pytest.raises(zoo.ZooError, match="is not a Keras model that can be loaded"):
        zoo.load(file)


KERNEL = "model_weights/fc/fc/kernel"


def test_an_h5_file_reads_no_other_files(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret" * 4)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones((3, 2), "float32")
    file = save(tmp_path, "linked.h5")
    with h5py.File(file, "a") as opened:
        del opened[KERNEL]
        opened[KERNEL] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
    with pytest.raises(zoo.ZooError, match="Not allowed: H5 file with ExternalLink"):
        zoo.load(file)
    file = save(tmp_path, "raw.h5")
    with h5py.File(file, "a") as opened:
        del opened[KERNEL]
        opened.create_dataset(KERNEL, (3, 2), "float32", external=[(str(tmp_path / "secret"), 0, 24)])
    with pytest.raises(zoo.ZooError, match="Not allowed: H5 file with external Dataset"):
        zoo.load(file)
