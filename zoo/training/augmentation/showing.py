"""What a network sees while it learns, as a picture to look at before hours are spent."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.data import Pictures, images, open_data, split
from zoo.errors import ZooError
from zoo.precision import float32_policy
from zoo.preprocessing import Preprocessing
from zoo.registry import resolve
from zoo.training.augmentation import augmentation, changes_of, mixtures
from zoo.training.augmentation.changes import Changes
from zoo.training.recipe import Recipe, recipe_of
from zoo.writing import complete

CELL, GAP, TOP, LEFT = 128, 6, 64, 110  # pixels
INK, SOFT, PAPER = "#1f2933", "#616e7c", "#ffffff"


@float32_policy()
def show_views(
    data: Any,
    out: str | PathLike[str],
    recipe: Recipe | str | PathLike[str] | None = None,
    *,
    network: str = "efficientnet",
    pictures: int = 6,
    views: int = 7,
    **changes: Any,
) -> Path:
    """A PNG with a row for each of some training pictures: as it is, then as the network sees it in training.

    data, recipe, changes: as in `zoo.fine_tune`; network: a name, for the size and the crop of its pictures.
    Classes take turns. Raises what they raise, and ZooError where there is nothing to show.
    """
    if pictures < 1 or views < 1:
        raise ZooError(f"show at least one picture and one view, not {pictures} and {views}")
    recipe = recipe_of(recipe).with_changes(**changes)
    opened = open_data(data)
    chosen = _in_turns(opened, split(opened, recipe.validation, recipe.test).training)[:pictures]
    preprocessing = preprocessing_of(network, recipe)
    originals = images(opened, preprocessing, chosen)
    names = [opened.described(i) for i in chosen]
    grid = _grid(originals, *seen(originals, recipe, views), names, _title(recipe, preprocessing))
    with complete(Path(out)) as partial:
        grid.save(partial, "PNG")
    return Path(out)


def preprocessing_of(network: str, recipe: Recipe) -> Preprocessing:
    """Raises UnknownModelError. A network without public weights takes pictures as most do."""
    _, weights = resolve(network)
    known = weights.preprocessing if weights else Preprocessing()
    size = (recipe.input_size, recipe.input_size) if recipe.input_size else known.input_size
    return replace(known, input_size=size, crop=recipe.crop or known.crop)


def seen(originals: np.ndarray, recipe: Recipe, views: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, h, w, 3] -> so many times the same, changed and, where the recipe mixes, mixed: uint8
    [views, N, h, w, 3]; and the share that each original has in each: [views, N, N].
    """
    change, ways = augmentation(recipe, recipe.seed), mixtures(recipe, recipe.seed)
    found, shares = [], []
    for view in range(views):
        batch = {"images": change(originals), "labels": np.eye(len(originals), dtype=np.float32)}
        if ways:
            batch = ways[view % len(ways)](batch, training=True)
        found.append(np.asarray(batch["images"]).clip(0, 255).round().astype(np.uint8))
        shares.append(np.asarray(batch["labels"]))
    return np.stack(found), np.stack(shares)


def _in_turns(pictures: Pictures, indices: np.ndarray) -> np.ndarray:
    """The first of each class, or of each set of labels, then the second of each."""
    turns: Counter[tuple[int, ...]] = Counter()
    order = []
    for i in indices.tolist():
        labels = pictures.labels_of(i)
        order.append((turns[labels], labels, i))
        turns[labels] += 1
    return np.asarray([i for *_, i in sorted(order, key=lambda one: one[:2])])


def _title(recipe: Recipe, preprocessing: Preprocessing) -> str:
    done, none = asdict(changes_of(recipe)), asdict(Changes())
    done |= {name: getattr(recipe, name) for name in ("erase", "mixup", "cutmix")}
    used = [_plain(name, value) for name, value in done.items() if value != none.get(name, 0.0)]
    size = " x ".join(map(str, preprocessing.input_size[::-1]))
    what = ", ".join([recipe.augment, *used])
    return f"{what}; by {recipe.augment_with}; {size} pixels, centre crop {preprocessing.crop}"


def _plain(name: str, value: bool | float) -> str:
    words = name.replace("_", " ")
    return words if value is True else f"{words} {value:g}"


def _grid(
    originals: np.ndarray, views: np.ndarray, shares: np.ndarray, names: list[str], title: str
) -> Image.Image:
    sides = originals.shape[1:3]
    height, width = (max(1, round(CELL * side / max(sides))) for side in sides)
    step_x, step_y, first = width + GAP, height + GAP, LEFT + width + 3 * GAP
    grid = Image.new("RGB", (first + len(views) * step_x, TOP + len(names) * step_y + GAP), PAPER)
    draw = ImageDraw.Draw(grid)
    small, usual = ImageFont.load_default(13), ImageFont.load_default(15)
    draw.text((2 * GAP, GAP), title, INK, usual)
    draw.text((LEFT, TOP - 22), "as it is", SOFT, small)
    draw.text((first, TOP - 22), "as the network sees it", SOFT, small)

    def show(picture: np.ndarray, x: int, y: int) -> None:
        enlarge = Image.Resampling.NEAREST if max(sides) < CELL else Image.Resampling.LANCZOS
        grid.paste(Image.fromarray(picture).resize((width, height), enlarge), (x, y))

    for row, name in enumerate(names):
        y = TOP + row * step_y
        draw.text((LEFT - 2 * GAP, y + height / 2), _short(name), INK, small, anchor="rm")
        show(originals[row], LEFT, y)
        for column, view in enumerate(views):
            x = first + column * step_x
            show(view[row], x, y)
            if mixed := _mixed(shares[column, row], names):
                draw.rectangle((x, y + height - 18, x + width - 1, y + height - 1), INK)
                draw.text((x + GAP, y + height - 9), mixed, PAPER, ImageFont.load_default(11), anchor="lm")
    return grid


def _mixed(shares: np.ndarray, names: list[str]) -> str:
    """The classes' shares of the label, where it is not all one's own."""
    by_class: dict[str, float] = {}
    for share, name in zip(shares, names, strict=True):
        by_class[name] = by_class.get(name, 0.0) + float(share)
    parts = [f"{_short(name)} {share:.0%}" for name, share in by_class.items() if share >= 0.005]
    return ", ".join(parts) if len(parts) > 1 or shares.max() < 0.995 else ""


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"
