"""Judging and comparing Classifiers on labelled pictures."""

import json
import math
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import zoo
from zoo.labels import imagenet_labels

ZOO = Path(sys.executable).with_name("zoo")
PLAIN = zoo.Preprocessing(input_size=(8, 8), crop=1.0)


def brightness(threshold: float) -> keras.Model:
    """Says "dark" or "light" by the mean of the pixels."""
    images = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(images)
    scores = layers.Dense(2, name="fc")(x)
    model = keras.Model(images, layers.Activation("softmax", name="predictions")(scores), name="brightness")
    model.get_layer("fc").set_weights(
        [np.array([[-1, 1]] * 3, np.float32) / 3, np.array([threshold, -threshold], np.float32)]
    )
    return zoo.attach(model, zoo.Facts("brightness", ("dark", "light"), PLAIN))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty greys, 3 to 237 in steps of 6; those below 120 are dark."""
    home = tmp_path_factory.mktemp("greys")
    for grey in range(3, 240, 6):
        path = home / ("dark" if grey < 120 else "light") / f"{grey:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(path)
    return home


def test_accuracy_and_what_each_class_gets(folder):
    judged = zoo.evaluate(brightness(150), folder, batch_size=7)
    assert judged.metrics["accuracy"] == 35 / 40
    assert judged.metrics["classes"]["dark"]["recall"] == 1
    assert judged.metrics["classes"]["light"]["recall"] == 15 / 20
    low, high = judged.metrics["interval"]
    assert low < 35 / 40 < high
    assert np.flatnonzero(~judged.right).tolist() == [20, 21, 22, 23, 24]
    assert 0 < judged.seconds < 10
    assert repr(judged).startswith(
        f"Evaluation({judged.name}: accuracy 0.875 ({low:.3f} to {high:.3f}) on 40 "
    )


def test_a_part_of_the_classes_is_enough(folder, tmp_path):
    (tmp_path / "light").symlink_to(folder / "light")
    judged = zoo.evaluate(brightness(150), tmp_path)
    assert judged.metrics["accuracy"] == 15 / 20
    assert list(judged.metrics["classes"]) == ["light"]


def test_a_class_that_the_model_does_not_know(folder, tmp_path):
    (tmp_path / "ligth").symlink_to(folder / "light")
    with pytest.raises(zoo.DataError, match='the model has no class "ligth"; did you mean "light"'):
        zoo.evaluate(brightness(150), tmp_path)


def test_classes_may_be_called_by_their_places(folder, tmp_path, caplog):
    (tmp_path / "1").symlink_to(folder / "light")
    judged = zoo.evaluate(brightness(150), tmp_path)
    assert judged.metrics["classes"]["light"]["recall"] == 15 / 20
    assert 'the class "1" is taken for "light"' in caplog.text
    numbered = zoo.attach(brightness(150), zoo.Facts("numbered", ("1", "2"), PLAIN))
    assert zoo.evaluate(numbered, tmp_path).metrics["accuracy"] == 5 / 20
    (tmp_path / "0").symlink_to(folder / "dark")
    with pytest.raises(zoo.DataError, match='the model has no class "0"'):
        zoo.evaluate(numbered, tmp_path)
    assert zoo.evaluate(brightness(150), tmp_path).metrics["accuracy"] == 35 / 40
    (tmp_path / "2").symlink_to(folder / "dark")
    with pytest.raises(zoo.DataError, match='the model has no class "0"; it has dark, light'):
        zoo.evaluate(brightness(150), tmp_path)


def test_the_folders_of_imagenet_are_known(folder, tmp_path, caplog):
    for synset, greys in (("n01440764", "dark"), ("n15075141", "light")):
        (tmp_path / synset).symlink_to(folder / greys)
    names = imagenet_labels()
    images = keras.Input((8, 8, 3))
    scores = layers.Dense(1000, "softmax", name="fc")(layers.GlobalAveragePooling2D()(images))
    model = keras.Model(images, scores, name="thousand")
    kernel, bias = np.zeros((3, 1000), np.float32), np.full(1000, -1e3, np.float32)
    kernel[:, names.index("toilet tissue")], bias[[0, 1, 999]] = 1, (350, 360, 0)
    model.get_layer("fc").set_weights([kernel, bias])
    judged = zoo.evaluate(zoo.attach(model, zoo.Facts("thousand", names, PLAIN)), tmp_path)
    assert 'the class "n01440764" is taken for "tench"' in caplog.text
    assert list(judged.metrics["classes"]) == ["tench", "toilet tissue"]
    # A dark picture is called a goldfish first, then a tench.
    assert judged.metrics["accuracy"] == 0.5
    assert judged.metrics["top5"] == 1


def test_a_comparison_is_of_pairs(folder):
    first, second = zoo.evaluate(brightness(150), folder), zoo.evaluate(brightness(114), folder)
    compared = zoo.compare(first, second)
    assert (compared.only_first, compared.only_second) == (1, 5)
    assert compared.difference == pytest.approx(4 / 40)
    assert compared.p == pytest.approx(2 * (1 + 6) / 2**6)
    half = 1.96 * math.sqrt(6 - 16 / 40) / 40
    assert compared.interval == pytest.approx((0.1 - half, 0.1 + half))
    same = zoo.compare(first, first)
    assert (same.difference, same.p, same.interval) == (0, 1, (0, 0))


def test_other_pictures_cannot_be_compared(folder, tmp_path):
    (tmp_path / "light").symlink_to(folder / "light")
    first, second = zoo.evaluate(brightness(150), folder), zoo.evaluate(brightness(150), tmp_path)
    with pytest.raises(zoo.ZooError, match="different pictures; evaluate both models on the same data"):
        zoo.compare(first, second)


def test_on_the_command_line(folder, tmp_path):
    zoo.save(brightness(150), tmp_path / "a.keras")
    zoo.save(brightness(120), tmp_path / "b.keras")
    ran = subprocess.run(
        [ZOO, "compare", tmp_path / "a.keras", tmp_path / "b.keras", folder], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "brightness: 87.5 % of 40 pictures right (95 % interval" in ran.stdout
    assert "second - first: +12.5 points" in ran.stdout
    ran = subprocess.run(
        [ZOO, "evaluate", tmp_path / "b.keras", folder, "--json"], capture_output=True, text=True
    )
    assert json.loads(ran.stdout)["metrics"]["accuracy"] == 1
