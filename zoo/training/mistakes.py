"""The pictures a model is most surely wrong about, small enough to show, and where it looked."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from PIL import Image

from zoo.data import Pictures
from zoo.errors import ZooError
from zoo.explaining import gradcams
from zoo.preprocessing import Preprocessing, load_image, read_image
from zoo.training.metrics import Wrong

KEPT, OF_A_KIND = 120, 6  # mistakes in all, and of one label taken for one other
EXPLAINED = 12
THUMBNAIL = 112
HEAT = 0.45  # how much a heat map covers of the picture


def worst(wrong: Iterable[Wrong]) -> list[Wrong]:
    """The first of them, few of a kind."""
    kinds: Counter[tuple[str, str]] = Counter()
    kept = []
    for one in wrong:
        kinds[one.label, one.predicted] += 1
        if kinds[one.label, one.predicted] <= OF_A_KIND:
            kept.append(one)
    return kept[:KEPT]


def shown(wrong: Iterable[Wrong], pictures: Pictures, indices: np.ndarray) -> list[dict[str, Any]]:
    """Of each: index (in pictures), name, label, predicted, the probability of both, a thumbnail. indices: of
    the rows that the wrong decisions name.
    """
    return [
        {
            "index": int(indices[one.picture]),
            "name": pictures.names[indices[one.picture]],
            "label": one.label,
            "predicted": one.predicted,
            "probability": one.probability,
            "probability_of_label": one.of_label,
            "thumbnail": thumbnail(read_image(pictures.sources[indices[one.picture]])),
        }
        for one in wrong
    ]


def with_heat(
    mistakes: list[dict[str, Any]],
    places: Sequence[int],
    model: keras.Model,
    pictures: Pictures,
    preprocessing: Preprocessing,
) -> list[dict[str, Any]]:
    """The first of them with "heat", where the network saw the class of the index in `places`: Grad-CAM over
    the picture. As they are where none can be made: without the extra `explain`, or on another backend than
    TensorFlow.
    """
    if not mistakes or keras.backend.backend() != "tensorflow":
        return mistakes
    chosen = mistakes[:EXPLAINED]
    images = np.stack([load_image(preprocessing, pictures.sources[one["index"]]) for one in chosen])
    try:
        maps = gradcams(model, images, places[:EXPLAINED])
        warmed = [_warmed(image, heat) for image, heat in zip(images, maps, strict=True)]
    except (ZooError, ImportError):
        return mistakes
    heated = [{**one, "heat": thumbnail(rgb)} for one, rgb in zip(chosen, warmed, strict=True)]
    return heated + mistakes[EXPLAINED:]


def _warmed(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    from matplotlib import colormaps

    colours = 255 * colormaps["jet"](heat)[..., :3]
    return ((1 - HEAT) * image + HEAT * colours).round().astype(np.uint8)


def thumbnail(rgb: np.ndarray) -> str:
    """RGB uint8 [H, W, 3] -> a data URI, at most 112 pixels a side: of PNG and JPEG the smaller."""
    image = Image.fromarray(rgb)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    encoded = {"png": _encoded(image, "PNG", optimize=True), "jpeg": _encoded(image, "JPEG", quality=88)}
    kind = min(encoded, key=lambda name: len(encoded[name]))
    return f"data:image/{kind};base64,{base64.b64encode(encoded[kind]).decode()}"


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
