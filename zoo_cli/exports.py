"""What `zoo export` takes and prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.errors import ZooError

if TYPE_CHECKING:
    import keras

    from exporters import Export
    from exporters.parity import Parity


def with_quantized(formats: tuple[str, ...], quantize: str | None) -> tuple[str, ...]:
    """("onnx", "h5"), "int8" -> onnx, h5, onnx_int8: each with its quantized kin, where it has one."""
    from exporters.exporting import FORMATS

    if quantize is None:
        return formats
    kin = tuple(name for name in (f"{each}_{quantize}" for each in formats) if name in FORMATS)
    if not kin:
        those = ", ".join(name for name in FORMATS if name.endswith(f"_{quantize}"))
        raise ZooError(f"none of {', '.join(formats)} has a kin in {quantize}; there are: {those}")
    return (*formats, *kin)


def calibrated(model: keras.Model, temperature: str | None) -> keras.Model:
    """temperature: a number, "fitted", or None for the model as it is."""
    import zoo

    if temperature is None:
        return model
    try:
        return zoo.calibrate(model, None if temperature == "fitted" else float(temperature))
    except ValueError:
        raise ZooError(f'"{temperature}" is no temperature; give a number, or fitted') from None


def tolerance_of(given: tuple[str, ...]) -> float | dict[str, float] | None:
    """("1e-5",), or ("tflite_int8=0.1", ...) -> what `exporters.export` takes."""
    pairs = [text.rpartition("=") for text in given]
    try:
        values = {name: float(value) for name, _, value in pairs}
    except ValueError:
        raise ZooError(f'"{" ".join(given)}" is no tolerance; give 1e-5 or tflite_int8=0.1') from None
    if "" not in values:
        return values or None
    if len(values) > 1:
        raise ZooError("a tolerance without a format is for all in float32: give one, or FORMAT=NUMBER each")
    return values[""]


def export_text(done: Export) -> str:
    """The version's folder, and a line for each format."""
    titles = ["format", "MB", "parity", "seconds", "ms a picture"]
    rows = [_cells(name, done) for name in done.costs]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (titles, *rows)]
    return "\n".join([str(done.path), *lines])


def _cells(name: str, done: Export) -> list[str]:
    cost = done.costs[name]
    measured = [figures for what, figures in done.parity.items() if what.split(" ")[0] == name]
    worst = max(measured, key=lambda figures: figures.max_rel)
    return [
        name,
        f"{cost.bytes / 1e6:.1f}",
        parity_cell(worst),
        f"{cost.seconds:.1f}",
        f"{cost.milliseconds:.1f}",
    ]


def parity_cell(parity: Parity) -> str:
    """How far off the logits are; where rounding is the format's way, the class and the accuracy too."""
    text = f"logits {parity.max_rel:.0e} off, same class for {parity.agreement:.0%} of {parity.pictures}"
    if parity.accuracy is None:
        return text
    return f"{text}, accuracy {parity.accuracy:.1%} (model {parity.model_accuracy:.1%})"
