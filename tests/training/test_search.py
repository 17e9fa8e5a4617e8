"""The search for a recipe and a network."""

import csv
import json
import signal

import numpy as np
import optuna
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.training import Recipe
from zoo.training.space import checked, suggested
from zoo_cli.main import main

CHANGES = {"top": 1.0, "head_epochs": 0, "epochs": 3, "rate": 1e-2, "batch_size": 32, "augment": "none"}
SPACE = {"rate": (1e-4, 1e-1), "batch_size": [16, 32, 64]}


@pytest.fixture(scope="module")
def found(tiny, arrays, tmp_path_factory):
    """One search, shared: what was found, and its folder."""
    folder = tmp_path_factory.mktemp("search") / "digits"
    return zoo.search(tiny(), arrays, folder, space=SPACE, trials=4, **CHANGES), folder


def test_the_best_by_validation_is_kept_and_all_that_was_tried_is_said(found):
    search, folder = found
    first = search.trials[0]
    assert (first["rate"], first["batch_size"]) == (1e-2, 32), "the recipe as it is comes first"
    assert len({(trial["rate"], trial["batch_size"]) for trial in search.trials}) == 4
    assert all(1e-4 <= t["rate"] <= 1e-1 and t["batch_size"] in (16, 32, 64) for t in search.trials)
    best = min(search.trials, key=lambda trial: trial["val_loss"])
    assert (search.best.recipe.rate, search.best.recipe.batch_size) == (best["rate"], best["batch_size"])
    assert min(epoch["val_loss"] for epoch in search.best.history) == best["val_loss"]
    assert [path.name for path in (folder / "trials").iterdir()] == [f"{best['trial']:03}"]
    assert zoo.load(search.best.out).output_shape == (None, 4)
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == [trial["val_loss"] for trial in search.trials]
    assert Image.open(folder / "trials.png").size == (720, 360)


def test_more_trials_are_added_to_those_that_are_there(found, tiny, arrays):
    search, folder = found
    again = zoo.search(tiny(), arrays, folder, space=SPACE, trials=4, **CHANGES)
    assert again.trials == search.trials
    late = zoo.search(tiny(), arrays, folder, space=SPACE, trials=9, minutes=0, **CHANGES)
    assert late.trials == search.trials, "no time was left"
    more = zoo.search(tiny(), arrays, folder, space=SPACE, trials=5, **CHANGES)
    assert more.trials[:4] == search.trials
    assert len(more.trials) == 5
    with pytest.raises(
        zoo.ZooError, match=r"belongs to another job \(other space\); give another out folder"
    ):
        zoo.search(tiny(), arrays, folder, space={"rate": (1e-4, 1e-2)}, trials=4, **CHANGES)


def test_hopeless_trials_are_stopped(tiny, arrays, tmp_path):
    space = {"rate": [1e-2, 2e-2, 1e-9, 1e-8]}
    search = zoo.search(tiny(), arrays, tmp_path / "out", space=space, trials=12, **CHANGES | {"epochs": 6})
    stopped = [trial for trial in search.trials if trial["state"] == "stopped"]
    assert stopped
    for trial in stopped:
        assert trial["epochs"] < 6
        assert trial["rate"] < 1e-6
        assert trial["val_accuracy"] is None
    assert search.best.recipe.rate >= 1e-2


CALL = """
import sys
import numpy as np
import zoo
data, network, out = sys.argv[1:4]
arrays = np.load(data)
found = zoo.search(
    [network], (arrays["images"], arrays["labels"]), out, space={"rate": (1e-3, 1e-1)}, trials=3,
    top=1.0, head_epochs=0, epochs=3, batch_size=32, augment="none",
)
"""


def test_a_search_goes_on_within_the_trial_that_was_broken_off(tiny, arrays, tmp_path, run_and_die):
    zoo.save(tiny(), tmp_path / "tiny.keras")
    np.savez(tmp_path / "data.npz", images=arrays[0], labels=arrays[1])

    def call(out, deadly):
        done = run_and_die(
            CALL, *(tmp_path / name for name in ("data.npz", "tiny.keras", out)), deadly=deadly
        )
        assert done.returncode == (-signal.SIGKILL if deadly else 0), done.stderr
        return tmp_path / out

    # Renamed are search.json, the first trial's recipe, three checkpoints, the model, history, result and the
    # table; then the second trial's recipe, and a checkpoint after each epoch.
    killed = call("killed", 9 + 3)
    assert (killed / "trials" / "001" / "checkpoints" / "top.npz").exists()
    call("killed", 0)
    unbroken = call("unbroken", 0)

    def table(folder):
        rows = list(csv.DictReader((folder / "trials.csv").open()))
        return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]

    assert table(killed) == table(unbroken)
    assert len(table(killed)) == 3


def test_the_command_searches_among_networks_and_prints_what_it_tried(tiny, folder, tmp_path):
    names = [str(zoo.save(tiny(seed), tmp_path / f"{seed}.keras")) for seed in (0, 1)]
    settings = ["--recipe", "linear", "--set", "views=1", "--set", "head_epochs=2", "--set", "augment=none"]
    tried = ["--try", "head_rate=1e-3:1e-1", "--try", "batch_size=16,32"]
    command = ["search", *names, str(folder), "--out", str(tmp_path / "out"), "--trials=3", *settings, *tried]
    done = CliRunner().invoke(main, [*command, "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert {trial["network"] for trial in answer["trials"]} <= set(names)
    assert answer["trials"][0]["network"] == names[0]
    assert zoo.load(answer["model"]).output_shape == (None, 4)
    printed = CliRunner().invoke(main, command)
    lines = printed.stdout.splitlines()
    assert lines[0].split() == list(answer["trials"][0])
    losses = [float(line.split()[2]) for line in lines[1:4]]
    assert losses == sorted(losses)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"rat": (1, 2)}, '"rat" is no field to search; did you mean "rate"?'),
        ({"validation": [0.1, 0.2]}, '"validation" is no field to search'),
        ({"rate": (1e-2, 1e-3)}, r"rate can be searched in a list of choices, or in a tuple"),
        ({"augment": ("none", "light")}, "augment can be searched in a list of choices, or in a tuple"),
        ({"augment": []}, "augment can be searched in a list"),
        ({"augment": ["none", "lite"]}, "augment must be one of none, light"),
        ({"batch_size": (0, 64)}, "batch_size must be at least 1"),
        ({"epochs": (1.5, 6)}, "epochs must be int"),
    ],
)
def test_a_space_that_recipes_cannot_follow_is_refused_before_anything_is_tried(
    tiny, arrays, tmp_path, space, message
):
    with pytest.raises(zoo.ZooError, match=message):
        zoo.search(tiny(), arrays, tmp_path / "out", space=space)
    assert not (tmp_path / "out").exists()


def test_networks_of_one_name_are_refused(tiny, arrays, tmp_path):
    with pytest.raises(zoo.ZooError, match="networks of different names to search among, not tiny, tiny"):
        zoo.search([tiny(), tiny(1)], arrays, tmp_path / "out")


def test_whole_numbers_stay_whole_and_others_do_not():
    space = checked(
        {"views": (1, 8), "input_size": (32, 64), "temperature": (1, 5), "flip": [True, False]}, Recipe()
    )
    tried = suggested(optuna.create_study().ask(), space)
    assert [type(tried[name]) for name in space] == [int, int, float, bool]
