"""What the command line prints of a card and of an export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo.registry import Card, Weights

if TYPE_CHECKING:
    from exporters import Parity


def card_text(card: Card) -> str:
    size = f"{card.input_size[0]} x {card.input_size[1]}" if card.input_size else "no public weights"
    rows = {
        "family": f"{card.title} ({card.paper}, {card.year})",
        "brought": card.brought,
        "depth": card.depth or "not stated by the paper",
        "parameters": f"{card.parameters:,}",
        "multiply-adds": f"{card.macs:,} at {card.macs_size} x {card.macs_size}",
        "input": size,
        "accuracy": ", ".join(f"{name} {value}" for name, value in card.accuracy.items()) or "not stated",
        "licence": card.licence or "-",
    }
    lines = [card.name, *(f"  {name:<14} {value}" for name, value in rows.items()), "  weights"]
    return "\n".join(lines + [f"    {_weights_line(weights)}" for weights in card.weights])


def _weights_line(weights: Weights) -> str:
    top1 = f"top-1 {weights.top1:.2f}" if weights.top1 else "top-1 not stated"
    home = weights.package or weights.hub or weights.url
    return f"{weights.tag:<28} {weights.input_size:>4} px  {top1:<17} {weights.licence:<14} {home}"


def parity_text(parity: Mapping[str, Parity]) -> str:
    """A line per format: how far its outputs are from the Keras model's."""
    width = max(map(len, parity))
    return "\n".join(
        f"  {name:<{width}}  logits off by {p.max_abs:.1e} ({p.max_rel:.1e} of the largest), "
        f"same class for {p.top1:.0%} of {p.pictures} pictures"
        for name, p in parity.items()
    )
