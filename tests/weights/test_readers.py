"""Weight files by their endings, and what is no weight file."""

import zipfile
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo.errors import WeightsError
from zoo.weights.readers import read

ARRAYS = {
    "conv.weight": np.linspace(-1, 1, 54, dtype=np.float32).reshape(2, 3, 3, 3),
    "fc.bias": np.float32([1, 2, 3]),
}
COUNTED = {**ARRAYS, "bn.num_batches_tracked": np.array(7)}


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def same(arrays: dict[str, np.ndarray]) -> None:
    assert list(arrays) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], expected)


def test_safetensors(tmp_path):
    save_file(COUNTED, tmp_path / "weights.safetensors")
    same(read(tmp_path / "weights.safetensors"))


def test_half_precisions_become_float32(tmp_path):
    values = [1.5, -2.0, 0.0078125]
    halves = {"a": np.float16(values), "b": np.array(values, ml_dtypes.bfloat16)}
    save_file(halves, tmp_path / "weights.safetensors")
    np.savez(tmp_path / "weights.npz", a=np.float16(values))
    for path in tmp_path.iterdir():
        for array in read(path).values():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz(tmp_path, write):
    write(tmp_path / "weights.npz", **{f"module.{name}": values for name, values in COUNTED.items()})
    same(read(str(tmp_path / "weights.npz")))


@pytest.mark.parametrize("whole_model", [True, False])
def test_h5_in_layers(tmp_path, whole_model):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        root.attrs["layer_names"] = [b"input", b"conv", b"block.bn"]
        for layer in ("input", "conv", "block.bn"):
            root.create_group(layer).attrs["weight_names"] = np.array([], "S1")
        root["conv"].attrs["weight_names"] = [b"conv/kernel:0"]
        root["conv/conv/kernel:0"] = np.float32([[1, 2]])
        root["block.bn"].attrs["weight_names"] = ["block.bn/gamma:0", "moving_mean"]
        root["block.bn/block.bn/gamma:0"] = np.float32([3])
        root["block.bn/moving_mean"] = np.float32([4])
    arrays = read(path)
    assert {name: values.ravel().tolist() for name, values in arrays.items()} == {
        "conv/kernel": [1, 2],
        "block.bn/gamma": [3],
        "block.bn/moving_mean": [4],
    }


def test_h5_as_keras_saves_it(tmp_path):
    images = keras.Input((2,))
    model = keras.Model(images, keras.layers.Dense(3, name="head.fc")(images))
    model.save(tmp_path / "model.h5")
    arrays = read(tmp_path / "model.h5")
    np.testing.assert_array_equal(arrays["head.fc/kernel"], model.layers[1].kernel)
    assert list(arrays) == ["head.fc/kernel", "head.fc/bias"]


def test_h5_whose_names_are_cut_into_several_attributes(tmp_path):
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"a", b"b"], [b"c"]
        for i, layer in enumerate("abc"):
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}_W_1:0".encode()]
            group[f"{layer}_W_1:0"] = np.full(3, i)
    arrays = read(tmp_path / "weights.h5")
    assert {name: values[0] for name, values in arrays.items()} == {"a/a_W_1": 0, "b/b_W_1": 1, "c/c_W_1": 2}


def test_h5_with_two_variables_of_one_name(tmp_path):
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.attrs["layer_names"] = [b"block"]
        group = file.create_group("block")
        group.attrs["weight_names"] = [b"one/kernel:0", b"two/kernel:0"]
        for name in group.attrs["weight_names"]:
            group[name] = np.ones(3)
    assert "the layer block has two variables block/kernel" in refusal(tmp_path / "weights.h5")


def h5_with(path: Path, make) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["fc"]
        file.create_group("fc").attrs["weight_names"] = ["kernel"]
        make(file["fc"])
    return path


def test_h5_that_reaches_into_other_files(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\1" * 64)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = np.ones(8)

    def link(group):
        group["kernel"] = h5py.ExternalLink("other.h5", "kernel")

    def external(group):
        group.create_dataset("kernel", (8,), "f8", external=[(str(secret), 0, 64)])

    def virtual(group):
        layout = h5py.VirtualLayout((8,), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "kernel", (8,))
        group.create_virtual_dataset("kernel", layout)

    for make in (link, external, virtual):
        assert "refused: kernel lies in another file" in refusal(h5_with(tmp_path / "weights.h5", make))


def test_h5_that_declares_more_than_it_holds(tmp_path):
    def huge(group):
        group.create_dataset("kernel", (1 << 40,), "f4", chunks=(1 << 20,))

    assert "declares more values than the file holds" in refusal(h5_with(tmp_path / "weights.h5", huge))


def test_h5_of_other_layouts(tmp_path):
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["layers/fc/vars/0"] = np.ones(3)
    assert "not in the layer layout of Keras 1 and 2" in refusal(tmp_path / "weights.h5")
    assert "there is no such file" in refusal(tmp_path / "missing.h5")
    path = h5_with(tmp_path / "lacking.h5", lambda group: None)
    assert "not a readable HDF5 weight file" in refusal(path)


def test_npz_of_pickled_objects_and_bombs(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, w=np.array([{}], object))
    assert "not a readable .npz file of plain arrays" in refusal(path)
    np.savez_compressed(path, w=np.zeros(1 << 22, np.float32))
    assert "it would unpack to" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }\n"
        archive.writestr("w.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert "not a readable .npz file of plain arrays" in refusal(path)


def test_endings(tmp_path):
    for name in ("weights.ckpt", "weights", "weights.weights.h5", "model.keras", "weights.pkl"):
        message = refusal(tmp_path / name)
        assert "weights are read from .safetensors, .pth" in message


@pytest.mark.parametrize("ending", ["safetensors", "pth", "bin", "npz", "h5"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html>Sign in</html>", "an HTML or XML page, not weights"),
        (b"\n\n<html>", "an HTML or XML page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"rubbish" * 20, "not a"),
        (b"\xff" * 16, "not a"),
    ],
)
def test_what_is_no_weight_file(tmp_path, ending, content, expected):
    path = tmp_path / f"weights.{ending}"
    path.write_bytes(content)
    assert expected in refusal(path)


@pytest.mark.parametrize("ending", ["safetensors", "npz", "h5"])
def test_truncated_files(tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    if ending == "safetensors":
        save_file(ARRAYS, path)
    elif ending == "npz":
        np.savez(path, **ARRAYS)
    else:
        h5_with(path, lambda group: group.create_dataset("kernel", data=np.ones(999)))
    read(path)
    whole = path.read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "not a readable" in refusal(path)


def test_a_file_of_counters_alone(tmp_path):
    save_file({"bn.num_batches_tracked": np.array(7)}, tmp_path / "weights.safetensors")
    assert "holds no weights" in refusal(tmp_path / "weights.safetensors")
