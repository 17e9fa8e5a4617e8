"""benchmarks/matrix.py, run as `make matrix` runs it, into a folder of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NETWORK = "dla46_c"  # whose random classes are too close for whole numbers, by far
FORMATS = ["h5", "onnx_int8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "docs").mkdir()
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
    run(folder)
    return folder


def run(folder: Path) -> None:
    command = [sys.executable, "benchmarks/matrix.py", NETWORK, "--formats", ",".join(FORMATS)]
    subprocess.run(command, check=True, cwd=folder)


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "docs" / "exports.jsonl").read_text().splitlines()]


def test_a_cell_has_its_figures_or_its_reason(folder):
    keras_file, rounded = rows(folder)
    assert (keras_file["name"], keras_file["format"], keras_file["off"]) == (NETWORK, "h5", 0)
    assert keras_file["bytes"] > 5e6
    assert rounded["why"].startswith("onnx_int8 is not equal to the model: the same class for only")
    page = (folder / "docs" / "exports.md").read_text("utf-8")
    titles, _, cells = (line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|"))
    found = dict(zip(titles, cells, strict=True))
    assert found["architecture"] == NETWORK
    assert found["h5"].startswith("equal, 5")
    assert found["onnx_int8"] == "no (1)"
    assert found["saved_model"] == "not yet run"
    assert f"\n1. {rounded['why']}\n" in page


def test_a_stopped_run_goes_on(folder):
    measured = folder / "docs" / "exports.jsonl"
    first, second = measured.read_text().splitlines(keepends=True)
    marked = first.replace('"seconds": ', '"seconds": 1')
    measured.write_text(marked)
    run(folder)
    assert measured.read_text().splitlines(keepends=True) == [marked, second]
