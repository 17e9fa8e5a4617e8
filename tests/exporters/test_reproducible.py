"""The same model exported again, here and in another process."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import exporters
import zoo

FORMATS = ("saved_model", "onnx", "tflite", "h5", "keras")
AGAIN = f"""
import sys, exporters, zoo
exporters.export(zoo.load(sys.argv[1]), sys.argv[2], {FORMATS})
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Twice by this process, once by another, which has the model from a file."""
    base = tmp_path_factory.mktemp("models") / "small"
    model = zoo.load("mobilenetv3_small_050", weights=None, input_size=64, classes=("a", "b", "c"))
    zoo.save(model, base.parent / "saved.keras")
    paths = [exporters.export(model, base, FORMATS).path for _ in range(2)]
    subprocess.run([sys.executable, "-c", AGAIN, base.parent / "saved.keras", base], check=True)
    return (*paths, base / "3")


@pytest.mark.parametrize(
    "name",
    [
        "model.onnx",
        "model.tflite",
        "model.h5",
        "assets/labels.txt",
        "assets.extra/tf_serving_warmup_requests",
    ],
)
def test_these_are_the_same_bytes(versions, name):
    first, *others = (version / name for version in versions)
    assert all(other.read_bytes() == first.read_bytes() for other in others)


def members(file: Path) -> dict[str, bytes]:
    """Without the addresses in memory by which Keras marks objects that are shared."""
    with zipfile.ZipFile(file) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    found["config.json"] = re.sub(rb', "shared_object_id": \d+', b"", found["config.json"])
    return found


def test_keras_files_differ_by_their_date_alone(versions):
    first, *others = (members(version / "model.keras") for version in versions)
    for other in others:
        assert first.keys() == other.keys()
        assert {name for name in first if first[name] != other[name]} <= {"metadata.json"}


def stored(version: Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(os.fspath(version / "variables" / "variables"))
    names = set(reader.get_variable_to_dtype_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}  # it has no values
    return {name: reader.get_tensor(name) for name in names}


def test_saved_models_hold_the_same_variables(versions):
    first, again, elsewhere = map(stored, versions)
    differing = [name for name in first if not np.array_equal(first[name], again[name])]
    assert differing == []
    # The state of the dropout's seed, which no file of Keras keeps.
    seeds = [name for name in first if not np.array_equal(first[name], elsewhere[name])]
    assert all(first[name].shape == (2,) and first[name].dtype.kind in "iu" for name in seeds)
    assert len(seeds) <= 1
