"""PyTorch checkpoints without PyTorch, and without trust: a pickle machine that knows tensors only.

The format is the one `torch.save` writes: a zip archive of one pickle and one member per storage (since
1.6), or, before that, four pickles (magic number, protocol, system, object), the list of storage keys,
and the storages one after another. Python's own unpickler calls what the file names, grows its memo to
any index and hashes nested tuples by recursion; this one has some forty opcodes, no calls but those of
_CALLS, and looks nothing up outside its own tables.
"""

import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from math import prod
from pathlib import Path, PurePosixPath
from pickletools import genops
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.errors import WeightsError

MAGIC = 0x1950A86A20F9469CFC6C
MAX_OPCODES = 2_000_000  # a state dict takes some forty per tensor
MAX_DIMENSIONS = 16

# The storage classes of torch, and the little-endian items they hold; a bfloat16 is a float32's upper half.
STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}

# What training scripts keep beside the weights: options, paths and scores, none of which is made.
SETTINGS = (
    *("argparse.Namespace", "types.SimpleNamespace", "collections.Counter"),
    *("pathlib.PosixPath", "pathlib.WindowsPath", "pathlib._local.PosixPath", "pathlib._local.WindowsPath"),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "_codecs.encode"),
)

# What a damaged or hostile stream can raise in the machine below; all of it is a WeightsError to the caller.
BROKEN = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, EOFError, struct.error)


class Global(NamedTuple):
    """A name in the pickle; it stands for itself and is never imported."""

    name: str


class Storage(NamedTuple):
    """`numel` items of a stored array, from item `start` of the `stored` that the file holds under `key`."""

    key: str
    items: str
    stored: int
    start: int
    numel: int


class Tensor(NamedTuple):
    """A strided view of a storage, in items; checked to lie within it."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def load(path: Path, choose: Callable[[object], dict[str, Tensor]]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a checkpoint, each with its shape and strides; half precisions come as float32.

    `choose` picks the named tensors from the unpickled object (dicts, lists, tuples, numbers, strings,
    `Tensor`s); only their storages are read. Arrays of one storage share memory.
    Raises WeightsError for anything but a sound file.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read_zip(file, len(data), choose) if data[:2] == b"PK" else _read_legacy(data, choose)
    except (*BROKEN, OSError, zipfile.BadZipFile, zlib.error, MemoryError, RuntimeError) as error:
        if isinstance(error, WeightsError):
            raise WeightsError(f"{path}: {error}") from error.__cause__
        raise WeightsError(
            f"{path}: not a readable PyTorch checkpoint; damaged or truncated? ({type(error).__name__}: "
            f"{str(error)[:120]})"
        ) from error


def _read_zip(
    file: IO[bytes], size: int, choose: Callable[[object], dict[str, Tensor]]
) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(file) as archive:
        members = _members(archive, size)
        root = _root(members)
        order = archive.read(members[f"{root}byteorder"]) if f"{root}byteorder" in members else b"little"
        if order != b"little":
            raise WeightsError("written on a big-endian machine; save it again on a little-endian one")
        tensors = choose(Machine().run(BytesIO(archive.read(members[f"{root}data.pkl"]))))

        def read(storage: Storage) -> bytes:
            member = members.get(f"{root}data/{storage.key}")
            if member is None:
                raise WeightsError(f"the storage {storage.key[:80]!r} is missing")
            if member.file_size != storage.stored * _item_bytes(storage.items):
                raise WeightsError(f"the storage {storage.key[:80]!r} is not as long as the pickle says")
            return archive.read(member)

        return _arrays(tensors, read)


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by name; refuses what PyTorch never writes, so that none can be a bomb or ambiguous."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename
        if "/code/" in name:
            raise WeightsError(
                "a TorchScript archive, which holds code; save the module's state_dict() instead"
            )
        if name in members:
            raise WeightsError(f"two members of the archive are called {name[:80]!r}")
        if name.startswith("/") or "\\" in member.orig_filename or ".." in PurePosixPath(name).parts:
            raise WeightsError(f"the archive's member {name[:80]!r} points outside of it")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise WeightsError(
                f"the archive's member {name[:80]!r} is compressed; torch.save never does that"
            )
        members[name] = member
    if sum(member.file_size for member in members.values()) > size:
        raise WeightsError("the archive's members are larger than the file")
    return members


def _root(members: dict[str, zipfile.ZipInfo]) -> str:
    roots = [name.removesuffix("data.pkl") for name in members if PurePosixPath(name).name == "data.pkl"]
    if len(roots) != 1:
        raise WeightsError("a zip archive, but not one that torch.save wrote (it holds no single data.pkl)")
    return roots[0]


def _read_legacy(
    data: mmap.mmap, choose: Callable[[object], dict[str, Tensor]]
) -> dict[str, npt.NDArray[Any]]:
    if data[:1] != b"\x80" or Machine().run(data) != MAGIC:
        raise WeightsError("not a PyTorch checkpoint (neither its zip format nor the older one)")
    protocol, system = Machine().run(data), Machine().run(data)
    if protocol != 1001:
        raise WeightsError("written by an unknown version of torch.save")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise WeightsError("written on a big-endian machine; save it again on a little-endian one")
    machine = Machine()
    tensors = choose(machine.run(data))
    blocks = dict(_legacy_blocks(data, machine.storages))

    def read(storage: Storage) -> bytes:
        if storage.key not in blocks:
            raise WeightsError(f"the storage {storage.key[:80]!r} is missing")
        start, size = blocks[storage.key]
        return data[start : start + size]

    return _arrays(tensors, read)


def _legacy_blocks(data: mmap.mmap, storages: dict[str, Storage]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Key -> first byte and number of bytes, for the storages that follow the list of their keys."""
    keys = Machine().run(data)
    if not isinstance(keys, list) or not all(type(key) is str and key in storages for key in keys):
        raise WeightsError("the list of storages is damaged")
    position = data.tell()
    for key in keys:
        storage = storages[key]
        (numel,) = struct.unpack_from("<q", data, position)
        size = numel * _item_bytes(storage.items)
        position += 8
        if numel != storage.stored:
            raise WeightsError(f"the storage {key[:80]!r} is not as long as the pickle says")
        if position + size > len(data):
            raise WeightsError("the file is truncated: its last storages are missing")
        yield key, (position, size)
        position += size


def _item_bytes(items: str) -> int:
    return 2 if items == "bfloat16" else np.dtype(items).itemsize


def _arrays(tensors: dict[str, Tensor], read: Callable[[Storage], bytes]) -> dict[str, npt.NDArray[Any]]:
    """Every tensor as a view of its storage, each storage read and widened once: at most twice the file."""
    stored: dict[str, npt.NDArray[Any]] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage.key not in stored:
            stored[storage.key] = _items(read(storage), storage.items)
        items = stored[storage.key][storage.start : storage.start + storage.numel]
        if prod(tensor.size) == 0:
            arrays[name] = np.zeros(tensor.size, items.dtype)
            continue
        # A dimension of one may carry any stride, also one that overflows.
        strides = [
            step * items.itemsize if n > 1 else 0 for n, step in zip(tensor.size, tensor.stride, strict=True)
        ]
        arrays[name] = np.lib.stride_tricks.as_strided(
            items[tensor.offset :], tensor.size, strides, writeable=False
        )
    return arrays


def _items(data: bytes, items: str) -> npt.NDArray[Any]:
    if items == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    values = np.frombuffer(data, items)
    return values.astype(np.float32) if items == "<f2" else values


class Machine:
    """Runs one pickle. `storages` are those that it spoke of, by key."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: "BytesIO | mmap.mmap") -> Any:
        """The object of the pickle at the stream's position, which ends up behind it."""
        for count, (opcode, argument, _) in enumerate(genops(stream)):  # type: ignore[arg-type]
            if count > MAX_OPCODES:
                raise WeightsError(f"its pickle has more than {MAX_OPCODES} opcodes; no state dict has")
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise EOFError("the pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise WeightsError(f"refused: a state dict has no use for the pickle opcode {name}")

    def _pop(self, count: int) -> list[Any]:
        if count > len(self._stack):
            raise IndexError("the pickle's stack is empty")
        return [self._stack.pop() for _ in range(count)][::-1]

    def _pop_mark(self) -> list[Any]:
        return self._pop(len(self._stack) - self._marks.pop())

    def _global(self, argument: Any) -> None:
        module, name = argument.split(" ", 1) if argument else self._pop(2)
        name = f"{module}.{name}"
        if name not in STORAGES and name not in _CALLS:
            raise WeightsError(
                f"refused: the file asks for {name[:100]}, and only tensors are read. If you trust it, "
                f"load it in PyTorch once and save its weights alone, as .safetensors or by "
                f"torch.save(model.state_dict(), path)"
            )
        self._stack.append(Global(name))

    def _reduce(self, _: Any) -> None:
        function, arguments = self._pop(2)
        if not isinstance(function, Global) or function.name not in _CALLS:
            raise WeightsError("refused: the pickle calls what is not a function of tensors")
        self._stack.append(_CALLS[function.name](*arguments))

    def _new(self, _: Any) -> None:
        kind, _arguments = self._pop(2)
        if not isinstance(kind, Global) or kind.name not in SETTINGS:
            raise WeightsError("refused: a state dict has no use for the pickle opcode NEWOBJ")
        self._stack.append(_nothing())

    def _build(self, _: Any) -> None:
        # A state dict's attribute `_metadata`, the versions of its modules, is of no use here.
        self._pop(1)
        if not isinstance(self._stack[-1], dict):
            raise WeightsError("refused: the pickle sets attributes of what is not a dict")

    def _set(self, pairs: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict):
            raise WeightsError("refused: the pickle fills what is not a dict")
        self._stack[-1].update(_named(zip(pairs[::2], pairs[1::2], strict=True)))

    def _append(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise WeightsError("refused: the pickle appends to what is not a list")
        self._stack[-1].extend(values)

    def _persistent(self, _: Any) -> None:
        kind, storage_type, key, _location, stored, *views = self._stack.pop()
        if kind != "storage" or not isinstance(storage_type, Global) or storage_type.name not in STORAGES:
            raise WeightsError("refused: the pickle refers to what is not a storage")
        if type(key) is not str or not _is_count(stored):
            raise WeightsError("refused: a storage without a name or a size")
        root = Storage(key, STORAGES[storage_type.name], stored, 0, stored)
        if self.storages.setdefault(key, root) != root:
            raise WeightsError(f"the storage {key[:80]!r} is declared twice, differently")
        self._stack.append(_view(root, *views[0]) if views and views[0] is not None else root)


def _view(root: Storage, _key: str, start: int, numel: int) -> Storage:
    if not _is_count(start) or not _is_count(numel) or start + numel > root.stored:
        raise WeightsError(f"a view reaches outside of its storage {root.key[:80]!r}")
    return root._replace(start=start, numel=numel)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor and _v2 (which adds requires_grad, hooks and metadata)."""
    if not isinstance(storage, Storage) or type(size) is not tuple or type(stride) is not tuple:
        raise WeightsError("a tensor without a storage, a size or a stride")
    if (
        len(size) != len(stride)
        or len(size) > MAX_DIMENSIONS
        or not all(map(_is_count, (offset, *size, *stride)))
    ):
        raise WeightsError("a tensor with a damaged offset, size or stride")
    count = prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and (last >= storage.numel or count > storage.numel):
        raise WeightsError(f"a tensor reaches outside of its storage {storage.key[:80]!r}; refused")
    return Tensor(storage, offset, size, stride)


def _nothing(*_arguments: object) -> dict[str, Any]:
    """In place of a thing that is no weights."""
    return {}


def _parameter(tensor: Tensor, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise WeightsError("a parameter that is not a tensor")
    return tensor


def _ordered_dict(pairs: Any = ()) -> dict[str | int, Any]:
    """collections.OrderedDict; Python 2 pickled the items as its argument, Python 3 sets them afterwards."""
    return _named(pairs)


def _named(pairs: Any) -> dict[str | int, Any]:
    # Keys of plain types only: hashing deeply nested tuples overflows the C stack.
    named = {}
    for key, value in pairs:
        if not isinstance(key, str | int):
            raise WeightsError("refused: the pickle holds a dict whose keys are not names")
        named[key] = value
    return named


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    **dict.fromkeys(SETTINGS, _nothing),
}
_VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES"),
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    "MARK": lambda machine, _: machine._marks.append(len(machine._stack)),
    "TUPLE": lambda machine, _: machine._stack.append(tuple(machine._pop_mark())),
    "LIST": lambda machine, _: machine._stack.append(machine._pop_mark()),
    "APPEND": lambda machine, _: machine._append(machine._pop(1)),
    "APPENDS": lambda machine, _: machine._append(machine._pop_mark()),
    "SETITEM": lambda machine, _: machine._set(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine._set(machine._pop_mark()),
    "MEMOIZE": lambda machine, _: machine._memo.__setitem__(len(machine._memo), machine._stack[-1]),
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._global,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._new,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persistent,
}
