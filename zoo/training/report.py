"""The result as one HTML file that opens anywhere, offline: figures are SVG, pictures embedded."""

from __future__ import annotations

import io
import warnings
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.classifier import facts
from zoo.errors import ZooError
from zoo.plotting import new_figure
from zoo.training.tasks import ONE_LABEL, TASKS

if TYPE_CHECKING:
    from zoo.training.result import Result

INK, BLUE, ORANGE, GRID = "#1f2933", "#2563eb", "#ea7317", "#e4e7eb"
NUMBERS_SHOWN = 30  # classes at most whose cells have numbers
CLASSES_SHOWN = 60  # at most, as far as their names can be read; of more, those that are confused most
SHOWN = 24  # mistakes
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
    task = TASKS[known.task]
    calibration = result.metrics["calibration"]
    matrix = result.metrics.get("confusion")
    return page.render(
        headline=f"{task.headline[1]} {_percent(result.metrics[task.headline[0]])}",
        figures=figures(result.metrics),
        several=task is not ONE_LABEL,
        name=known.name,
        card=known.card,
        preprocessing=known.preprocessing,
        metrics=result.metrics,
        data=result.data,
        recipe=result.recipe.to_dict(),
        mistakes=result.mistakes[:SHOWN],
        cells=cells(result.mistakes, list(known.labels)) if matrix else {},
        near_duplicates=result.near_duplicates,
        curves=curves(result.history),
        confusion=confusion(matrix, list(known.labels)) if matrix else None,
        many=len(result.metrics["classes"]) > CLASSES_SHOWN,
        confused=NUMBERS_SHOWN,
        calibration=calibration,
        reliability=reliability(calibration),
    )


SEVERAL = {
    "average_precision": "mean average precision",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
}  # labels for a picture


def figures(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """The first things to know, with what each is."""
    tested = metrics["pictures"]["test"]
    found = []
    if "average_precision" in metrics:
        for name, words in SEVERAL.items():
            interval = _range(metrics[f"{name}_interval"])
            found.append((_percent(metrics[name]), f"{words}, 95 % interval {interval}"))
        found.append(
            (_percent(metrics["accuracy"]), f"have all labels right, interval {_range(metrics['interval'])}")
        )
    else:
        found.append((_percent(metrics["accuracy"]), "accuracy on the test pictures"))
        found.append((_range(metrics["interval"]), "95 % confidence interval"))
    wrong = round((1 - metrics["accuracy"]) * tested)
    return [*found, (f"{metrics['loss']:.3f}", "log loss"), (str(wrong), f"wrong of {tested}")]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _range(interval: list[float]) -> str:
    low, high = interval
    return f"{100 * low:.1f}\u2013{100 * high:.1f} %"


def cells(mistakes: list[dict[str, Any]], names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The mistakes of each cell of the confusion matrix, by the anchor that it links to."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in mistakes:
        anchor = _anchor(names.index(one["label"]), names.index(one["predicted"]))
        found.setdefault(anchor, []).append(one)
    return found


def _anchor(label: int, predicted: int) -> str:
    return f"cell-{label}-{predicted}"


def curves(history: list[dict[str, Any]]) -> str:
    """Loss and accuracy of each stage's epochs, as SVG."""
    stages = [(stage, list(entries)) for stage, entries in groupby(history, key=lambda entry: entry["stage"])]
    figure = new_figure(4.3 * len(stages), 5.2)
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


def shown(matrix: list[list[int]]) -> list[int]:
    """The classes that the confusion matrix shows: all, or those of the most frequent mistakes."""
    counts = np.asarray(matrix)
    if len(counts) <= CLASSES_SHOWN:
        return list(range(len(counts)))
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    often = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
    confused = np.stack(np.unravel_index(often, wrong.shape), axis=1).ravel().tolist()
    return sorted(list(dict.fromkeys([*confused, *range(len(counts))]))[:NUMBERS_SHOWN])


def confusion(matrix: list[list[int]], labels: list[str]) -> str:
    """Rows are true classes, shares of a row give the colour, wrong answers link to their pictures: SVG."""
    from matplotlib.patches import Rectangle

    classes, whole = shown(matrix), np.asarray(matrix)
    counts = whole[np.ix_(classes, classes)]
    side = float(np.clip(0.5 * len(classes) + 1.5, 4, 12))
    figure = new_figure(side, side)
    ax = figure.subplots()
    names = [labels[i].replace("$", r"\$") for i in classes]  # else matplotlib reads mathematics
    shares = counts / np.maximum(whole.sum(axis=1)[classes, None], 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 3 else 90)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("predicted", color=INK)
    ax.set_ylabel("true", color=INK)
    ax.grid(visible=False)
    for row, column in np.argwhere(counts):
        if row != column:
            link = f"#{_anchor(classes[row], classes[column])}"
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, alpha=0, url=link))
    if len(names) <= NUMBERS_SHOWN:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else INK
            ax.text(
                column,
                row,
                counts[row, column],
                ha="center",
                va="center",
                color=colour,
                fontsize=9,
                url=f"#{_anchor(classes[row], classes[column])}" if row != column else None,
            )
    return _svg(figure)


def reliability(calibration: dict[str, Any]) -> str:
    """Accuracy against confidence, before and after the temperature, and how many pictures there are: SVG."""
    figure = new_figure(8.6, 4.4)
    axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    states = (("as it is", calibration), (f"logits / {calibration['temperature']:.2f}", calibration["after"]))
    for column, (title, state) in zip(axes.T, states, strict=True):
        bins = state["reliability"]
        left, width = [one["from"] for one in bins], bins[0]["to"] - bins[0]["from"]
        above, below = column
        above.set_title(f"{title}: ECE {100 * state['ece']:.1f} %", fontsize=10, color=INK, loc="left")
        above.bar(left, [one["accuracy"] for one in bins], width, align="edge", color=BLUE, alpha=0.35)
        above.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        above.plot(
            [one["confidence"] for one in bins],
            [one["accuracy"] for one in bins],
            color=BLUE,
            marker="o",
            markersize=3.5,
            linewidth=1.4,
        )
        below.bar(left, [one["pictures"] for one in bins], width, align="edge", color=GRID, edgecolor="white")
        below.set_xlabel("confidence: the answer's probability", color=INK)
        for ax in column:
            _plain(ax)
    axes[0][0].set(xlim=(0, 1), ylim=(0, 1.02))
    axes[0][0].set_ylabel("accuracy", color=INK)
    axes[1][0].set_ylabel("pictures", color=INK)
    return _svg(figure)


def _curve(ax: Any, entries: list[dict[str, Any]], key: str, label: str, colour: str) -> None:
    points = [(entry["epoch"], entry[key]) for entry in entries if key in entry]
    if points:
        ax.plot(
            *zip(*points, strict=True), color=colour, label=label, marker="o", markersize=2.5, linewidth=1.4
        )
    _plain(ax)


def _plain(ax: Any) -> None:
    ax.grid(color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _svg(figure: Any) -> str:
    import matplotlib

    text = io.StringIO()
    style: Any = {"svg.hashsalt": "zoo", "svg.fonttype": "none", "font.family": "sans-serif"}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # The letters are the browser's to draw.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
