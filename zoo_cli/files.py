"""What the command line prints of model files: `zoo inspect` and `zoo check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zoo.wording import counted
from zoo_cli.cards import parity_text

if TYPE_CHECKING:
    from exporters import Checked, Inspected
    from exporters.inspecting import Signature, Tensor

SHOWN = 8


def inspected_text(found: Inspected, indent: str = "") -> str:
    """A line of titles, then signatures, labels, weights, facts and the parts, each on lines of its own."""
    lines = [f"{found.path}: {found.format}, {found.bytes:,} bytes"]
    for signature in found.signatures:
        lines += _signature_lines(signature)
    if found.labels:
        lines.append(f"  {counted(len(found.labels), 'label')}: {_shortened(found.labels)}")
    if found.weights:
        lines.append(f"  {counted(len(found.weights), 'weight')}")
        lines += [f"    {_tensor(tensor)}" for tensor in found.weights[:SHOWN]]
        lines += [f"    and {len(found.weights) - SHOWN} more"] * (len(found.weights) > SHOWN)
    lines += [f"  {name}: {_brief(value)}" for name, value in {**found.facts, **_card(found)}.items()]
    text = "\n".join(f"{indent}{line}" for line in lines)
    return "\n".join([text, *(inspected_text(part, f"{indent}  ") for part in found.parts)])


def checked_text(checked: Checked) -> str:
    """How many files are as published and how equal they are, or what is wrong."""
    if checked.problems:
        return "\n".join([f"{checked.path}: not as published", *(f"  {line}" for line in checked.problems)])
    return f"{checked.path}: {counted(checked.files, 'file')} as published\n{parity_text(checked.parity)}"


def checked_data(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    return [{**asdict(one), "path": str(one.path)} for one in checked]


def _signature_lines(signature: Signature) -> list[str]:
    lines = [f"  {signature.name or 'inputs and outputs'}"]
    lines += [f"    takes  {_tensor(tensor)}" for tensor in signature.inputs]
    return lines + [f"    gives  {_tensor(tensor)}" for tensor in signature.outputs]


def _tensor(tensor: Tensor) -> str:
    if tensor.shape is None:
        return f"{tensor.name}: {tensor.dtype}, any shape"
    sides = ", ".join("any" if side is None else str(side) for side in tensor.shape)
    return f"{tensor.name}: {tensor.dtype} [{sides}]"


def _card(found: Inspected) -> dict[str, Any]:
    names = ("name", "version", "architecture", "created", "preprocessing", "batch", "metrics", "versions")
    return {name: found.card[name] for name in names if found.card.get(name)}


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_brief(inner)}" for name, inner in value.items())
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _shortened(labels: Sequence[str]) -> str:
    more = ", ..." if len(labels) > SHOWN else ""
    return ", ".join(labels[:SHOWN]) + more
