"""The learning-rate range test."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.training.rate_finding import suggest
from zoo_cli.main import main

CHANGES = {"top": 1.0, "head_epochs": 2, "batch_size": 32, "augment": "none", "views": 1}


def test_the_rate_is_where_the_loss_falls_fastest():
    rates = np.geomspace(1e-5, 1, 60)
    fall = 1 / (1 + np.exp(5 * (np.log10(rates) + 3)))
    assert suggest(rates, 1 + fall).suggested == pytest.approx(1e-3, rel=0.2)
    with pytest.raises(zoo.ZooError, match="the loss fell at no rate"):
        suggest(rates, 1 + rates)


def test_rates_rise_until_the_loss_bursts(tiny, arrays, tmp_path):
    found = zoo.find_rate(tiny(), arrays, tmp_path / "plots" / "rate.png", highest=1000.0, **CHANGES)
    assert len(found.rates) == len(found.losses) < 100
    assert np.all(np.diff(np.log(found.rates)) > 0)
    assert found.losses.min() < found.losses[0]
    assert 1e-5 < found.suggested < 1
    assert Image.open(tmp_path / "plots" / "rate.png").size == (720, 480)
    with pytest.raises(zoo.ZooError, match="the rates must rise from above 0, over at least 10 batches"):
        zoo.find_rate(tiny(), arrays, lowest=1.0, highest=0.1)


def test_the_command_prints_the_rate(tiny, folder, tmp_path):
    model, plot = zoo.save(tiny(), tmp_path / "tiny.keras"), tmp_path / "rate.png"
    settings = ["--recipe", "linear", "--set", "views=1", "--set", "augment=none"]
    command = ["find-rate", str(model), str(folder), "--out", str(plot), *settings, "--json"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["suggested"] in answer["rates"]
    assert plot.exists()
