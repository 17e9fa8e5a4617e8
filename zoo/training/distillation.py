"""A teacher: a network that already knows the classes, whose doubts a student learns, too."""

from __future__ import annotations

import keras
from keras import layers, ops

from zoo.classifier import facts
from zoo.errors import ZooError
from zoo.outputs import heads
from zoo.training.device import jit
from zoo.training.tasks import ONE_LABEL, Task


def teacher_of(
    model: keras.Model,
    classes: tuple[str, ...],
    input_size: tuple[int, int],
    temperature: float,
    task: Task = ONE_LABEL,
) -> keras.Model:
    """The student's pictures [N, height, width, 3], 0..255 -> the teacher's softened probabilities [N, C].

    They are the task's activation of its logits over the temperature, in the order of the classes. Hinton et
    al., arXiv 1503.02531. Raises ZooError where the teacher knows other classes, or was taught another task.
    """
    known = facts(model)
    if known.task != task.name:
        raise ZooError(
            f"the teacher {known.name} is a {known.task} network, the pictures are {task.name}: "
            "fine-tune it on them first"
        )
    if set(known.labels) != set(classes):
        raise ZooError(
            f"the teacher {known.name} knows other classes than the pictures have: fine-tune it on them first"
        )
    images = keras.Input((*input_size, 3), name="images")
    size = known.preprocessing.input_size
    x = images if size == input_size else layers.Resizing(*size, name="resize")(images)
    logits = heads(model)(x)["logits"]
    places = [known.labels.index(label) for label in classes]
    activation = getattr(ops, task.activation)
    soft = activation(ops.take(logits, places, axis=-1) / temperature)
    teacher = keras.Model(images, soft, name="teacher")
    teacher.compile(jit_compile=jit())
    return teacher
