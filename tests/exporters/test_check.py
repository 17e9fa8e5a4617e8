"""Published versions that are as published, and some that are not."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import exporters
import zoo
from zoo_cli.main import main


@pytest.fixture
def version(exported, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(exported.path, tmp_path / "flowers" / "1"))


def problems_of(folder: Path) -> tuple[str, ...]:
    (checked,) = exporters.check(folder)
    return checked.problems


def edit_card(version: Path, **changes) -> None:
    card = json.loads((version / "card.json").read_text())
    (version / "card.json").write_text(json.dumps({**card, **changes}))


def republish(version: Path, name: str) -> None:
    """Record the file as it now is."""
    data = (version / name).read_bytes()
    files = json.loads((version / "card.json").read_text())["files"]
    edit_card(
        version, files={**files, name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    )


def test_a_version_is_as_published(exported):
    (checked,) = exporters.check(exported.path)
    assert checked.problems == ()
    assert checked.files == len(exported.export.files)
    assert checked.parity.keys() == exported.export.parity.keys()
    assert all(figures.max_rel < 1e-4 for figures in checked.parity.values())


def test_the_users_own_pictures(exported, photos):
    (checked,) = exporters.check(exported.path, photos)
    assert {figures.pictures for figures in checked.parity.values()} == {2}
    with pytest.raises(exporters.ExportError, match="is no folder; give a folder of pictures"):
        exporters.check(exported.path, "nowhere/")


@pytest.mark.parametrize(
    "name",
    [
        "model.onnx",
        "model.keras",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "assets/labels.txt",
        "assets.extra/tf_serving_warmup_requests",
    ],
)
def test_one_byte_is_enough(version, name):
    data = bytearray((version / name).read_bytes())
    data[len(data) // 2] ^= 1
    (version / name).write_bytes(data)
    (problem,) = problems_of(version)
    assert problem.startswith(
        f'"{version / name}" was changed: its sha256 is {hashlib.sha256(data).hexdigest()}'
    )


def test_files_that_are_missing_short_or_added(version):
    (version / "model.h5").unlink()
    os.truncate(version / "model.onnx", 10)
    (version / "variables" / "more").write_text("")
    size = json.loads((version / "card.json").read_text())["files"]["model.onnx"]["bytes"]
    assert sorted(problems_of(version)) == sorted(
        [
            f'"{version / "model.h5"}" is missing',
            f'"{version / "model.onnx"}" has 10 bytes, {size} were published',
            f'"{version / "variables" / "more"}" is not in card.json',
        ]
    )


def test_a_file_of_another_network_is_found_by_its_answers(version, tmp_path):
    other = zoo.load("resnet18", weights=None, classes=("a", "b", "c"), input_size=64)
    exporters.export(other, tmp_path / "other", ("onnx",))
    shutil.copy(tmp_path / "other" / "1" / "model.onnx", version / "model.onnx")
    republish(version, "model.onnx")
    (problem,) = problems_of(version)
    assert problem.startswith(f'"{version / "model.onnx"}": onnx is not equal to the model: max_rel ')


def test_a_file_that_no_runtime_opens(version):
    (version / "model.onnx").write_bytes(b"no network")
    republish(version, "model.onnx")
    (problem,) = problems_of(version)
    assert problem.startswith(f'"{version / "model.onnx"}": ')
    assert "failed" in problem


def test_without_a_keras_file_the_saved_model_is_the_measure(version):
    files = json.loads((version / "card.json").read_text())["files"]
    for name in ("model.keras", "model.h5"):
        (version / name).unlink()
        del files[name]
    edit_card(version, files=files)
    (checked,) = exporters.check(version)
    assert checked.problems == ()
    assert checked.parity["saved_model"].max_abs == 0
    assert 0 < checked.parity["onnx"].max_rel < 1e-4


def test_a_card_does_not_reach_outside(version):
    outside = version.parent.parent / "secret"
    outside.write_text("x")
    files = json.loads((version / "card.json").read_text())["files"]
    entry = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    edit_card(version, files={**files, "../../secret": entry, str(outside): entry})
    assert problems_of(version) == (
        f'"../../secret" in card.json is outside of "{version}"',
        f'"{outside}" in card.json is outside of "{version}"',
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "card.json. cannot be read"),
        ("[]", "card.json. cannot be read: it is no JSON object"),
        ('{"files": 1}', "card.json. is not as it was written"),
    ],
)
def test_cards_that_are_none(version, text, message):
    (version / "card.json").write_text(text)
    with pytest.raises(exporters.ExportError, match=message):
        exporters.check(version)


def test_folders_that_are_no_version(tmp_path):
    with pytest.raises(exporters.ExportError, match="it is no published version"):
        exporters.check(tmp_path)
    with pytest.raises(exporters.ExportError, match="is no folder; give that of a published version"):
        exporters.check(tmp_path / "absent")


def test_the_command_checks_all_versions_and_exits_1(version):
    runner = CliRunner()
    shutil.copytree(version, version.parent / "2")
    with (version.parent / "2" / "model.onnx").open("ab") as file:
        file.write(b"x")
    done = runner.invoke(main, ["check", str(version.parent)])
    assert done.exit_code == 1
    assert f"{version}: {len(list_files(version)) - 1} files as published" in done.output
    assert (
        f'{version.parent / "2"}: not as published\n  "{version.parent / "2" / "model.onnx"}" has'
        in done.output
    )
    done = runner.invoke(main, ["check", str(version), "--json"])
    assert done.exit_code == 0
    (found,) = json.loads(done.stdout)
    assert found["problems"] == []
    assert np.isfinite(found["parity"]["onnx"]["max_abs"])


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
