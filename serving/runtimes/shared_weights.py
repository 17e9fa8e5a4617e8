"""A network's weights once for several sessions of ONNX Runtime, each of which would keep its own.

A process of its own has ONNX Runtime optimise the network for this processor and write it down, the weights
apart from the graph; its memory ends with it. Every session is then made of that graph and given the same
weights.
"""

import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from serving.processes import run_apart

GRAPH, WEIGHTS, PLACES = "graph.onnx", "weights.bin", "places.json"
_KEY = "session.optimized_model_external_initializers_"
_SMALL = 1024  # bytes of a tensor that stays in the graph


@dataclass(frozen=True)
class Optimised:
    """A graph that needs no more optimising, which is there for as long as sessions are made, and its weights
    by name, which must be there for as long as the sessions are.
    """

    graph: Path
    weights: dict[str, ort.OrtValue]


@contextmanager
def optimised(file: Path) -> Iterator[Optimised | None]:
    """An ONNX file's network; None where sharing is not worth it. Raises OSError, ValueError or
    subprocess.TimeoutExpired where it cannot be.
    """
    with tempfile.TemporaryDirectory(prefix="zoo-serving-") as name:
        done = run_apart(__name__, os.fspath(file), name)
        if done.returncode:
            why = (done.stderr.splitlines() or ["no word of why"])[-1]
            raise OSError(f"optimising it ended with {done.returncode}: {why}")
        yield _read(Path(name)) if (Path(name) / PLACES).exists() else None


def _read(folder: Path) -> Optimised:
    # Mapped: what lies in the page cache need not be read, and stays when the file is removed.
    weights = np.memmap(folder / WEIGHTS, np.uint8, "c")
    places = json.loads((folder / PLACES).read_text(encoding="utf-8"))
    return Optimised(folder / GRAPH, {name: _value(weights, **place) for name, place in places.items()})


def _value(weights: np.ndarray, offset: int, shape: list[int]) -> ort.OrtValue:
    array = weights[offset : offset + 4 * math.prod(shape)].view(np.float32).reshape(shape)
    return ort.OrtValue.ortvalue_from_numpy(array)


# --- in the process of its own ------------------------------------------------------------------------------


def main() -> None:
    """FILE FOLDER: writes the optimised network into the folder, or nothing where sharing is not worth it."""
    import onnx

    file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    if not _is_of_convolutions(onnx.load(file, load_external_data=False).graph):
        return
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = os.fspath(folder / GRAPH)
    options.add_session_config_entry(f"{_KEY}file_name", WEIGHTS)
    options.add_session_config_entry(f"{_KEY}min_size_in_bytes", str(_SMALL))
    ort.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(folder / GRAPH, load_external_data=False).graph
    floats = (tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)
    places = {tensor.name: _place(tensor) for tensor in floats if tensor.external_data}
    (folder / PLACES).write_text(json.dumps(places), encoding="utf-8")


def _is_of_convolutions(graph: Any) -> bool:
    """Whether most of the weights are those of convolutions, which ONNX Runtime uses as they lie.
    Those of other operators it packs anew for each session, or, told not to, for each run.
    """
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    return 2 * sum(size for name, size in sizes.items() if name in kernels) > sum(sizes.values())


def _place(tensor: Any) -> dict[str, Any]:
    facts = {entry.key: entry.value for entry in tensor.external_data}
    return {"offset": int(facts["offset"]), "shape": list(tensor.dims)}


if __name__ == "__main__":
    main()
