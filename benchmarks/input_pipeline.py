"""Pictures a second from files to batches, against what networks take: docs/benchmarks.md's "Input pipeline".

    python benchmarks/input_pipeline.py

About three minutes; nothing else should run on the machine. The files are JPEGs of 500 x 375 pixels, parts of
two photos; a batch is 32 pictures of 224 x 224.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parent.parent))

import keras
import numpy as np
from PIL import Image

import zoo
from benchmarks.machine import machine
from benchmarks.page import replace_section
from zoo.data import Pictures, images, open_data
from zoo.training import Recipe
from zoo.training.augmentation import WAYS
from zoo.training.device import jit, precision_for_device
from zoo.training.loop import Batches, Examples, Held, Stage

FILES, SIZE, BATCH, ROUNDS = 512, 224, 32, 3
NETWORKS = {"EfficientNet-Lite0": "efficientnet_lite0", "ResNet50": "resnet50"}
PREPROCESSING = zoo.Preprocessing((SIZE, SIZE))


def write_pictures(folder: Path) -> None:
    """A folder for each photo; places and colours are drawn, so that no two files are equal."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    for i in range(FILES):
        photo = load_sample_images().images[i % 2]
        top, left = (
            int(random.integers(photo.shape[axis] - side + 1)) for axis, side in ((0, 375), (1, 500))
        )
        picture = photo[top : top + 375, left : left + 500] * random.uniform(0.7, 1.0, 3)
        home = folder / str(i % 2)
        home.mkdir(exist_ok=True)
        Image.fromarray(picture.astype(np.uint8)).save(home / f"{i:04}.jpg", quality=90)


def rate(work: Callable[[], Any], pictures: int) -> float:
    """Pictures a second: the median of some rounds after one that is not counted."""
    seconds = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return pictures / statistics.median(seconds[1:])


def drain(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def by_tensorflow(pictures: Pictures) -> Iterable[Any]:
    """The same pictures by tf.data, with TensorFlow's decoding and our resampling in its graph."""
    import tensorflow as tf

    from zoo.preprocessing import tf_decode, tf_evaluate

    def load(path: Any) -> Any:
        return tf_evaluate(PREPROCESSING, tf_decode(tf.io.read_file(path)))

    paths = tf.data.Dataset.from_tensor_slices([str(source) for source in pictures.sources])
    return paths.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def epoch(ready: np.ndarray, recipe: Recipe) -> Iterable[Any]:
    """The batches that the loop trains on, from pictures that are in memory."""
    inputs = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(inputs)))
    labels = np.arange(len(ready)) % 2
    examples = Examples(ready[None], np.eye(2, dtype=np.float32)[labels], fresh=True)
    batches = Batches(Stage("top", model, examples, Held(ready, labels), 1, 0.1), recipe, 1)
    return (batches[i] for i in range(len(batches)))


def appetite(name: str) -> float:
    """Pictures a second that a step of training takes on this device, in the precision that it gains by."""
    keras.config.set_dtype_policy(precision_for_device("auto"))
    model = zoo.load(name, weights=None, input_size=SIZE, classifier_activation=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=jit())
    x = np.random.default_rng(0).uniform(0, 255, (BATCH, SIZE, SIZE, 3)).astype(np.float32)
    y = np.zeros(BATCH, np.int64)
    found = rate(lambda: [model.train_on_batch(x, y) for _ in range(4)], 4 * BATCH)
    keras.config.set_dtype_policy("float32")
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        pictures = open_data(folder)
        every = np.arange(len(pictures))
        ready = images(pictures, PREPROCESSING, every)
        rates = {
            "open: decode, check, hash, look": rate(lambda: open_data(folder), FILES),
            "decode, resize, crop (once, then in memory)": rate(
                lambda: images(pictures, PREPROCESSING, every), FILES
            ),
            "the same by tf.data, for comparison": rate(lambda: drain(by_tensorflow(pictures)), FILES),
            "batches from memory, not augmented": rate(
                lambda: drain(epoch(ready, Recipe(augment="none", batch_size=BATCH))), FILES
            ),
            **{
                f"batches from memory, light, by {way}": rate(
                    lambda way=way: drain(epoch(ready, Recipe(augment_with=way, batch_size=BATCH))), FILES
                )
                for way in WAYS
            },
        }
    wanted = {title: appetite(name) for title, name in NETWORKS.items()}
    text = page(rates, wanted)
    print(text)
    replace_section("Input pipeline", text)


def page(rates: dict[str, float], wanted: dict[str, float]) -> str:
    appetites = " and ".join(f"{title} {figure:.0f}" for title, figure in wanted.items())
    titles = " | ".join(f"x {title}" for title in wanted)
    lines = [
        f"| {step} | {figure:.0f} | " + " | ".join(f"{figure / one:.1f}" for one in wanted.values()) + " |"
        for step, figure in rates.items()
    ]
    return "\n".join(
        [
            f"Pictures a second, and how many times what a step of training takes ({appetites} a second).",
            "Above 1 the device never waits. Files are decoded once; the epochs read them from memory.",
            "",
            f"| step | pictures/s | {titles} |",
            "| --- | --- |" + " --- |" * len(wanted),
            *lines,
            "",
            f"`python benchmarks/input_pipeline.py`, medians of {ROUNDS} rounds, on {machine()}.",
        ]
    )


if __name__ == "__main__":
    main()
