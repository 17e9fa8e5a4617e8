"""A teacher: a network that already knows the classes, whose doubts a student learns, too."""

from __future__ import annotations

import keras
from keras import layers, ops

from zoo.classifier import facts
from zoo.errors import ZooError
from zoo.outputs import heads
from zoo.training.device import jit


def teacher_of(
    model: keras.Model, classes: tuple[str, ...], input_size: tuple[int, int], temperature: float
) -> keras.Model:
    """The student's pictures [N, height, width, 3], 0..255 -> the teacher's softened probabilities [N, C].

    They are the softmax of its logits over the temperature, in the order of the classes. Hinton et al., arXiv
    1503.02531. Raises ZooError where the teacher knows other classes.
    """
    known = facts(model)
    if set(known.labels) != set(classes):
        raise ZooError(
            f"the teacher {known.name} knows other classes than the pictures have: fine-tune it on them first"
        )
    images = keras.Input((*input_size, 3), name="images")
    size = known.preprocessing.input_size
    x = images if size == input_size else layers.Resizing(*size, name="resize")(images)
    logits = heads(model)(x)["logits"]
    places = [known.labels.index(label) for label in classes]
    soft = ops.softmax(ops.take(logits, places, axis=-1) / temperature)
    teacher = keras.Model(images, soft, name="teacher")
    teacher.compile(jit_compile=jit())
    return teacher
