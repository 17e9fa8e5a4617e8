"""`zoo fine-tune`: recipes by name, by field and by file."""

import json

import pytest
from click.testing import CliRunner

import zoo
from zoo_cli.main import main


@pytest.fixture
def call(tiny, folder, tmp_path):
    """A function: fine-tune the smallest of networks into tmp_path/OUT with further arguments."""
    model = zoo.save(tiny(), tmp_path / "tiny.keras")

    def fine_tune(out, *arguments):
        command = ["fine-tune", str(model), str(folder), "--out", str(tmp_path / out), *map(str, arguments)]
        return CliRunner().invoke(main, command)

    return fine_tune


def test_a_recipe_is_named_changed_printed_saved_and_repeated_from_its_file(call, tmp_path):
    settings = ("--set", "views=1", "--set", "head_epochs=3", "--set", "flip=true", "--set", "augment=none")
    done = call("first", "--recipe", "linear", *settings, "--seed", 3, "--callback", "csv")
    assert done.exit_code == 0, done.output
    for field in ("epochs=0", "views=1", "flip=true", 'precision="float32"'):
        assert field in " ".join(done.stderr.split())
    stored = tmp_path / "first" / "recipe.json"
    recipe = json.loads(stored.read_text())["recipe"]
    assert (recipe["epochs"], recipe["views"], recipe["seed"], recipe["flip"]) == (0, 1, 3, True)
    assert (tmp_path / "first" / "log.csv").read_text().count("\n") == 4
    again = call("second", "--recipe", stored)
    assert again.exit_code == 0, again.output
    first, second = ((tmp_path / out / "history.csv").read_text() for out in ("first", "second"))
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--set", "epoch=3"), 1, 'a recipe has no "epoch"; did you mean "epochs"?'),
        (("--set", "epochs=many"), 1, "epochs must be int, not 'many'"),
        (("--set", "epochs"), 2, '"epochs" is not FIELD=VALUE'),
        (("--recipe", "fats"), 1, 'unknown recipe "fats"; give a recipe.json or one of: linear, fast'),
        (("--teacher", "resnet181"), 1, "did you mean"),
        (("--callback", "tensorbord"), 1, 'unknown callback "tensorbord"; did you mean "tensorboard"?'),
    ],
    ids=["field", "type", "no-value", "recipe", "teacher", "callback"],
)
def test_what_cannot_be_followed_is_refused(call, tmp_path, arguments, code, message):
    done = call("out", *arguments)
    assert done.exit_code == code
    assert message in done.stderr
    assert not (tmp_path / "out").exists()
