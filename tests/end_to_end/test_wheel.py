"""A wheel built from the tree, installed into an environment of its own outside the repository, has all it
needs inside.
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("zoo", "zoo_cli", "exporters", "serving")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An empty virtual environment with the wheel; the dependencies are lent from this one, the project is
    not.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    wheel = next(folder.glob("*.whl"))
    home = folder / "env"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    site = next((home / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    shutil.rmtree(source)
    return home


def run(environment, *command):
    done = subprocess.run(command, cwd=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_code_is_the_wheels(environment):
    where = run(
        environment,
        environment / "bin/python",
        "-c",
        "import zoo, serving; print(zoo.__file__, serving.__file__)",
    )
    assert str(ROOT) not in where
    assert str(environment) in where


def test_the_command_lists_the_catalog(environment):
    assert "resnet50" in run(environment, environment / "bin/zoo", "list").splitlines()


def test_the_embedded_network_knows_its_class_names(environment):
    code = "import zoo; m = zoo.load('efficientnet'); print(len(m.zoo.labels), m.zoo.labels[985])"
    assert run(environment, environment / "bin/python", "-c", code).split() == ["1000", "daisy"]


def test_the_descriptor_set_is_inside(environment):
    code = "from serving.wire import protos; print(protos.PredictRequest().DESCRIPTOR.full_name)"
    assert (
        run(environment, environment / "bin/python", "-c", code).strip()
        == "tensorflow.serving.PredictRequest"
    )


def test_its_types_are_known_to_whoever_imports_it(environment, tmp_path):
    use = tmp_path / "use.py"
    use.write_text(
        "import serving, zoo\n"
        "reveal_type(zoo.list_models('resnet*'))\n"
        "zoo.lode('resnet50')\n"
        "serving.Client(8500)\n"
    )
    check = [sys.executable, "-m", "mypy", "--python-executable", environment / "bin/python"]
    options = ["--ignore-missing-imports", "--no-error-summary", "--cache-dir", tmp_path / "cache", use]
    said = subprocess.run([*check, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert [line.split(": ", 1)[1] for line in said.stdout.splitlines()] == [
        'note: Revealed type is "list[str]"',
        'error: Module has no attribute "lode"  [attr-defined]',
        'error: Argument 1 to "Client" has incompatible type "int"; expected "str"  [arg-type]',
    ]
