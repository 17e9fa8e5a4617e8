"""docs/zoo.md and its figures, from the catalog: `python -m zoo_cli.tables`, or `make docs`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from zoo.registry import Architecture, list_models, resolve
from zoo_cli.cards import NOT_STATED

DOCS = Path(__file__).parent.parent / "docs"
PAGE, TIMELINE, COST = "zoo.md", "zoo-timeline.png", "zoo-macs.png"
NO_WEIGHTS = "no public weights"
INK, GREY, GRID = "#1f2933", "#9aa5b1", "#e4e7eb"
Dot = tuple[float, float, float, int]  # x, y, area, number of its colour
Box = tuple[float, float, float, float]  # left, bottom, right, top
SMALLEST = 4.0  # of a dot's area
# Where a name may stand: degrees around its dot, and pixels off it; the first ones are preferred.
ANGLES, GAPS = (180, 0, 90, 270, 150, 30, 210, 330, 120, 60, 240, 300), (1, 8, 18, 32, 50, 70, 100)
# What a person looks for in the second figure; the timeline names every family.
NAMED = """
    alexnet alexnet_2012 zfnet inception_v2 googlenet vgg11 vgg16
    resnet18 resnet50 resnet152 squeezenet1_1 densenet121 densenet201
    inception_v3 inception_resnet_v2 xception mobilenetv1_100 mobilenetv2_100 mobilenetv3_small_050
    mobilenetv3_large_100 mobilenetv4_conv_large shufflenet_v2_x0_5 mnasnet_100 efficientnet_b0
    efficientnet_b7 efficientnet_l2 efficientnetv2_s efficientnetv2_xl regnety_160 nasnetalarge
    convnext_base convnextv2_huge dm_nfnet_f6 resnest269e senet154 resnetv2_152x4_bit ghostnet_100
    repvgg_b3 fastvit_t8"""


def main() -> None:
    """Write the page and both figures."""
    DOCS.mkdir(exist_ok=True)
    (DOCS / PAGE).write_text(page(), "utf-8")
    draw_timeline(DOCS / TIMELINE)
    draw_cost(DOCS / COST)


def page() -> str:
    """The text of docs/zoo.md."""
    everything = architectures()
    weights = [w for architecture in everything for w in architecture.weights.values()]
    families = _families(everything)
    head = f"""# The networks

Generated from zoo/catalog by `make docs`; a test fails while it lags behind.

{len(everything)} architectures of {len(families)} families, with {len(weights)} sets of public weights.
Depth counts weighted layers, where the paper does. Multiply-adds (MACs) are those of one picture at the size
beside them, in convolutions and linear layers. Accuracy is the best top-1 on ImageNet-1k, in percent, that
any of the public weights states: often of later training than the paper's, or with more pictures; without
public weights it is the paper's or the authors'. Weights and licence are those that have it, or the default
ones. `zoo describe NAME` has all weights and sources.

![Year against accuracy]({TIMELINE})

![Multiply-adds against accuracy]({COST})

## The field
"""
    return "\n".join([head, _field(families), *map(_family, families)]) + "\n"


def architectures() -> list[Architecture]:
    return [resolve(name)[0] for name in list_models()]


def _families(everything: Sequence[Architecture]) -> list[list[Architecture]]:
    """By the year of their first member."""
    families = [list(members) for _, members in groupby(everything, key=lambda a: a.family)]
    return sorted(families, key=lambda members: (min(a.year for a in members), members[0].title.lower()))


def _idea(architecture: Architecture) -> tuple[int, str, str]:
    return architecture.year, architecture.paper, architecture.brought


def _ideas(members: Sequence[Architecture]) -> list[list[Architecture]]:
    """Those of a family that the same paper brought, by year."""
    ordered = sorted(members, key=_idea)
    return [list(group) for _, group in groupby(ordered, key=_idea)]


def _field(families: Sequence[Sequence[Architecture]]) -> str:
    groups = sorted((group for members in families for group in _ideas(members)), key=lambda g: g[0].year)
    rows = [
        (
            str(group[0].year),
            _names(group),
            _range([a.depth for a in group], str),
            group[0].brought,
            _range([a.params for a in group], _millions),
            _accuracies(group),
            group[0].paper,
        )
        for group in groups
    ]
    titles = ("year", "networks", "depth", "what it brought", "parameters", "best top-1", "paper")
    return _table(titles, rows, right=(0, 2, 4, 5))


def _names(group: Sequence[Architecture]) -> str:
    names = [architecture.name for architecture in group]
    listed = ", ".join(names) if len(names) <= 3 else f"{names[0]} ... {names[-1]} ({len(names)})"
    return f"{group[0].title}: {listed}"


def _range(values: Sequence[Any], show: Callable[[Any], str]) -> str:
    known = sorted(value for value in values if value is not None)
    if not known:
        return NOT_STATED
    low, high = show(known[0]), show(known[-1])
    return low if low == high else f"{low} to {high}"


def _accuracies(group: Sequence[Architecture]) -> str:
    """On ImageNet-1k, or on the pictures of those that were made for others."""
    if any(a.accuracy is not None for a in group):
        return _range([a.accuracy for a in group], "{:.1f}".format)
    others = [stated for a in group if (stated := a.weights.get(a.default or "", a.published))]
    shown = _range([stated.top1 for stated in others], "{:.1f}".format)
    return shown if shown == NOT_STATED else f"{shown} on {others[0].pictures}"


def _family(members: Sequence[Architecture]) -> str:
    titles = ("year", "name", "depth", "parameters", "MACs", "at px", "best top-1", "weights", "licence")
    groups = _ideas(members)
    parts = [f"\n## {groups[0][0].title}"]
    for group in groups:
        first = group[0]
        parts.append(f"\n**{first.title}**, {first.year}, {first.paper}: {first.brought}.\n")
        parts.append(_table(titles, [_row(architecture) for architecture in group], right=(0, 2, 3, 4, 5, 6)))
    return "\n".join(parts)


def _row(architecture: Architecture) -> tuple[str, ...]:
    best = architecture.best or architecture.weights.get(architecture.default or "")
    return (
        str(architecture.year),
        architecture.name,
        str(architecture.depth or NOT_STATED),
        _millions(architecture.params),
        f"{architecture.macs / 1e9:.2f} G",
        str(architecture.macs_size),
        _accuracies([architecture]),
        best.tag if best else NO_WEIGHTS,
        best.licence if best else NO_WEIGHTS,
    )


def _millions(params: int) -> str:
    return f"{params / 1e6:.1f} M"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    rule = ["---:" if i in right else "---" for i in range(len(titles))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (titles, rule, *rows))


def draw_timeline(path: Path) -> None:
    """Year against best accuracy; the dot's area is the number of parameters. The papers of a year stand
    side by side, each named at its best network.
    """
    figure, axes = _figure("year of the paper")
    known = sorted((a for a in architectures() if a.accuracy), key=lambda a: (a.year, a.title))
    dots, names = [], []
    for year, same in groupby(known, key=lambda a: a.year):
        columns = [list(column) for _, column in groupby(same, key=lambda a: a.title)]
        for i, column in enumerate(columns):
            x = year + 0.85 * ((i + 0.5) / len(columns) - 0.5)
            best = max(column, key=_accuracy)
            dots += [(x, _accuracy(a), _area(a), i) for a in column]
            names += [best.title if a is best else "" for a in column]
    years = range(known[0].year, known[-1].year + 1)
    axes.set_xticks(years)
    axes.set_xlim(years[0] - 1, years[-1] + 0.6)
    axes.grid(visible=False, axis="x")
    for year in years[::2]:
        axes.axvspan(year - 0.5, year + 0.5, color=GRID, alpha=0.35, linewidth=0)
    _draw(figure, axes, dots, names, path)


def draw_cost(path: Path) -> None:
    """Multiply-adds, on a logarithmic scale, against best accuracy, in one colour for each family."""
    figure, axes = _figure("multiply-adds of one picture, billions")
    axes.set_xscale("log")
    axes.set_xlim(0.01, 900)
    axes.xaxis.set_major_formatter("{x:g}")
    known = [(a, i) for i, members in enumerate(_families(architectures())) for a in members if a.accuracy]
    dots = [(a.macs / 1e9, _accuracy(a), _area(a), i) for a, i in known]
    _draw(figure, axes, dots, [a.name if a.name in NAMED.split() else "" for a, _ in known], path)


def _accuracy(architecture: Architecture) -> float:
    return architecture.accuracy or 0.0


def _area(architecture: Architecture) -> float:
    """A square point for each million parameters, and never so small that nobody sees it."""
    return max(architecture.params / 1e6, SMALLEST)


def _figure(x: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(18, 10), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel("best published top-1, percent", color=INK)
    axes.set_ylim(50, 91)
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw(figure: Any, axes: Any, dots: Sequence[Dot], names: Sequence[str], path: Path) -> None:
    """The same bytes for the same catalog and matplotlib."""
    from matplotlib import colormaps
    from PIL import Image

    colours = [colormaps["tab10"](number % 10) for *_, number in dots]
    x, y, areas, _ = zip(*dots, strict=True)
    axes.scatter(x, y, areas, color=colours, alpha=0.6, linewidths=0)
    for millions in (5, 50, 500):
        axes.scatter([], [], millions, color=GREY, alpha=0.6, label=f"{millions} M parameters")
    axes.legend(loc="lower right", frameon=False, labelspacing=1.6, borderpad=1.2, fontsize=9)
    _name(figure, axes, dots, names)
    figure.savefig(path, metadata={"Software": None})
    with Image.open(path) as drawn:
        # A palette is a third of the size.
        palette = drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    palette.save(path, optimize=True)


def _name(figure: Any, axes: Any, dots: Sequence[Dot], names: Sequence[str]) -> None:
    """Each name near its dot, where it hides no other name and the fewest dots; the highest choose first."""
    figure.draw_without_rendering()
    point = figure.dpi / 72
    places = axes.transData.transform([dot[:2] for dot in dots])
    radii = [math.sqrt(dot[2] / math.pi) * point for dot in dots]
    covered = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(places, radii, strict=True)]
    written: list[Box] = []

    def hidden(box: Box) -> tuple[int, ...]:
        return tuple(sum(_overlap(box, other) for other in boxes) for boxes in (written, covered))

    named = [i for i, name in enumerate(names) if name]
    for i in sorted(named, key=lambda i: -dots[i][1]):
        (x, y), size = places[i], (6.2 * len(names[i]) + 6, 13)
        boxes = [_box(x, y, radii[i], size, angle, gap) for gap in GAPS for angle in ANGLES]
        inside = [box for box in boxes if _inside(box, axes.bbox.extents)]
        best = min(inside, key=hidden)
        written.append(best)
        shift = ((best[0] + 3 - x) / point, ((best[1] + best[3]) / 2 - y) / point)
        far = abs(shift[1]) > 16 + radii[i]
        line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6} if far else None
        style = {"va": "center", "fontsize": 8, "color": INK, "arrowprops": line}
        axes.annotate(names[i], dots[i][:2], shift, textcoords="offset points", **style)


def _box(x: float, y: float, radius: float, size: tuple[float, float], angle: int, gap: int) -> Box:
    """Of a name whose nearest side is `gap` pixels off the dot, in the direction of the angle in degrees."""
    width, height = size
    across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    left = x + across * (radius + gap + width / 2) - width / 2
    bottom = y + up * (radius + gap + height / 2) - height / 2
    return left, bottom, left + width, bottom + height


def _inside(box: Box, frame: Box) -> bool:
    return frame[0] < box[0] and frame[1] < box[1] and box[2] < frame[2] and box[3] < frame[3]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


if __name__ == "__main__":
    main()
