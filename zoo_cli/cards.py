"""What the command line prints of a card and of an export."""

from __future__ import annotations

from typing import Any

from zoo.registry import Card, Weights


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


def parity_text(parity: dict[str, dict[str, Any]]) -> str:
    """A line per format: how far its outputs are from the Keras model's."""
    return "\n".join(
        f"  {name:<12} " + "  ".join(f"{key} {_number(value)}" for key, value in figures.items())
        for name, figures in parity.items()
    )


def _number(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)
