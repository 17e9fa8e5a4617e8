"""docs/exports.md: which architecture goes into which format, how equal, how large, how long: `make matrix`.

The smallest variant of each family, or with --all every architecture; with names, those. Each has fresh
weights, BatchNorm calibrated on crops of two photos and logits of a usual size, and runs in a process of its
own. What was measured is kept in docs/exports.jsonl: a run that was stopped goes on; --again begins anew.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from zoo.registry import Architecture, list_models, resolve

DOCS = Path(__file__).parent.parent / "docs"
PAGE, MEASURED = DOCS / "exports.md", DOCS / "exports.jsonl"
MINUTES = 30


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("names", nargs="*")
    arguments.add_argument("--all", action="store_true")
    arguments.add_argument("--again", action="store_true")
    arguments.add_argument("--formats", help="only these, separated by commas")
    arguments.add_argument("--one", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    wanted = given.formats.split(",") if given.formats else formats()
    if given.one:
        measure(given.one, wanted)
        return
    if given.again:
        MEASURED.unlink(missing_ok=True)
    names = given.names or chosen(every=given.all)
    for name in names:
        run(name, wanted)
        PAGE.write_text(page(rows(), names), "utf-8")


def chosen(every: bool) -> list[str]:
    """By parameters, so that a run that is stopped has done the most."""
    found = sorted((resolve(name)[0] for name in list_models()), key=lambda a: a.params)
    if every:
        return [architecture.name for architecture in found]
    smallest: dict[str, Architecture] = {}
    for architecture in found:
        smallest.setdefault(architecture.family, architecture)
    return [architecture.name for architecture in smallest.values()]


def formats() -> list[str]:
    from exporters.exporting import FORMATS

    return list(FORMATS)


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in MEASURED.read_text().splitlines()] if MEASURED.exists() else []


def missing(name: str, wanted: list[str]) -> list[str]:
    """The formats without a row."""
    reached = {row["format"] for row in rows() if row["name"] == name}
    return [each for each in wanted if each not in reached]


def keep(row: dict[str, Any]) -> None:
    from benchmarks.machine import machine

    with MEASURED.open("a") as file:
        file.write(json.dumps(row | {"machine": machine()}) + "\n")


def run(name: str, wanted: list[str]) -> None:
    """What is missing, in a process of its own; where one ends early, another goes on. The cell that a
    process began with and did not reach has the reason.
    """
    command = [sys.executable, __file__, "--one", name, "--formats", ",".join(wanted)]
    while left := missing(name, wanted):
        try:
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60 * MINUTES)
            reason = ended(done)
        except subprocess.TimeoutExpired:
            reason = f"not done after {MINUTES} minutes"
        if left[0] in missing(name, wanted):
            keep({"name": name, "format": left[0], "why": reason})


def ended(process: subprocess.CompletedProcess[str]) -> str:
    """How, in words; SIGKILL is what a process gets that takes more memory than there is."""
    if process.returncode < 0:
        return f"the process was ended by {signal.Signals(-process.returncode).name}"
    return f"the process ended with {process.returncode}: {process.stderr.strip().splitlines()[-1:]}"


def measure(name: str, wanted: list[str]) -> None:
    """Appends a row for each format."""
    import exporters

    pictures = crops()
    model = network(name, pictures)
    for each in missing(name, wanted):
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = exporters.export(
                    model, Path(folder) / "model", each, pictures=pictures, calibrate=pictures
                )
                cost, parity = done.costs[each], done.parity[each]
                figures = {"off": parity.max_rel, "cosine": parity.cosine, "agreement": parity.agreement}
                row = {"bytes": cost.bytes, "seconds": cost.seconds, "ms": cost.milliseconds, **figures}
            except exporters.ExportError as error:
                row = {"why": str(error).replace(folder, "").split("\n")[0][:300]}
        keep({"name": name, "format": each, **row})


def crops() -> list[Any]:
    """Sixteen parts of two photos, uint8 [240, 320, 3]."""
    from sklearn.datasets import load_sample_images

    corners = [(top, left) for top in (0, 187) for left in (0, 100, 200, 320)]
    return [
        photo[top : top + 240, left : left + 320]
        for photo in load_sample_images().images
        for top, left in corners
    ]


def network(name: str, pictures: list[Any]) -> Any:
    """With fresh weights that behave like trained ones."""
    import keras
    import numpy as np

    import zoo
    from exporters.pictures import fit
    from zoo.outputs import classifier_layer

    keras.utils.set_random_seed(0)
    model = zoo.load(name, weights=None, drop_rate=0.0, drop_path=0.0)
    images = fit(model.zoo.preprocessing, pictures)
    parts = np.split(images, len(images) // 4)  # all maps of all layers are in memory at once
    for part in 5 * parts:
        model(part, training=True)
    heads = zoo.heads(model)
    logits = np.concatenate([np.asarray(heads(part, training=False)["logits"]) for part in parts])
    for weight in classifier_layer(model).weights:
        weight.assign(weight * (2.5 / max(float(logits.std()), 1e-6)))
    return model


def page(measured: list[dict[str, Any]], names: list[str]) -> str:
    """The text of docs/exports.md. names: those to be measured; the others that were follow them."""
    by_name: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in names}
    for row in measured:
        by_name.setdefault(row["name"], {})[row["format"]] = row
    reasons: dict[str, int] = {}
    lines = [
        f"| {name} | " + " | ".join(cell(found.get(each), reasons) for each in formats()) + " |"
        for name, found in by_name.items()
        if found
    ]
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    rest = [name for name, found in by_name.items() if not found]
    notes += ["", f"Not yet run: {', '.join(rest)}."] if rest else []
    return "\n".join(
        [
            HEAD.format(machine="; and on ".join(dict.fromkeys(row["machine"] for row in measured))),
            header(),
            *lines,
            "",
            *notes,
            "",
        ]
    )


HEAD = """# Every architecture in every format

Written by `make matrix`, on {machine}.
Each file was written, opened by its own runtime and compared with the Keras model on sixteen crops of two
photos, by the limits of docs/formats.md; a cell has the size, the seconds to write and compare, and the
milliseconds for one picture in the format's runtime (saved_model: TensorFlow; onnx: ONNX Runtime; tflite:
LiteRT; h5 and keras: Keras itself, eagerly). Sizes and equality are exact; the times are of one run on a
machine that may have done other work, and so upper bounds. The weights are random: that is hard on the
rounding formats, for which random classes are too close. Numbers in brackets: notes below.
"""


def header() -> str:
    names = formats()
    return f"| architecture | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}"


def cell(row: dict[str, Any] | None, reasons: dict[str, int]) -> str:
    if row is None:
        return "not yet run"
    if "why" in row:
        return f"no ({reasons.setdefault(row['why'], len(reasons) + 1)})"
    return f"equal, {row['bytes'] / 1e6:.1f} MB, {row['seconds']:.0f} s, {row['ms']:.1f} ms"


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
