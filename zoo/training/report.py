"""The result as one HTML file that opens anywhere, offline: figures are SVG, pictures embedded."""

from __future__ import annotations

import io
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.classifier import facts
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.training.result import Result

INK, BLUE, ORANGE, GRID = "#1f2933", "#2563eb", "#ea7317", "#e4e7eb"
NUMBERS_SHOWN = 30
STAGES = {"head": "the new head, on features", "top": "the top of the network with it"}


def render(result: Result) -> str:
    """The page. Raises ZooError where matplotlib and jinja2 are not installed."""
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ZooError(f"a report needs {error.name}: pip install 'cnn-zoo[train]'") from error
    template = files("zoo.training").joinpath("report.html").read_text("utf-8")
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    known = facts(result.model)
    return page.render(
        name=known.name,
        card=known.card,
        preprocessing=known.preprocessing,
        metrics=result.metrics,
        data=result.data,
        recipe=result.recipe.to_dict(),
        mistakes=result.mistakes,
        wrong=wrong_answers(result.metrics["confusion"]),
        curves=curves(result.history),
        confusion=confusion(result.metrics["confusion"], list(known.labels)),
    )


def wrong_answers(matrix: list[list[int]]) -> int:
    counts = np.asarray(matrix)
    return int(counts.sum() - np.trace(counts))


def curves(history: list[dict[str, Any]]) -> str:
    """Loss and accuracy of each stage's epochs, as SVG."""
    stages = [(stage, list(entries)) for stage, entries in groupby(history, key=lambda entry: entry["stage"])]
    figure = _figure(4.3 * len(stages), 5.2)
    axes = figure.subplots(2, len(stages), squeeze=False, sharex="col", sharey="row")
    for column, (stage, entries) in zip(axes.T, stages, strict=True):
        column[0].set_title(STAGES.get(stage, stage), fontsize=10, color=INK, loc="left")
        for ax, measure in zip(column, ("loss", "accuracy"), strict=True):
            _curve(ax, entries, measure, "training", BLUE)
            _curve(ax, entries, f"val_{measure}", "validation", ORANGE)
        best = min(entries, key=lambda entry: entry["val_loss"])
        for ax in column:
            ax.axvline(best["epoch"], color=INK, linewidth=0.8, linestyle=":")
        column[1].set_xlabel("epoch", color=INK)
        column[1].xaxis.get_major_locator().set_params(integer=True)
    axes[0][0].set_ylabel("loss", color=INK)
    axes[1][0].set_ylabel("accuracy", color=INK)
    axes[0][-1].legend(frameon=False, fontsize=9)
    return _svg(figure)


def confusion(matrix: list[list[int]], names: list[str]) -> str:
    """Rows are true classes, shares of a row give the colour, as SVG."""
    counts = np.asarray(matrix)
    side = float(np.clip(0.5 * len(names) + 1.5, 4, 12))
    figure = _figure(side, side)
    ax = figure.subplots()
    names = [name.replace("$", r"\$") for name in names]  # else matplotlib reads mathematics
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 3 else 90)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("predicted", color=INK)
    ax.set_ylabel("true", color=INK)
    ax.grid(visible=False)
    if len(names) <= NUMBERS_SHOWN:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else INK
            ax.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=9)
    return _svg(figure)


def _curve(ax: Any, entries: list[dict[str, Any]], key: str, label: str, colour: str) -> None:
    points = [(entry["epoch"], entry[key]) for entry in entries if key in entry]
    if points:
        ax.plot(
            *zip(*points, strict=True), color=colour, label=label, marker="o", markersize=2.5, linewidth=1.4
        )
    ax.grid(color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Any:
    """A figure of its own, outside pyplot: no window, no state shared with the caller's plots."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Any) -> str:
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "zoo", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
