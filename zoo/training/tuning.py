"""`fine_tune`: the whole way from a name and pictures to a judged model."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from zoo.classifier import Facts, attach, facts, save
from zoo.data import Pictures, images, open_data, open_unlabelled, split
from zoo.errors import ZooError
from zoo.precision import copy_in_float32, float32_policy, in_one_graph
from zoo.preprocessing import Preprocessing
from zoo.quiet import several_networks
from zoo.training.callbacks import callbacks_of
from zoo.training.checkpoint import write_text
from zoo.training.distillation import teacher_of
from zoo.training.judging import judge
from zoo.training.loop import Watch, train, validation_logits
from zoo.training.network import fingerprint, learning, precision, prepare
from zoo.training.recipe import Recipe, resolve
from zoo.training.result import MODEL, RECIPE, Result, is_finished, read_result, write_result
from zoo.training.self_training import GUESSES, Material, with_guesses
from zoo.training.stages import Lessons, stages
from zoo.training.tasks import ONE_LABEL, task_of
from zoo.writing import alone

log = logging.getLogger("zoo")

CHECKPOINTS = "checkpoints"


@float32_policy()
@several_networks()
def fine_tune(
    model_or_name: keras.Model | str | PathLike[str],
    data: Any,
    out: str | PathLike[str] | None = None,
    *,
    recipe: Recipe | str | PathLike[str] | None = None,
    teacher: keras.Model | str | PathLike[str] | None = None,
    unlabelled: Any = None,
    callbacks: Any = (),
    checkpoint_minutes: float = 10.0,
    **changes: Any,
) -> Result:
    """Teach a pretrained network the classes of one's own pictures: one for each or, where the data has
    several labels of a picture, any number of them, each with a probability of its own.

    model_or_name: what zoo.load takes, or a Classifier from it (copied; its head is replaced). data: what
    zoo.data.open_data takes. out: a folder for the model, the result and, until it is finished, checkpoints:
    the same call after a kill goes on from there and ends with the same weights (on CPU); after the end it
    returns the result at once. recipe: "linear" (only a new head), "fast" (the default: then the top of the
    network), "full" (the whole network), "scratch" (without its weights), a Recipe, or the recipe.json of an
    earlier training. teacher: a Classifier of the same classes, or what zoo.load takes, whose probabilities
    are learnt beside the labels. unlabelled: more pictures, as zoo.data.open_unlabelled takes them: those
    that the teacher is sure of are learnt from with its probabilities as labels. changes: fields of the
    recipe, such as epochs, seed, input_size, batch_size.

    callbacks: one or several keras.callbacks.Callback, or "tensorboard" or "csv", which write into `out`.
    They see each stage as a training of its own, of the part of the network that learns in it, with epochs
    counted on; stop_training ends the stage. checkpoint_minutes: within an epoch, how often a checkpoint is
    written; there is one after every epoch.

    Pictures are split by content into training, validation (stops the training, chooses the best weights) and
    test (judges, once, at the end): the metrics are the test's.

    Raises DataError listing all that is wrong with the data, ZooError for a bad recipe, a folder of another
    job or unlabelled pictures without a teacher, and what zoo.load raises.
    """
    if teacher is not None:
        changes["teacher"] = facts(teacher).name if isinstance(teacher, keras.Model) else os.fspath(teacher)
    recipe = resolve(recipe, unlabelled=unlabelled is not None, **changes)
    if unlabelled is not None and recipe.teacher is None:
        raise ZooError(
            "unlabelled pictures need a teacher that labels them: fine-tune one on the labelled pictures, "
            "and name it or its folder as the teacher"
        )
    if recipe.teacher is not None and unlabelled is None and not recipe.distillation:
        raise ZooError(
            "the teacher has nothing to say: distillation is 0, and no unlabelled pictures are given"
        )
    pictures = open_data(data)
    unlabelled = None if unlabelled is None else open_unlabelled(unlabelled)
    keras.utils.set_random_seed(recipe.seed)
    model = load_student(model_or_name, recipe)
    teacher = load_teacher(teacher, recipe)
    folder = None if out is None else Path(out)
    watch = Watch(callbacks_of(callbacks, folder), checkpoint_minutes)
    if folder:
        claim(folder, RECIPE, _job(model, teacher, pictures, unlabelled, recipe))
        if is_finished(folder):
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
            log.warning('"%s" is finished: this is its result; nothing was trained', folder)
            return read_result(folder)
    with _checkpoints(folder) as checkpoints:
        material = Material(pictures, split(pictures, recipe.validation, recipe.test))
        if unlabelled is not None:
            material = with_guesses(material, unlabelled, teacher, recipe.confidence, checkpoints)
        result = replace(_run(model, teacher, material, recipe, checkpoints, watch), out=folder)
        if folder:
            save(result.model, folder / MODEL)
            write_result(result, folder)
            shutil.rmtree(folder / CHECKPOINTS)
    return result


def load_teacher(teacher: Any, recipe: Recipe) -> keras.Model | None:
    if isinstance(teacher, keras.Model) or recipe.teacher is None:
        return teacher
    from zoo.loading import load

    return load(recipe.teacher)


def load_student(model_or_name: Any, recipe: Recipe) -> keras.Model:
    """A network whose layers may learn: a given one is copied."""
    if not isinstance(model_or_name, keras.Model):
        from zoo.loading import DEFAULT, has_auxiliary, load_trunk

        model = load_trunk(
            model_or_name,
            weights=None if recipe.scratch else DEFAULT,
            input_size=recipe.input_size,
            drop_path=recipe.drop_path,
            auxiliary=recipe.epochs > 0 and has_auxiliary(model_or_name, recipe.input_size),
        )
        return in_one_graph(model)
    size, wanted = facts(model_or_name).preprocessing.input_size, recipe.input_size
    if wanted is not None and size != (wanted, wanted):
        raise ZooError(
            f"the model takes {size[0]} x {size[1]} pixels, the recipe says {wanted}: "
            f"load it with zoo.load(name, input_size={wanted})"
        )
    return copy_in_float32(model_or_name)


def _run(
    model: keras.Model,
    teacher: keras.Model | None,
    material: Material,
    recipe: Recipe,
    checkpoints: Path,
    watch: Watch,
) -> Result:
    known, pictures = facts(model), material.pictures
    preprocessing = preprocessing_of(known, recipe)
    learning_share = recipe.top if recipe.epochs else 0.0
    network = prepare(model, len(pictures.classes), learning_share, task_of(pictures.labels).activation)
    lessons = lessons_of(material, preprocessing, recipe, teacher)
    history: list[dict[str, Any]] = []
    with precision(network, recipe.precision):
        for stage in stages(network, lessons, side_losses(known), recipe, checkpoints):
            first = sum(entry["epoch"] > 0 for entry in history)
            with learning(stage.model, recipe.frozen_norms):
                history += train(replace(stage, first=first), recipe, checkpoints, watch)
                # Where devices share batches, jax keeps to the layers as they learned.
                held = network.probabilities(validation_logits(stage))
    answer = partial(network.answer, at_once=lessons.at_once(recipe))
    judged = judge(network.whole, answer, pictures, material.sides, preprocessing, held)
    learnt = {"metrics": judged.metrics, "data": material.facts(), "recipe": recipe.to_dict()}
    return Result(
        model=attach(network.whole, _facts(known, pictures, preprocessing, learnt)),
        metrics=judged.metrics,
        history=history,
        recipe=recipe,
        data=learnt["data"],
        mistakes=judged.mistakes,
        near_duplicates=judged.near_duplicates,
        out=None,
    )


def lessons_of(
    material: Material, preprocessing: Preprocessing, recipe: Recipe, teacher: keras.Model | None
) -> Lessons:
    """The pictures to learn from and to judge by, and the softened answers of the teacher."""
    pictures, sides = material.pictures, material.sides
    size, task = preprocessing.input_size, task_of(pictures.labels)
    soft = teacher is not None and recipe.distillation
    return Lessons(
        images(pictures, preprocessing, sides.training),
        material.targets(),
        images(pictures, preprocessing, sides.validation),
        pictures.labels[sides.validation],
        teacher_of(teacher, pictures.classes, size, recipe.temperature, task) if soft else None,
    )


def side_losses(known: Facts) -> dict[str, float]:
    """The weights of the auxiliary heads' losses, as the paper has them."""
    return {name: side["loss_weight"] for name, side in known.card.get("auxiliary", {}).items()}


def preprocessing_of(known: Facts, recipe: Recipe) -> Preprocessing:
    return known.preprocessing if recipe.crop is None else replace(known.preprocessing, crop=recipe.crop)


def _facts(known: Facts, pictures: Pictures, preprocessing: Preprocessing, learnt: dict[str, Any]) -> Facts:
    """The pretrained network's accuracy was measured on other classes, so it stays behind."""
    card = {name: fact for name, fact in known.card.items() if name not in ("accuracy", "task")} | learnt
    task = task_of(pictures.labels)
    if task is not ONE_LABEL:
        card["task"] = task.name
    return Facts(known.name, pictures.classes, preprocessing, card)


def _job(
    model: keras.Model,
    teacher: keras.Model | None,
    pictures: Pictures,
    unlabelled: Pictures | None,
    recipe: Recipe,
) -> dict[str, Any]:
    network = {"name": facts(model).name, "fingerprint": fingerprint(model)}
    return {
        "network": network,
        "teacher": teacher and fingerprint(teacher),
        "data": pictures.digest,
        "unlabelled": None if unlabelled is None else unlabelled.digest,
        "recipe": recipe.to_dict(),
    }


def claim(folder: Path, name: str, job: dict[str, Any]) -> None:
    """The folder is this job's, as its file `name` says from now on. Raises ZooError if it is another's."""
    path = folder / name
    if path.exists():
        other = json.loads(path.read_text("utf-8"))
        differing = [part for part in job if other.get(part) != job[part]]
        if differing:
            raise ZooError(
                f'"{folder}" belongs to another job (other {" and ".join(differing)}); '
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
        with alone(folder / RECIPE):
            kept.mkdir(exist_ok=True)
            try:
                yield kept
            except ZooError:
                if not {path.name for path in kept.iterdir()} - {GUESSES}:
                    # Nothing was trained: the folder is free for the job that mends what was wrong.
                    shutil.rmtree(kept)
                    (folder / RECIPE).unlink()
                raise
