"""Probabilities that mean what they say, and the temperature that makes them so."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import zoo
from zoo.training.calibration import fit_temperature, judge_calibration, tempered
from zoo.training.metrics import expected_calibration_error, reliability


def drawn(temperature, seed=0, pictures=20_000):
    """Logits [N, 5] and labels that are drawn from softmax(logits / temperature)."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (pictures, 5))
    shares = np.exp(logits / temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    labels = (random.uniform(size=(pictures, 1)) > shares.cumsum(axis=1)).sum(axis=1)
    return logits, labels


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def test_the_error_is_the_bins_distance_from_the_diagonal():
    """Four pictures at 0.9, of which three are right; six at 0.65, of which three are."""
    probabilities = np.asarray([[0.9, 0.1]] * 4 + [[0.35, 0.65]] * 6)
    labels = np.asarray([0, 0, 0, 1, 1, 1, 1, 0, 0, 0])
    low, high = reliability(probabilities, labels)
    assert (low["pictures"], low["accuracy"], low["confidence"]) == (6, 0.5, pytest.approx(0.65))
    assert (high["pictures"], high["accuracy"], high["confidence"]) == (4, 0.75, pytest.approx(0.9))
    assert high["from"] < 0.9 <= high["to"]
    expected = (4 * abs(0.75 - 0.9) + 6 * abs(0.5 - 0.65)) / 10
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)


def test_a_certain_answer_is_in_the_last_bin():
    (only,) = reliability(np.asarray([[1.0, 0.0]]), np.asarray([0]))
    assert (only["to"], only["accuracy"]) == (1.0, 1.0)
    assert expected_calibration_error(np.asarray([[1.0, 0.0]]), np.asarray([0])) == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_the_labels_were_drawn_with_is_found(temperature):
    logits, labels = drawn(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)
    assert fit_temperature(np.log(softmax(logits)), labels) == pytest.approx(fit_temperature(logits, labels))


def test_where_all_are_right_or_all_wrong_it_stays_within_its_bounds():
    logits = np.asarray([[3.0, 0.0], [0.0, 3.0]])
    assert fit_temperature(logits, np.asarray([0, 1])) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(logits, np.asarray([1, 0])) == pytest.approx(20, rel=1e-3)


def test_another_set_s_temperature_calibrates():
    (logits, labels), (held, held_labels) = drawn(2.5, seed=1), drawn(2.5, seed=2)
    judged = judge_calibration(softmax(logits), labels, softmax(held), held_labels)
    assert judged["ece"] > 0.1
    assert judged["after"]["ece"] < 0.02
    assert judged["after"]["loss"] < judged["loss"]
    np.testing.assert_allclose(
        tempered(softmax(logits), judged["temperature"]), softmax(logits / judged["temperature"]), atol=1e-9
    )


def test_the_last_layer_carries_the_temperature(done, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3)).astype(np.float32)
    before = zoo.heads(done.model).predict(images, verbose=0)
    calibrated = zoo.calibrate(done.model)
    fitted = done.metrics["calibration"]["temperature"]
    again = zoo.load(zoo.save(calibrated, tmp_path / "calibrated.keras"))
    assert zoo.facts(again).card["temperature"] == fitted
    np.testing.assert_allclose(
        zoo.heads(again).predict(images, verbose=0)["logits"], before["logits"] / fitted, atol=1e-4
    )
    unchanged = zoo.heads(done.model).predict(images, verbose=0)["logits"]
    np.testing.assert_array_equal(unchanged, before["logits"])
    with pytest.raises(zoo.ZooError, match="is calibrated already, by "):
        zoo.calibrate(again)


def test_a_temperature_that_cannot_be():
    images = keras.Input((8, 8, 3))
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(images))
    model = keras.Model(images, keras.layers.Activation("softmax")(x))
    zoo.attach(model, zoo.Facts("two", ("a", "b"), zoo.Preprocessing((8, 8))))
    with pytest.raises(zoo.ZooError, match="no temperature was fitted for two: give one"):
        zoo.calibrate(model)
    for temperature in (0, -1, float("nan"), float("inf")):
        with pytest.raises(zoo.ZooError, match="the temperature must be above 0"):
            zoo.calibrate(model, temperature)


def test_mistakes_show_where_the_network_looked(done, arrays):
    """Every label but the first is wrong for a network that knows one answer alone."""
    from zoo.data import images, open_data, split
    from zoo.training.judging import judge

    pictures = open_data(arrays)
    sides = split(pictures, 0.15, 0.15)
    sides = replace(sides, test=sides.test[:20], validation=sides.validation[:20])
    stubborn = keras.models.clone_model(done.model)
    stubborn.set_weights(done.model.get_weights())
    layer = stubborn.layers[-2]
    layer.bias.assign([50, 0, 0, 0])
    preprocessing = zoo.facts(done.model).preprocessing
    held = stubborn.predict(images(pictures, preprocessing, sides.validation))
    judged = judge(stubborn, stubborn.predict, pictures, sides, preprocessing, held)
    wrong = int((pictures.labels[sides.test] != 0).sum())
    assert 0 < len(judged.mistakes) <= wrong
    assert {one["predicted"] for one in judged.mistakes} == {"0"}
    assert all(one["heat"].startswith("data:image/") for one in judged.mistakes[:12])
    assert judged.metrics["calibration"]["after"]["loss"] < judged.metrics["loss"]
