"""What a Classifier sees, in its labels' words."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import zoo
from zoo.classifying import each

PLAIN = zoo.Preprocessing(input_size=(8, 8), crop=1.0)
LABELS = ("red", "green", "blue")


def colours(activation: str | None, **card: str) -> keras.Model:
    """Logits of 3, or less, for a colour that fills the picture, and -1 for one that is not in it."""
    images = keras.Input((8, 8, 3))
    scores = layers.Dense(3, name="fc")(layers.GlobalAveragePooling2D()(images))
    outputs = layers.Activation(activation)(scores) if activation else scores
    model = keras.Model(images, outputs, name="colours")
    model.get_layer("fc").set_weights([np.eye(3, dtype=np.float32) * 4 / 255, np.full(3, -1, np.float32)])
    return zoo.attach(model, zoo.Facts("colours", LABELS, PLAIN, card=card))


def filled(*colour: int) -> np.ndarray:
    return np.full((20, 30, 3), colour, np.uint8)


def softmax(*scores: float) -> list[float]:
    powers = np.exp(scores)
    return (powers / powers.sum()).tolist()


@pytest.mark.parametrize("activation", ["softmax", None], ids=str)
def test_the_likeliest_labels_of_a_picture(activation):
    (blue, sure), (red, less) = zoo.classify(colours(activation), filled(128, 0, 255), top=2)
    assert (blue, red) == ("blue", "red")
    assert [sure, less] == pytest.approx(softmax(3, 4 * 128 / 255 - 1, -1)[:2], abs=1e-6)


def test_as_many_answers_as_pictures_in_their_order(tmp_path):
    file, photo = tmp_path / "green.png", Image.fromarray(filled(255, 0, 0))
    Image.fromarray(filled(0, 255, 0)).save(file)
    model = colours("softmax")
    mixed = [file, str(file), file.read_bytes(), photo, filled(0, 0, 255)] * 15
    first = [answer[0][0] for answer in zoo.classify(model, mixed)]
    assert first == ["green", "green", "green", "red", "blue"] * 15
    stack = np.stack([filled(255, 0, 0), filled(0, 0, 255)])
    assert [answer[0][0] for answer in zoo.classify(model, stack)] == ["red", "blue"]
    assert [answer[0][0] for answer in zoo.classify(model, (picture for picture in stack))] == ["red", "blue"]
    assert zoo.classify(model, []) == []


def test_pictures_are_cropped_as_the_weights_expect():
    red, green = filled(255, 0, 0), filled(0, 255, 0)
    wide = np.concatenate([red, green, red], axis=1)
    assert zoo.classify(colours("softmax"), wide, top=1)[0] == ("green", pytest.approx(softmax(-1, 3, -1)[1]))


def test_each_label_has_a_probability_of_its_own():
    answer = zoo.classify(colours("sigmoid", task="multi-label"), filled(255, 0, 255))
    present = 1 / (1 + np.exp(-3))
    assert dict(answer) == pytest.approx({"red": present, "blue": present, "green": 1 / (1 + np.e)})
    assert [label for label, probability in answer if probability > 0.5] == ["red", "blue"]


def test_what_is_no_picture_is_named_and_the_others_are_answered(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 and no more")
    red, blue = filled(255, 0, 0), filled(0, 0, 255)
    model = colours("softmax")
    seen = list(each(model, [red, broken, tmp_path, blue]))
    assert [seen[0][0][0], seen[3][0][0]] == ["red", "blue"]
    assert str(seen[1]).startswith(f'"{broken}" cannot be decoded as a picture')
    assert str(seen[2]) == f'"{tmp_path}" is a folder: give the pictures that are in it'
    with pytest.raises(zoo.DataError, match=r'broken\.jpg" cannot be decoded'):
        zoo.classify(model, [red, broken])


def test_what_a_model_has_learnt_or_lost_since_the_last_question_counts():
    model, red = colours("softmax"), filled(255, 0, 0)
    assert zoo.classify(model, red, top=1) == [("red", pytest.approx(softmax(3, -1, -1)[0]))]
    model.get_layer("fc").set_weights([-np.eye(3, dtype=np.float32), np.zeros(3, np.float32)])
    assert zoo.classify(model, red)[2] == ("red", pytest.approx(0, abs=1e-6))
    model.get_layer("fc").set_weights([np.diag([4, 4, 4.01]) / 255, np.full(3, -1)])
    exact = zoo.classify(model, red, top=1)[0][1]
    model.quantize("int8")
    rounded = zoo.classify(model, red, top=1)[0][1]
    assert rounded != exact
    assert rounded == pytest.approx(float(model.predict(red[None, :8, :8], verbose=0)[0][0]), abs=1e-6)


def test_a_model_that_nobody_holds_is_forgotten():
    model = colours("softmax")
    zoo.classify(model, filled(0, 0, 0))
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None


def test_no_class_cannot_be_named():
    with pytest.raises(zoo.ZooError, match="top is how many classes are named, 1 or more, not 0"):
        zoo.classify(colours("softmax"), filled(0, 0, 0), top=0)


def test_a_name_will_do():
    with pytest.raises(zoo.UnknownModelError, match='did you mean "efficientnet"'):
        zoo.classify("efficentnet", filled(0, 0, 0))
    (label, _), *_ = zoo.classify("efficientnet", filled(0, 0, 0), top=1)
    assert label in zoo.load("efficientnet").zoo.labels
