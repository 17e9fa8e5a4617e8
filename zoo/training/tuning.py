"""`fine_tune`: the whole way from a name and pictures to a judged model."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.classifier import Facts, attach, facts, save
from zoo.data import Pictures, Split, images, open_data, split
from zoo.errors import ZooError
from zoo.preprocessing import Preprocessing
from zoo.training.checkpoint import write_text
from zoo.training.loop import Examples, Stage, train
from zoo.training.metrics import evaluate
from zoo.training.mistakes import worst_mistakes
from zoo.training.network import Network, fingerprint, frozen_norms, prepare
from zoo.training.recipe import Recipe, recipe_of
from zoo.training.result import MODEL, RECIPE, Result, is_finished, read_result, write_result
from zoo.training.views import maps, maps_of_views

log = logging.getLogger("zoo")

CHECKPOINTS = "checkpoints"


def fine_tune(
    model_or_name: keras.Model | str | PathLike[str],
    data: Any,
    out: str | PathLike[str] | None = None,
    *,
    recipe: Recipe | str | PathLike[str] | None = None,
    **changes: Any,
) -> Result:
    """Teach a pretrained network the classes of one's own pictures.

    model_or_name: what zoo.load takes, or a Classifier from it (copied; its head is replaced). data: what
    zoo.data.open_data takes. out: a folder for the model, the result and, until it is finished, checkpoints:
    the same call after a kill goes on from there and ends with the same weights (on CPU); after the end it
    returns the result at once. recipe: "linear" (only a new head), "fast" (the default: then the top of the
    network), "full" (the whole network), "scratch" (without its weights), a Recipe, or the recipe.json of an
    earlier training. changes: fields of the recipe, such as epochs, seed, input_size, batch_size.

    Pictures are split by content into training, validation (stops the training, chooses the best weights) and
    test (judges, once, at the end): the metrics are the test's.

    Raises DataError listing all that is wrong with the data, ZooError for a bad recipe or a folder of another
    job, and what zoo.load raises.
    """
    recipe = recipe_of(recipe).with_changes(**changes)
    pictures = open_data(data)
    keras.utils.set_random_seed(recipe.seed)
    model = _load(model_or_name, recipe)
    folder = None if out is None else Path(out)
    if folder:
        _claim(folder, _job(model, pictures, recipe))
        if is_finished(folder):
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
            log.warning('"%s" is finished: this is its result; nothing was trained', folder)
            return read_result(folder)
    with _checkpoints(folder) as checkpoints:
        result = _run(model, pictures, recipe, folder, checkpoints)
    if folder:
        save(result.model, folder / MODEL)
        write_result(result, folder)
        shutil.rmtree(folder / CHECKPOINTS)
    return result


def _load(model_or_name: Any, recipe: Recipe) -> keras.Model:
    if not isinstance(model_or_name, keras.Model):
        from zoo.loading import DEFAULT, load

        weights = None if recipe.scratch else DEFAULT
        return load(model_or_name, weights=weights, input_size=recipe.input_size, drop_path=recipe.drop_path)
    size, wanted = facts(model_or_name).preprocessing.input_size, recipe.input_size
    if wanted is not None and size != (wanted, wanted):
        raise ZooError(
            f"the model takes {size[0]} x {size[1]} pixels, the recipe says {wanted}: "
            f"load it with zoo.load(name, input_size={wanted})"
        )
    return model_or_name


def _run(
    model: keras.Model, pictures: Pictures, recipe: Recipe, folder: Path | None, checkpoints: Path
) -> Result:
    preprocessing = _preprocessing(facts(model), recipe)
    network = prepare(model, len(pictures.classes), recipe.top)
    sides = split(pictures, recipe.validation, recipe.test)
    history = _train(network, pictures, sides, preprocessing, recipe, checkpoints)
    probabilities = network.whole.predict(
        images(pictures, preprocessing, sides.test), batch_size=64, verbose=0
    )
    metrics = _metrics(probabilities, pictures, sides)
    known = _facts(facts(model), pictures, preprocessing, recipe, metrics)
    return Result(
        model=attach(network.whole, known),
        metrics=metrics,
        history=history,
        recipe=recipe,
        data=pictures.facts(),
        mistakes=worst_mistakes(pictures, sides.test, probabilities),
        out=folder,
    )


def _train(
    network: Network,
    pictures: Pictures,
    sides: Split,
    preprocessing: Preprocessing,
    recipe: Recipe,
    checkpoints: Path,
) -> list[dict[str, Any]]:
    """The head on features, then the top with it; both from maps that the bottom computes once."""
    training = images(pictures, preprocessing, sides.training)
    held = images(pictures, preprocessing, sides.validation)
    labels, held_labels = pictures.labels[sides.training], pictures.labels[sides.validation]
    if network.whole_learns:
        seen, unseen = Examples(training[None], labels, fresh=True), Examples(held[None], held_labels)
    else:
        seen = Examples(maps_of_views(network.bottom, training, recipe, checkpoints / "maps.npy"), labels)
        unseen = Examples(maps(network.bottom, held, recipe.batch_size)[None], held_labels)
    history = []
    if recipe.head_epochs:
        head = Stage("head", recipe.head_epochs, recipe.head_rate)
        x = (
            maps_of_views(network.embed, training, recipe, checkpoints / "features.npy")
            if network.whole_learns
            else _embed(network, seen.x)
        )
        features = Examples(x, labels), Examples(_embed(network, unseen.x), held_labels)
        history += train(head, network.head, *features, recipe, checkpoints)
    if recipe.epochs:
        with frozen_norms(network.top) if recipe.frozen_norms else nullcontext():
            top = Stage("top", recipe.epochs, recipe.rate)
            history += train(top, network.top, seen, unseen, recipe, checkpoints)
    return history


def _embed(network: Network, views: np.ndarray) -> np.ndarray:
    return np.stack([network.embed.predict(view, batch_size=256, verbose=0) for view in views])


def _metrics(probabilities: np.ndarray, pictures: Pictures, sides: Split) -> dict[str, Any]:
    counts = {name: len(getattr(sides, name)) for name in ("training", "validation", "test")}
    return {
        **evaluate(probabilities, pictures.labels[sides.test], pictures.classes),
        "pictures": counts,
        "held_out": f"{counts['test']} test pictures, seen by neither training nor early stopping",
    }


def _preprocessing(known: Facts, recipe: Recipe) -> Preprocessing:
    return known.preprocessing if recipe.crop is None else replace(known.preprocessing, crop=recipe.crop)


def _facts(
    known: Facts, pictures: Pictures, preprocessing: Preprocessing, recipe: Recipe, metrics: dict[str, Any]
) -> Facts:
    """The pretrained network's accuracy was measured on other classes, so it stays behind."""
    card = {name: fact for name, fact in known.card.items() if name != "accuracy"}
    card |= {"metrics": metrics, "data": pictures.facts(), "recipe": recipe.to_dict()}
    return Facts(known.name, pictures.classes, preprocessing, card)


def _job(model: keras.Model, pictures: Pictures, recipe: Recipe) -> dict[str, Any]:
    network = {"name": facts(model).name, "fingerprint": fingerprint(model)}
    return {"network": network, "data": pictures.digest, "recipe": recipe.to_dict()}


def _claim(folder: Path, job: dict[str, Any]) -> None:
    """The folder is this job's from now on. Raises ZooError where it is another's."""
    path = folder / RECIPE
    if path.exists():
        other = json.loads(path.read_text("utf-8"))
        differing = [part for part in job if other.get(part) != job[part]]
        if differing:
            raise ZooError(
                f'"{folder}" belongs to another fine-tuning (other {" and ".join(differing)}); '
                "give another out folder, or delete this one to begin anew"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise ZooError(f'the out folder "{folder}" holds other files; give a new or an empty one')
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(job, indent=2))


@contextmanager
def _checkpoints(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="fine-tune-") as passing:
            yield Path(passing)
    else:
        kept = folder / CHECKPOINTS
        kept.mkdir(exist_ok=True)
        yield kept
