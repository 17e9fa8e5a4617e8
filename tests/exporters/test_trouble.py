"""Whole exports on a full disk, killed, and two at once: the base stays as it was."""

import gc
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import exporters

FORMATS = ("saved_model", "onnx", "h5", "keras")


def listed(base: Path) -> list[str]:
    return sorted(path.relative_to(base).as_posix() for path in base.rglob("*"))


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, 8 MB; a function that gives it another size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True
    ).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_base_as_it_was(tiny, disk):
    first = exporters.export(tiny, disk / "flowers", FORMATS)
    before = listed(disk)
    sizes = {name: file.bytes for name, file in first.files.items()}
    used = sum(sizes.values())
    for room in (40_000, used - sizes["model.keras"] // 2, used):
        subprocess.run(["mount", "-o", f"remount,size={(used + room) // 4096 * 4096}", disk], check=True)
        with pytest.raises(exporters.ExportError, match=r"nothing was published|cannot publish to"):
            exporters.export(tiny, disk / "flowers", FORMATS)
        assert listed(disk) == before
    subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
    assert exporters.export(tiny, disk / "flowers", FORMATS).version == 2


KILLED = """
import sys, keras, zoo, exporters
images = keras.Input((32, 32, 3))
x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(images))
model = keras.Model(images, keras.layers.Activation("softmax")(keras.layers.Dense(2)(x)))
zoo.attach(model, zoo.Facts("tiny", ("a", "b"), zoo.Preprocessing((32, 32))))
for _ in range(2):
    exporters.export(model, sys.argv[1], ("saved_model", "onnx"))
    print("published", flush=True)
"""


@pytest.mark.parametrize("sign", ["saved_model.pb", "assets.extra"])
def test_a_killed_export_leaves_the_base_as_it_was(tmp_path, sign):
    base = tmp_path / "models"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, base / "tiny"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "published\n"
    before = listed(base / "tiny")
    while process.poll() is None and not list(base.glob(f".tiny.partial-*/{sign}")):
        time.sleep(0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert listed(base / "tiny") == before
    assert [name for name in os.listdir(base) if not name.startswith(".tiny.partial-")] == ["tiny"]
    assert exporters.check(base / "tiny")[0].problems == ()


def test_two_exports_at_once_get_two_versions(tiny, tmp_path):
    def export(_: int) -> exporters.Export:
        return exporters.export(tiny, tmp_path / "tiny", ("h5",))

    with ThreadPoolExecutor(2) as pool:
        versions = sorted(found.version for found in pool.map(export, range(2)))
    assert versions == [1, 2]
    assert [checked.problems for checked in exporters.check(tmp_path / "tiny")] == [(), ()]


def test_pythons_collector_is_left_as_it_was(tiny, tmp_path):
    before = gc.get_freeze_count()
    exporters.export(tiny, tmp_path / "tiny", "keras")
    assert gc.get_freeze_count() <= before
    with pytest.raises(exporters.ExportError, match="is not equal to the model"):
        exporters.export(tiny, tmp_path / "tiny", "tflite_float16", tolerance={"tflite_float16": 0.0})
    assert gc.get_freeze_count() <= before
    gc.freeze()
    try:
        exporters.export(tiny, tmp_path / "tiny", "keras")
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
