"""Publishing alone: needs no TensorFlow."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from exporters.errors import ExportError
from exporters.publish import next_version, partial_folder, publish


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


TEN = """
import sys
from pathlib import Path
from exporters.publish import partial_folder, publish

target = Path(sys.argv[1])
for _ in range(10):
    with partial_folder(target) as folder:
        publish(folder, target, lambda version: (folder / "version").write_text(str(version)))
"""


def test_exports_at_once_get_different_versions(tmp_path):
    target = tmp_path / "models" / "flowers"
    processes = [subprocess.Popen([sys.executable, "-c", TEN, target]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert sorted(int(path.name) for path in target.iterdir()) == list(range(1, 41))
    assert all((target / str(v) / "version").read_text() == str(v) for v in range(1, 41))
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


EVERY_LINE = """
import os, signal, sys
from pathlib import Path
from exporters import publish

home = Path(sys.argv[1])

def count_down(lines):
    def trace(frame, event, argument):
        nonlocal lines
        if frame.f_code.co_filename != publish.__file__:
            return None
        if event == "line":
            lines -= 1
            if lines < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    return trace

def publish_one(target):
    with publish.partial_folder(target) as folder:
        (folder / "model").write_text("whole")
        publish.publish(folder, target, lambda version: (folder / "version").write_text(str(version)))

n, ended = 0, False
while not ended:
    target = home / str(n) / "flowers"
    publish_one(target)
    child = os.fork()
    if child == 0:
        sys.settrace(count_down(n))
        publish_one(target)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    ended = os.WIFEXITED(status)
    n += 1
"""


def test_a_kill_at_any_line_leaves_whole_versions_alone(tmp_path):
    subprocess.run([sys.executable, "-c", EVERY_LINE, tmp_path], check=True)
    bases = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    assert len(bases) > 40
    found = []
    for base in bases:
        versions = sorted(os.listdir(base / "flowers"))
        for version in versions:
            assert (base / "flowers" / version / "model").read_text() == "whole"
            assert (base / "flowers" / version / "version").read_text() == version
        hidden = [name for name in os.listdir(base) if name != "flowers"]
        assert all(name.startswith(".flowers.partial-") for name in hidden)
        assert publish_one(base / "flowers") == len(versions) + 1
        assert os.listdir(base) == ["flowers"]
        found.append(versions)
    # Killed before the rename, and after it; nothing between.
    assert found == sorted(found)
    assert found[0] == ["1"]
    assert found[-1] == ["1", "2"]


READ_ONLY = """
import os, sys
from pathlib import Path
from exporters.errors import ExportError
from exporters.publish import partial_folder, publish

target = Path(sys.argv[1])
if os.getuid() == 0:
    os.setuid(65534)
try:
    with partial_folder(target) as folder:
        (folder / "model").write_text("x")
        publish(folder, target, lambda version: None)
except ExportError as error:
    print(error)
"""


@pytest.mark.parametrize("closed", ["models", "models/flowers"])
def test_a_read_only_folder_stays_as_it_was(closed):
    # Not below tmp_path, which other users cannot enter.
    with tempfile.TemporaryDirectory() as home:
        for folder in (home, f"{home}/models", f"{home}/models/flowers"):
            Path(folder).mkdir(exist_ok=True)
            Path(folder).chmod(0o777)
        publish_one(Path(home) / "models" / "flowers")
        before = sorted(Path(home).rglob("*"))
        (Path(home) / closed).chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, f"{home}/models/flowers"],
            capture_output=True,
            text=True,
            check=True,
        )
        verb = "write" if closed == "models" else "publish"
        assert done.stdout == f'cannot {verb} to "{home}/{closed}": Permission denied\n'
        (Path(home) / closed).chmod(0o777)
        assert sorted(Path(home).rglob("*")) == before


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
