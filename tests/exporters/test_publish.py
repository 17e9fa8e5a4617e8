"""Publishing alone: needs no TensorFlow."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import pytest

from exporters.errors import ExportError
from exporters.publish import next_version, partial_folder, publish


def publish_some(target: Path, count: int) -> list[int]:
    return [publish_one(target) for _ in range(count)]


def publish_one(target: Path) -> int:
    with partial_folder(target) as folder:
        (folder / "model").write_text("x" * 1000)
        return publish(folder, target, lambda version: (folder / "version").write_text(str(version)))


@pytest.mark.parametrize(
    ("names", "version"),
    [
        ([], 1),
        (["1", "2"], 3),
        (["9", "10"], 11),
        (["00000123"], 124),
        (["v7", "8.tmp", "٣", "-5", "1e9", ".9", "2"], 3),
        (["20261124203000"], 20261124203001),
        (["9" * 30], 1),
    ],
)
def test_version_is_the_highest_integer_plus_one(tmp_path, names, version):
    for name in names:
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == version


def test_a_file_with_an_integer_name_counts_as_a_version_too(tmp_path):
    (tmp_path / "4").write_text("")
    assert publish_one(tmp_path) == 5


def test_no_version_beyond_what_servers_can_count(tmp_path):
    (tmp_path / str(2**63 - 1)).mkdir()
    with pytest.raises(ExportError, match="is the highest version there can be"):
        next_version(tmp_path)


def test_exports_at_once_get_different_versions(tmp_path):
    target = tmp_path / "models" / "flowers"
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        versions = list(chain.from_iterable(pool.map(publish_some, [target] * 4, [10] * 4)))
    assert sorted(versions) == list(range(1, 41))
    assert sorted(int(path.name) for path in target.iterdir()) == list(range(1, 41))
    assert all((target / str(v) / "version").read_text() == str(v) for v in versions)
    assert os.listdir(tmp_path / "models") == ["flowers"]


def interrupted(folder: Path) -> None:
    (folder / "model").write_text("half")
    raise KeyboardInterrupt


def test_a_failure_removes_what_was_made(tmp_path):
    target = tmp_path / "new" / "models" / "flowers"
    with pytest.raises(KeyboardInterrupt), partial_folder(target) as folder:
        interrupted(folder)
    assert os.listdir(tmp_path) == []


def test_a_failure_leaves_earlier_versions_alone(tmp_path):
    target = tmp_path / "flowers"
    publish_one(target)
    with pytest.raises(ZeroDivisionError), partial_folder(target):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["flowers"]
    assert os.listdir(target) == ["1"]


def test_the_folder_of_a_running_export_stays(tmp_path):
    target = tmp_path / "flowers"
    with partial_folder(target) as first, partial_folder(target) as second:
        assert first != second
        assert first.is_dir()
        assert second.is_dir()


def test_the_folder_of_a_killed_export_goes(tmp_path):
    target = tmp_path / "flowers"
    code = f"""
from pathlib import Path
from exporters.publish import partial_folder
with partial_folder(Path({str(target)!r})) as folder:
    (folder / "model").write_text("half")
    print("written", flush=True)
    input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".flowers.partial-")
    assert publish_one(target) == 1
    assert os.listdir(tmp_path) == ["flowers"]


def test_another_models_folder_is_not_touched(tmp_path):
    (tmp_path / ".roses.partial-12345678").mkdir()
    publish_one(tmp_path / "flowers")
    assert sorted(os.listdir(tmp_path)) == [".roses.partial-12345678", "flowers"]


@pytest.mark.parametrize("base", ["/proc/models/flowers", "{file}/flowers", "{file}/models/flowers"])
def test_a_base_that_cannot_be_written_is_named(tmp_path, base):
    file = tmp_path / "file"
    file.write_text("")
    target = Path(base.format(file=file))
    with pytest.raises(ExportError, match=f'cannot write to "{target.parent}": '), partial_folder(target):
        pass


def test_the_published_folder_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").mkdir()
    publish_one(tmp_path / "flowers")
    assert (tmp_path / "flowers" / "1").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_publishing_imports_no_tensorflow():
    code = (
        "import sys, exporters, exporters.publish; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
