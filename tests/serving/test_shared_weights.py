"""A network in two sessions of ONNX Runtime, for few requests and for many, with its weights once."""

import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.errors import Code, ServingError
from serving.machine import cores
from serving.runtimes.base import FewOrMany
from serving.runtimes.onnx import SMALL, sessions

MAPS = np.random.default_rng(3).normal(size=(1, 512, 6, 6)).astype(np.float32)
End = tuple[str, list[str | int]]
several_cores = pytest.mark.skipif(cores() < 2, reason="one core is never shared")


def convolutions(file: Path, count: int = 2) -> Path:
    """Writes `count` convolutions of 9.4 MB, each followed by ReLU, under a classifier of 2 MB."""
    rng = np.random.default_rng(4)
    kernels = [
        numpy_helper.from_array(rng.normal(0, 0.02, (512, 512, 3, 3)).astype(np.float32), f"w{i}")
        for i in range(count)
    ]
    classifier = numpy_helper.from_array(rng.normal(0, 0.02, (512, 1000)).astype(np.float32), "c")
    nodes = []
    for i in range(count):
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"y{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"x{count}"], ["mean"], axes=[2, 3], keepdims=0))
    nodes.append(helper.make_node("MatMul", ["mean", "c"], ["logits"]))
    return saved(file, nodes, ("x0", ["n", 512, "h", "w"]), ("logits", ["n", 1000]), [*kernels, classifier])


def products(file: Path) -> Path:
    """Writes a product with a matrix of 8 MB."""
    matrix = numpy_helper.from_array(np.ones((1024, 2048), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return saved(file, nodes, ("x", ["n", 1024]), ("y", ["n", 2048]), [matrix])


def saved(file: Path, nodes: list[onnx.NodeProto], given: End, found: End, weights: list[Any]) -> Path:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (given, found)]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    assert file.stat().st_size > SMALL
    return file


@several_cores
def test_both_sessions_answer_as_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    file = convolutions(tmp_path / "model.onnx")
    opened = sessions(file)
    assert not list((tmp_path / "temporary").iterdir())
    assert opened.for_few is not opened.for_many
    wanted = ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x0": MAPS})[0]
    file.unlink()
    both = (opened.for_few, opened.for_many)
    for session in both:
        np.testing.assert_allclose(session.run(None, {"x0": MAPS})[0], wanted, rtol=1e-4, atol=1e-5)
    threads = [session.get_session_options().intra_op_num_threads for session in both]
    assert threads == [cores(), 1]


@several_cores
def test_the_weights_leave_memory_with_the_sessions(tmp_path: Path) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("zoo-serving-")

    before = mapped()
    opened = sessions(convolutions(tmp_path / "model.onnx"))
    assert mapped() > before
    del opened
    assert mapped() == before


GROWTH = """
import sys
from pathlib import Path
import numpy as np
from serving.runtimes.onnx import sessions

def resident():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024

before = resident()
opened = sessions(Path(sys.argv[1]))
for session in (opened.for_few, opened.for_many):
    session.run(None, {"x0": np.zeros((1, 512, 6, 6), np.float32)})
print(resident() - before)
"""


@several_cores
def test_the_weights_are_in_memory_once(tmp_path: Path, run_python: Callable[..., str]) -> None:
    file = convolutions(tmp_path / "model.onnx", 8)
    grown = int(run_python(GROWTH, str(file)))
    assert 0.5 < grown / file.stat().st_size < 1.3


def test_weights_that_are_packed_anew_are_not_shared(tmp_path: Path) -> None:
    opened = sessions(products(tmp_path / "model.onnx"))
    assert opened.for_few is opened.for_many
    (product,) = opened.for_few.run(None, {"x": np.ones((1, 1024), np.float32)})
    assert product[0, 0] == 1024


@several_cores
@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("no process", "optimising it ended with 1: no word of why"),
        ("no folder", "No such file or directory"),
    ],
)
def test_one_session_serves_where_two_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: str, why: str
) -> None:
    file = convolutions(tmp_path / "model.onnx")
    if trouble == "no process":
        monkeypatch.setattr(sys, "executable", shutil.which("false"))
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with caplog.at_level("INFO", "serving"):
        opened = sessions(file)
    assert opened.for_few is opened.for_many
    assert f"{file} is served by one session" in caplog.text
    assert why in caplog.text
    assert opened.for_few.run(None, {"x0": MAPS})[0].shape == (1, 1000)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(bytes(SMALL))
    with pytest.raises(ServingError, match=r"model\.onnx cannot be loaded by ONNX Runtime") as caught:
        sessions(file)
    assert caught.value.code == Code.DATA_LOSS


def test_from_half_the_cores_on_each_request_has_its_own() -> None:
    one, other = FewOrMany("few", "many"), FewOrMany("few too", "many too")
    few = max(1, cores() // 2)
    with ExitStack() as running:
        assert [running.enter_context(one.fitting()) for _ in range(few)] == ["few"] * few
        assert running.enter_context(one.fitting()) == "many"
        assert running.enter_context(other.fitting()) == "many too"
    with one.fitting() as found:
        assert found == "few"
