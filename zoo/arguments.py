"""What a caller may say of a network: its pictures, its classes, its rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np

from zoo.errors import ZooError

Size = tuple[int, int] | tuple[None, None]
ANY_SIZE = (None, None)
# What those write who know the functions of keras.applications, KerasHub, timm or torchvision.
WORDS_OF_OTHERS = {
    "include_top": "zoo.embedder(name) ends in the vector before the classifier, zoo.features(name) in maps",
    "input_shape": "give input_size=, pixels or (height, width); pictures are RGB",
    "input_tensor": "give input_size=, and call the model on the tensor",
    "img_size": "give input_size=, pixels or (height, width)",
    "in_chans": "pictures are RGB",
    "num_classes": "give classes=, a number or labels; zoo.embedder(name) has none",
    "pretrained": "networks are, unless weights=None",
    "load_weights": "give weights=None for fresh ones",
    "checkpoint_path": "give weights=, the path of the file",
    "features_only": "zoo.features(name) ends in maps",
    "out_indices": "zoo.features(name, levels=(3, 4, 5)) ends in the maps at strides 8, 16 and 32",
    "global_pool": "give pooling=",
    "alpha": 'each width has a name, such as "mobilenetv2_050"',
    "dropout": "give drop_rate=",
    "drop_path_rate": "give drop_path=",
}


def check_model(model: object) -> None:
    """Raises ZooError for what is no Keras model, as a network's name."""
    if not hasattr(model, "layers"):
        raise ZooError(f"give a model, such as zoo.load returns, not {model!r}")


def refuse_words_of_others(options: Mapping[str, object]) -> None:
    """Raises ZooError for the first option that is here under another name, TypeError for any other one."""
    for name in options:
        if name in WORDS_OF_OTHERS:
            raise ZooError(f"load takes no {name}: {WORDS_OF_OTHERS[name]}")
        raise TypeError(f"load() got an unexpected keyword argument '{name}'")


def sides(input_size: int | Sequence[int | None] | None) -> Size | None:
    """(height, width) in pixels, of one number or of two; ANY_SIZE and None as they are."""
    if input_size is None:
        return None
    match (input_size, input_size) if isinstance(input_size, Integral) else input_size:
        case [Integral() as height, Integral() as width]:
            return int(height), int(width)
        case [None, None]:
            return ANY_SIZE
    raise ZooError(
        f"input_size is a number of pixels, (height, width), or (None, None) for any, not {input_size!r}"
    )


def fixed(size: Size, otherwise: tuple[int, int]) -> tuple[int, int]:
    """The size; the other where it is any."""
    height, width = size
    return otherwise if height is None or width is None else (height, width)


def classes_of(classes: int | Sequence[str] | np.ndarray | None) -> int | tuple[str, ...] | None:
    """A number of classes, or their labels, each once; None as it is."""
    if classes is None:
        return None
    if isinstance(classes, Integral):
        return _at_least_one(int(classes))
    if isinstance(classes, str) or not isinstance(classes, Sequence | np.ndarray):
        raise ZooError(f"classes is a number or a list of labels, not {classes!r}")
    strangers = [label for label in classes if not isinstance(label, str)]
    if strangers:
        raise ZooError(f"classes are labels, strings, and {strangers[0]!r} is none")
    twice = [label for label, count in Counter(classes).items() if count > 1]
    if twice:
        raise ZooError(f'two classes are called "{twice[0]}": a label tells one class')
    _at_least_one(len(classes))
    return tuple(map(str, classes))


def _at_least_one(count: int) -> int:
    if count < 1:
        raise ZooError(f"classes must be at least 1, not {count}")
    return count


def rate_of(name: str, rate: float | None) -> float | None:
    """A share of what is dropped, 0 or more and less than 1; None as it is."""
    if rate is None or (isinstance(rate, Real) and 0 <= rate < 1):
        return rate
    raise ZooError(f"{name} is a share of at least 0 and less than 1, not {rate!r}")
