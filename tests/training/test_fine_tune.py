import csv
import json
import logging
from dataclasses import replace

import keras
import numpy as np
import pytest

import zoo
from zoo.data import images, open_data, split
from zoo.training import Recipe


def test_it_learns_and_says_on_what_it_was_judged(done):
    assert done.metrics["accuracy"] > 0.9
    low, high = done.metrics["interval"]
    assert low < done.metrics["accuracy"] <= high
    counts = done.metrics["pictures"]
    assert sum(counts.values()) == 240
    assert done.metrics["held_out"].startswith(f"{counts['test']} test pictures")
    assert list(done.metrics["classes"]) == ["0", "1", "4", "7"]
    assert np.sum(done.metrics["confusion"]) == counts["test"]


def test_it_is_shown_in_one_line(done):
    text = repr(done)
    assert text.startswith(f"Result(efficientnet_lite0: accuracy {done.metrics['accuracy']:.3f} (")
    assert f"{done.metrics['pictures']['test']} test pictures" in text
    assert len(text) < 300
    assert len(repr(zoo.facts(done.model))) < 300


def test_the_metrics_are_the_models_own_on_the_test_pictures(done, folder):
    pictures = open_data(folder)
    chosen = split(pictures, done.recipe.validation, done.recipe.test).test
    probabilities = done.model.predict(
        images(pictures, zoo.facts(done.model).preprocessing, chosen), verbose=0
    )
    assert np.mean(probabilities.argmax(axis=1) == pictures.labels[chosen]) == done.metrics["accuracy"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_the_model_knows_its_facts(done):
    facts = zoo.facts(done.model)
    assert facts.name == "efficientnet_lite0.ml_illustrated_in1k"
    assert facts.labels == ("0", "1", "4", "7")
    assert facts.preprocessing.input_size == (48, 48)
    assert facts.card["metrics"] == done.metrics
    assert "accuracy" not in facts.card
    assert zoo.heads(done.model).predict(np.zeros((1, 48, 48, 3)), verbose=0)["features"].shape == (1, 1280)


def test_batch_norm_and_the_bottom_are_as_they_were_and_the_top_has_learnt(done):
    before = zoo.load("efficientnet_lite0", input_size=48)
    changed = {
        layer.name
        for layer in before.layers
        if layer.weights and layer.name != "classifier"
        for old, new in zip(layer.get_weights(), done.model.get_layer(layer.name).get_weights(), strict=True)
        if not np.array_equal(old, new)
    }
    assert "blocks.6.0.conv_pwl" in changed
    assert "conv_head" in changed
    assert not any(name.startswith(("conv_stem", *(f"blocks.{i}." for i in range(5)))) for name in changed)
    norms = [layer for layer in done.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert not changed & {layer.name for layer in norms}
    assert all(layer.trainable for layer in norms)


def test_history_and_the_best_weights(done):
    stages = [entry["stage"] for entry in done.history]
    assert stages == sorted(stages)
    assert set(stages) == {"head", "top"}
    top = [entry for entry in done.history if entry["stage"] == "top"]
    head = [entry for entry in done.history if entry["stage"] == "head"]
    assert [entry["epoch"] for entry in top] == list(range(len(top)))
    assert top[0]["val_loss"] == pytest.approx(min(entry["val_loss"] for entry in head), rel=1e-3)


def test_the_kept_weights_are_those_of_the_lowest_validation_loss(done, folder):
    pictures = open_data(folder)
    chosen = split(pictures, done.recipe.validation, done.recipe.test).validation
    probabilities = done.model.predict(
        images(pictures, zoo.facts(done.model).preprocessing, chosen), verbose=0
    )
    loss = -np.log(probabilities[np.arange(len(chosen)), pictures.labels[chosen]]).mean()
    assert loss == pytest.approx(min(entry["val_loss"] for entry in done.history), rel=0.02)


def test_what_the_folder_holds(done):
    assert sorted(path.name for path in done.out.iterdir()) == [
        "history.csv",
        "model.keras",
        "recipe.json",
        "result.json",
    ]
    with (done.out / "history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(done.history)
    job = json.loads((done.out / "recipe.json").read_text())
    assert Recipe(**job["recipe"]) == done.recipe
    plain = keras.saving.load_model(done.out / "model.keras")
    assert plain.output_shape == (None, 4)


def test_a_finished_folder_gives_its_result_at_once(done, folder, arrays, network, quick, caplog):
    with caplog.at_level(logging.WARNING, logger="zoo"):
        again = zoo.fine_tune(network, arrays, done.out, **quick)
    assert "is finished: this is its result; nothing was trained" in caplog.text
    assert again.metrics == done.metrics
    assert again.history == done.history
    assert again.mistakes == done.mistakes
    assert again.recipe == done.recipe
    for old, new in zip(done.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_folder_of_another_job_is_refused(done, folder, arrays, network, quick, tmp_path):
    with pytest.raises(zoo.ZooError, match=r"another job \(other recipe\); give another out folder"):
        zoo.fine_tune(network, folder, done.out, **quick | {"seed": 1})
    images, labels = arrays
    with pytest.raises(zoo.ZooError, match=r"\(other data\)"):
        zoo.fine_tune(network, (images[:-1], labels[:-1]), done.out, **quick)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(zoo.ZooError, match="holds other files; give a new or an empty one"):
        zoo.fine_tune(network, folder, tmp_path, **quick)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_loaded_model_on_arrays_without_a_folder(arrays):
    images, labels = arrays
    model = zoo.load("efficientnet_lite0", input_size=32, classifier_activation=None)
    before = model.get_weights()
    names = ["nought", "one", "two", "three", "four", "five", "six", "seven"]
    kinds = sorted(set(labels.tolist()))
    words = np.asarray([names[label] for label in labels])
    result = zoo.fine_tune(model, (images, words), views=1, head_epochs=3, epochs=0)
    assert zoo.facts(result.model).labels == tuple(sorted(names[kind] for kind in kinds))
    assert result.out is None
    assert result.model.output_shape == (None, 4)
    assert model.output_shape == (None, 1000)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(zoo.ZooError, match=r'say where the report goes: result.report\("report/"\)'):
        result.report()
    with pytest.raises(zoo.ZooError, match=r"32 x 32 pixels, the recipe says 64: load it with zoo.load"):
        zoo.fine_tune(model, arrays, input_size=64)


def test_a_network_for_pictures_of_any_size_learns_at_its_preprocessings_and_stays_one(arrays):
    free = zoo.load("efficientnet", input_size=(None, None))
    known = zoo.facts(free)
    zoo.attach(free, replace(known, preprocessing=replace(known.preprocessing, input_size=(32, 32))))
    learnt = zoo.fine_tune(free, arrays, views=2, head_epochs=3, epochs=1).model
    assert learnt.input_shape == (None, None, None, 3)
    assert zoo.facts(learnt).preprocessing.input_size == (32, 32)
    assert learnt.predict(np.zeros((1, 48, 80, 3)), verbose=0).shape == (1, 4)


def test_bad_data_and_bad_names_stop_before_anything_is_written(tmp_path, folder):
    with pytest.raises(zoo.DataError, match="does not exist"):
        zoo.fine_tune("efficientnet_lite0", tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(zoo.UnknownModelError, match="did you mean"):
        zoo.fine_tune("efficientnet_lte0", folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, r'a recipe has no "epoch"; did you mean "epochs"\?'),
        ({"learning_rate": 0.1}, r'a recipe has no "learning_rate"; did you mean "rate"\?'),
        ({"validation_data": ()}, 'a recipe has no "validation_data"; give it with the data, {"train": '),
        ({"colour": 3}, 'a recipe has no "colour"; it has: seed, scratch, input_size'),
        ({"validation": 0}, "validation must be between 0 and 1, not 0"),
        ({"validation": 0.5, "test": 0.5}, "test must be between 0 and 1, with validation below 1, not 0.5"),
        (
            {"views": 0, "batch_size": 0},
            "views must be at least 1, not 0; batch_size must be at least 1, not 0",
        ),
    ],
)
def test_a_recipe_that_cannot_be_followed(changes, message):
    with pytest.raises(zoo.ZooError, match=message):
        zoo.fine_tune("efficientnet_lite0", "not even looked at", **changes)
