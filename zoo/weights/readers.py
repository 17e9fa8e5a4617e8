"""Any weight file -> {name: array}, by the file's ending."""

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import WeightsError
from zoo.weights import unpickle

Arrays = dict[str, npt.NDArray[Any]]

# Where training scripts put the weights; the averaged ones are what was evaluated.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module")
# In front of every name: PyTorch's DataParallel, and transformers around a network of timm.
PREFIXES = ("module.", "timm_model.")
DAMAGED_H5 = (OSError, KeyError, RuntimeError, TypeError, AttributeError, MemoryError)  # what h5py raises
INFLATION = 20  # a compressed .npz of real weights is hardly smaller than they are


def read(path: Path | str) -> Mapping[str, npt.NDArray[Any]]:
    """The arrays of a weight file under the names that the file gives them; they may share memory.

    By ending: .safetensors; .pth, .pt, .bin, .tar as in .pth.tar (PyTorch, both formats, without PyTorch);
    .npz; .h5, .hdf5 (the layer layout of Keras 1 and 2, as "LAYER/variable"). float16 and bfloat16 become
    float32, everything else keeps its dtype. Wrappers such as {"state_dict": ...} and the prefixes "module."
    and "timm_model." are taken off; counters (num_batches_tracked) are left out. Raises WeightsError, naming
    the file, for any other, damaged or hostile file.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None or path.name.endswith(".weights.h5"):
        raise WeightsError(
            f"{path}: weights are read from {', '.join(READERS)} (and .keras, .weights.h5 by zoo.load itself)"
        )
    _refuse_what_is_no_weights(path)
    return _tidy(path, reader(path))


def _refuse_what_is_no_weights(path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    with path.open("rb") as file:
        start = file.read(200)
    if not start:
        raise WeightsError(f"{path}: the file is empty")
    if start.lstrip()[:1] == b"<":
        raise WeightsError(
            f"{path}: an HTML or XML page, not weights; was it saved from a browser or a login page?"
        )
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{path}: a Git LFS pointer, not the weights; run `git lfs pull` where it came from"
        )


def _tidy(path: Path, arrays: Arrays) -> Arrays:
    prefix = next((one for one in PREFIXES if all(name.startswith(one) for name in arrays)), "")
    tidy = {
        name.removeprefix(prefix): values.astype(np.float32) if values.dtype == np.float16 else values
        for name, values in arrays.items()
        if not name.endswith("num_batches_tracked")
    }
    if not tidy:
        raise WeightsError(f"{path}: holds no weights")
    return tidy


def _read_torch(path: Path) -> Arrays:
    return unpickle.load(path, _state_dict)


def _state_dict(checkpoint: object) -> dict[str, unpickle.Tensor]:
    """The tensors of a state dict, out of the wrappers around it."""
    for _ in WRAPPERS:
        if not isinstance(checkpoint, dict):
            raise WeightsError(f"holds a {type(checkpoint).__name__}, not a state dict")
        inner = next((checkpoint[key] for key in WRAPPERS if isinstance(checkpoint.get(key), dict)), None)
        if inner is None:
            break
        checkpoint = inner
    assert isinstance(checkpoint, dict)
    strangers = [name for name, value in checkpoint.items() if not isinstance(value, unpickle.Tensor)]
    if strangers:
        raise WeightsError(
            f"holds more than a state dict: its entry {str(strangers[0])[:80]!r} is not a tensor"
        )
    return {str(name): value for name, value in checkpoint.items()}


def _read_safetensors(path: Path) -> Arrays:
    import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: not a readable .safetensors file; damaged or truncated? ({error})"
        ) from error
    return {n: v.astype(np.float32) if v.dtype.name == "bfloat16" else v for n, v in arrays.items()}


def _read_npz(path: Path) -> Arrays:
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(member.file_size for member in archive.infolist())
        if declared > INFLATION * path.stat().st_size:
            raise WeightsError(f"{path}: refused: it would unpack to {declared} bytes")
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        OSError,
        EOFError,
        MemoryError,
        RuntimeError,
    ) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path}: not a readable .npz file of plain arrays; damaged? ({error})") from error


def _read_h5(path: Path) -> Arrays:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            if not {"layer_names", "layer_names0"} & root.attrs.keys():
                raise WeightsError(
                    f"{path}: not in the layer layout of Keras 1 and 2; is it a .weights.h5 of Keras 3?"
                )
            arrays = {}
            for layer in _h5_names(root, "layer_names"):
                for name in _h5_names(root[layer], "weight_names"):
                    key = f"{layer}/{name.split('/')[-1].removesuffix(':0')}"
                    if key in arrays:
                        raise WeightsError(f"{path}: the layer {layer} has two variables {key}")
                    arrays[key] = h5_values(path, root[layer], name)
            return arrays
    except DAMAGED_H5 as error:
        raise WeightsError(
            f"{path}: not a readable HDF5 weight file; damaged or truncated? ({error})"
        ) from error


def _h5_names(group: Any, attribute: str) -> list[str]:
    """A list of names; Keras cuts one of more than 64 kB into attributes with a number behind."""
    parts = [attribute] if attribute in group.attrs else []
    while (part := f"{attribute}{len(parts)}") in group.attrs:
        parts.append(part)
    if not parts:
        raise KeyError(attribute)
    names = [name for part in parts for name in group.attrs[part]]
    return [name.decode() if isinstance(name, bytes) else name for name in names]


def holds_model(path: Path) -> bool:
    """Whether an .h5 file is a whole Keras model, not weights alone."""
    import h5py

    try:
        with h5py.File(path) as file:
            return "model_config" in file.attrs
    except OSError:
        return False


def h5_values(path: Path, group: Any, name: str) -> npt.NDArray[Any]:
    """One dataset, if its bytes are in this very file: HDF5 can link to others, and declare what it lacks."""
    values = group[name]
    if Path(values.file.filename) != Path(group.file.filename) or values.external or values.is_virtual:
        raise WeightsError(f"{path}: refused: {name} lies in another file")
    if values.id.get_storage_size() < values.nbytes or values.nbytes > path.stat().st_size:
        raise WeightsError(f"{path}: refused: {name} declares more values than the file holds")
    return np.asarray(values)


READERS: dict[str, Callable[[Path], Arrays]] = {
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
    ".tar": _read_torch,
    ".npz": _read_npz,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
}
