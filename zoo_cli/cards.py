"""What the command line prints of a card and of an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.registry import IMAGENET, Card, Published, Weights, resolve
from zoo.wording import counted

if TYPE_CHECKING:
    from exporters import Parity
    from zoo.evaluating import Comparison, Evaluation


NOT_STATED, NO_WEIGHTS = "not stated", "no public weights"


def listed(names: Sequence[str]) -> list[dict[str, Any]]:
    """What `zoo list` says of each architecture or ARCHITECTURE.TAG: of an architecture the top-1 of its best
    weights (percent; None: not stated) and the input size of its default ones, in pixels.
    """
    return [_facts(name) for name in names]


def _facts(name: str) -> dict[str, Any]:
    architecture, weights = resolve(name)
    best = weights if "." in name else architecture.best
    return {
        "name": name,
        "family": architecture.family,
        "year": architecture.year,
        "parameters": architecture.params,
        "macs": architecture.macs,
        "macs_size": architecture.macs_size,
        "input_size": weights.input_size if weights else architecture.macs_size,
        "top1": best.accuracy if best else None,
        "best": best.name if best else None,
        "weights": len(architecture.weights),
    }


def table_text(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each network under a line of titles. Laid out by hand: rich takes longer than the rest."""
    titles = ("year", "params M", "MACs G", "at px", "input px", "best top-1", "weights")
    width = max(len(row["name"]) for row in rows)
    lines = [
        f"{row['name']:<{width}}  {row['year']:>4}  {row['parameters'] / 1e6:>8.1f}  "
        f"{row['macs'] / 1e9:>6.2f}  {row['macs_size']:>5}  {row['input_size']:>8}  "
        f"{_percent(row['top1']):>10}  {row['weights']:>7}"
        for row in rows
    ]
    return "\n".join([f"{'name':<{width}}  {'  '.join(titles)}", *lines])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def card_text(card: Card) -> str:
    size = f"{card.input_size[0]} x {card.input_size[1]}" if card.input_size else NO_WEIGHTS
    rows = {
        "family": f"{card.title} ({card.paper}, {card.year})",
        "brought": card.brought,
        "depth": card.depth or "not stated by the paper",
        "parameters": f"{card.parameters:,}",
        "multiply-adds": f"{card.macs:,} at {card.macs_size} x {card.macs_size}",
        "input": size,
        "accuracy": _accuracy_text(card),
        "licence": card.licence or NO_WEIGHTS,
    }
    lines = [card.name, *(f"  {name:<14} {value}" for name, value in rows.items())]
    if not card.weights:
        return "\n".join([*lines, "  weights        none"])
    return "\n".join([*lines, "  weights", *(f"    {_weights_line(weights)}" for weights in card.weights)])


def _accuracy_text(card: Card) -> str:
    """Of the card's weights, at the size of their training and the larger one of their tests; else what is
    published without them.
    """
    weights = next((one for one in card.weights if one.name == card.name), None)
    if weights is None:
        return _published_text(card.published) if card.published else NOT_STATED
    sizes = {
        weights.input_size: _tops(weights.top1, weights.top5),
        weights.test_input_size: _tops(weights.top1_test, weights.top5_test),
    }
    on = "" if weights.pictures == IMAGENET else f" on {weights.pictures}"
    return "; ".join(f"{tops} at {size} px{on}" for size, tops in sizes.items() if tops) or NOT_STATED


def _published_text(published: Published) -> str:
    return f"{_tops(published.top1, published.top5)} on {published.pictures}, {published.source}"


def _tops(top1: float | None, top5: float | None) -> str:
    return ", ".join(f"top-{k} {value}" for k, value in ((1, top1), (5, top5)) if value is not None)


def _weights_line(weights: Weights) -> str:
    top1 = f"top-1 {weights.top1:.2f}" if weights.top1 else "top-1 not stated"
    several = weights.hub and not weights.published_name
    home = f"{weights.hub}/{weights.hub_file}" if several else weights.package or weights.hub or weights.url
    remark = f" ({weights.remark})" if weights.remark else ""
    return f"{weights.tag:<28} {weights.input_size:>4} px  {top1:<17} {weights.licence:<14} {home}{remark}"


def parity_text(parity: Mapping[str, Parity]) -> str:
    """A line per format: how far its outputs are from the Keras model's."""
    width = max(map(len, parity))
    return "\n".join(
        f"  {name:<{width}}  logits off by {p.max_abs:.1e} ({p.max_rel:.1e} of the largest), "
        f"same class for {p.top1:.0%} of {counted(p.pictures, 'picture')}"
        for name, p in parity.items()
    )


def evaluation_text(judged: Evaluation) -> str:
    """Accuracy with its interval, the speed, and a line for each class; of several labels the mean average
    precision and F1, too.
    """
    rows = judged.metrics["classes"]
    width = max(5, *map(len, rows))
    figures = {"precision": "precision", "recall": "recall", "f1": "   f1"}
    if "average_precision" in judged.metrics:
        figures["average_precision"] = "average precision"
    title = "  ".join([f"{'class':<{width}}", "pictures", *figures.values()])
    lines = [
        "  ".join(
            [
                f"{name:<{width}}",
                f"{row['pictures']:>8}",
                *(f"{row[figure]:>{len(head)}.3f}" for figure, head in figures.items()),
            ]
        )
        for name, row in rows.items()
    ]
    speed = f"{1000 * judged.seconds:.1f} ms a picture"
    loss, ece = judged.metrics["loss"], 100 * judged.metrics["ece"]
    top5 = f", {100 * judged.metrics['top5']:.1f} % in the first five" if "top5" in judged.metrics else ""
    summary = f"{_accuracy(judged)}{top5}, log loss {loss:.3f}, calibration error {ece:.1f} %, {speed}"
    return "\n".join([summary, *_of_labels(judged.metrics), title, *lines])


def _of_labels(metrics: Mapping[str, Any]) -> list[str]:
    """A line where pictures have several labels."""
    if "average_precision" not in metrics:
        return []
    names = {"average_precision": "mean average precision", "micro_f1": "micro F1", "macro_f1": "macro F1"}
    figures = [
        f"{words} {metrics[name]:.3f} (95 % interval {low:.3f} to {high:.3f})"
        for name, words in names.items()
        for low, high in [metrics[f"{name}_interval"]]
    ]
    return [", ".join(figures)]


def comparison_text(first: Evaluation, second: Evaluation, compared: Comparison) -> str:
    low, high = (f"{100 * bound:+.1f}" for bound in compared.interval)
    return "\n".join(
        [
            f"first   {_accuracy(first)}",
            f"second  {_accuracy(second)}",
            f"second - first: {100 * compared.difference:+.1f} points, 95 % interval {low} to {high}",
            f"right by the first alone {compared.only_first}, by the second alone {compared.only_second}; "
            f"McNemar's exact p = {compared.p:.3g}",
        ]
    )


def _accuracy(judged: Evaluation) -> str:
    low, high = (100 * bound for bound in judged.metrics["interval"])
    share = f"{100 * judged.metrics['accuracy']:.1f} % of {counted(len(judged.right), 'picture')} right"
    if "average_precision" in judged.metrics:
        share += " in all labels"
    return f"{judged.name}: {share} (95 % interval {low:.1f} to {high:.1f})"
